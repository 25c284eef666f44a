//! `--via host`: the host of the destination pulls by itself, with this program, and tells how far it is.

use std::time::Duration;

use hubferry_core::address::{Address, SshAddress, SshPath};
use hubferry_core::error::{Error, Kind};
use hubferry_core::events::Event;
use hubferry_core::manifest::RepoPath;
use serde_json::{Value, json};

use super::{Outcome, Task, whole};
use crate::exit::{Exit, Failure};
use crate::given;
use crate::output::size;
use crate::session::{Session, usage};

/// Carries a copy out on the host of its destination.
pub(super) async fn run(task: &Task<'_>, session: &Session) -> Outcome {
    let (source, host) = ends(task)?;
    let remote = session.settings.remotes.iter().find(|remote| remote.name == source.remote);
    let remote = remote.ok_or_else(|| Error::new(Kind::Bug, "an address names a remote that is not in the table"))?;
    let told = given::line(remote).ok_or_else(|| no_hub(task))?;
    let program = std::env::current_exe().map_err(|error| Error::new(Kind::Io, "cannot find this program").caused_by(error))?;
    let version = format!("hubferry {}", crate::args::VERSION);
    let mut words = vec![session.remotes.install(host, &program, &version).await?];
    words.extend(arguments(task, host, session));
    let reporter = &*session.context.reporter;
    let mut complaints = Vec::new();
    let news = |line: &str| match event(line) {
        Some(event) => reporter.event(&event),
        None => complaints.push(line.to_owned()),
    };
    let ended = session.remotes.run_there(host, &words, &told, news).await?;
    session.progress.finish_one();
    let report: Option<Value> = serde_json::from_slice(&ended.out).ok();
    let Some(mut report) = report.filter(Value::is_object) else {
        let said = complaints.last().cloned().unwrap_or_else(|| format!("exit {}", ended.code));
        return Err(Error::new(Kind::Unavailable, format!("the run on the host ended without a report: {said}")).into());
    };
    if ended.code != 0 {
        return Err(failure(&report, ended.code));
    }
    report["destination"] = json!(task.job.destination.to_string());
    report["via"] = json!("host");
    session.output.json(&report);
    session.output.text(|| {
        let moved = size(report["moved_bytes"].as_u64().unwrap_or_default());
        let planned = if report["dry_run"] == json!(true) { "would put" } else { "put" };
        let files = &report["plan"]["files"];
        format!("{} -> {}\n{files} files {planned} in place by the host itself, {moved} moved\n", task.job.source, task.job.destination)
    });
    Ok(Exit::Done)
}

fn no_hub(task: &Task<'_>) -> Failure {
    usage(
        &format!("--via host needs a hub as source and a host as destination, not {} and {}", task.job.source, task.job.destination),
        "write hubferry copy hf:org/model ssh://host/path --via host",
    )
}

/// What can be done there: a hub is read, and the host writes into a folder of its own.
fn ends<'a>(task: &'a Task<'_>) -> Result<(&'a hubferry_core::address::RepoAddress, &'a SshAddress), Failure> {
    let args = task.args;
    let (Address::Repo(source), Address::Ssh(host)) = (&task.job.source, &task.job.destination) else {
        return Err(no_hub(task));
    };
    if args.plan.is_some() || args.receipt.is_some() || !args.also.is_empty() || whole::is_wanted(&args.refs) {
        return Err(usage(
            "--plan, --receipt, --also, --all-refs and --history do not work with --via host",
            "leave them out, or leave out --via host",
        ));
    }
    Ok((source, host))
}

/// The same command for the program there. No token is among it.
fn arguments(task: &Task<'_>, host: &SshAddress, session: &Session) -> Vec<String> {
    let args = task.args;
    let folder = match &host.path {
        SshPath::Absolute(path) | SshPath::Home(path) if !path.is_empty() => path.as_str(),
        _ => ".",
    };
    let verb = if task.deletion.is_some() { "sync" } else { "copy" };
    let mut words: Vec<String> = [verb, "--given", "--json", "--progress", "json"].map(str::to_owned).to_vec();
    let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
    args.selection.include.iter().for_each(|glob| add("--include", glob.clone()));
    args.selection.exclude.iter().for_each(|glob| add("--exclude", glob.clone()));
    if let Some(kind) = args.kind {
        add("--kind", kind.to_string());
    }
    add("--stall-timeout", session.context.idle.as_secs().to_string());
    if let Some(most) = task.deletion.and_then(|deletion| deletion.most) {
        add("--max-delete", most.to_string());
    }
    let flags = [
        ("--dry-run", args.dry_run),
        ("--allow-case-collisions", args.allow_case_collisions),
        ("--raw", args.raw),
        ("--yes", task.deletion.is_some()),
        ("--delete-excluded", task.deletion.is_some_and(|deletion| deletion.excluded)),
    ];
    words.extend(flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| name.to_owned()));
    words.extend(["--".to_owned(), task.job.source.to_string(), format!("dir:{folder}")]);
    words
}

/// A line of `--progress json` as the event that it was.
fn event(line: &str) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let path = || RepoPath::new(text("path")?).ok();
    Some(match value.get("event")?.as_str()? {
        "planned" => Event::Planned { files: number("files")?, bytes: number("bytes")? },
        "started" => Event::Started { path: path()?, size: number("size")? },
        "progress" => Event::Progress { path: path()?, bytes: number("bytes")? },
        "finished" => Event::Finished { path: path()?, size: number("size")?, moved: value.get("moved")?.as_bool()? },
        "retrying" => Event::Retrying {
            what: text("what")?,
            why: text("why")?,
            pause: Duration::try_from_secs_f64(value.get("pause")?.as_f64()?).ok()?,
            attempt: u32::try_from(number("attempt")?).ok()?,
        },
        "note" => Event::Note(format!("on the host: {}", text("text")?)),
        "phase" | "detail" => Event::Detail(format!("on the host: {}", text("text").or_else(|| text("phase"))?)),
        _ => return None,
    })
}

/// What a run on the host failed with, as if it had failed here.
fn failure(report: &Value, code: i32) -> Failure {
    let error = &report["error"];
    let kind = serde_json::from_value(error["kind"].clone()).unwrap_or(Kind::Unavailable);
    let mut told = Error::new(kind, format!("on the host: {}", error["message"].as_str().unwrap_or("it failed")));
    if let Some(hint) = error["hint"].as_str() {
        told = told.hint(hint);
    }
    let all = [
        Exit::Failed,
        Exit::Usage,
        Exit::Partial,
        Exit::VerificationFailed,
        Exit::NotAuthorised,
        Exit::NotFound,
        Exit::Temporary,
        Exit::Differs,
        Exit::Interrupted,
    ];
    let exit = all.into_iter().find(|exit| *exit as i32 == code).unwrap_or(Exit::Failed);
    Failure { error: told, exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_the_events_that_they_were() {
        assert!(matches!(event(r#"{"event":"planned","files":2,"bytes":9}"#), Some(Event::Planned { files: 2, bytes: 9 })));
        assert!(matches!(event(r#"{"event":"progress","path":"a/b","bytes":9}"#), Some(Event::Progress { bytes: 9, .. })));
        for odd in ["", "error: x", "{}", r#"{"event":"started","path":"../x","size":1}"#, r#"{"event":"other"}"#] {
            assert!(event(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn a_failure_there_is_one_here() {
        let report = json!({"error": {"kind": "not_found", "message": "no such model", "hint": "look"}, "exit": 6});
        let failure = failure(&report, 6);
        assert_eq!((failure.exit, failure.error.kind(), failure.error.hint_text()), (Exit::NotFound, Kind::NotFound, Some("look")));
        assert!(failure.error.to_string().contains("no such model"));
    }
}
