//! Typed digests: SHA-256 (`Oid`), the SHA-1 that Git gives a blob (`GitOid`), what a place publishes (`Digests`), and a
//! streaming hasher for both.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| Error::invalid(format!("{:?} is not {} hexadecimal digits", shorten(text), 2 * $len)))?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 2 * $len];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest!(
    /// The SHA-256 of a blob's bytes: its name everywhere in hubferry, in Git LFS and on every hub.
    Oid,
    32
);
digest!(
    /// The SHA-1 that Git gives a blob: over `"blob <len>\0"` and the bytes. Hubs publish it for files outside LFS.
    GitOid,
    20
);

fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

impl Oid {
    /// The SHA-256 of no bytes at all.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
        0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// Hashes bytes that are in memory already.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl GitOid {
    /// Names bytes that are in memory already.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = GitHasher::new(bytes.len() as u64);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// What a place publishes of a file's content; `None` means "not published", never "does not matter".
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Digests {
    /// SHA-256 of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Oid>,
    /// Git blob SHA-1 of the content (never of an LFS pointer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitOid>,
}

impl Digests {
    /// Only a SHA-256 is known.
    pub fn sha256(oid: Oid) -> Self {
        Self { sha256: Some(oid), git: None }
    }

    /// Only a Git blob id is known.
    pub fn git(oid: GitOid) -> Self {
        Self { sha256: None, git: Some(oid) }
    }

    /// Both digests of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Some(Oid::of(bytes)), git: Some(GitOid::of(bytes)) }
    }

    /// Whether two places mean the same bytes; `None` when they share no algorithm. SHA-256 decides where both have it.
    pub fn agree(&self, other: &Self) -> Option<bool> {
        match (self.sha256.zip(other.sha256), self.git.zip(other.git)) {
            (Some((a, b)), _) => Some(a == b),
            (None, Some((a, b))) => Some(a == b),
            (None, None) => None,
        }
    }

    /// Whether nothing at all is known.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.git.is_none()
    }

    /// Adds what `other` knows and this does not.
    pub fn fill(&mut self, other: &Self) {
        self.sha256 = self.sha256.or(other.sha256);
        self.git = self.git.or(other.git);
    }
}

/// The SHA-1 of a Git blob while its bytes stream; the length must be known before.
#[derive(Clone)]
pub struct GitHasher(sha1_checked::Sha1);

impl GitHasher {
    /// Starts a blob of `size` bytes.
    pub fn new(size: u64) -> Self {
        use sha1_checked::Digest as _;
        let mut inner = sha1_checked::Sha1::new();
        inner.update(format!("blob {size}\0").as_bytes());
        Self(inner)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        use sha1_checked::Digest as _;
        self.0.update(bytes);
    }

    /// The name of all bytes taken.
    pub fn finish(self) -> GitOid {
        // `finalize` yields the collision-safe digest: crafted collisions come out with a different value.
        use sha1_checked::Digest as _;
        GitOid(self.0.finalize().into())
    }
}

impl fmt::Debug for GitHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GitHasher")
    }
}

/// The SHA-256 of the first bytes of a file, as it can be continued: in this process, or by another one that reads it from a
/// journal.
#[derive(Clone)]
pub struct Prefix {
    at: u64,
    sha256: Sha256,
}

impl Default for Prefix {
    fn default() -> Self {
        Self { at: 0, sha256: Sha256::new() }
    }
}

impl Prefix {
    /// How many bytes it covers.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.at += bytes.len() as u64;
    }

    /// The SHA-256 of what it covers.
    pub fn oid(&self) -> Oid {
        Oid(self.sha256.clone().finalize().into())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({})", self.at)
    }
}

#[derive(Serialize, Deserialize)]
struct WrittenPrefix {
    at: u64,
    state: String,
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        WrittenPrefix { at: self.at, state: hex::encode(self.sha256.serialize()) }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = WrittenPrefix::deserialize(from)?;
        let bytes = hex::decode(written.state).map_err(serde::de::Error::custom)?;
        let bytes = bytes.as_slice().try_into().map_err(serde::de::Error::custom)?;
        let sha256 = Sha256::deserialize(bytes).map_err(serde::de::Error::custom)?;
        Ok(Self { at: written.at, sha256 })
    }
}

/// A quick check sum of a piece of a file (XXH3, 128 bits): tells whether the piece is still, or again, what it was. It is no proof
/// against somebody who wants it to lie; what a file is, its SHA-256 alone decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// Of bytes in memory. `seed` is random where a stranger chooses the bytes, so that he cannot prepare two pieces with one value.
    pub fn of(seed: u64, bytes: &[u8]) -> Self {
        Self(twox_hash::XxHash3_128::oneshot_with_seed(seed, bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        number.map(Self).ok_or_else(|| Error::invalid("a fingerprint is 32 hexadecimal digits"))
    }
}

/// A fingerprint of bytes that come one piece after the other.
#[derive(Clone)]
pub struct Fingerprinter(twox_hash::xxhash3_128::Hasher);

impl Fingerprinter {
    /// Of nothing yet; for `seed` see [`Fingerprint::of`].
    pub fn new(seed: u64) -> Self {
        Self(twox_hash::xxhash3_128::Hasher::with_seed(seed))
    }

    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The fingerprint of all bytes taken.
    pub fn finish(&self) -> Fingerprint {
        Fingerprint(self.0.finish_128())
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

/// Hashes a whole file while it streams, and at the end says whether it is what it was promised to be.
#[derive(Debug)]
pub struct Verifier {
    expected: Digests,
    size: u64,
    seen: u64,
    sha256: Sha256,
    git: Option<GitHasher>,
}

impl Verifier {
    /// Expects `size` bytes with these digests. The Git id is computed as well when it is the only one promised, or when
    /// `both` asks for the pair.
    pub fn new(size: u64, expected: Digests, both: bool) -> Self {
        let git = (both || (expected.sha256.is_none() && expected.git.is_some())).then(|| GitHasher::new(size));
        Self { expected, size, seen: 0, sha256: Sha256::new(), git }
    }

    /// Bytes that were promised.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes taken so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the next bytes; more than promised is [`Kind::Corrupt`] at once, so that an endless body cannot run on.
    pub fn update(&mut self, bytes: &[u8]) -> Result<()> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(Error::new(Kind::Corrupt, format!("more than the promised {} bytes arrived", self.size)));
        }
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
        Ok(())
    }

    /// The digests of what arrived, or [`Kind::Corrupt`] when size or hash is not what was promised.
    pub fn finish(self) -> Result<Digests> {
        if self.seen != self.size {
            return Err(Error::new(Kind::Corrupt, format!("{} of the promised {} bytes arrived", self.seen, self.size)));
        }
        let found = Digests { sha256: Some(Oid(self.sha256.finalize().into())), git: self.git.map(GitHasher::finish) };
        if let (Some(want), Some(got)) = (self.expected.sha256, found.sha256)
            && want != got
        {
            return Err(Error::new(Kind::Corrupt, "the bytes do not have the promised hash")
                .context("expected sha256", want)
                .context("got", got));
        }
        if let (Some(want), Some(got)) = (self.expected.git, found.git)
            && want != got
        {
            return Err(Error::new(Kind::Corrupt, "the bytes do not have the promised hash")
                .context("expected git id", want)
                .context("got", got));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(Oid::of(b""), Oid::EMPTY);
        assert_eq!(GitOid::of(b"").to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(GitOid::of(b"hello\n").to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert!("e3b0".parse::<Oid>().is_err());
    }

    #[test]
    fn a_prefix_goes_on_where_it_was_written_down() {
        let mut prefix = Prefix::default();
        prefix.update(&[7; 1000]);
        let text = serde_json::to_string(&prefix).unwrap();
        let mut again: Prefix = serde_json::from_str(&text).unwrap();
        assert_eq!((again.at(), again.oid()), (1000, prefix.oid()));
        again.update(b"more");
        assert_eq!(again.oid(), Oid::of(&[&[7; 1000][..], b"more"].concat()));
        assert!(serde_json::from_str::<Prefix>(&text.replace("\"state\":\"", "\"state\":\"00")).is_err());
    }

    #[test]
    fn fingerprints_of_pieces_and_of_the_whole_agree() {
        let mut streamed = Fingerprinter::new(5);
        streamed.update(b"ab");
        streamed.update(b"c");
        let whole = Fingerprint::of(5, b"abc");
        assert_eq!((streamed.finish(), whole.to_string().parse::<Fingerprint>().unwrap()), (whole, whole));
        assert_ne!(whole, Fingerprint::of(6, b"abc"));
        assert!("12".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn agreement_needs_a_common_algorithm() {
        let both = Digests::of(b"a");
        assert_eq!(both.agree(&Digests::sha256(Oid::of(b"a"))), Some(true));
        assert_eq!(both.agree(&Digests::git(GitOid::of(b"b"))), Some(false));
        assert_eq!(Digests::sha256(Oid::of(b"a")).agree(&Digests::git(GitOid::of(b"a"))), None);
        assert_eq!(Digests::default().agree(&both), None);
    }

    #[test]
    fn verifier_catches_short_long_and_flipped() {
        let run = |size: u64, expected: Digests, bytes: &[u8]| {
            let mut v = Verifier::new(size, expected, true);
            v.update(bytes)?;
            v.finish()
        };
        assert_eq!(run(3, Digests::of(b"abc"), b"abc").unwrap(), Digests::of(b"abc"));
        for bytes in [&b"ab"[..], b"abcd", b"abd"] {
            assert_eq!(run(3, Digests::of(b"abc"), bytes).unwrap_err().kind(), Kind::Corrupt);
        }
        assert_eq!(run(3, Digests::git(GitOid::of(b"abc")), b"abd").unwrap_err().kind(), Kind::Corrupt);
    }
}
