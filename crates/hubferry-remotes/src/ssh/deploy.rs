//! This program on the host itself: brought there once, checked, and run with what it needs on its standard input.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hubferry_core::address::SshAddress;
use hubferry_core::digest::{Oid, Prefix};
use hubferry_core::error::{Error, Kind, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::commit::make_folder;
use super::note::new_name;
use super::session::Session;
use super::shell::Shell;
use super::staging::check;
use super::{SshHosts, join, space};

/// Where programs lie, below the home folder of the login.
const PLACE: [&str; 3] = [".cache", ".cache/hubferry", ".cache/hubferry/bin"];
/// A line of progress is not longer than this, in bytes.
const LONGEST_LINE: usize = 64 << 10;
/// Most that a report may be, in bytes.
const MOST_PRINTED: u64 = 64 << 20;
const PIECE: usize = 1 << 20;

/// What a program on the host ended with.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: Vec<u8>,
}

impl SshHosts {
    /// Brings a program to a host, unless it is there, and sees that it runs: `version` is what it says of itself. Gives its path.
    pub async fn install(&self, address: &SshAddress, program: &Path, version: &str) -> Result<String> {
        let session = self.place(address)?.host.session().await?;
        let shell = commands(&session)?;
        let ours = system();
        if shell.system != ours {
            return Err(Error::new(Kind::Unsupported, format!("this program is for {ours}, and the host is {}", shell.system))
                .hint("leave out --via host: then the bytes pass through this machine"));
        }
        let (content, oid) = read(program).await?;
        let name = oid.to_string();
        let folder = join(&session.home, PLACE[2]);
        let at = join(&folder, &format!("hubferry-{}", name.get(..16).unwrap_or(&name)));
        if !is_there(&session, shell, &folder, &at, &content, oid).await? {
            for folder in PLACE {
                make_folder(&session, &join(&session.home, folder), 0o755).await?;
            }
            space::check(&session, &folder, content.len() as u64).await?;
            bring(&session, shell, &folder, &at, content, oid).await?;
        }
        let said = shell.program().run(&super::shell::line("exec \"$1\" --version", &[&at]), &[], Duration::from_mins(1)).await?;
        if said.success && String::from_utf8_lossy(&said.out).trim() == version {
            return Ok(at);
        }
        let why = crate::http::clean(&format!("{} {}", String::from_utf8_lossy(&said.out), said.complaint), 200);
        Err(Error::new(Kind::Unsupported, format!("this program does not run on the host: {why}"))
            .hint("its system library may be another one: use a static build (musl), or leave out --via host"))
    }

    /// Runs a program on a host with `input` on its standard input, which then stays open for as long as this is waited for. Every line
    /// of its standard error goes to `lines`.
    pub async fn run_there(
        &self,
        address: &SshAddress,
        words: &[String],
        input: &[u8],
        mut lines: impl FnMut(&str) + Send,
    ) -> Result<Ended> {
        let session = self.place(address)?.host.session().await?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = commands(&session)?.program().start(&super::shell::line("exec \"$@\"", &words))?;
        let (Some(mut to), Some(mut from), Some(news)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(Kind::Bug, "a program was started without its pipes"));
        };
        let broken = |error| Error::new(Kind::Unavailable, "the connection to the host broke").caused_by(error);
        to.write_all(input).await.map_err(broken)?;
        to.flush().await.map_err(broken)?;
        let listen = async {
            let mut news = BufReader::new(news.take(u64::MAX));
            let mut line = Vec::new();
            loop {
                line.clear();
                match (&mut news).take(LONGEST_LINE as u64).read_until(b'\n', &mut line).await {
                    Ok(1..) => lines(String::from_utf8_lossy(&line).trim_end()),
                    _ => return,
                }
            }
        };
        let read = async {
            let mut out = Vec::new();
            (&mut from).take(MOST_PRINTED).read_to_end(&mut out).await.map(|_| out)
        };
        let ((), out) = tokio::join!(listen, read);
        let status = child.wait().await.map_err(broken)?;
        drop(to);
        let code = status.code().filter(|code| *code != 255);
        let code = code.ok_or_else(|| Error::new(Kind::Unavailable, "the connection to the host broke while it worked"))?;
        Ok(Ended { code, out: out.map_err(broken)? })
    }
}

fn commands(session: &Session) -> Result<&Shell> {
    session.shell.as_ref().ok_or_else(|| {
        Error::new(Kind::Unsupported, "the host runs no commands, so it cannot pull by itself")
            .hint("leave out --via host: then the bytes pass through this machine")
    })
}

/// This system, as `uname -sm` says it.
fn system() -> String {
    let system = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    };
    let processor = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("macos", "aarch64") => "arm64",
        (_, other) => other,
    };
    format!("{system} {processor}")
}

async fn read(program: &Path) -> Result<(Bytes, Oid)> {
    let content = tokio::fs::read(program).await.map_err(|error| Error::io("read", program, error))?;
    let mut hash = Prefix::default();
    content.chunks(PIECE).for_each(|piece| hash.update(piece));
    Ok((Bytes::from(content), hash.oid()))
}

async fn hash(shell: &Shell, folder: &str, at: &str, size: u64) -> Result<Option<Oid>> {
    let name = at.rsplit('/').next().unwrap_or(at).to_owned();
    Ok(shell.hashes(folder, &[(name.clone(), size)]).await?.get(&name).copied())
}

async fn is_there(session: &Session, shell: &Shell, folder: &str, at: &str, content: &Bytes, oid: Oid) -> Result<bool> {
    let size = content.len() as u64;
    let there = session.sftp.lstat(at).await?.is_some_and(|attrs| attrs.is_file() && attrs.size == Some(size));
    Ok(there && hash(shell, folder, at, size).await? == Some(oid))
}

/// Sends it under another name first: a program that is half there must not be run.
async fn bring(session: &Session, shell: &Shell, folder: &str, at: &str, content: Bytes, oid: Oid) -> Result<()> {
    let (size, unfinished) = (content.len() as u64, join(folder, &new_name(oid)));
    let sent = async {
        let file = session.sftp.create(&unfinished).await?;
        let (mut offset, mut rest, mut waiting) = (0, content, Vec::new());
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(file.piece() as usize));
            let length = piece.len();
            let room = file.room(length).await?;
            waiting.push(file.write(offset, piece, room)?);
            offset += length as u64;
        }
        for piece in waiting {
            file.confirmed(piece).await?;
        }
        file.set_mode(0o755).await?;
        file.sync().await?;
        drop(file);
        check(oid, hash(shell, folder, &unfinished, size).await?)?;
        session.sftp.rename_over(&unfinished, at).await
    };
    let sent = sent.await;
    if sent.is_err() {
        drop(session.sftp.remove(&unfinished).await);
    }
    sent
}
