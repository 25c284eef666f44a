//! What is written is read again, hostile files are refused, and pinned bytes are the only ones that pass.

use std::sync::Arc;

use futures_util::StreamExt;
use proptest::prelude::*;

use super::*;
use crate::digest::Oid;
use crate::error::Kind;
use crate::remote::Source;
use crate::testing::memory::{MemoryRepo, Publishes};

fn repo(address: &str, files: &[(&str, &[u8])]) -> LockedRepo {
    let blob = |content: &[u8]| Blob { oid: Oid::of(content), size: content.len() as u64 };
    LockedRepo {
        address: address.to_owned(),
        kind: RepoKind::Model,
        reference: Some("v1".to_owned()),
        commit: Revision::new("abc").unwrap(),
        license: Some("apache-2.0".to_owned()),
        include: vec!["*.json".to_owned(), "a\"b".to_owned()],
        exclude: Vec::new(),
        preset: serde_json::from_str(r#"{"for": "llama.cpp", "quant": ["Q8_0"]}"#).unwrap(),
        files: files.iter().map(|(path, content)| (RepoPath::new(*path).unwrap(), blob(content))).collect(),
    }
}

fn sample() -> LockFile {
    let plain = LockedRepo { reference: None, license: None, include: Vec::new(), preset: Preset::default(), ..repo("hf:a/b", &[]) };
    LockFile::new(vec![repo("ms:z/y", &[("b", b"2"), ("a/\"x\" é", b"1")]), plain]).unwrap()
}

#[test]
fn the_text_is_the_same_whatever_the_order() {
    let text = sample().text().unwrap();
    let expected = "version = 1\n\n[[repository]]\naddress = \"hf:a/b\"\nkind = \"model\"\ncommit = \"abc\"\nfiles = [\n]\n\n[[repository]]\n\
        address = \"ms:z/y\"\nkind = \"model\"\nref = \"v1\"\ncommit = \"abc\"\nlicense = \"apache-2.0\"\ninclude = [\"*.json\", \"a\\\"b\"]\n\
        preset = { for = \"llama.cpp\", quant = [\"Q8_0\"] }\nfiles = [\n  { path = \"a/\\\"x\\\" é\", size = 1, sha256 = \"";
    assert!(text.contains(expected), "{text}");
    assert_eq!(LockFile::parse(text.as_bytes()).unwrap(), sample());
}

#[test]
fn hostile_files_are_refused() {
    let good = sample().text().unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        LockFile::parse(good.replacen(from, to, 1).as_bytes())
    };
    for (from, to) in [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 1\nsurprise = 1"),
        ("path = \"b\"", "path = \"../b\""),
        ("path = \"b\"", "path = \"/etc/passwd\""),
        ("path = \"b\"", "path = \"a\""),
        ("path = \"b\"", "path = \"a/\\\"x\\\" é\""),
        ("size = 1", "size = -1"),
        ("sha256 = \"", "sha256 = \"0"),
        ("kind = \"model\"", "kind = \"pet\""),
        ("commit = \"abc\"", "commit = \"a b\""),
        ("address = \"hf:a/b\"", "address = \"hf:a/\\u001bb\""),
        ("for = \"llama.cpp\"", "for = \"vllm\""),
        ("quant = [", "quants = ["),
    ] {
        let error = with(from, to).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.hint_text().is_some(), "{to}: {error}");
    }
    let twice = format!("{good}{}", &good[good.rfind("\n[[").unwrap()..]);
    assert!(LockFile::parse(twice.as_bytes()).unwrap_err().message().contains("twice"));
    assert!(LockFile::parse(b"\xff").is_err() && LockFile::parse(b"").is_err());
}

#[test]
fn differences_are_named() {
    let before = repo("hf:a/b", &[("same", b"1"), ("gone", b"2"), ("other", b"3")]);
    let mut after = repo("hf:a/b", &[("same", b"1"), ("other", b"4"), ("new", b"5")]);
    assert!(before.compare(&before).is_empty());
    after.commit = Revision::new("def").unwrap();
    after.license = None;
    let changes = before.compare(&after);
    let names = |paths: &[RepoPath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (names(&changes.added), names(&changes.removed), names(&changes.changed)),
        (vec!["new".into()], vec!["gone".into()], vec!["other".into()])
    );
    assert!(changes.commit.is_some() && changes.license.is_some());
}

async fn listed(places: &[&[(&str, &[u8])]], locked: &LockedRepo) -> Result<(LockedSource, Manifest)> {
    let mut places = places.iter().map(|files| Arc::new(MemoryRepo::with_files(Publishes::Mixed, files)) as Arc<dyn Source>);
    let source = LockedSource::new(places.next().unwrap(), places, Arc::new(locked.clone()));
    let manifest = source.manifest().await?;
    Ok((source, manifest))
}

#[tokio::test]
async fn a_pinned_source_shows_what_was_pinned_and_nothing_else() {
    let locked = repo("hf:a/b", &[("config.json", b"{}"), ("w.bin", b"weights of some length")]);
    let right: &[(&str, &[u8])] = &[("config.json", b"{}"), ("w.bin", b"weights of some length"), ("later.txt", b"x")];
    let wrong: &[(&str, &[u8])] = &[("config.json", b"{}"), ("w.bin", b"weights of same length")];
    let short: &[(&str, &[u8])] = &[("config.json", b"{ }"), ("w.bin", b"weights of some length")];
    let (source, manifest) = listed(&[right], &locked).await.unwrap();
    assert_eq!((manifest.revision.as_str(), manifest.entries.len()), ("abc", 2));
    let path = RepoPath::new("w.bin").unwrap();
    let mut stream = source.read(&manifest.revision, &path, 0..7).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "weights");
    for bad in [wrong, short, &[("config.json", b"{}")]] {
        let error = listed(&[bad], &locked).await.unwrap_err();
        assert!(error.kind() == Kind::Corrupt && error.hint_text().is_some_and(|hint| hint.contains("--also")), "{error}");
        let (_, manifest) = listed(&[bad, right], &locked).await.unwrap();
        assert_eq!(manifest.entries.len(), 2, "a place that has the pinned bytes stands in");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", at in 0_usize..400, byte in any::<u8>()) {
        let _ = LockFile::parse(text.as_bytes());
        let mut file = sample().text().unwrap().into_bytes();
        let at = at % file.len();
        file[at] = byte;
        let _ = LockFile::parse(&file);
    }

    #[test]
    fn any_names_come_back(path in "[^/\\\\\\x00-\\x1f\\x7f-\\x9f]{1,20}", reference in "[a-z\"'#\\[\\]{}=]{1,10}", glob in "[a-z\"' é]{1,10}") {
        if let Ok(path) = RepoPath::new(path) {
            let mut one = repo("hf:a/b", &[]);
            one.files.insert(path, Blob { oid: Oid::EMPTY, size: u64::from(u32::MAX) });
            one.reference = Some(reference);
            one.exclude = vec![glob];
            let file = LockFile::new(vec![one]).unwrap();
            prop_assert_eq!(LockFile::parse(file.text().unwrap().as_bytes()).unwrap(), file);
        }
    }
}
