//! The calls themselves: addresses, who we are, and envelopes that may hold a failure whatever the status says.

use std::sync::Arc;

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Reporter;
use hubferry_core::secret::Token;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::MsConfig;
use super::fault::{Route, Said, TOKEN_HINT, fault, fault_in_success, integer};
use crate::http::{Classifier, Credential, Http, HttpConfig, Origin, Request, Response, safe_url};

/// The `Data` of an answer, and how many items there are in all where the hub says so.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) data: Value,
    pub(super) total: Option<u64>,
}

/// One site, and who we are there. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api {
    endpoint: Url,
    origin: Origin,
    token: Option<Token>,
    credential: Option<Credential>,
    pub(super) http: Http,
    /// Blobs go over HTTP/1.1: on HTTP/2 the real hub takes them at less than half the speed.
    pub(super) blobs: Http,
    pub(super) reporter: Arc<dyn Reporter>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("endpoint", &safe_url(&self.endpoint)).finish_non_exhaustive()
    }
}

impl Api {
    pub(super) fn new(config: &MsConfig) -> Result<Self> {
        let origin = Origin::of(&config.endpoint)?;
        let credential = config.token.as_ref().map(|token| sign_in(&config.endpoint, token)).transpose()?;
        let blobs = match config.http.config() {
            has if has.http1_only => config.http.clone(),
            other => Http::new(HttpConfig { http1_only: true, ..other.clone() })?,
        };
        Ok(Self {
            endpoint: config.endpoint.clone(),
            origin,
            token: config.token.clone(),
            credential,
            http: config.http.clone(),
            blobs,
            reporter: Arc::clone(&config.reporter),
        })
    }

    /// An address below the endpoint, each segment escaped.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Result<Url> {
        let mut url = self.endpoint.clone();
        url.set_query(None);
        url.set_fragment(None);
        match url.path_segments_mut() {
            Ok(mut path) => drop(path.pop_if_empty().extend(segments)),
            Err(()) => return Err(Error::invalid("the endpoint is not a web address").context("url", safe_url(&self.endpoint))),
        }
        Ok(url)
    }

    /// `/api/v1/{models|datasets}/owner/name/…`.
    pub(super) fn repo_url(&self, kind: RepoKind, id: &RepoId, rest: &[&str]) -> Result<Url> {
        self.url(["api", "v1"].into_iter().chain(repo_segments(kind, id)).chain(rest.iter().copied()))
    }

    /// `/api/v1/repos/{models|datasets}/owner/name/…`: everything that writes. Reads there are refused as a loop.
    pub(super) fn write_url<'a>(&self, kind: RepoKind, id: &'a RepoId, rest: impl IntoIterator<Item = &'a str>) -> Result<Url> {
        self.url(["api", "v1", "repos"].into_iter().chain(repo_segments(kind, id)).chain(rest))
    }

    /// A page for people.
    pub(super) fn page(&self, kind: RepoKind, id: &RepoId) -> Option<String> {
        self.url(repo_segments(kind, id)).ok().map(|url| safe_url(&url))
    }

    /// Sends a request with our credential and reads a refusal as `route` means it.
    pub(super) async fn send(&self, route: Route, request: Request) -> Result<Response> {
        dress(route, request).credential(self.credential.as_ref()).send().await
    }

    /// The `Data` of an answer, or the failure it holds.
    pub(super) async fn call(&self, route: Route, request: Request) -> Result<Answer> {
        let response = self.send(route, request).await?;
        self.open(route, response).await
    }

    /// Opens the envelope of an answer.
    pub(super) async fn open(&self, route: Route, response: Response) -> Result<Answer> {
        let url = safe_url(response.url());
        let mut body: Value = response.json().await?;
        self.check(route, &body).map_err(|error| error.context("url", url))?;
        let total = ["TotalCount", "total_count"].iter().find_map(|name| body.get(*name)).and_then(integer);
        let name = if body.get("Data").is_some() { "Data" } else { "data" };
        let data = body.get_mut(name).map(Value::take).unwrap_or_default();
        let inner = data.get("TotalCount").and_then(integer);
        Ok(Answer { data, total: total.or(inner).and_then(|total| u64::try_from(total).ok()) })
    }

    /// Fails when an answer with a good status holds a failure.
    pub(super) fn check(&self, route: Route, body: &Value) -> Result<()> {
        let mut said = Said::of(body);
        if !said.is_failure(body) {
            return Ok(());
        }
        said.message = said.message.map(|message| self.redact(&message));
        let error = fault_in_success(route, &said);
        Err(match said.request_id {
            Some(id) => error.context("request_id", id),
            None => error,
        })
    }

    /// Cuts our token out of what a server says.
    pub(super) fn redact(&self, text: &str) -> String {
        self.token.as_ref().map_or_else(|| text.to_owned(), |token| text.replace(token.expose(), "***"))
    }

    /// Nothing is written anonymously: better said before bytes travel.
    pub(super) fn require_token(&self) -> Result<()> {
        if self.token.is_some() {
            return Ok(());
        }
        Err(Error::new(Kind::Unauthenticated, "writing to ModelScope needs a token")
            .context("url", safe_url(&self.endpoint))
            .hint(TOKEN_HINT))
    }

    /// Our token; `Unauthenticated` without one.
    pub(super) fn token(&self) -> Result<&Token> {
        self.require_token()?;
        self.token.as_ref().ok_or_else(|| Error::new(Kind::Bug, "a token was required and is not there"))
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The credential for sending a blob to `href`. Blobs need ours, and the hub names the host: only the endpoint itself and its
    /// `lfs.` sibling are trusted with it.
    pub(super) fn blob_credential(&self, href: &Url) -> Result<Credential> {
        self.require_token()?;
        let trusted = self.origin.holds(href) || lfs_sibling(&self.endpoint).is_some_and(|lfs| lfs.holds(href));
        match &self.token {
            Some(token) if trusted => sign_in(href, token),
            _ => Err(Error::new(Kind::Denied, "ModelScope wants the upload sent to a host that must not see the token")
                .context("host", href.host_str().unwrap_or_default())
                .context("endpoint", safe_url(&self.endpoint))
                .hint("give the endpoint as the site names itself, for example https://www.modelscope.cn; uploads then go to lfs.modelscope.cn")),
        }
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Whether `url` lies at the site itself.
    pub(super) fn holds(&self, url: &Url) -> bool {
        self.origin.holds(url)
    }

    /// A request for what a link leads to. Our credential goes along only to the site itself.
    pub(super) fn get_link(&self, link: Url) -> Request {
        self.http.get(link).credential(self.credential.as_ref())
    }

    /// Sends a blob.
    pub(super) async fn send_blob(&self, request: Request, credential: &Credential) -> Result<Response> {
        dress(Route::Blob, request).credential(Some(credential)).send().await
    }

    /// Signs in, as the SDK does before it writes. The session that comes of it is not used: the token does the same. Gives the token that
    /// Git takes as a password, where the site hands one out.
    pub(super) async fn sign_in(&self) -> Result<Option<Token>> {
        let token = self.token()?;
        let request = self.http.post(self.url(["api", "v1", "login"])?).repeatable(true).json(&json!({"AccessToken": token.expose()}));
        let answer = self.call(Route::Login, request).await?;
        Ok(answer.data.get("AccessToken").and_then(Value::as_str).and_then(Token::new))
    }

    /// Deletes a repository. Nothing asks for it but a trial that made it.
    pub(super) async fn delete(&self, kind: RepoKind, id: &RepoId) -> Result<()> {
        let request = self.http.request(Method::DELETE, self.repo_url(kind, id, &[])?);
        self.call(Route::Delete, request).await.map(drop)
    }

    pub(super) async fn whoami(&self) -> Result<String> {
        self.require_token()?;
        // This surface takes the bearer form only.
        let credential = self.token.as_ref().map(|token| Credential::new(&self.endpoint)?.bearer(token)).transpose()?;
        let request = self.http.request(Method::GET, self.url(["openapi", "v1", "users", "me"])?);
        let response = dress(Route::Whoami, request).credential(credential.as_ref()).send().await?;
        let Answer { data, .. } = self.open(Route::Whoami, response).await?;
        let name = ["username", "preferred_username", "name", "nickname", "sub"].iter().find_map(|key| data.get(*key)?.as_str());
        name.filter(|name| !name.is_empty())
            .map(|name| crate::http::clean(name, 100))
            .ok_or_else(|| Error::new(Kind::Unauthenticated, "ModelScope does not say whom the token belongs to").hint(TOKEN_HINT))
    }
}

/// Reads refusals as `route` means them.
fn dress(route: Route, request: Request) -> Request {
    let classifier: Classifier = Arc::new(move |refusal| {
        let said = refusal.json().map(|body| Said::of(&body)).unwrap_or_default();
        fault(route, refusal.status.as_u16(), &said)
    });
    request.header("X-Request-ID", &format!("{:032x}", fastrand::u128(..))).classify(&classifier)
}

/// Older routes read the cookie, newer ones the bearer; sending both does no harm.
fn sign_in(url: &Url, token: &Token) -> Result<Credential> {
    Credential::new(url)?.bearer(token)?.cookie("m_session_id", token)
}

fn repo_segments(kind: RepoKind, id: &RepoId) -> impl Iterator<Item = &str> {
    [Some(kind.plural()), id.owner(), Some(id.name())].into_iter().flatten()
}

/// `https://www.modelscope.cn` takes blobs at `https://lfs.modelscope.cn`.
fn lfs_sibling(endpoint: &Url) -> Option<Origin> {
    let domain = endpoint.domain()?;
    let mut sibling = endpoint.clone();
    sibling.set_host(Some(&format!("lfs.{}", domain.strip_prefix("www.").unwrap_or(domain)))).ok()?;
    Origin::of(&sibling).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(endpoint: &str) -> Api {
        Api::new(&crate::modelscope::tests::config(Url::parse(endpoint).unwrap())).unwrap()
    }

    #[test]
    fn blobs_go_to_the_site_itself_and_its_lfs_host_only() {
        let trusts = |endpoint: &str, href: &str| api(endpoint).blob_credential(&Url::parse(href).unwrap()).is_ok();
        for href in ["https://lfs.modelscope.cn/x", "https://www.modelscope.cn/x"] {
            assert!(trusts("https://www.modelscope.cn", href), "{href}");
        }
        assert!(trusts("https://modelscope.ai", "https://lfs.modelscope.ai/x"));
        assert!(trusts("http://127.0.0.1:7", "http://127.0.0.1:7/x"));
        for href in [
            "http://lfs.modelscope.cn/x",
            "https://lfs.modelscope.cn:8443/x",
            "https://lfs.modelscope.cn.evil.example/x",
            "https://evil.example/lfs.modelscope.cn",
            "https://lfs.modelscope.ai/x",
        ] {
            assert!(!trusts("https://www.modelscope.cn", href), "{href}");
        }
        assert!(!trusts("http://127.0.0.1:7", "http://127.0.0.1:8/x"));
    }

    #[test]
    fn addresses_keep_the_path_of_the_endpoint_and_escape() {
        let id: RepoId = "o/n".parse().unwrap();
        let url = api("http://h/base/").repo_url(RepoKind::Model, &id, &["a b", "c/d?e"]).unwrap();
        assert_eq!(url.as_str(), "http://h/base/api/v1/models/o/n/a%20b/c%2Fd%3Fe");
    }
}
