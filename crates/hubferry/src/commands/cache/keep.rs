//! `cache pin` and `cache unpin`.

use hubferry_core::error::Error;
use hubferry_remotes::hfcache::layout::Cache;
use hubferry_remotes::hfcache::marks::{self, Pin};
use hubferry_remotes::hfcache::stock::Inventory;
use serde_json::json;

use super::choose::{Named, find, revisions};
use super::list::shown;
use super::{Outcome, inventory};
use crate::exit::Exit;
use crate::output::{printable, table};
use crate::session::Session;

/// `hubferry cache pin`
pub(super) async fn pin(places: &[String], cache: Cache, session: &Session) -> Outcome {
    let inventory = inventory(&cache).await?;
    for text in places {
        let named = find(&inventory, text)?;
        // A pin on what is not there would hold nothing, and look as if it did.
        let there = revisions(&inventory, &named)?;
        let pin = match &named.rev {
            None => Pin::Whole,
            // Digits are written out; a branch or tag stays a name, whatever it names later.
            Some(rev) => match &there[..] {
                [one] if !inventory.revision(*one).refs.contains(rev) => Pin::Rev(inventory.revision(*one).commit.to_string()),
                _ => Pin::Rev(rev.clone()),
            },
        };
        marks::pin(&inventory.repos[named.repo].folder, &pin)?;
    }
    show(&inventory, session)?;
    Ok(Exit::Done)
}

/// `hubferry cache unpin`
pub(super) async fn unpin(places: &[String], cache: Cache, session: &Session) -> Outcome {
    let inventory = inventory(&cache).await?;
    for text in places {
        let named = find(&inventory, text)?;
        let folder = &inventory.repos[named.repo].folder;
        let candidates = match &named.rev {
            None => vec![Pin::Whole],
            Some(rev) => [Pin::Rev(rev.clone())].into_iter().chain(commits(&inventory, &named)).collect(),
        };
        let mut any = false;
        for pin in candidates {
            any |= marks::unpin(folder, &pin)?;
        }
        if !any {
            return Err(Error::not_found(format!("{text} is not pinned")).hint("see what is with `hubferry cache pin`").into());
        }
    }
    show(&inventory, session)?;
    Ok(Exit::Done)
}

/// The commits that a name stands for, as pins.
fn commits(inventory: &Inventory, named: &Named) -> Vec<Pin> {
    let found = revisions(inventory, named).unwrap_or_default();
    found.into_iter().map(|at| Pin::Rev(inventory.revision(at).commit.to_string())).collect()
}

fn show(inventory: &Inventory, session: &Session) -> hubferry_core::error::Result<()> {
    let mut names = Vec::new();
    for repo in &inventory.repos {
        let name = shown(repo.holds, &repo.id.to_string());
        for pin in marks::pins(&repo.folder)? {
            names.push(match pin {
                Pin::Whole => name.clone(),
                Pin::Rev(rev) => format!("{name}@{rev}"),
            });
        }
    }
    session.output.json(&json!({"cache": inventory.cache.root(), "pinned": names}));
    session.output.text(|| {
        if names.is_empty() {
            return "nothing is pinned\n".into();
        }
        table(&names.iter().map(|name| vec![printable(name)]).collect::<Vec<_>>())
    });
    Ok(())
}
