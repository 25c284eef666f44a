//! Repositories: describe, create, change, and refuse to delete.

use axum::extract::{Multipart, State};
use bytes::Bytes;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::Kind;
use hubferry_core::remote::Visibility;
use serde_json::{Map, Value, json};

use super::access::Access;
use super::envelope::{Answer, Data, Refusal};
use super::face::Face;
use super::fields::{from_form, from_json, text};
use super::session::Caller;
use super::settings::{Settings, protection_code, visibility_code};
use super::template::first_files;
use crate::store::{Author, NewRepo, Repo};

/// `GET /api/v1/{models|datasets}/{owner}/{name}`.
pub(super) async fn info(State(face): State<Face>, access: Access) -> Answer {
    let repo = access.repo;
    let card = face.card(&repo).await?;
    let mut about = describe(&repo);
    about.insert("ReadMeContent".into(), card.into());
    about.insert("StorageSize".into(), face.storage_size(&repo).await?.into());
    Ok(Data(about.into()))
}

/// What the legacy surface says of a repository, without what has to be looked up in its files.
pub(super) fn describe(repo: &Repo) -> Map<String, Value> {
    let mut about = json!({
        "Id": repo.id,
        "Name": repo.name,
        "Namespace": repo.owner,
        "ChineseName": "",
        "Description": "",
        "Visibility": visibility_code(repo.visibility),
        "ProtectedMode": protection_code(repo.gated),
        "ApprovalMode": 2,
        "License": repo.license.clone().unwrap_or_default(),
        "Tags": [],
        "Tasks": [],
        "Downloads": 0,
        "Stars": 0,
        "CreatedBy": repo.owner,
        "Organization": null,
        "LastUpdatedTime": repo.modified,
    });
    let more = if repo.kind == RepoKind::Dataset {
        // 4 is a general dataset: everything is in the repository, nothing in a bucket beside it.
        json!({"Owner": repo.owner, "Type": 4, "GmtCreate": repo.created, "GmtModified": repo.modified})
    } else {
        json!({"Path": repo.owner, "CreatedTime": repo.created, "Revision": "master"})
    };
    let mut fields = Map::new();
    for part in [about.take(), more, Value::Object(repo.details.clone())] {
        if let Value::Object(part) = part {
            fields.extend(part);
        }
    }
    fields
}

/// `POST /api/v1/models`, a JSON object.
pub(super) async fn create_model(State(face): State<Face>, caller: Caller, body: Bytes) -> Answer {
    caller.known()?;
    let fields: Map<String, Value> = from_json(&body)?;
    create(&face, &caller, RepoKind::Model, "Path", &fields).await
}

/// `POST /api/v1/datasets`, a multipart form.
pub(super) async fn create_dataset(State(face): State<Face>, caller: Caller, form: Multipart) -> Answer {
    caller.known()?;
    let fields = from_form(form).await?;
    create(&face, &caller, RepoKind::Dataset, "Owner", &fields).await
}

async fn create(face: &Face, caller: &Caller, kind: RepoKind, owner: &str, fields: &Map<String, Value>) -> Answer {
    let required = |name: &str| text(fields, name).ok_or_else(|| Refusal::invalid(format!("{name} is required")));
    let id = RepoId::new(Some(required(owner)?), required("Name")?)?;
    let user = caller.known()?;
    face.users().check_write(Some(user), id.owner().unwrap_or_default())?;
    let settings = Settings::read(fields)?;
    let license = settings.license_or_default();
    let new = NewRepo {
        kind,
        visibility: settings.visibility.unwrap_or(Visibility::Public),
        license: Some(license.clone()),
        details: settings.details(),
        files: first_files(kind, id.name(), &license)?,
        author: Author::user(&user.name),
        id,
    };
    let repo = face.store().create_repo(new).await.map_err(|error| match error.kind() {
        Kind::Conflict => Refusal::exists(kind == RepoKind::Dataset),
        _ => error.into(),
    })?;
    Ok(Data(describe(&repo).into()))
}

/// `PUT /api/v1/models/{owner}/{name}` and `PUT /api/v1/datasets/{number}`: changes the settings that are named.
pub(super) async fn change(State(face): State<Face>, access: Access, body: Bytes) -> Answer {
    access.writer(&face)?;
    let fields: Map<String, Value> = from_json(&body)?;
    let patch = Settings::read(&fields)?.patch(&access.repo);
    let repo = face.store().update_repo(&access.repo, &patch).await?;
    Ok(Data(describe(&repo).into()))
}
