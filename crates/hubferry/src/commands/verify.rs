//! `verify`.

mod weights;

use hubferry_core::address::Address;
use hubferry_core::card;
use hubferry_core::manifest::RepoPath;
use hubferry_core::ops::{self, VerifyRequest};
use hubferry_core::verify::{Findings, Verdict};
use serde_json::{Value, json};

use super::Outcome;
use crate::args::VerifyArgs;
use crate::exit::Exit;
use crate::output::{count, printable, size, table};
use crate::session::{Session, message, usage};

/// `hubferry verify`
pub(crate) async fn run(args: VerifyArgs, session: &Session) -> Outcome {
    let place = session.address(&args.place)?;
    if matches!(place, Address::Dir(_) | Address::Ssh(_)) && args.against.is_none() {
        if args.check_weights {
            return weights::check(&args, &place, session).await;
        }
        return Err(usage(
            "a directory publishes no hashes to check its bytes with",
            "name a place to compare it with: --against hf:owner/name; or look into its weights alone with --check-weights",
        ));
    }
    let against = args.against.as_deref().map(|text| session.address(text)).transpose()?;
    let source = session.source(&place, None)?;
    let kind = if args.repair { ops::describe(&source, &session.context).await?.kind } else { None };
    let expected = against.as_ref().map(|address| session.source_for(address, &place, None, args.raw)).transpose()?;
    let request = VerifyRequest {
        against: expected.as_ref().map(|expected| expected.source.clone()),
        repair: if args.repair { Some(session.target(&place, kind)?) } else { None },
        filter: args.selection.filter()?,
        check_weights: args.check_weights,
        generated: against.as_ref().and_then(|against| session.generated(against, &place, source.clone(), args.raw)),
        message: message(against.as_ref().unwrap_or(&place), Some(&format!("Repair {place}"))),
        place: source,
    };
    let mut report = ops::verify_place(&request, &session.context).await?;
    session.progress.finish();
    let transformed = expected.as_ref().map(|expected| expected.changes(&report.findings.generated())).unwrap_or_default();
    if !transformed.is_empty() {
        let path = RepoPath::new(card::FILE)?;
        report.findings.mark_transformed(&path);
        report.repaired.iter_mut().for_each(|again| again.mark_transformed(&path));
    }
    let repaired = report.repaired.as_ref();
    // What a repair does not touch must have been proven already.
    let proven = report.findings.count(|verdict| matches!(verdict, Verdict::Unverifiable)) == 0;
    let ok = repaired.map_or(report.findings.is_ok(), |again| again.is_ok() && proven);
    session.output.json(&json!({
        "place": place.to_string(),
        "via": session.remotes.via(&place),
        "against": against.as_ref().map(ToString::to_string),
        "ok": ok,
        "transformed": transformed,
        "summary": summary(&report.findings),
        "bytes_read": report.findings.bytes_read,
        "files": entries(&report.findings),
        "repaired": repaired.map(entries),
    }));
    session.output.text(|| {
        let mut shown = text(&report.findings);
        if let Some(again) = repaired {
            shown.push_str("after the repair:\n");
            shown.push_str(&text(again));
        }
        for change in &transformed {
            shown.push_str("transformed  README.md  ");
            shown.push_str(&printable(change));
            shown.push('\n');
        }
        shown.push_str(if ok { "verified\n" } else { "FAILED\n" });
        shown
    });
    if !ok && repaired.is_none() {
        session.output.say(match &against {
            Some(_) => "hint: replace what is bad with the same command and --repair",
            None => "hint: replace what is bad from a good place: --against PLACE --repair",
        });
    }
    Ok(if ok { Exit::Done } else { Exit::VerificationFailed })
}

fn entries(findings: &Findings) -> Vec<Value> {
    let entry = |(path, verdict): (_, &Verdict)| {
        let mut value = json!(verdict);
        value["path"] = json!(path);
        value
    };
    findings.files.iter().map(entry).collect()
}

fn summary(findings: &Findings) -> Value {
    json!({
        "matched": findings.count(|v| matches!(v, Verdict::Matched)),
        "transformed": findings.count(|v| matches!(v, Verdict::Transformed)),
        "generated": findings.count(|v| matches!(v, Verdict::Generated)),
        "mismatched": findings.count(|v| matches!(v, Verdict::Mismatched { .. })),
        "missing": findings.count(|v| matches!(v, Verdict::Missing)),
        "extra": findings.count(|v| matches!(v, Verdict::Extra)),
        "unverifiable": findings.count(|v| matches!(v, Verdict::Unverifiable)),
    })
}

fn text(findings: &Findings) -> String {
    let row = |(path, verdict): (&RepoPath, &Verdict)| {
        let (word, why) = match verdict {
            Verdict::Mismatched { why } => ("mismatched", why.as_str()),
            Verdict::Missing => ("missing", ""),
            Verdict::Extra => ("extra", ""),
            Verdict::Unverifiable => ("no hash", ""),
            Verdict::Generated => ("generated", ""),
            _ => return None,
        };
        Some(vec![word.to_owned(), printable(path.as_str()), printable(why)])
    };
    let rows: Vec<Vec<String>> = findings.files.iter().filter_map(row).collect();
    let matched = findings.count(|verdict| matches!(verdict, Verdict::Matched));
    let some = |verdict: &Verdict, word: &str| match findings.count(|other| other == verdict) {
        0 => String::new(),
        number => format!(", {number} {word}"),
    };
    let (transformed, generated) = (some(&Verdict::Transformed, "transformed"), some(&Verdict::Generated, "generated"));
    let found = rows.len() - findings.count(|verdict| *verdict == Verdict::Generated);
    format!(
        "{}{} matched{transformed}{generated}, {}, {} read\n",
        table(&rows),
        count(matched as u64, "file"),
        count(found as u64, "finding"),
        size(findings.bytes_read)
    )
}
