//! Cards nobody wrote: whatever surrounds the licence survives byte for byte, and nothing makes an edit panic.

use proptest::prelude::*;

use super::*;

const HUBS: [Vocabulary; 2] = [Vocabulary::HuggingFace, Vocabulary::ModelScope];

/// The value of a key that is not about the licence, with what comes behind it up to the end of its last line.
fn value() -> impl Strategy<Value = String> {
    let text = "[a-zé][a-z0-9é /._-]{0,8}[a-z]";
    prop_oneof![
        text.prop_map(|text| format!(" {text}\n")),
        text.prop_map(|text| format!(" {text} # license: x\n")),
        text.prop_map(|text| format!(" '{text}: ''#' # c\n")),
        text.prop_map(|text| format!(" \"{text}: \\\"# \\n\"\n")),
        text.prop_map(|text| format!("\n  {text}\n  license\n")),
        text.prop_map(|text| format!(" |\n  license: {text}\n\n   # kept\n# not kept\n")),
        text.prop_map(|text| format!(" >-\n    {text}\n    license: x\n")),
        text.prop_map(|text| format!("\n- {text}\n# c\n- license: MIT\n  license_name: x\n")),
        text.prop_map(|text| format!("\n    license: {text}\n    deep:\n    - license: [a, {{b: c}}]\n")),
        text.prop_map(|text| format!(" [{text},\n  'license', {{license: b}}]\n")),
        Just("\n".to_owned()),
        Just(" ~\n".to_owned()),
        Just(" 1.50\n".to_owned()),
    ]
}

/// Lines around the entry of the licence.
fn entries() -> impl Strategy<Value = String> {
    let line = prop_oneof![3 => Just(None), 1 => Just(Some("# license: MIT\n")), 1 => Just(Some("\n"))];
    proptest::collection::vec((value(), line, any::<bool>()), 0..4).prop_map(|entries| {
        let entry = |(index, (value, line, quoted)): (usize, (String, Option<&str>, bool))| {
            let quote = if quoted { "'" } else { "" };
            format!("{quote}@key{index}{quote}:{value}{}", line.unwrap_or_default())
        };
        entries.into_iter().enumerate().map(entry).collect()
    })
}

/// How the licences `texts` may be written, with a key.
fn written(texts: &[String]) -> impl Strategy<Value = String> + use<> {
    let list = |dash: &str| format!("{dash}{} # c\n", texts.join(&format!(" # c\n{dash}")));
    let first = texts[0].clone();
    prop_oneof![
        Just(format!("license: {first}\n")),
        Just(format!("license:   {first}   # c\n")),
        Just(format!("'license': '{first}'\n")),
        Just(format!("\"license\" : \"{first}\" # c\n")),
        Just(format!("license: # c\n  # d\n  {first}\n")),
        Just(format!("license: |\n  {first}\n")),
        Just(format!("license: >+ # c\n    {first}\n\n")),
        Just(format!("license: !!str {first}\n")),
        Just(format!("license: &lic {first}\n")),
        Just(format!("license: [{}] # c\n", texts.join(", "))),
        Just(format!("license: [\n  '{}'\n  ] # c\n", texts.join("',\n  # d\n  '"))),
        Just(format!("license:\n{}", list("- "))),
        Just(format!("license: # c\n{}", list("    -   "))),
    ]
}

/// A licence: a word of either hub, or anything.
fn license_text() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = HUBS.into_iter().flat_map(Vocabulary::words).chain(["Apache License 2.0", "MIT License"]).collect();
    prop_oneof![
        4 => proptest::sample::select(words).prop_map(ToOwned::to_owned),
        1 => "[A-Z][a-zA-Z0-9é]{1,8}( [A-Za-z0-9é.]{1,6}){0,3}",
    ]
}

/// A front matter: what stands before the licence, the entry of the licence, what stands behind it.
fn front_matter() -> impl Strategy<Value = (String, String, String)> {
    let license = proptest::collection::vec(license_text(), 1..4).prop_flat_map(|texts| written(&texts));
    (entries(), license, entries(), any::<bool>()).prop_map(|(before, license, after, crlf)| {
        let line_ends = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        (line_ends(before.replace('@', "a")), line_ends(license), line_ends(after.replace('@', "b")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn everything_but_the_licence_survives((before, license, after) in front_matter(), body in any::<Vec<u8>>(), to in 0..2usize) {
        let newline = if license.contains("\r\n") { "\r\n" } else { "\n" };
        let head = format!("---{newline}{before}");
        let tail = [format!("{after}---{newline}").as_bytes(), &body].concat();
        let card = [head.as_bytes(), license.as_bytes(), &tail].concat();
        let edited = for_hub(&card, HUBS[to]).unwrap();
        let middle = edited.bytes.strip_prefix(head.as_bytes()).and_then(|rest| rest.strip_suffix(&tail[..])).unwrap();
        let middle = std::str::from_utf8(middle).unwrap();
        prop_assert_eq!(middle.matches('#').count(), license.matches('#').count());
        prop_assert_eq!(middle.replace("\r\n", "").contains('\r'), false);
        prop_assert_eq!(newline == "\r\n", middle.matches("\r\n").count() == middle.matches('\n').count());
        prop_assert_eq!(edited.changes.is_empty(), edited.bytes == card);

        // The hub takes every word now, one for each that was there, and a name goes with what it has no word for.
        let (old, new) = (read(&card).unwrap(), read(&edited.bytes).unwrap());
        prop_assert_eq!(old.license.len(), new.license.len());
        let name = new.license_name.as_deref();
        for (old, new) in old.license.iter().zip(&new.license) {
            prop_assert!(HUBS[to].accepts(new), "{new:?}");
            let other = HUBS[to].other();
            prop_assert_eq!(HUBS[to].word(new), Some(HUBS[to].word(old).unwrap_or(other)));
            prop_assert!(HUBS[to].word(old).is_some() || name_holds(name, old), "{old:?} {new:?}");
        }

        let again = for_hub(&edited.bytes, HUBS[to]).unwrap();
        prop_assert!(again.changes.is_empty() && again.bytes == edited.bytes);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(text in any::<Vec<u8>>(), inside in any::<bool>()) {
        let card = if inside { [b"---\n", &text[..], b"\n---\n"].concat() } else { text };
        for to in HUBS {
            let _ = for_hub(&card, to);
        }
    }

    #[test]
    fn what_looks_like_yaml_does_no_harm(tokens in proptest::collection::vec(token(), 0..30), body in ".{0,20}") {
        let card = format!("---\n{}\n---\n{body}", tokens.concat());
        for to in HUBS {
            if let Ok(edited) = for_hub(card.as_bytes(), to) {
                let end = format!("---\n{body}");
                prop_assert!(edited.bytes.ends_with(end.as_bytes()));
                let again = for_hub(&edited.bytes, to).unwrap();
                prop_assert!(again.changes.is_empty(), "{card:?} {:?} {:?}", edited.changes, again.changes);
            }
        }
        let _ = read(card.as_bytes());
        for key in [Key::License, Key::LicenseName, Key::LicenseLink] {
            if let Ok(edited) = set(card.as_bytes(), key, "a: b") {
                let stated = read(&edited.bytes).unwrap_or_default();
                let value = match key {
                    Key::License => stated.license.first().cloned(),
                    Key::LicenseName => stated.license_name,
                    Key::LicenseLink => stated.license_link,
                };
                prop_assert!(value.is_none_or(|value| value == "a: b"));
            }
        }
    }
}

fn name_holds(name: Option<&str>, old: &str) -> bool {
    match (license::name(old), name) {
        (Some(part), Some(name)) => name.contains(&part) || name.chars().count() >= 90,
        (wanted, name) => wanted.is_none() && name.is_none(),
    }
}

fn token() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "license",
        "license:",
        "license: ",
        "license_name: ",
        "license_link:",
        "MIT",
        "Acme",
        "mit",
        " ",
        "  ",
        "\n",
        "\n",
        "\n  ",
        "\n- ",
        "\r\n",
        "\t",
        ": ",
        ":",
        "- ",
        "-",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "'",
        "\"",
        "\\",
        "#",
        " # c",
        "|",
        "|\n  ",
        ">-\n ",
        "|2+",
        "&a ",
        "*a",
        "!t ",
        "!!str ",
        "~",
        "é",
        "\u{85}",
        "\u{feff}",
        "%YAML 1.2",
        "...",
        "---",
        "a: b\n",
        "x",
        "<<: ",
        "@",
        "`",
        "\0",
        "0",
    ])
}
