//! `verify --check-weights` of a directory that nothing is compared with: headers and sizes, no hashes.

use std::collections::BTreeSet;

use hubferry_core::address::Address;
use hubferry_core::manifest::RepoPath;
use hubferry_core::ops::{self, selecting};
use hubferry_core::weights::Format;
use serde_json::json;

use crate::args::VerifyArgs;
use crate::commands::Outcome;
use crate::commands::look::list;
use crate::exit::Exit;
use crate::output::{count, printable, table};
use crate::session::Session;

pub(super) async fn check(args: &VerifyArgs, place: &Address, session: &Session) -> Outcome {
    let source = session.source(place, None)?;
    let mut manifest = list(&*source, session).await?;
    let listed = manifest.clone();
    selecting::resolve(&args.selection.filter()?, &source, &manifest, &session.context).await?.apply(&mut manifest);
    let files: BTreeSet<RepoPath> = manifest.entries.keys().filter(|path| Format::of(path).is_some()).cloned().collect();
    let damaged = ops::damaged_weights(&source, &listed, &files, &session.context).await?;
    session.progress.finish();
    let ok = damaged.is_empty();
    let file = |path: &RepoPath| match damaged.get(path) {
        Some(error) => json!({"path": path, "verdict": "mismatched", "why": error.message()}),
        None => json!({"path": path, "verdict": "whole"}),
    };
    session.output.json(&json!({
        "place": place.to_string(),
        "against": null,
        "ok": ok,
        "summary": {"whole": files.len().saturating_sub(damaged.len()), "mismatched": damaged.len()},
        "files": files.iter().map(file).collect::<Vec<_>>(),
    }));
    session.output.text(|| {
        let row = |(path, error): (&RepoPath, &hubferry_core::error::Error)| {
            vec!["mismatched".to_owned(), printable(path.as_str()), printable(error.message())]
        };
        let rows: Vec<_> = damaged.iter().map(row).collect();
        let looked = count(files.len() as u64, "file");
        format!(
            "{}{looked} of weights looked at, {}\n{}\n",
            table(&rows),
            count(rows.len() as u64, "finding"),
            if ok { "whole" } else { "FAILED" }
        )
    });
    session.output.say(if ok {
        "hashes were not compared: name a place with --against for that"
    } else {
        "hint: bring them anew from where they came: hubferry copy SOURCE DIRECTORY"
    });
    Ok(if ok { Exit::Done } else { Exit::VerificationFailed })
}
