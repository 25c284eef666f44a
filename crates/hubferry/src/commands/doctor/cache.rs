//! A cache of a hub's client: where it is, whether it can be written, what links its file system has, and how much room.

use hubferry_core::error::Error;
use hubferry_remotes::disk;
use hubferry_remotes::hfcache::linker::{System, has_symlinks};
use hubferry_remotes::registry::{CacheOf, CacheSettings};
use serde_json::json;

use super::finding::Finding;
use crate::output::size;

/// The folder is made by the first download: until then its nearest parent counts.
pub(super) fn check(about: &str, cache: &CacheSettings) -> Vec<Finding> {
    let root = &cache.root;
    let is_there = root.is_dir();
    let there = root.ancestors().find(|folder| folder.is_dir()).unwrap_or(root);
    let when = if is_there { "" } else { ", made by the first download" };
    let mut findings = vec![Finding::fine(about, format!("cache {} (from {}){when}", root.display(), cache.root_from))];
    if let Err(error) = tempfile::NamedTempFile::new_in(there) {
        let error = Error::io("write to", there, error);
        findings.push(Finding::notice(
            about,
            error.to_string(),
            match cache.of {
                CacheOf::HuggingFace => "what is there can be used; to download, change its permissions or HF_HUB_CACHE",
                CacheOf::ModelScope => "what is there can be used; to download, change its permissions or MODELSCOPE_CACHE",
            },
        ));
        return findings;
    }
    let room = disk::free_space(there).map_or_else(|_| String::new(), |free| format!(", {} free", size(free)));
    if cache.of == CacheOf::ModelScope {
        findings.push(Finding::fine(about, format!("can be written{room}")));
        return findings;
    }
    let links = has_symlinks(&System { symlinks: cache.no_symlinks.is_none() }, there);
    let finding = match &cache.no_symlinks {
        Some(setting) => Finding::notice(
            about,
            format!("can be written{room}; {setting} forbids symbolic links"),
            "unset it to keep files that several revisions share only once",
        ),
        None if links => Finding::fine(about, format!("can be written{room}; symbolic links work")),
        None => Finding::notice(
            about,
            format!("can be written{room}; its file system has no symbolic links"),
            "files that several revisions share may take more room; on Windows, switch on the developer mode",
        ),
    };
    findings.push(finding.with(json!({"path": root.display().to_string(), "exists": is_there, "symlinks": links})));
    findings
}
