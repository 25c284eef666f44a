//! Files that a hub wrote by itself: they say something of that hub, not of the repository, so they never take the place of what
//! somebody wrote at another hub.
//!
//! They are known by name and content, never by name alone: what a person changed in one of them makes it a file like any other.
//! Only the four at the root of a repository are ever looked at:
//!
//! | file | written by |
//! |---|---|
//! | `.gitattributes` | both hubs, when a repository is created |
//! | `README.md` | ModelScope, when a repository is created |
//! | `dataset_infos.json` | ModelScope, when a dataset is created |
//! | `configuration.json` | the client of ModelScope, when it creates a model |

mod content;

use std::sync::Arc;

use crate::card;
use crate::digest::{Digests, GitOid, Oid};
use crate::error::Result;
use crate::manifest::{Entry, Manifest, RepoPath};
use crate::plan::{Comparison, compare};
use crate::remote::Source;
use crate::transfer::Context;
use crate::transfer::body::{SourceBody, Wish};

pub use content::{DATASET_ATTRIBUTES, MODEL_ATTRIBUTES, is_generated};

/// What hubs write at the root of a repository.
pub(crate) const NAMES: [&str; 4] = [".gitattributes", card::FILE, "configuration.json", "dataset_infos.json"];

/// Generated files are short; longer ones are not looked into.
const LONGEST: u64 = 64 << 10;

/// How generated files are treated between two places.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Both places are hubs, of different kinds: what one of them generated is nothing to the other.
    pub foreign: bool,
    /// The destination, to be read.
    pub there: Arc<dyn Source>,
}

/// Whether it matters what only the destination has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extra {
    /// It would be deleted, or be a finding.
    Counts,
    /// It stays whatever it is.
    Stays,
}

impl Generated {
    /// Takes the generated files that stay as they are out of both listings, and names them:
    ///
    /// - a file that a hub generated does not replace one that somebody wrote at a hub of another kind, and a card without content
    ///   does not go there at all;
    /// - a file that only the destination has, generated there, is not too much.
    ///
    /// Reads at most the few files it is about, and only those that are not told by their published hash.
    pub async fn leave(
        &self,
        from: &Arc<dyn Source>,
        source: &mut Manifest,
        mut there: Option<&mut Manifest>,
        extra: Extra,
        context: &Context,
    ) -> Result<Vec<RepoPath>> {
        let mut left = Vec::new();
        for name in NAMES {
            let path = RepoPath::new(name)?;
            let (ours, theirs) = (source.entries.get(&path), there.as_ref().and_then(|there| there.entries.get(&path)));
            let stays = match (ours, theirs) {
                (Some(ours), None) => self.foreign && name == card::FILE && generated(from, source, &path, ours, context).await?,
                (Some(ours), Some(theirs)) => {
                    self.foreign
                        && compare(ours, theirs) != Comparison::Same
                        && generated(from, source, &path, ours, context).await?
                        && (name == card::FILE || !self.generated_there(there.as_deref(), &path, context).await?)
                }
                (None, Some(_)) => {
                    extra == Extra::Counts
                        && source.below(&path).next().is_none()
                        && self.generated_there(there.as_deref(), &path, context).await?
                }
                (None, None) => false,
            };
            if stays {
                source.entries.remove(&path);
                if let Some(there) = &mut there {
                    there.entries.remove(&path);
                }
                left.push(path);
            }
        }
        Ok(left)
    }

    async fn generated_there(&self, there: Option<&Manifest>, path: &RepoPath, context: &Context) -> Result<bool> {
        let Some((manifest, entry)) = there.and_then(|there| Some((there, there.entries.get(path)?))) else { return Ok(false) };
        generated(&self.there, manifest, path, entry, context).await
    }
}

/// Whether a file is one that a hub wrote: by its published hash if that is known, else by reading it.
async fn generated(place: &Arc<dyn Source>, manifest: &Manifest, path: &RepoPath, entry: &Entry, context: &Context) -> Result<bool> {
    if entry.size == 0 || entry.size > LONGEST || entry.lfs {
        return Ok(false);
    }
    let is_known = |text: &str| {
        let digests = Digests { sha256: Some(Oid::of(text.as_bytes())), git: Some(GitOid::of(text.as_bytes())) };
        text.len() as u64 == entry.size && entry.digests.agree(&digests) == Some(true)
    };
    if path.as_str() == ".gitattributes" && [MODEL_ATTRIBUTES, DATASET_ATTRIBUTES].into_iter().any(is_known) {
        return Ok(true);
    }
    let wish = Wish { at: manifest.revision.clone(), path: path.clone(), entry: *entry };
    let (content, _) = SourceBody::content(place, &wish, context).await?;
    Ok(is_generated(path.as_str(), &content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;
    use crate::remote::Target as _;
    use crate::testing::memory::{MemoryRepo, Publishes};

    const OURS: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n*.ours filter=lfs diff=lfs merge=lfs -text\n";
    const NO_CARD: &str = "---\nlicense: Apache License 2.0\n---\n### You are viewing the default Readme template as no detailed \
                           model-card was provided by the model’s contributors.\n<p>Look at \
                           <a href=\"https://example.org\">the model contribution documentation</a>.</p>\n";

    async fn left(source: &[(&str, &str)], there: &[(&str, &str)], foreign: bool) -> (Vec<String>, Vec<String>, Vec<String>) {
        let bytes = |files: &[(&str, &str)]| {
            let files: Vec<(String, Vec<u8>)> = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
            let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (path.as_str(), text.as_slice())).collect();
            Arc::new(MemoryRepo::with_files(Publishes::Sha256, &files))
        };
        let (from, to) = (bytes(source), bytes(there));
        let context = Context::new(Arc::new(Silent));
        let (mut ours, mut theirs) = (from.manifest().await.unwrap(), to.head().await.unwrap().unwrap());
        let from: Arc<dyn Source> = from;
        let generated = Generated { foreign, there: to };
        let left = generated.leave(&from, &mut ours, Some(&mut theirs), Extra::Counts, &context).await.unwrap();
        let names = |manifest: &Manifest| manifest.entries.keys().map(ToString::to_string).collect();
        (left.iter().map(ToString::to_string).collect(), names(&ours), names(&theirs))
    }

    #[tokio::test]
    async fn what_a_hub_generated_does_not_replace_what_somebody_wrote() {
        let (left_out, ours, theirs) = left(&[(".gitattributes", MODEL_ATTRIBUTES), ("a", "1")], &[(".gitattributes", OURS)], true).await;
        assert_eq!((left_out, ours, theirs), (vec![".gitattributes".to_owned()], vec!["a".to_owned()], vec![]));
        let (left_out, ..) = left(&[("README.md", NO_CARD)], &[("README.md", "# Ours\n")], true).await;
        assert_eq!(left_out, ["README.md"]);
    }

    #[tokio::test]
    async fn what_somebody_wrote_replaces_what_a_hub_generated() {
        for (path, real, generated) in [(".gitattributes", OURS, MODEL_ATTRIBUTES), ("README.md", "# Ours\n", NO_CARD)] {
            let (left_out, ours, _) = left(&[(path, real)], &[(path, generated)], true).await;
            assert!(left_out.is_empty() && ours == [path], "{path}");
        }
    }

    #[tokio::test]
    async fn a_generated_file_travels_where_there_is_none_but_an_empty_card_does_not() {
        let (left_out, ours, _) = left(&[(".gitattributes", MODEL_ATTRIBUTES), ("README.md", NO_CARD)], &[], true).await;
        assert_eq!((left_out, ours), (vec!["README.md".to_owned()], vec![".gitattributes".to_owned()]));
        let (left_out, ..) = left(&[(".gitattributes", MODEL_ATTRIBUTES)], &[(".gitattributes", DATASET_ATTRIBUTES)], true).await;
        assert!(left_out.is_empty(), "generated there as well: a mirror has what its source has");
    }

    #[tokio::test]
    async fn between_places_of_one_kind_everything_is_a_file() {
        let (left_out, ..) =
            left(&[(".gitattributes", MODEL_ATTRIBUTES), ("README.md", NO_CARD)], &[(".gitattributes", OURS)], false).await;
        assert!(left_out.is_empty());
    }

    #[tokio::test]
    async fn what_only_the_destination_has_is_too_much_unless_it_was_generated_there() {
        let there = [(".gitattributes", MODEL_ATTRIBUTES), ("README.md", NO_CARD), ("old.bin", "x"), ("configuration.json", "{\"a\": 1}")];
        let (left_out, _, theirs) = left(&[("a", "1")], &there, false).await;
        assert_eq!(left_out, [".gitattributes", "README.md"]);
        assert_eq!(theirs, ["configuration.json", "old.bin"]);
        let (left_out, ..) = left(&[("README.md/x", "1")], &[("README.md", NO_CARD)], false).await;
        assert!(left_out.is_empty(), "a file in the way of a folder goes");
    }
}
