//! `diff`.

use hubferry_core::ops::{self, DiffReport, Difference};
use serde_json::json;

use super::Outcome;
use crate::args::DiffArgs;
use crate::exit::Exit;
use crate::output::{count, printable, table};
use crate::session::Session;

/// `hubferry diff`
pub(crate) async fn run(args: DiffArgs, session: &Session) -> Outcome {
    let (left, right) = (session.address(&args.left)?, session.address(&args.right)?);
    let filter = args.selection.filter()?;
    let (a, b) = (session.source_for(&left, &right, None, args.raw)?, session.source(&right, None)?);
    let generated = session.generated(&left, &right, b.clone(), args.raw);
    let DiffReport { differences, same, generated } = ops::diff(&a.source, &b, &filter, generated.as_ref(), &session.context).await?;
    session.progress.finish();
    session.output.json(&json!({
        "left": left.to_string(),
        "left_via": session.remotes.via(&left),
        "right": right.to_string(),
        "right_via": session.remotes.via(&right),
        "same": same,
        "transformed": a.changes(&generated),
        "generated": generated,
        "differences": differences.iter().map(|(path, difference)| json!({"path": path, "difference": difference})).collect::<Vec<_>>(),
    }));
    session.output.text(|| {
        let word = |difference: &Difference| match difference {
            Difference::OnlyLeft => "only left",
            Difference::OnlyRight => "only right",
            Difference::Differs => "differs",
            Difference::Unknown => "unknown",
        };
        let mut rows: Vec<_> =
            differences.iter().map(|(path, difference)| vec![word(difference).to_owned(), printable(path.as_str())]).collect();
        rows.extend(generated.iter().map(|path| vec!["generated".to_owned(), printable(path.as_str())]));
        format!("{}{} equal, {}\n", table(&rows), count(same as u64, "file"), count(differences.len() as u64, "difference"))
    });
    Ok(if differences.is_empty() { Exit::Done } else { Exit::Differs })
}
