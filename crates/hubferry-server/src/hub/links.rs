//! Links that carry their own permission: what may be done with which object until when, signed by the hub.

use std::time::Duration;

use axum::http::Method;
use hmac::{Hmac, KeyInit, Mac};
use hubferry_core::error::{Error, Kind, Result};
use sha2::Sha256;

use crate::store::now;

/// Signs links and checks them.
#[derive(Clone)]
pub struct Links {
    key: [u8; 32],
    life: Duration,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("life", &self.life).finish_non_exhaustive()
    }
}

/// The checked values of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims(Vec<(String, String)>);

impl Claims {
    /// A value the hub itself put into the link.
    pub fn get<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let value = self.0.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok());
        value.ok_or_else(|| Error::invalid(format!("the link has no {name}")))
    }
}

impl Links {
    /// Links signed with `key` that are good for `life`.
    pub fn new(key: [u8; 32], life: Duration) -> Self {
        Self { key, life }
    }

    /// `path` and `claims` with an end and a signature. Values must be plain letters and digits: clients may rewrite anything else.
    pub fn sign(&self, method: &Method, path: &str, claims: &[(&str, String)]) -> String {
        let mut link = format!("{path}?");
        for (name, value) in claims {
            link.extend([*name, "=", value.as_str(), "&"]);
        }
        let expires = now().saturating_add(i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX));
        link.extend(["expires=", &expires.to_string()]);
        let signature = hex::encode(self.mac(method, &link).finalize().into_bytes());
        format!("{link}&signature={signature}")
    }

    /// What a link allows. `Denied` when it was changed or made for another method, `Changed` when it is too old. A link for GET
    /// also allows HEAD.
    pub fn check(&self, method: &Method, path: &str, query: &str) -> Result<Claims> {
        let forged = || Error::new(Kind::Denied, "the request signature does not match");
        let (signed, signature) = query.rsplit_once("&signature=").ok_or_else(forged)?;
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let tag = hex::decode(signature).map_err(|_| forged())?;
        self.mac(method, &format!("{path}?{signed}")).verify_slice(&tag).map_err(|_| forged())?;
        let pairs = signed.split('&').filter_map(|pair| pair.split_once('='));
        let claims = Claims(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        if claims.get::<i64>("expires")? < now() {
            return Err(Error::new(Kind::Changed, "request has expired"));
        }
        Ok(claims)
    }

    fn mac(&self, method: &Method, link: &str) -> Hmac<Sha256> {
        // A key of 32 bytes fills half of the block; HMAC pads it with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(method.as_str().as_bytes());
        mac.update(b"\n");
        mac.update(link.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_link_is_good() {
        let links = Links::new([7; 32], Duration::from_mins(1));
        let link = links.sign(&Method::GET, "/-/objects/ab", &[("repo", "3".to_owned())]);
        let (path, query) = link.split_once('?').unwrap();
        assert_eq!(links.check(&Method::GET, path, query).unwrap().get::<i64>("repo").unwrap(), 3);
        assert!(links.check(&Method::HEAD, path, query).is_ok());
        for (method, path, query) in [
            (Method::PUT, path, query.to_owned()),
            (Method::GET, "/-/objects/ac", query.to_owned()),
            (Method::GET, path, query.replace("repo=3", "repo=4")),
            (Method::GET, path, query.replace("&signature=", "&signature=00")),
            (Method::GET, path, String::new()),
        ] {
            assert_eq!(links.check(&method, path, &query).unwrap_err().kind(), Kind::Denied, "{query}");
        }
        assert_eq!(Links::new([8; 32], Duration::ZERO).check(&Method::GET, path, query).unwrap_err().kind(), Kind::Denied);
    }

    #[test]
    fn old_links_are_told_apart_from_forged_ones() {
        let links = Links::new([7; 32], Duration::ZERO);
        let link = links.sign(&Method::GET, "/x", &[]);
        let (path, query) = link.split_once('?').unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(links.check(&Method::GET, path, query).unwrap_err().kind(), Kind::Changed);
    }
}
