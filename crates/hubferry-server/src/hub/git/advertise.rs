//! What a repository has to offer: the capabilities of this server, and the refs.

use hubferry_core::error::Result;

use super::Face;
use super::pkt::{FLUSH, put};
use super::request::RefQuery;
use crate::store::{BRANCHES, DEFAULT_BRANCH, Ref, Repo, Store};

const AGENT: &str = concat!("agent=hubferry/", env!("CARGO_PKG_VERSION"));

/// Version 2: what can be asked.
pub(super) fn capabilities() -> Vec<u8> {
    let mut out = Vec::new();
    for line in ["version 2", AGENT, "ls-refs", "fetch=shallow filter", "object-format=sha1"] {
        put(&mut out, line);
    }
    out.extend_from_slice(FLUSH);
    out
}

/// Versions 0 and 1: every ref, with the capabilities behind the first one.
pub(super) async fn refs(store: &Store, repo: &Repo, face: Face, name_version: bool) -> Result<Vec<u8>> {
    let can = format!(
        "multi_ack_detailed no-done side-band-64k shallow deepen-since deepen-not deepen-relative no-progress include-tag filter \
         allow-tip-sha1-in-want allow-reachable-sha1-in-want symref=HEAD:{} object-format=sha1 {AGENT}",
        default_branch(face)
    );
    Ok(advertisement("git-upload-pack", name_version, &can, &all_refs(store, repo, face).await?))
}

/// For a push: every ref, and what may be done with them. There is no version 2 of this.
pub(super) async fn refs_to_write(store: &Store, repo: &Repo, face: Face, name_version: bool) -> Result<Vec<u8>> {
    let can = format!("report-status delete-refs ofs-delta object-format=sha1 {AGENT}");
    Ok(advertisement("git-receive-pack", name_version, &can, &named_refs(store, repo, face).await?))
}

/// What versions 0 and 1 begin with. Capabilities stand behind the first ref, or behind a made-up one where there is none.
fn advertisement(service: &str, name_version: bool, can: &str, refs: &[Ref]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, &format!("# service={service}"));
    out.extend_from_slice(FLUSH);
    if name_version {
        put(&mut out, "version 1");
    }
    if refs.is_empty() {
        put(&mut out, &format!("{:040} capabilities^{{}}\0{can}", 0));
    }
    for (number, reference) in refs.iter().enumerate() {
        let (mark, can) = if number == 0 { ("\0", can) } else { ("", "") };
        put(&mut out, &format!("{} {}{mark}{can}", reference.target, reference.name));
    }
    out.extend_from_slice(FLUSH);
    out
}

/// Version 2: the refs that were asked for.
pub(super) async fn list(store: &Store, repo: &Repo, face: Face, query: &RefQuery) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for reference in all_refs(store, repo, face).await? {
        if query.fits(&reference.name) {
            let symref =
                if query.symrefs && reference.name == "HEAD" { format!(" symref-target:{}", default_branch(face)) } else { String::new() };
            put(&mut out, &format!("{} {}{symref}", reference.target, reference.name));
        }
    }
    out.extend_from_slice(FLUSH);
    Ok(out)
}

fn default_branch(face: Face) -> String {
    face.name(&format!("{BRANCHES}{DEFAULT_BRANCH}"))
}

/// `HEAD`, then every ref by name as this face calls it.
async fn all_refs(store: &Store, repo: &Repo, face: Face) -> Result<Vec<Ref>> {
    let refs = named_refs(store, repo, face).await?;
    let default = default_branch(face);
    let head =
        refs.iter().find(|reference| reference.name == default).map(|reference| Ref { name: "HEAD".to_owned(), ..reference.clone() });
    Ok(head.into_iter().chain(refs).collect())
}

/// Every ref by name as this face calls it.
async fn named_refs(store: &Store, repo: &Repo, face: Face) -> Result<Vec<Ref>> {
    let mut refs = store.refs(repo, "refs/").await?;
    for reference in &mut refs {
        reference.name = face.name(&reference.name);
    }
    refs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(refs)
}
