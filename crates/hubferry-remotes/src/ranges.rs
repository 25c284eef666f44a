//! Files whose servers turn out to ignore ranges: whoever asks for a part gets the whole, so parts are not worth asking for.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use hubferry_core::error::Result;
use hubferry_core::manifest::RepoPath;
use hubferry_core::remote::ByteStream;

use crate::http::Response;

/// Notes kept. Beyond it nothing is lost but time.
const MOST: usize = 10_000;

/// What answers have shown of the files of one source.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Mutex<HashSet<RepoPath>>);

impl Ranges {
    /// The stream of `range` in an answer, noting whether the server sent just that.
    pub(crate) fn open(&self, response: Response, path: &RepoPath, range: &Range<u64>, size: Option<u64>) -> Result<ByteStream> {
        let is_part = range.start > 0 || size.is_some_and(|size| range.end < size);
        if is_part && response.status().as_u16() == 200 {
            let mut ignored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if ignored.len() < MOST {
                ignored.insert(path.clone());
            }
        }
        response.into_stream(range.clone(), size)
    }

    /// Whether reading `path` from the middle is worth it, as far as is known.
    pub(crate) fn are_kept(&self, path: &RepoPath) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }
}
