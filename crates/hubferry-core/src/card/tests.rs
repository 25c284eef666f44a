//! Cards as they are met: what is read, what an edit changes, what it leaves, what it refuses.

use Vocabulary::{HuggingFace, ModelScope};

use super::*;

/// The front matter `yaml` as a card for `to`; the body must survive.
fn edited(yaml: &str, to: Vocabulary) -> Result<String, Refusal> {
    let card = format!("---\n{yaml}---\n# Body\nlicense: body\n");
    let bytes = for_hub(card.as_bytes(), to)?.bytes.into_owned();
    let text = String::from_utf8(bytes).unwrap();
    let front = text.strip_prefix("---\n").unwrap().strip_suffix("---\n# Body\nlicense: body\n").unwrap();
    Ok(front.to_owned())
}

fn for_hugging_face(yaml: &str) -> String {
    edited(yaml, HuggingFace).unwrap_or_else(|refusal| panic!("{refusal}: {yaml:?}"))
}

fn refused(yaml: &str) -> Refusal {
    edited(yaml, HuggingFace).unwrap_err()
}

fn stated(yaml: &str) -> Vec<String> {
    read(format!("---\n{yaml}---\n").as_bytes()).unwrap().license
}

#[test]
fn a_licence_is_read_in_every_form() {
    for yaml in [
        "license: mit\n",
        "license: 'mit'\n",
        "license: \"mit\"\n",
        "license: \"m\\x69t\"\n",
        "license:   mit   # a comment\n",
        "license:\n  mit\n",
        "license: # above\n  # and below\n  mit\n",
        "license:\n- mit\n",
        "license:\n  - mit # first\n",
        "license: [mit]\n",
        "license: [\n  'mit',\n  ]\n",
        "license: [\n  'mit',\n]\n",
        "license: [mit, ~, '']\n",
        "\"license\": mit\n",
        "'license' : mit\n",
        "? license\n: mit\n",
        "license: |\n  mit\n",
        "license: >-\n  mit\n",
        "license: &l mit\n",
        "license: !!str mit\n",
        "x: &l mit\nlicense: *l\n",
        "{license: mit, x: y}\n",
        "  license: mit\n  x: y\n",
        "license: mit\r\nx: y\r\n",
    ] {
        assert_eq!(stated(yaml), ["mit"], "{yaml:?}");
    }
    assert_eq!(stated("license: [a, 'b']\n"), ["a", "b"]);
    for yaml in ["", "# nothing\n", "x: y\n", "license:\n", "license: ~\n", "license: null\n", "license: ''\n", "license: []\n"] {
        assert_eq!(stated(yaml), [""; 0], "{yaml:?}");
    }
    let all = read(b"---\nlicense: other\nlicense_name: acme\nlicense_link: LICENSE\n---\n").unwrap();
    assert_eq!((all.license_name.as_deref(), all.license_link.as_deref()), (Some("acme"), Some("LICENSE")));
    assert_eq!(read(b"# no front matter\nlicense: mit\n").unwrap(), Stated::default());
}

#[test]
fn what_the_hub_takes_comes_back_as_the_same_bytes() {
    for card in [
        "",
        "# no front matter\n",
        "---\n---\n",
        "---\nlicense: MIT\n",
        "---\nx: y\n---\n",
        "---\nlicense: apache-2.0\nlanguage:\n- en\n---\nbody",
        "---\nlicense: [mit, apache-2.0]\n---\n",
        "---\nlicense: llama3.1\n---\n",
        "---\nlicense: other\nlicense_name: acme-1.0\nlicense_link: LICENSE\n---\n",
        "---\nlicense: other\n---\n",
        "---\nlicense: unknown\n---\n",
        "---\nlicense:\n---\n",
    ] {
        for to in [HuggingFace, ModelScope] {
            let edited = for_hub(card.as_bytes(), to).unwrap();
            assert!(matches!(edited.bytes, Cow::Borrowed(bytes) if bytes == card.as_bytes()), "{card:?}");
            assert_eq!(edited.changes, []);
        }
    }
    let shown = b"---\nlicense: Apache License 2.0\n---\n";
    assert_eq!(for_hub(shown, ModelScope).unwrap().changes, []);
}

#[test]
fn a_list_stays_a_list_and_the_key_behind_it_is_not_swallowed() {
    assert_eq!(for_hugging_face("license:\n- apache-2.0\n- mit\nlanguage: en\n"), "license:\n- apache-2.0\n- mit\nlanguage: en\n");
    assert_eq!(for_hugging_face("license:\n- Apache License 2.0\n- MIT\nlanguage: en\n"), "license:\n- apache-2.0\n- mit\nlanguage: en\n");
    assert_eq!(for_hugging_face("license:\nlanguage: en\n"), "license:\nlanguage: en\n");
    assert_eq!(
        for_hugging_face("license:\n  - Acme # ours\n  - mit\n# next\nlanguage: en\n"),
        "license:\n  - other # ours\n  - mit\nlicense_name: acme\n# next\nlanguage: en\n"
    );
    assert_eq!(for_hugging_face("license: [ \"MIT License\",\n  GPLv3 ] # two\nx: y\n"), "license: [ \"mit\",\n  gpl-3.0 ] # two\nx: y\n");
    assert_eq!(for_hugging_face("license: [Acme, Foo Terms]\n"), "license: [other, other]\nlicense_name: acme-and-foo-terms\n");
}

#[test]
fn only_the_bytes_of_the_value_change() {
    for (yaml, after) in [
        ("license: Apache License 2.0\n", "license: apache-2.0\n"),
        ("license:  Apache License 2.0   # c\nx: y\n", "license:  apache-2.0   # c\nx: y\n"),
        ("license: 'Apache-2.0' # c\n", "license: 'apache-2.0' # c\n"),
        ("license: \"Apache-2.0\" # é\nx: é\n", "license: \"apache-2.0\" # é\nx: é\n"),
        ("é: ü # ö\nlicense: MIT # ß\n", "é: ü # ö\nlicense: mit # ß\n"),
        ("license: # c\n  # d\n  MIT\nx: y\n", "license: # c\n  # d\n  mit\nx: y\n"),
        ("license: Apache\n  License\n  2.0\n\n# c\nx: y\n", "license: apache-2.0\n\n# c\nx: y\n"),
        ("license: |\n  MIT License\n\n# c\nx: y\n", "license: mit\n\n# c\nx: y\n"),
        ("license: >- # c\n  MIT\n  License\nx: y\n", "license: mit # c\nx: y\n"),
        ("license: |+\n  MIT\n\n\nx: y\n", "license: mit\n\n\nx: y\n"),
        ("'license' : MIT\n", "'license' : mit\n"),
        ("? license\n: MIT\nx: y\n", "? license\n: mit\nx: y\n"),
        ("{license: MIT, x: [y]} # c\n", "{license: mit, x: [y]} # c\n"),
        ("license:\tMIT\nx: y\n", "license:\tmit\nx: y\n"),
        ("x: [\n  \"a\"\n]\nlicense: [\n\"MIT\"\n]\n", "x: [\n  \"a\"\n]\nlicense: [\n\"mit\"\n]\n"),
        ("license: &l MIT\nx: y\n", "license: &l mit\nx: y\n"),
        ("license: !!str MIT\n", "license: !!str mit\n"),
        ("x: &l MIT\nlicense: *l\ny: *l\n", "x: &l MIT\nlicense: mit\ny: *l\n"),
        (
            "model-index:\n- license: MIT\nx:\n  license: MIT\nlicense: MIT\n",
            "model-index:\n- license: MIT\nx:\n  license: MIT\nlicense: mit\n",
        ),
        ("x: |\n  license: MIT\nlicense: MIT\n", "x: |\n  license: MIT\nlicense: mit\n"),
        ("license: MIT\r\nx: y\r\n", "license: mit\r\nx: y\r\n"),
        ("  license: MIT\n  x: y\n", "  license: mit\n  x: y\n"),
    ] {
        assert_eq!(for_hugging_face(yaml), after);
        assert_eq!(for_hugging_face(after), after);
    }
}

#[test]
fn what_has_no_word_is_other_and_keeps_its_name() {
    for (yaml, after) in [
        ("license: Acme Terms 1.0\nx: y\n", "license: other\nlicense_name: acme-terms-1.0\nx: y\n"),
        ("x: y\nlicense: CC-BY-NC-ND # c\n", "x: y\nlicense: other # c\nlicense_name: cc-by-nc-nd\n"),
        ("license: |\n  Acme\n\nx: y\n", "license: other\nlicense_name: acme\n\nx: y\n"),
        ("license:\n- Acme\nx: y\n", "license:\n- other\nlicense_name: acme\nx: y\n"),
        ("license: 2.0\n", "license: other\nlicense_name: \"2.0\"\n"),
        ("license: 'no'\n", "license: 'other'\nlicense_name: \"no\"\n"),
        ("  license: Acme\n  x: y\n", "  license: other\n  license_name: acme\n  x: y\n"),
        ("license: Acme\nlicense_name: foo-1\nx: y\n", "license: other\nlicense_name: foo-1\nx: y\n"),
        ("license: Acme\nlicense_name: # c\nx: y\n", "license: other\nlicense_name: acme # c\nx: y\n"),
        ("license_name: ~\nlicense: Acme\n", "license_name: acme\nlicense: other\n"),
        ("license: other\nlicense_name: Acme Terms\n", "license: other\nlicense_name: acme-terms\n"),
        ("license: mit\nlicense_name: The MIT\n", "license: mit\nlicense_name: The MIT\n"),
        ("license: [Acme, '***', MIT]\n", "license: [other, 'other', mit]\nlicense_name: acme\n"),
        ("license: '***'\n", "license: 'other'\n"),
    ] {
        assert_eq!(for_hugging_face(yaml), after);
        assert_eq!(for_hugging_face(after), after);
    }
    assert_eq!(edited("license: Acme\n", ModelScope).unwrap(), "license: Other\nlicense_name: acme\n");
    assert_eq!(edited("license: other\nlicense_name: Acme Terms\n", ModelScope).unwrap(), "license: other\nlicense_name: Acme Terms\n");
    assert_eq!(edited("license: Apache License, Version 2.0\n", ModelScope).unwrap(), "license: Apache-2.0\n");
}

#[test]
fn a_link_is_kept_and_an_address_becomes_one() {
    assert_eq!(
        for_hugging_face("license_link: LICENSE.md # c\nlicense: Acme\n"),
        "license_link: LICENSE.md # c\nlicense: other\nlicense_name: acme\n"
    );
    assert_eq!(
        for_hugging_face("license: https://acme.example/terms\nx: y\n"),
        "license: other\nlicense_name: https-acme.example-terms\nlicense_link: https://acme.example/terms\nx: y\n"
    );
    assert_eq!(
        for_hugging_face("license: https://acme.example\nlicense_link: LICENSE\n"),
        "license: other\nlicense_name: https-acme.example\nlicense_link: LICENSE\n"
    );
}

#[test]
fn line_ends_and_marks_stay() {
    let card = "\u{feff}---\r\nx: y\r\nlicense: Acme\r\n---\r\nbody\r\n\n";
    let edited = for_hub(card.as_bytes(), HuggingFace).unwrap();
    assert_eq!(edited.bytes, "\u{feff}---\r\nx: y\r\nlicense: other\r\nlicense_name: acme\r\n---\r\nbody\r\n\n".as_bytes());
    let edited = for_hub(b"---\nlicense: MIT\n---\n\xff\xfe", HuggingFace).unwrap();
    assert_eq!(&*edited.bytes, b"---\nlicense: mit\n---\n\xff\xfe");
}

#[test]
fn a_report_says_what_changed() {
    let edited = for_hub(b"---\nlicense: Acme Terms\n---\n", HuggingFace).unwrap();
    let said: Vec<String> = edited.changes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["license: \"Acme Terms\" became \"other\"", "license_name: \"acme-terms\" was added"]);
}

#[test]
fn what_is_not_understood_is_refused() {
    assert!(matches!(refused("license: MIT\nx: [\n"), Refusal::Invalid { .. }));
    assert!(matches!(refused("license: MIT: x\n"), Refusal::Invalid { line: 2, .. }));
    assert!(matches!(refused("x: y\n  z\n\tlicense: MIT\n"), Refusal::Invalid { .. }));
    assert!(matches!(refused("license: MIT\n...\nx: y\n"), Refusal::Invalid { .. }));
    assert!(matches!(refused(&format!("license: MIT\nx: {}{}\n", "[".repeat(2000), "]".repeat(2000))), Refusal::Invalid { .. }));
    assert_eq!(refused("license: MIT\nlicense: MIT\n"), Refusal::Duplicate { line: 3, key: "license".into() });
    assert_eq!(refused("license: MIT\nx: {a: 1, 'a': 2}\n"), Refusal::Duplicate { line: 3, key: "a".into() });
    assert_eq!(refused("x: |\n  a\n  \tb\nlicense: MIT\n"), Refusal::Disputed { line: 4 });
    assert_eq!(refused("x: a\u{85}b\nlicense: MIT\n"), Refusal::Disputed { line: 2 });
    assert_eq!(refused("- license: MIT\n"), Refusal::NoMap);
    assert_eq!(refused("license\n"), Refusal::NoMap);
    assert_eq!(refused("[a]: b\nlicense: MIT\n"), Refusal::NoMap);
    assert_eq!(refused("license: {name: MIT}\n"), Refusal::Shape(Key::License));
    assert_eq!(refused(&format!("license:\n{}", "- MIT\n".repeat(101))), Refusal::Shape(Key::License));
    assert_eq!(refused("license: [[MIT]]\n"), Refusal::Shape(Key::License));
    assert_eq!(refused("license: Acme\nlicense_name: {a: b}\n"), Refusal::Shape(Key::LicenseName));
    assert_eq!(refused("license: &l MIT\nx: *l\n"), Refusal::Shared(Key::License));
    assert_eq!(refused("license:\n- |\n  MIT\n"), Refusal::Layout(Key::License));
    assert_eq!(refused("{license: Acme, x: y}\n"), Refusal::Layout(Key::LicenseName));
    assert_eq!(refused("? license\n: Acme\nx: y\n"), Refusal::Layout(Key::LicenseName));
    assert_eq!(for_hub(b"---\nlicense: \xff\n---\n", HuggingFace), Err(Refusal::NotText));
    let long = format!("---\nlicense: MIT\nx: {}\n---\n", "a".repeat(outline::LIMIT));
    assert_eq!(for_hub(long.as_bytes(), HuggingFace), Err(Refusal::TooLong));
}

#[test]
fn a_key_is_set_whatever_its_value_was() {
    let set = |yaml: &str, key, value: &str| -> Result<String, Refusal> {
        let card = format!("---\n{yaml}---\nbody\n");
        let text = String::from_utf8(set(card.as_bytes(), key, value)?.bytes.into_owned()).unwrap();
        Ok(text.strip_prefix("---\n").unwrap().strip_suffix("---\nbody\n").unwrap().to_owned())
    };
    for (yaml, after) in [
        ("", "license: mit\n"),
        ("# c\n", "# c\nlicense: mit\n"),
        ("x: y\n", "x: y\nlicense: mit\n"),
        ("x: |\n  y\n# c\n", "x: |\n  y\n# c\nlicense: mit\n"),
        ("license: mit\n", "license: mit\n"),
        ("license:\nx: y\n", "license: mit\nx: y\n"),
        ("license: # c\nx: y\n", "license: mit # c\nx: y\n"),
        ("license: ~ # c\n", "license: mit # c\n"),
        ("license: [mit]\n", "license: mit\n"),
        ("license:\n- a\n- b # c\n# d\nx: y\n", "license:\n  mit # c\n# d\nx: y\n"),
        ("license: # c\n    - a\n    - b\nx: y\n", "license: # c\n    mit\nx: y\n"),
        ("license: [a,\n b] # c\nx: y\n", "license: mit # c\nx: y\n"),
        ("license: {a: b,\n c: d}\nx: y\n", "license: mit\nx: y\n"),
        ("license:\n  a: b\n  c:\n  - d\nx: y\n", "license:\n  mit\nx: y\n"),
        ("license: |\n  a\n  b\nx: y\n", "license: mit\nx: y\n"),
        ("license_link: a\nx: y\n", "license_link: a\nlicense: mit\nx: y\n"),
    ] {
        assert_eq!(set(yaml, Key::License, "mit").as_deref(), Ok(after), "{yaml:?}");
    }
    assert_eq!(set("license: other\n", Key::LicenseLink, "a, b: #c\"").as_deref(), Ok("license: other\nlicense_link: \"a, b: #c\\\"\"\n"));
    assert_eq!(set("license: &l [a]\nx: *l\n", Key::License, "mit"), Err(Refusal::Shared(Key::License)));
    assert_eq!(set("[a]\n", Key::License, "mit"), Err(Refusal::NoMap));
    assert_eq!(super::set(b"# x\n", Key::License, "mit"), Err(Refusal::NoFrontMatter));
}
