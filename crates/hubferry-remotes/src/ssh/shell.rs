//! Commands on the host, where it runs any: hashes of many files at once, copies and free space. No name of a file is ever read by a
//! shell: names go through a pipe, separated by NUL, and the few paths on a command line are quoted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};

use super::program::{Printed, Program};

/// Our answer begins behind this line: login scripts print what they like.
const MARK: &str = "hubferry-answers";
/// Hashing slower than this (bytes per second) counts as hanging.
const SLOWEST: u64 = 4 << 20;
/// Time that any command has.
const PATIENCE: Duration = Duration::from_mins(1);
/// Commands that hash side by side.
const LANES: usize = 4;

/// Tells what the host can do: where a login begins, the time, the system, and how it hashes. The files come by NUL, as below.
const PROBE: &str = r#"echo hubferry-answers; pwd -P; date +%s; uname -sm
for tool in sha256sum "shasum -a 256"; do
  case $(printf '/dev/null\0' | xargs -0 $tool 2>/dev/null) in e3b0c442*) echo "$tool"; exit 0;; esac
done; echo none"#;

/// A host that runs commands and hashes.
#[derive(Debug)]
pub(super) struct Shell {
    program: Arc<Program>,
    tool: String,
    /// `Linux x86_64`.
    pub(super) system: String,
    /// Seconds that the clock there is ahead of this one.
    ahead: i64,
}

/// Text as one word of a shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A script with its arguments, for whatever shell the login has.
pub(super) fn line(script: &str, args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
    format!("exec sh -c {} sh {}", quote(script), args.join(" "))
}

/// Time for a command that reads this many bytes.
fn patience(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The lines behind the mark; `None` where it did not come.
fn answer(printed: &Printed) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(&printed.out);
    let mut lines = text.lines().map(|line| line.trim_end_matches('\r').to_owned());
    lines.by_ref().find(|line| line == MARK)?;
    Some(lines.collect())
}

impl Shell {
    /// Looks whether the host runs commands; `None` where it does not, or where they would see other files than SFTP does. `home` is
    /// where a login begins, as SFTP has it.
    pub(super) async fn find(program: &Arc<Program>, home: &str) -> Result<Option<Self>> {
        // The whole login shell, not ours, reads this; the rest is in quotes.
        let printed = program.run(&line(PROBE, &[]), &[], PATIENCE).await?;
        let Some(lines) = answer(&printed) else { return Ok(None) };
        let [begins, time, system, tool] = lines.as_slice() else { return Ok(None) };
        let Ok(time) = time.trim().parse::<i64>() else { return Ok(None) };
        if tool == "none" || begins != home {
            return Ok(None);
        }
        let tool = tool.clone();
        Ok(Some(Self { program: program.clone(), tool, system: system.clone(), ahead: time - now() }))
    }

    /// How the host is called.
    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// The time there, in seconds since 1970.
    pub(super) fn clock(&self) -> i64 {
        now() + self.ahead
    }

    /// Hashes files below a folder, given with their sizes. What cannot be read is not in the answer.
    pub(super) async fn hashes(&self, folder: &str, files: &[(String, u64)]) -> Result<HashMap<String, Oid>> {
        let mut lanes: Vec<(u64, Vec<&str>)> = vec![(0, Vec::new()); LANES];
        let mut largest: Vec<&(String, u64)> = files.iter().collect();
        largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        for (path, size) in largest {
            if let Some((bytes, paths)) = lanes.iter_mut().min_by_key(|(bytes, paths)| (*bytes, paths.len())) {
                *bytes = bytes.saturating_add(*size);
                paths.push(path);
            }
        }
        lanes.retain(|(_, paths)| !paths.is_empty());
        let asked: Vec<_> = lanes.iter().map(|(bytes, paths)| self.hash_some(folder, paths, *bytes).boxed()).collect();
        let parts: Vec<HashMap<String, Oid>> = stream::iter(asked).buffer_unordered(LANES).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn hash_some(&self, folder: &str, paths: &[&str], bytes: u64) -> Result<HashMap<String, Oid>> {
        let script = format!("echo {MARK}; cd \"$1\" && xargs -0 {}", self.tool);
        let mut names = Vec::new();
        for path in paths {
            // What begins with a dash would be an option.
            names.extend_from_slice(format!("./{path}\0").as_bytes());
        }
        let printed = self.program.run(&line(&script, &[folder]), &names, patience(bytes)).await?;
        let lines = answer(&printed).ok_or_else(|| silent(&printed))?;
        Ok(lines.iter().filter_map(|line| hash_line(line)).collect())
    }

    /// The hash of the first bytes of a file.
    pub(super) async fn prefix(&self, file: &str, bytes: u64) -> Result<Option<Oid>> {
        let script = format!("echo {MARK}; head -c \"$1\" \"$2\" | {}", self.tool);
        let printed = self.program.run(&line(&script, &[&bytes.to_string(), file]), &[], patience(bytes)).await?;
        let lines = answer(&printed).ok_or_else(|| silent(&printed))?;
        Ok(lines.first().and_then(|line| line.get(..64)).and_then(|hash| hash.parse().ok()))
    }

    /// Copies a file to a name that nobody has.
    pub(super) async fn copy(&self, from: &str, to: &str, bytes: u64) -> Result<()> {
        let printed = self.program.run(&line("cp \"$1\" \"$2\"", &[from, to]), &[], patience(bytes)).await?;
        if printed.success { Ok(()) } else { Err(failed("copy a file", &printed)) }
    }

    /// Bytes that are free where a folder is.
    pub(super) async fn free_space(&self, folder: &str) -> Result<Option<u64>> {
        let printed = self.program.run(&line("df -Pk \"$1\"", &[folder]), &[], PATIENCE).await?;
        let text = String::from_utf8_lossy(&printed.out);
        // The fourth column of the last line: POSIX.
        let free = text.lines().next_back().and_then(|line| line.split_whitespace().nth(3)).and_then(|word| word.parse::<u64>().ok());
        Ok(free.filter(|_| printed.success).map(|kib| kib.saturating_mul(1024)))
    }
}

fn failed(what: &str, printed: &Printed) -> Error {
    let said = crate::http::clean(&printed.complaint, 200);
    let error = Error::new(Kind::Io, format!("the host could not {what}: {said}"));
    if said.contains("No space left") || said.contains("quota") {
        return error.hint("free some space there, then run the same command again: what is stored already is kept");
    }
    error
}

fn silent(printed: &Printed) -> Error {
    let said = crate::http::clean(&printed.complaint, 200);
    Error::new(Kind::Unavailable, format!("a command on the host did not answer: {said}"))
}

/// `<hash>  ./path`, with a star in place of the second blank where a tool reads binary files.
fn hash_line(line: &str) -> Option<(String, Oid)> {
    let (hash, rest) = line.split_at_checked(64)?;
    let path = rest.strip_prefix("  ./").or_else(|| rest.strip_prefix(" *./"))?;
    Some((path.to_owned(), hash.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_shell_reads_back_what_was_quoted() {
        for text in ["it's", "a b", "$(id)`id`$HOME", "\\", "\"", "", "-n", "*", "'\\''"] {
            let line = line("printf %s \"$1\"", &[text]);
            let done = std::process::Command::new("sh").arg("-c").arg(&line).output().unwrap();
            assert_eq!(String::from_utf8(done.stdout).unwrap(), text, "{line}");
        }
    }

    #[test]
    fn answers_begin_behind_the_mark() {
        let printed = |out: &str| Printed { success: true, out: out.as_bytes().to_vec(), complaint: String::new() };
        assert_eq!(answer(&printed("Welcome!\nhubferry-answers\r\nx\ny\n")), Some(vec!["x".into(), "y".into()]));
        assert_eq!(answer(&printed("This service allows sftp connections only.\n")), None);
    }

    #[test]
    fn lines_of_both_tools_are_read() {
        let hash = Oid::EMPTY.to_string();
        for line in [format!("{hash}  ./a b/ü"), format!("{hash} *./a b/ü")] {
            assert_eq!(hash_line(&line), Some(("a b/ü".to_owned(), Oid::EMPTY)));
        }
        for odd in [format!("\\{hash}  ./a"), hash, String::new(), "sha256sum: x: No such file".to_owned(), "ü".repeat(64)] {
            assert_eq!(hash_line(&odd), None, "{odd}");
        }
    }
}
