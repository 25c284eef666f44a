//! `info`: what a place says of a repository, and what its weights say of themselves.

use std::collections::BTreeMap;

use hubferry_core::manifest::{Entry, Manifest, RepoPath};
use hubferry_core::ops::{
    self,
    headers::{Model, Survey, survey},
};
use hubferry_core::remote::RepoInfo;
use hubferry_core::weights::Share;
use hubferry_core::weights::names::is_helper;
use serde_json::json;

use super::Outcome;
use super::look::{list, short_hash};
use crate::args::InfoArgs;
use crate::exit::Exit;
use crate::output::{count, printable, size, table};
use crate::session::Session;

/// Most headers that are read unless all are asked for: two requests each at most.
const HEADERS: usize = 32;
/// Most files that are shown unless all are asked for.
const FILES: usize = 20;

/// `hubferry info`
pub(crate) async fn info(args: InfoArgs, session: &Session) -> Outcome {
    let address = session.address(&args.place)?;
    let source = session.source(&address, None)?;
    let info = ops::describe(&source, &session.context).await?;
    let manifest = list(&*source, session).await?;
    let most = if args.all { usize::MAX } else { HEADERS };
    let survey = if args.no_weights { None } else { Some(survey(&source, &manifest, most, &session.context).await) };
    session.progress.finish();
    let file = |(path, entry): (&RepoPath, &Entry)| json!({"path": path, "size": entry.size, "sha256": entry.digests.sha256, "git": entry.digests.git});
    session.output.json(&json!({
        "place": address.to_string(),
        "kind": info.kind,
        "id": info.id,
        "revision": manifest.revision,
        "via": session.remotes.via(&address),
        "visibility": info.visibility,
        "gated": info.gated,
        "license": info.license,
        "url": info.url,
        "files": manifest.entries.len(),
        "bytes": manifest.bytes(),
        "weights": survey,
        "entries": manifest.entries.iter().map(file).collect::<Vec<_>>(),
    }));
    session.output.text(|| {
        let mut text = about(&address.to_string(), &info, &manifest, survey.as_ref());
        if let Some(survey) = survey.as_ref().filter(|survey| !survey.models.is_empty() || !survey.notes.is_empty()) {
            text.push('\n');
            text.push_str(&weights(survey));
        }
        text.push('\n');
        text.push_str(&files(&manifest, args.all));
        text
    });
    Ok(Exit::Done)
}

fn about(place: &str, info: &RepoInfo, manifest: &Manifest, survey: Option<&Survey>) -> String {
    let rows = [
        ("place", Some(place.to_owned())),
        ("kind", info.kind.map(|kind| kind.to_string())),
        ("page", info.url.clone()),
        ("revision", Some(manifest.revision.to_string())),
        ("visibility", info.visibility.map(|visibility| visibility.name().to_owned())),
        ("gated", info.gated.then(|| "yes: its terms must be accepted first".to_owned())),
        ("licence", info.license.clone()),
        ("model", survey.and_then(model)),
        ("files", Some(manifest.entries.len().to_string())),
        ("size", Some(format!("{} ({} bytes)", size(manifest.bytes()), manifest.bytes()))),
    ];
    let rows: Vec<_> = rows.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), printable(&value?)])).collect();
    table(&rows)
}

/// What the configuration says, else the header of the first file that says anything.
fn model(survey: &Survey) -> Option<String> {
    let (config, models) = (&survey.config, &survey.models);
    let architecture = config.architecture.clone().or_else(|| models.iter().find_map(|model| model.architecture.clone()));
    let context = config.context_length.or_else(|| models.iter().find_map(|model| model.context_length));
    // Of several in the root (quantisations, say) only what holds for all.
    let mut sizes =
        models.iter().filter(|model| model.read > 0 && model.is_known() && is_model_in_root(model)).map(|model| model.parameters);
    let size = sizes.next().filter(|first| sizes.all(|other| other == *first));
    let size = size.map(|number| format!("{} parameters", parameters(number)));
    let parts = [architecture, size, config.quantization.clone(), context.map(|tokens| format!("context {tokens}"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn is_model_in_root(model: &Model) -> bool {
    model.path.parents().next().is_none() && !is_helper(&model.path)
}

/// A line for each model, and one for whatever is wrong with it.
fn weights(survey: &Survey) -> String {
    let mut rows = Vec::new();
    for model in &survey.models {
        let figure = match (model.read, model.is_known()) {
            (0, _) => "-".to_owned(),
            (_, true) => parameters(model.parameters),
            (_, false) => format!("{} in {} of {} files", parameters(model.parameters), model.read, model.files),
        };
        let kind = model.quantization.as_ref().map_or_else(|| model.format.to_string(), |name| format!("{} {name}", model.format));
        let mut name = printable(model.path.as_str());
        if model.files > 1 {
            name = format!("{name} and {} more", model.files - 1);
        }
        rows.push(vec![format!("{:>9}", size(model.bytes)), printable(&kind), figure, types(&model.dtypes), name]);
    }
    let mut text = table(&rows);
    for problem in survey.models.iter().flat_map(|model: &Model| &model.problems) {
        text.push_str("damaged: ");
        text.push_str(&printable(problem));
        text.push('\n');
    }
    if survey.unread > 0 {
        text.push_str("the headers of ");
        text.push_str(&count(survey.unread as u64, "file"));
        text.push_str(" were not read; --all reads them\n");
    }
    for note in &survey.notes {
        text.push_str("not looked at: ");
        text.push_str(&printable(note));
        text.push('\n');
    }
    text
}

/// Types of elements, those with most parameters first.
fn types(dtypes: &BTreeMap<String, Share>) -> String {
    const SHOWN: usize = 4;
    let mut all: Vec<_> = dtypes.iter().collect();
    all.sort_by_key(|(_, share)| std::cmp::Reverse(share.parameters));
    let mut names: Vec<String> = all.iter().take(SHOWN).map(|(name, _)| printable(name)).collect();
    if all.len() > SHOWN {
        names.push("...".to_owned());
    }
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

/// `8.03 B`, as models are called by their size.
fn parameters(number: u64) -> String {
    const UNITS: [&str; 5] = ["", " K", " M", " B", " T"];
    let (mut value, mut unit) = (number as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => number.to_string(),
        (_, v) if v < 9.995 => format!("{v:.2}{}", UNITS[unit]),
        (_, v) if v < 99.95 => format!("{v:.1}{}", UNITS[unit]),
        (_, v) => format!("{v:.0}{}", UNITS[unit]),
    }
}

/// The largest files in the order of their paths, or all.
fn files(manifest: &Manifest, all: bool) -> String {
    let mut shown: Vec<(&RepoPath, &Entry)> = manifest.entries.iter().collect();
    let more = if all { 0 } else { shown.len().saturating_sub(FILES) };
    if more > 0 {
        shown.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.size));
        shown.truncate(FILES);
        shown.sort_by_key(|(path, _)| *path);
    }
    let rows: Vec<_> =
        shown.iter().map(|(path, entry)| vec![format!("{:>9}", size(entry.size)), short_hash(entry), printable(path.as_str())]).collect();
    let more = if more > 0 { format!("and {}; --all shows them\n", count(more as u64, "smaller file")) } else { String::new() };
    format!("{}{more}", table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_called_as_models_are() {
        let shown = [0, 999, 1000, 22_713_216, 8_030_261_248, 671_026_419_200, 1_000_000_000_000].map(parameters);
        assert_eq!(shown, ["0", "999", "1.00 K", "22.7 M", "8.03 B", "671 B", "1.00 T"]);
    }
}
