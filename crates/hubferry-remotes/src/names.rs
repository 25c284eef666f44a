//! Names that a destination cannot hold though a repository can: told before anything travels.

use std::path::Path;

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;

/// Longest name and longest path, in the units that Windows counts in.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 32_000;
/// What may stand in no name there. Slashes and control characters are in no path of a repository.
const FORBIDDEN: &[char] = &['<', '>', ':', '"', '|', '?', '*'];
/// Devices, with any extension; `COM` and `LPT` have numbers, also raised ones.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Which names a system takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rules {
    /// Every path of a repository.
    #[default]
    Unix,
    /// What Windows and its file systems take:
    /// <https://learn.microsoft.com/windows/win32/fileio/naming-a-file>.
    Windows,
}

impl Rules {
    /// Those of the place that holds, or will hold, `folder`: of Windows there, and where another system has mounted a file system of it.
    pub fn of(folder: &Path) -> Self {
        let there = folder.ancestors().find(|at| at.exists()).filter(|at| !at.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if cfg!(windows) || is_of_windows(there) { Self::Windows } else { Self::Unix }
    }

    /// Fails when `path` cannot be written under these rules.
    pub fn check(self, path: &RepoPath) -> Result<()> {
        let Some(why) = self.fault(path.as_str()) else { return Ok(()) };
        Err(Error::new(Kind::Unsupported, format!("{path:?} cannot be written there: {why}"))
            .hint("leave it out with --exclude, or copy to a file system that can hold it"))
    }

    fn fault(self, path: &str) -> Option<String> {
        if self == Self::Unix {
            return None;
        }
        if path.encode_utf16().count() > MAX_PATH {
            return Some(format!("it is longer than {MAX_PATH} characters"));
        }
        path.split('/').find_map(fault_of_name)
    }
}

fn fault_of_name(name: &str) -> Option<String> {
    if let Some(bad) = name.chars().find(|c| FORBIDDEN.contains(c)) {
        // `name:stream` would even be written, into a part of `name` that no listing shows.
        return Some(format!("Windows has no {bad:?} in names"));
    }
    if name.ends_with(['.', ' ']) {
        return Some("Windows drops the dot or space at the end of a name".to_owned());
    }
    if name.encode_utf16().count() > MAX_NAME {
        return Some(format!("one of its names is longer than {MAX_NAME} characters"));
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_uppercase();
    let numbered = ["COM", "LPT"].iter().any(|device| {
        let number = stem.strip_prefix(device).map(|rest| rest.chars().collect::<Vec<_>>());
        matches!(number.as_deref(), Some(['0'..='9' | '¹' | '²' | '³']))
    });
    (numbered || DEVICES.contains(&stem.as_str())).then(|| format!("{stem} is a device on Windows, whatever comes after it"))
}

/// FAT, exFAT and NTFS, by the numbers in `linux/magic.h` and those of the drivers.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_of_windows(folder: &Path) -> bool {
    const KINDS: [u32; 4] = [0x4d44, 0x2011_BAB0, 0x5346_544e, 0x7366_746e];
    // The type of the number differs between machines; the four fit into 32 bits.
    rustix::fs::statfs(folder).is_ok_and(|data| KINDS.iter().any(|kind| i128::from(*kind) == i128::from(data.f_type)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_of_windows(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_cannot_hold_are_told_with_their_reason() {
        let long = "n".repeat(250) + "ünïcödé";
        for bad in [
            "a/con",
            "NUL.txt",
            "x/Aux.tar.gz",
            "com1",
            "LPT9.bin",
            "COM¹",
            "nul .txt",
            "CONIN$",
            "what?",
            "file:stream",
            "a*b",
            "\"q\"",
            "a<b",
            "a>b",
            "a|b",
            "folder./x",
            "trailing ",
            "x/trailing.",
        ] {
            let path = RepoPath::new(bad).unwrap();
            assert!(Rules::Windows.check(&path).unwrap_err().hint_text().is_some(), "{bad}");
            Rules::Unix.check(&path).unwrap();
        }
        assert!(Rules::Windows.fault(&long).is_some());
        for good in
            ["console", "nul_", "com", "COM10", "lpt", "a/.gitattributes", "model-00001-of-00002.safetensors", "ü (1)/ü", "..a", "aux2"]
        {
            assert_eq!(Rules::Windows.fault(good), None, "{good}");
        }
    }

    #[test]
    fn this_place_takes_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let expected = if cfg!(windows) { Rules::Windows } else { Rules::Unix };
        assert_eq!(Rules::of(&folder.path().join("not/there/yet")), expected);
    }
}
