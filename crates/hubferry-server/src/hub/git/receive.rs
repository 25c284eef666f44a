//! Pushes: branches and tags are created, moved and deleted at commits that are there already. Nothing else is taken.
//!
//! Known from Git's `gitprotocol-pack` ("Pushing Data To a Server") and `gitprotocol-http`.

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};

use super::Face;
use super::pkt::{FLUSH, Line, Lines, put};
use crate::store::{BRANCHES, Repo, Store, TAGS};

/// Most refs that one push changes.
const MOST_COMMANDS: usize = 2000;

/// Why commits are not taken, in words that Git shows.
const NO_COMMITS: &str = "this hub takes branches and tags by push, but no commits: upload with `hubferry copy`, or with the hub's own \
                          client (huggingface_hub, modelscope)";

/// What a push wants.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Push {
    commands: Vec<Command>,
    /// Whether the client wants to hear how each ended.
    report: bool,
    /// Whether objects came along.
    brings_objects: bool,
}

/// One ref: where the client believes it to be, and where it is to be. `None` is nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Command {
    from: Option<GitOid>,
    to: Option<GitOid>,
    name: String,
}

/// Carries out a push and says how each of its commands ended.
pub(super) async fn answer(store: &Store, repo: &Repo, face: Face, body: &[u8]) -> Result<Vec<u8>> {
    // A lone flush asks whether one may push at all.
    let Some(push) = Push::parse(body)? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    put(&mut out, &format!("unpack {}", if push.brings_objects { NO_COMMITS } else { "ok" }));
    for command in &push.commands {
        let done =
            if push.brings_objects { Err("no commits are taken by push".to_owned()) } else { carry_out(store, repo, face, command).await };
        match done {
            Ok(()) => put(&mut out, &format!("ok {}", command.name)),
            Err(why) => put(&mut out, &format!("ng {} {why}", command.name)),
        }
    }
    out.extend_from_slice(FLUSH);
    Ok(if push.report { out } else { Vec::new() })
}

/// `Err` holds what the client is told.
async fn carry_out(store: &Store, repo: &Repo, face: Face, command: &Command) -> std::result::Result<(), String> {
    if !command.name.starts_with(BRANCHES) && !command.name.starts_with(TAGS) {
        return Err("only branches and tags can be pushed here".to_owned());
    }
    store.move_ref(repo, &face.name(&command.name), command.from, command.to).await.map_err(|error| match error.kind() {
        Kind::Conflict | Kind::Invalid | Kind::NotFound => error.message().to_owned(),
        _ => {
            tracing::error!(%error, "a push failed");
            "internal error".to_owned()
        }
    })
}

impl Push {
    /// `None` for a body that asks nothing.
    fn parse(body: &[u8]) -> Result<Option<Self>> {
        let mut lines = Lines::new(body);
        let (mut commands, mut report) = (Vec::new(), false);
        for line in lines.by_ref() {
            let Line::Text(text) = line? else { break };
            // Where the client's own history ends does not matter to refs.
            if text.starts_with("shallow ") {
                continue;
            }
            let (command, can) = text.split_once('\0').unwrap_or((text, ""));
            report |= can.split(' ').any(|word| word == "report-status");
            commands.push(Command::parse(command)?);
            if commands.len() > MOST_COMMANDS {
                return Err(Error::invalid(format!("one push changes at most {MOST_COMMANDS} branches and tags")));
            }
        }
        if commands.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { commands, report, brings_objects: brings_objects(lines.rest())? }))
    }
}

impl Command {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.splitn(3, ' ');
        let mut id = || {
            let id: GitOid = words.next().unwrap_or_default().parse().map_err(|_| Error::invalid("a push names no commit"))?;
            Ok::<_, Error>((id.0 != [0; 20]).then_some(id))
        };
        let (from, to) = (id()?, id()?);
        let name = words.next().filter(|name| !name.is_empty() && !name.chars().any(char::is_control));
        let name = name.ok_or_else(|| Error::invalid("a push names no branch or tag"))?.to_owned();
        Ok(Self { from, to, name })
    }
}

/// Whether there is anything in the pack behind the commands: deletions come without one, everything else with one that may be empty.
fn brings_objects(pack: &[u8]) -> Result<bool> {
    if pack.is_empty() {
        return Ok(false);
    }
    let count = pack.strip_prefix(b"PACK").and_then(|rest| rest.get(4..8));
    count.map(|count| count != [0; 4]).ok_or_else(|| Error::invalid("what follows the commands of the push is no pack"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const ONE: &str = "1111111111111111111111111111111111111111";

    fn body(lines: &[&str], pack: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            put(&mut out, line);
        }
        out.extend_from_slice(FLUSH);
        out.extend_from_slice(pack);
        out
    }

    #[test]
    fn commands_are_read_and_packs_told_apart() {
        let first = format!("{ZERO} {ONE} refs/heads/x\0 report-status agent=git/2");
        let push = Push::parse(&body(&[&format!("shallow {ONE}"), &first, &format!("{ONE} {ZERO} refs/tags/a b")], b"")).unwrap().unwrap();
        let one = Some(ONE.parse().unwrap());
        let want =
            [Command { from: None, to: one, name: "refs/heads/x".into() }, Command { from: one, to: None, name: "refs/tags/a b".into() }];
        assert_eq!((push.commands.as_slice(), push.report, push.brings_objects), (&want[..], true, false));
        let packed = |pack: &[u8]| Push::parse(&body(&[&first], pack)).map(|push| push.unwrap().brings_objects).map_err(|e| e.kind());
        assert_eq!(packed(b"PACK\0\0\0\x02\0\0\0\0sum"), Ok(false));
        assert_eq!(packed(b"PACK\0\0\0\x02\0\0\0\x01object"), Ok(true));
        assert_eq!(packed(b"PACK"), Err(Kind::Invalid));
        assert_eq!(packed(b"nonsense"), Err(Kind::Invalid));
        assert_eq!(Push::parse(FLUSH).unwrap(), None);
        for bad in ["", "1 2 refs/heads/x", &format!("{ZERO} {ONE}"), &format!("{ZERO} {ONE} "), &format!("{ZERO} {ONE} a\tb")] {
            assert!(Push::parse(&body(&[bad], b"")).is_err(), "{bad}");
        }
    }
}
