//! Who am I, and the life of a repository: create, delete, rename, settings, access.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::Kind;
use hubferry_core::manifest::RepoPath;
use hubferry_core::remote::Visibility;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::{Target, Want, check_write, page_url, prefix};
use super::attributes;
use super::call::Call;
use super::reply::Refusal;
use crate::store::{Author, Gated, Inline, NewRepo, Patch};

/// `GET /api/whoami-v2`
pub(super) fn whoami(call: &Call) -> Result<Response, Refusal> {
    let user = call.user.as_ref().ok_or_else(Refusal::bad_credentials)?;
    Ok(axum::Json(json!({
        "type": "user",
        "id": user.name,
        "name": user.name,
        "fullname": user.name,
        "email": Value::Null,
        "emailVerified": false,
        "canPay": false,
        "isPro": false,
        "periodEnd": Value::Null,
        "avatarUrl": "",
        "orgs": [],
        "auth": {
            "type": "access_token",
            "accessToken": { "displayName": user.name, "role": user.role.name(), "createdAt": "1970-01-01T00:00:00.000Z" },
        },
    }))
    .into_response())
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    organization: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

impl Named {
    fn kind(&self) -> Result<RepoKind, Refusal> {
        kind_of(self.kind.as_deref())
    }

    /// The namespace: as given, inside the name, or the caller's own.
    fn split(&self, call: &Call) -> Result<(String, String), Refusal> {
        if let Some(owner) = &self.organization {
            return Ok((owner.clone(), self.name.clone()));
        }
        if let Some((owner, name)) = self.name.split_once('/') {
            return Ok((owner.to_owned(), name.to_owned()));
        }
        let user = call.user.as_ref().ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "Invalid username or password."))?;
        Ok((user.name.clone(), self.name.clone()))
    }
}

fn kind_of(word: Option<&str>) -> Result<RepoKind, Refusal> {
    match word {
        None => Ok(RepoKind::Model),
        Some(word) => RepoKind::from_word(word).ok_or_else(|| Refusal::bad_request(format!("unknown repository type {word:?}"))),
    }
}

#[derive(Deserialize)]
struct Create {
    #[serde(flatten)]
    named: Named,
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    private: Option<bool>,
    #[serde(default)]
    sdk: Option<String>,
}

/// `POST /api/repos/create`
pub(super) async fn create(mut call: Call) -> Result<Response, Refusal> {
    let wanted: Create = call.json().await?;
    let kind = wanted.named.kind()?;
    let visibility = visibility(wanted.visibility.as_deref(), wanted.private, kind)?.unwrap_or(Visibility::Public);
    if kind == RepoKind::Space && wanted.sdk.is_none() {
        return Err(Refusal::bad_request("\"sdk\" is required for a Space"));
    }
    let (owner, name) = wanted.named.split(&call)?;
    check_write(&call, &owner)?;
    let id = repo_id(&owner, &name)?;
    let author = Author::user(call.user.as_ref().map_or("", |user| &user.name));
    let path = RepoPath::new(".gitattributes")?;
    let files = vec![(path, Inline::new(Bytes::from_static(attributes::default_text(kind).as_bytes())))];
    let details = wanted.sdk.map(|sdk| Map::from_iter([("sdk".to_owned(), Value::from(sdk))])).unwrap_or_default();
    let new = NewRepo { kind, id, visibility, license: None, details, files, author };
    match call.state.store().create_repo(new).await {
        Ok(repo) => {
            let url = page_url(&call, &repo);
            Ok(axum::Json(json!({ "url": url, "name": repo.full_name(), "id": repo.id.to_string() })).into_response())
        }
        Err(error) if error.kind() == Kind::Conflict => {
            let url = format!("{}/{}{owner}/{name}", call.origin(), prefix(kind));
            let message = format!("You already created this {kind} repo: {owner}/{name}");
            Err(Refusal::new(StatusCode::CONFLICT, message).with("url", url))
        }
        Err(error) => Err(error.into()),
    }
}

/// What the Hub takes as a name; stricter than what it serves.
fn repo_id(owner: &str, name: &str) -> Result<RepoId, Refusal> {
    let fits = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
            && !part.to_ascii_lowercase().ends_with(".git")
    };
    // These would hide the hub's own routes.
    let reserved = RepoKind::ALL.iter().any(|kind| owner.eq_ignore_ascii_case(kind.plural())) || owner.eq_ignore_ascii_case("api");
    if !fits(owner) || !fits(name) || reserved {
        return Err(Refusal::bad_request(format!("Invalid repository name {owner}/{name}")));
    }
    Ok(RepoId::new(Some(owner), name)?)
}

fn visibility(word: Option<&str>, private: Option<bool>, kind: RepoKind) -> Result<Option<Visibility>, Refusal> {
    match word {
        Some("public") => Ok(Some(Visibility::Public)),
        Some("private") => Ok(Some(Visibility::Private)),
        // A protected Space shows its application and hides its files; there are no applications here.
        Some("protected") if kind == RepoKind::Space => Ok(Some(Visibility::Private)),
        Some(other) => Err(Refusal::bad_request(format!("visibility cannot be {other:?}"))),
        None => Ok(private.map(|private| if private { Visibility::Private } else { Visibility::Public })),
    }
}

/// `DELETE /api/repos/delete`
pub(super) async fn delete(mut call: Call) -> Result<Response, Refusal> {
    let named: Named = call.json().await?;
    let (owner, name) = named.split(&call)?;
    let repo = Target::new(named.kind()?, &owner, &name).open(&call, Want::Write).await?;
    call.state.store().delete_repo(&repo).await?;
    Ok(axum::Json(json!({})).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Move {
    from_repo: String,
    to_repo: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// `POST /api/repos/move`
pub(super) async fn rename(mut call: Call) -> Result<Response, Refusal> {
    let wanted: Move = call.json().await?;
    let split = |text: &str| text.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let bad = || Refusal::bad_request("fromRepo and toRepo must be written owner/name");
    let (owner, name) = split(&wanted.from_repo).ok_or_else(bad)?;
    let repo = Target::new(kind_of(wanted.kind.as_deref())?, &owner, &name).open(&call, Want::Write).await?;
    let (owner, name) = split(&wanted.to_repo).ok_or_else(bad)?;
    check_write(&call, &owner)?;
    let repo = call.state.store().rename_repo(&repo, &repo_id(&owner, &name)?).await?;
    Ok(axum::Json(json!({ "url": page_url(&call, &repo) })).into_response())
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    private: Option<bool>,
    #[serde(default)]
    gated: Option<Value>,
}

/// `PUT /api/{kind}/{id}/settings`
pub(super) async fn settings(mut call: Call, target: Target) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let wanted: Settings = call.json().await?;
    let gated = match wanted.gated {
        None => None,
        Some(Value::Bool(false)) => Some(Gated::No),
        Some(Value::String(word)) if word == "auto" => Some(Gated::Auto),
        Some(Value::String(word)) if word == "manual" => Some(Gated::Manual),
        Some(_) => return Err(Refusal::bad_request("gated must be \"auto\", \"manual\" or false")),
    };
    let visibility = visibility(wanted.visibility.as_deref(), wanted.private, repo.kind)?;
    let patch = Patch { visibility, gated, ..Patch::default() };
    let repo = call.state.store().update_repo(&repo, &patch).await?;
    let visibility = if repo.visibility == Visibility::Public { "public" } else { "private" };
    Ok(axum::Json(json!({ "private": repo.visibility != Visibility::Public, "visibility": visibility, "gated": gated_value(repo.gated) }))
        .into_response())
}

/// As the Hub writes it: a word, or false.
pub(super) fn gated_value(gated: Gated) -> Value {
    match gated {
        Gated::No => Value::Bool(false),
        Gated::Auto => "auto".into(),
        Gated::Manual => "manual".into(),
    }
}

/// `GET /api/{kind}/{id}/auth-check[/write]`
pub(super) async fn auth_check(call: &Call, target: &Target, rest: &[&str]) -> Result<Response, Refusal> {
    let want = match rest {
        [] => Want::Read,
        ["write"] => Want::Write,
        _ => return Err(Refusal::unknown_route()),
    };
    target.open(call, want).await?;
    Ok(axum::Json(json!({})).into_response())
}

/// `POST /api/validate-yaml`: this hub attaches no meaning to a card, so every card is good.
pub(super) async fn validate_yaml(mut call: Call) -> Result<Response, Refusal> {
    let _: Value = call.json().await?;
    Ok(axum::Json(json!({ "errors": [], "warnings": [] })).into_response())
}
