//! Branches and tags by Git's push, for hubs whose API cannot change them: one command for a ref, and no objects.
//!
//! Known from Git's `gitprotocol-http` ("Smart Service git-receive-pack") and `gitprotocol-pack` ("Pushing Data To a Server"): the refs
//! are read first, then one line says where the ref is and where it is to be. An empty pack comes along unless a ref is deleted.

use std::sync::Arc;

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::refs::{RefChange, RefKind};
use url::Url;

use crate::http::{Classifier, Credential, Http, clean};

/// The longest answer that is read: about fifty bytes for each ref.
const LONGEST: usize = 32 << 20;

/// Version 2, no objects, and the SHA-1 of that.
const EMPTY_PACK: &[u8] = b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

/// Stands for no commit.
const NOWHERE: &str = "0000000000000000000000000000000000000000";

/// A repository as Git reaches it.
#[derive(Debug)]
pub(crate) struct GitRefs {
    pub(crate) http: Http,
    /// `…/owner/name.git`.
    pub(crate) repo: Url,
    pub(crate) credential: Credential,
}

impl GitRefs {
    /// Creates, moves or deletes a branch or tag. `Conflict` when it is not where the change says, `Denied` when the hub refuses.
    pub(crate) async fn change(&self, change: &RefChange) -> Result<()> {
        let name = match change.kind {
            RefKind::Branch => format!("refs/heads/{}", change.name),
            RefKind::Tag => format!("refs/tags/{}", change.name),
        };
        let offer = Offer::read(&self.offer().await?, |text| clean(&self.credential.redact(text), 300))?;
        let there = offer.find(&name);
        let wanted = change.to.as_ref().map(hubferry_core::manifest::Revision::as_str);
        if there == wanted {
            return Ok(());
        }
        if there != change.from.as_ref().map(hubferry_core::manifest::Revision::as_str) {
            let error = Error::new(Kind::Conflict, format!("{name} is elsewhere by now"));
            return Err(error.context("commit", there.unwrap_or("none")).hint("run the same command again: it looks at what is there now"));
        }
        if wanted.is_none() && !offer.can("delete-refs") {
            return Err(Error::new(Kind::Unsupported, format!("the hub does not let {name} be deleted by Git")));
        }
        let line = format!("{} {} {name}\0report-status", there.unwrap_or(NOWHERE), wanted.unwrap_or(NOWHERE));
        let mut body = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
        if wanted.is_some() {
            body.extend_from_slice(EMPTY_PACK);
        }
        let url = self.url("git-receive-pack")?;
        let request = self.http.post(url).bytes("application/x-git-receive-pack-request", body).repeatable(true);
        let response = request.credential(Some(&self.credential)).classify(&refusals()).send().await?;
        report(&response.bytes(LONGEST).await?, &name, |text| clean(&self.credential.redact(text), 300))
    }

    /// What the hub has and can, as it says in front of a push.
    async fn offer(&self) -> Result<bytes::Bytes> {
        let mut url = self.url("info/refs")?;
        url.query_pairs_mut().append_pair("service", "git-receive-pack");
        let response = self.http.get(url).credential(Some(&self.credential)).classify(&refusals()).send().await?;
        response.bytes(LONGEST).await
    }

    fn url(&self, tail: &str) -> Result<Url> {
        let mut url = self.repo.clone();
        let path = format!("{}/{tail}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if url.cannot_be_a_base() {
            return Err(Error::invalid("the address of the repository is no web address"));
        }
        Ok(url)
    }
}

/// How refusals of a push are read: their words are plain text.
fn refusals() -> Classifier {
    Arc::new(|refusal| {
        let said = clean(refusal.body.lines().next().unwrap_or_default(), 300);
        let said = if said.is_empty() || said.starts_with('<') { String::new() } else { format!(": {said}") };
        match refusal.status.as_u16() {
            401 | 403 => Some(Error::new(Kind::Denied, format!("the hub does not take branches and tags by Git from this token{said}"))),
            404 | 405 => Some(Error::new(Kind::Unsupported, format!("the hub cannot be reached by Git there{said}"))),
            _ => None,
        }
    })
}

/// What stands in front of a push.
#[derive(Debug, Default)]
struct Offer {
    refs: Vec<(String, String)>,
    capabilities: String,
}

impl Offer {
    fn read(bytes: &[u8], clean: impl Fn(&str) -> String) -> Result<Self> {
        let mut offer = Self::default();
        let mut named = false;
        for line in lines(bytes)? {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end_matches('\n');
            if let Some(why) = line.strip_prefix("ERR ") {
                return Err(Error::new(Kind::Denied, format!("the hub refuses: {}", clean(why))));
            }
            if line.is_empty() || line.starts_with("version ") {
                continue;
            }
            if let Some(service) = line.strip_prefix("# service=") {
                named = service == "git-receive-pack";
                continue;
            }
            let (reference, can) = line.split_once('\0').unwrap_or((line, ""));
            if !can.is_empty() {
                can.clone_into(&mut offer.capabilities);
            }
            let (id, name) = reference.split_once(' ').ok_or_else(broken)?;
            if id.len() < 40 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(broken());
            }
            offer.refs.push((name.to_owned(), id.to_owned()));
        }
        if named { Ok(offer) } else { Err(broken()) }
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.refs.iter().find(|(known, _)| known == name).map(|(_, id)| id.as_str())
    }

    fn can(&self, what: &str) -> bool {
        self.capabilities.split(' ').any(|word| word == what)
    }
}

/// How the push ended, in the words of the hub.
fn report(bytes: &[u8], name: &str, clean: impl Fn(&str) -> String) -> Result<()> {
    let mut unpacked = false;
    for line in lines(bytes)? {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches('\n');
        match line.split_once(' ') {
            Some(("unpack", "ok")) => unpacked = true,
            Some(("unpack" | "ERR", why)) => return Err(Error::new(Kind::Denied, format!("the hub refuses: {}", clean(why)))),
            Some(("ok", done)) if done == name && unpacked => return Ok(()),
            Some(("ng", rest)) => {
                let why = rest.strip_prefix(name).unwrap_or(rest).trim();
                return Err(Error::new(Kind::Denied, format!("the hub refuses {name}: {}", clean(why))));
            }
            _ => {}
        }
    }
    Err(Error::new(Kind::Unavailable, format!("the hub does not say what became of {name}")).ambiguous())
}

/// Pkt-lines: four hexadecimal digits say how long a line is, themselves included; fewer than four are marks.
fn lines(mut bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or_else(broken)?;
        let length = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok()).ok_or_else(broken)?;
        if length >= 4 {
            found.push(bytes.get(4..length).ok_or_else(broken)?);
        }
        bytes = &bytes[length.max(4)..];
    }
    Ok(found)
}

fn broken() -> Error {
    Error::new(Kind::Unsupported, "what answers there does not speak Git")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        clean(text, 300)
    }

    fn pkt(texts: &[&str]) -> Vec<u8> {
        texts
            .iter()
            .map(|text| if text.is_empty() { "0000".to_owned() } else { format!("{:04x}{text}", text.len() + 4) })
            .collect::<String>()
            .into()
    }

    #[test]
    fn offers_are_read() {
        let id = "1".repeat(40);
        let first = format!("{id} refs/heads/main\0report-status delete-refs\n");
        let offer = Offer::read(&pkt(&["# service=git-receive-pack\n", "", &first, &format!("{id} refs/tags/v1\n"), ""]), said).unwrap();
        assert_eq!((offer.find("refs/tags/v1"), offer.find("refs/heads/x")), (Some(id.as_str()), None));
        assert!(offer.can("delete-refs") && !offer.can("delete"));
        for bad in
            [&b"<html>"[..], b"", b"00", b"0008ab", &pkt(&["# service=git-upload-pack\n"]), &pkt(&["# service=git-receive-pack", "x y"])]
        {
            assert_eq!(Offer::read(bad, said).unwrap_err().kind(), Kind::Unsupported, "{bad:?}");
        }
        assert_eq!(Offer::read(&pkt(&["ERR no"]), said).unwrap_err().kind(), Kind::Denied);
    }

    #[test]
    fn reports_are_read() {
        let name = "refs/heads/x";
        let kind = |lines: &[&str]| report(&pkt(lines), name, said).map_err(|error| error.kind());
        assert_eq!(kind(&["unpack ok\n", "ok refs/heads/x\n", ""]), Ok(()));
        assert_eq!(kind(&["unpack ok", "ng refs/heads/x protected branch", ""]), Err(Kind::Denied));
        assert_eq!(kind(&["unpack disk full", ""]), Err(Kind::Denied));
        assert_eq!(kind(&["unpack ok", "ok refs/heads/y", ""]), Err(Kind::Unavailable));
        assert_eq!(kind(&[]), Err(Kind::Unavailable));
        assert!(report(&pkt(&["unpack ok", "ng refs/heads/x a\x1b[31mb"]), name, said).unwrap_err().to_string().find('\x1b').is_none());
    }
}
