//! The answer to a batch question, read with suspicion.

use std::collections::{BTreeMap, HashMap};

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::manifest::Blob;
use serde_json::{Map, Value, json};
use url::Url;

use crate::http::{Origin, clean, safe_url};

/// More parts than any storage takes.
const MOST_PARTS: usize = 100_000;

/// One request that the server hands out, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Where to.
    pub url: Url,
    /// With which headers.
    pub headers: Vec<(String, String)>,
}

/// Everything one upload needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actions {
    /// The upload itself; with parts, the call that completes them.
    pub(super) upload: Action,
    /// What to call when the bytes are there.
    pub(super) verify: Option<Action>,
    /// Part size and the links of the parts in order.
    parts: Option<(u64, Vec<Url>)>,
}

impl Actions {
    /// The size of every part but the last, when the object is sent in parts.
    pub(super) fn part_size(&self) -> Option<u64> {
        self.parts.as_ref().map(|(size, _)| *size)
    }

    /// The links of the parts, in order.
    pub(super) fn parts(&self) -> &[Url] {
        self.parts.as_ref().map_or(&[], |(_, links)| links)
    }

    pub(super) fn links(&self) -> usize {
        self.parts().len() + 1
    }

    /// Tells one upload on the server from another, whatever their links are signed with: by the id that the storage gave it, or
    /// else by the whole link.
    pub(super) fn name(&self) -> String {
        let id = |url: &Url| url.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case("uploadid")).map(|(_, id)| id.into_owned());
        let size = self.part_size().unwrap_or(0);
        match id(&self.upload.url).or_else(|| id(self.parts().first()?)) {
            Some(id) => format!("{} {id} {size}", safe_url(&self.upload.url)),
            None => format!("{} {size}", self.upload.url),
        }
    }

    /// The same as the object of an answer: what is read back later is checked like one.
    pub(super) fn object(&self, blob: &Blob) -> Value {
        let mut actions = json!({"upload": written(&self.upload)});
        if let Some(size) = self.part_size() {
            let header = &mut actions["upload"]["header"];
            header["chunk_size"] = size.into();
            for (index, link) in self.parts().iter().enumerate() {
                header[(index + 1).to_string()] = link.as_str().into();
            }
        }
        if let Some(verify) = &self.verify {
            actions["verify"] = written(verify);
        }
        json!({"oid": blob.oid, "size": blob.size, "actions": actions})
    }
}

fn written(action: &Action) -> Value {
    let header: Map<String, Value> = action.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({"href": action.url.as_str(), "header": header})
}

/// The objects of one answer.
pub(super) struct Answers {
    objects: HashMap<Oid, Value>,
    links: Links,
}

/// How links are checked.
struct Links {
    endpoint: Url,
    mirrored: Option<(Origin, Url)>,
}

impl Answers {
    pub(super) fn read(answer: &Value, endpoint: &Url, mirrored: Option<&(Origin, Url)>) -> Result<Self> {
        let objects = answer["objects"].as_array().ok_or_else(|| broken("it has no list of objects"))?;
        let objects = objects.iter().filter_map(|object| Some((object["oid"].as_str()?.parse().ok()?, object.clone()))).collect();
        Ok(Self { objects, links: Links { endpoint: endpoint.clone(), mirrored: mirrored.cloned() } })
    }

    fn object(&self, blob: &Blob) -> Result<&Value> {
        let object =
            self.objects.get(&blob.oid).ok_or_else(|| broken("it leaves out an object that was asked for").context("oid", blob.oid))?;
        if let Some(error) = object.get("error").filter(|error| error.is_object()) {
            return Err(refusal(error).context("oid", blob.oid).context("size", blob.size));
        }
        if object["size"].as_u64().is_some_and(|size| size != blob.size) {
            return Err(broken("it changes the size of an object").context("oid", blob.oid));
        }
        Ok(object)
    }

    /// What is to be done to upload `blob`; `None` when the server holds it.
    pub(super) fn upload(&self, blob: &Blob) -> Result<Option<Actions>> {
        let object = self.object(blob)?;
        let Some(upload) = object.get("actions").and_then(|actions| actions.get("upload")).filter(|upload| !upload.is_null()) else {
            return Ok(None);
        };
        let header = upload.get("header").and_then(Value::as_object);
        let parts = match header.and_then(|header| header.get("chunk_size")) {
            Some(size) => Some(self.links.parts(blob, size, header.into_iter().flatten())?),
            None => None,
        };
        let verify = match object["actions"].get("verify").filter(|verify| !verify.is_null()) {
            Some(verify) => Some(self.links.action(verify, true)?),
            None => None,
        };
        Ok(Some(Actions { upload: self.links.action(upload, true)?, verify, parts }))
    }

    /// Where the bytes of `blob` are.
    pub(super) fn download(&self, blob: &Blob) -> Result<Action> {
        let object = self.object(blob)?;
        match object.get("actions").and_then(|actions| actions.get("download")) {
            Some(action) => self.links.action(action, false),
            None => Err(Error::not_found("the server does not hold the object").context("oid", blob.oid)),
        }
    }
}

impl Links {
    fn action(&self, action: &Value, secret: bool) -> Result<Action> {
        let url = self.link(&action["href"], secret)?;
        let mut headers = Vec::new();
        for (name, value) in action.get("header").and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = value.as_str()
                && may_be_sent(name)
            {
                headers.push((name.clone(), value.to_owned()));
            }
        }
        Ok(Action { url, headers })
    }

    /// A link that may be used. What we upload may be private: it does not leave encryption because an answer says so.
    fn link(&self, href: &Value, secret: bool) -> Result<Url> {
        let href = href.as_str().ok_or_else(|| broken("an action has no link"))?;
        let mut url = Url::parse(href).map_err(|e| broken("a link is no URL").caused_by(e))?;
        let origin = Origin::of(&url)?;
        if let Some((_, base)) = self.mirrored.as_ref().filter(|(original, _)| *original == origin) {
            let path = format!("{}{}", base.path().trim_end_matches('/'), url.path());
            let query = url.query().map(str::to_owned);
            url = base.clone();
            url.set_path(&path);
            url.set_query(query.as_deref());
        } else if secret && self.endpoint.scheme() == "https" && !origin.is_encrypted() {
            return Err(broken("it sends an upload from https to http").context("host", origin.host()));
        }
        Ok(url)
    }

    /// Part size and links; there must be exactly as many as the file needs.
    fn parts<'a>(&self, blob: &Blob, size: &Value, header: impl Iterator<Item = (&'a String, &'a Value)>) -> Result<(u64, Vec<Url>)> {
        let size = size.as_u64().or_else(|| size.as_str()?.trim().parse().ok()).filter(|size| *size > 0);
        let size = size.ok_or_else(|| broken("its part size is no number"))?;
        let mut links = BTreeMap::new();
        for (name, href) in header {
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
                let number: u64 = name.parse().map_err(|e| broken("a part number is too large").caused_by(e))?;
                links.insert(number, self.link(href, true)?);
            }
        }
        if links.len() as u64 != blob.size.div_ceil(size) || links.len() > MOST_PARTS {
            return Err(broken("its parts do not cover the object")
                .context("parts", links.len())
                .context("part size", size)
                .context("size", blob.size));
        }
        Ok((size, links.into_values().collect()))
    }
}

/// Headers of an action that are not ours to set, or that describe the parts.
fn may_be_sent(name: &str) -> bool {
    let taken = ["host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade", "chunk_size"];
    !name.bytes().all(|b| b.is_ascii_digit()) && !taken.iter().any(|word| name.eq_ignore_ascii_case(word))
}

fn broken(why: &str) -> Error {
    Error::invalid(format!("the answer about large objects cannot be used: {why}"))
}

/// The error of one object; its code is an HTTP status.
fn refusal(error: &Value) -> Error {
    let message = clean(error["message"].as_str().unwrap_or("no reason given"), 300);
    let (kind, retry) = match error["code"].as_u64().unwrap_or(0) {
        401 => (Kind::Unauthenticated, Retry::No),
        403 => (Kind::Denied, Retry::No),
        404 | 410 => (Kind::NotFound, Retry::No),
        409 => (Kind::Conflict, Retry::No),
        429 => (Kind::RateLimited, Retry::Backoff),
        507 => (Kind::Unavailable, Retry::No),
        500..600 => (Kind::Unavailable, Retry::Backoff),
        _ => (Kind::Invalid, Retry::No),
    };
    Error::new(kind, format!("the server refuses an object: {message}")).retry_as(retry)
}
