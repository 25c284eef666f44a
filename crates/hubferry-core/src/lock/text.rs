//! The text of a lock file: one file on each line, everything in order, no times, so that a difference shows what differs.

use std::fmt::Write as _;

use super::{LockFile, LockedRepo, VERSION};

const HEAD: &str = "# Which files are meant, by their SHA-256. Written by `hubferry lock`; compare with `hubferry lock --check`.\n";

pub(super) fn write(file: &LockFile) -> String {
    let mut text = format!("{HEAD}version = {VERSION}\n");
    for repo in &file.repositories {
        write_repo(&mut text, repo);
    }
    text
}

fn write_repo(text: &mut String, repo: &LockedRepo) {
    text.push_str("\n[[repository]]\n");
    let mut line = |name: &str, value: String| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name} = {value}");
    };
    line("address", quoted(&repo.address));
    line("kind", quoted(repo.kind.singular()));
    if let Some(reference) = &repo.reference {
        line("ref", quoted(reference));
    }
    line("commit", quoted(repo.commit.as_str()));
    if let Some(license) = &repo.license {
        line("license", quoted(license));
    }
    for (name, globs) in [("include", &repo.include), ("exclude", &repo.exclude)] {
        if !globs.is_empty() {
            line(name, list(globs.iter().map(String::as_str)));
        }
    }
    let preset = &repo.preset;
    if !preset.is_empty() {
        let mut fields = Vec::new();
        fields.extend(preset.purpose.map(|purpose| format!("for = {}", quoted(purpose.name()))));
        if !preset.formats.is_empty() {
            fields.push(format!("format = {}", list(preset.formats.iter().map(|format| format.name()))));
        }
        if !preset.quants.is_empty() {
            fields.push(format!("quant = {}", list(preset.quants.iter().map(String::as_str))));
        }
        fields.extend(preset.variant.as_ref().map(|variant| format!("variant = {}", quoted(variant))));
        line("preset", format!("{{ {} }}", fields.join(", ")));
    }
    text.push_str("files = [\n");
    for (path, blob) in &repo.files {
        let _ = writeln!(text, "  {{ path = {}, size = {}, sha256 = \"{}\" }},", quoted(path.as_str()), blob.size, blob.oid);
    }
    text.push_str("]\n");
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quoted).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
