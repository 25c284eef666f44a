//! `docs/faults.md`: the table as it was found. `INSTA_UPDATE=always` writes it anew, as it does for the snapshots.

use std::fmt::Write as _;
use std::path::Path;

use super::play::End;
use super::table::{COLUMNS, Column, Row};

/// What was found on one path under one fault; nothing where the run did not end as it must.
pub(super) struct Cell {
    pub(super) row: usize,
    pub(super) column: Column,
    pub(super) end: Option<End>,
}

const HEAD: &str = "\
# Faults

What hubferry does when things go wrong, on every path between a hub and a directory. This page is written by the tests that play
the faults (`crates/hubferry/tests/it/faults.rs`) and checked by every run of them: `scripts/test faults::` in a reduced form,
`HUBFERRY_FULL=1 scripts/test faults::` with larger files and more kills, `INSTA_UPDATE=always scripts/test faults::` to write it.

`hf` is a hub that speaks the Hugging Face API, `ms` one that speaks the ModelScope API, `dir` a directory. *healed* means: exit
code 0, every file right, one commit. *error N* means: exit code N, a message and a hint (see the notes below the tables), nothing
visible at the destination; and once the trouble has passed the same command does the job. – means: the fault cannot occur there.
";

/// Fails unless the page says what was found.
pub(super) fn compare(rows: &[Row], found: &[Cell]) {
    let text = written(rows, found);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if kept == text {
        return;
    }
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let differs =
        |here: &str, there: &str| here.lines().filter(|line| !there.lines().any(|other| other == *line)).collect::<Vec<_>>().join("\n");
    panic!(
        "docs/faults.md is not what was found; INSTA_UPDATE=always writes it\n--- only on the page\n{}\n--- only found\n{}",
        differs(&kept, &text),
        differs(&text, &kept)
    );
}

fn written(rows: &[Row], found: &[Cell]) -> String {
    let mut text = HEAD.to_owned();
    let mut notes: Vec<String> = Vec::new();
    let mut section = "";
    for (number, row) in rows.iter().enumerate() {
        if row.section() != section {
            section = row.section();
            let names: Vec<String> = COLUMNS.iter().map(Column::to_string).collect();
            let _ = write!(text, "\n## {section}\n\n| fault | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(COLUMNS.len()));
        }
        let _ = write!(text, "| {} |", row.what);
        for column in COLUMNS {
            let cell = found.iter().find(|cell| cell.row == number && cell.column == column);
            let _ =
                write!(text, " {} |", cell.and_then(|cell| cell.end.as_ref()).map_or_else(|| "–".to_owned(), |end| shown(end, &mut notes)));
        }
        text.push('\n');
    }
    text.push_str("\n## What the user sees\n\n");
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "[^{}]: {note}", number + 1);
    }
    text
}

fn shown(end: &End, notes: &mut Vec<String>) -> String {
    let Some(said) = &end.said else { return "healed".to_owned() };
    let known = notes.iter().position(|note| note == said);
    let number = known.unwrap_or_else(|| {
        notes.push(said.clone());
        notes.len() - 1
    });
    format!("error {}[^{}]", end.code, number + 1)
}
