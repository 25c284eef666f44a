//! Where the remotes are and which tokens they take, given on standard input: how a host that pulls by itself (`--via host`) is told. No
//! argument, file or environment ever holds them. When the input ends, so does the run: whoever gave them is gone.

use std::io::{BufRead as _, Read as _};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::secret::Token;
use hubferry_remotes::registry::{HubSettings, Protocol, RemotePlace, RemoteSettings};
use serde_json::{Value, json};
use tokio::sync::Notify;
use url::Url;

/// Told once nobody is at the other end any more.
static OVER: Notify = Notify::const_new();
/// Longer than any token and its remote, in bytes.
const MOST: u64 = 64 << 10;
/// Where tokens of a run on a host come from, for people.
const FROM: &str = "the machine that asked for this run";

/// What a run elsewhere is told of a hub: one line. `None` for what is no hub.
pub(crate) fn line(remote: &RemoteSettings) -> Option<Vec<u8>> {
    let hub = remote.hub()?;
    let protocol = match remote.protocol()? {
        Protocol::HuggingFace => "hf",
        Protocol::ModelScope => "ms",
    };
    let token = hub.token.as_ref().map(Token::expose);
    let value = json!({"name": remote.name, "protocol": protocol, "endpoint": hub.endpoint.as_str(), "token": token});
    Some(format!("{value}\n").into_bytes())
}

/// Takes the remote that is given, in place of any of that name.
pub(crate) fn take(remotes: &mut Vec<RemoteSettings>) -> Result<()> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MOST).read_line(&mut line);
    read.map_err(|error| Error::new(Kind::Io, "cannot read standard input").caused_by(error))?;
    let remote = parse(&line).ok_or_else(|| Error::invalid("standard input does not begin with a remote"))?;
    remotes.retain(|known| known.name != remote.name);
    remotes.push(remote);
    std::thread::spawn(|| {
        let mut piece = [0; 64];
        while let Ok(1..) = std::io::stdin().lock().read(&mut piece) {}
        OVER.notify_one();
    });
    Ok(())
}

/// Waits until nobody is at the other end of the input. For ever, where nothing was taken from there.
pub(crate) async fn over() {
    OVER.notified().await;
}

fn parse(line: &str) -> Option<RemoteSettings> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let token = text("token").and_then(Token::new);
    let protocol = match text("protocol")? {
        "hf" => Protocol::HuggingFace,
        "ms" => Protocol::ModelScope,
        _ => return None,
    };
    let hub = HubSettings {
        endpoint: Url::parse(text("endpoint")?).ok()?,
        endpoint_from: FROM.to_owned(),
        credential_from: token.as_ref().map(|_| FROM.to_owned()),
        token,
        offline: None,
    };
    let place = RemotePlace::Hub { protocol, hub };
    Some(RemoteSettings { name: text("name")?.to_owned(), aliases: Vec::new(), place, hosts: Vec::new(), bare_url_kind: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken() {
        let text = r#"{"name":"team","protocol":"hf","endpoint":"http://h:1/","token":"s3cret"}"#;
        let remote = parse(text).unwrap();
        assert_eq!(remote.hub().unwrap().token.as_ref().unwrap().expose(), "s3cret");
        let again = parse(&String::from_utf8(line(&remote).unwrap()).unwrap()).unwrap();
        assert_eq!(again.hub().unwrap().endpoint.as_str(), "http://h:1/");
        assert!(parse("").is_none() && parse("{}").is_none());
    }
}
