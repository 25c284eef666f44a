//! What the hub says of the store: where it is, and a token for it alone, for one repository and an hour or less.

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::secret::Token;
use hubferry_core::transfer::retry::retrying;
use serde::Deserialize;
use url::Url;
use xet::xet_session::{HeaderMap, HeaderValue, header};

use super::session;
use crate::hf::api::{Api, Repo};
use crate::http::Origin;
use crate::links;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Right {
    Read,
    Write,
}

impl Right {
    fn route(self) -> &'static str {
        match self {
            Self::Read => "xet-read-token",
            Self::Write => "xet-write-token",
        }
    }
}

/// The store, and who may use it.
#[derive(Clone)]
pub(super) struct Grant {
    /// Base of the store's own requests.
    pub(super) store: String,
    pub(super) token: Token,
    /// Seconds since 1970.
    pub(super) until: u64,
    /// Where the library gets the next token by itself. It lies in the hub's own origin.
    pub(super) again: Url,
    /// What goes along to `again`, and nowhere else: the hub's own token.
    pub(super) again_headers: HeaderMap,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    exp: u64,
    cas_url: String,
}

/// Asks for a grant for `rev`. `None` when the hub has no Xet.
pub(super) async fn ask(api: &Api, token: Option<&Token>, repo: &Repo, rev: &str, right: Right) -> Result<Option<Grant>> {
    let url = api.repo_url(repo, &[right.route(), rev])?;
    let call = || async { api.send(api.http.get(url.clone()), repo, right == Right::Write).await?.json::<Answer>().await };
    let answer = match retrying(&api.retry, &*api.reporter, "asking for the Xet store", call).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        answer => answer?,
    };
    let store = checked(&url, &answer.cas_url, token.is_some())?;
    let granted = Token::new(&answer.access_token).ok_or_else(|| Error::invalid("the hub's token for the Xet store is empty"))?;
    let mut again_headers = session::headers(api.http.config());
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Error::invalid("the token has characters that cannot be sent"))?;
        value.set_sensitive(true);
        again_headers.insert(header::AUTHORIZATION, value);
    }
    Ok(Some(Grant { store, token: granted, until: answer.exp, again: url, again_headers }))
}

/// The store's URL. The library takes other schemes than HTTP for folders of this machine, so no other gets that far; and what is
/// read over an encrypted connection does not go on over an open one.
fn checked(hub: &Url, store: &str, signed_in: bool) -> Result<String> {
    let url = Url::parse(store).map_err(|e| Error::invalid("the hub names a Xet store that is no URL").caused_by(e))?;
    Origin::of(&url)?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(Error::invalid("the hub names a Xet store with more in its URL than a place"));
    }
    links::check(hub, &url, signed_in)?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_reached_by_http_and_not_worse_than_the_hub() {
        let hub: Url = "https://hub.example/api/models/o/n/xet-read-token/main".parse().unwrap();
        assert_eq!(checked(&hub, "https://cas.example/", true).unwrap(), "https://cas.example");
        assert_eq!(checked(&hub, "https://cas.example/base", true).unwrap(), "https://cas.example/base");
        for bad in [
            "local:///home/user",
            "memory://",
            "file:///etc",
            "http://cas.example",
            "https://user:word@cas.example",
            "https://cas.example/?x=1",
            "cas.example",
            "",
        ] {
            assert!(checked(&hub, bad, true).is_err(), "{bad}");
        }
        let plain: Url = "http://127.0.0.1:80/api".parse().unwrap();
        assert_eq!(checked(&plain, "http://127.0.0.1:8080", true).unwrap(), "http://127.0.0.1:8080");
    }
}
