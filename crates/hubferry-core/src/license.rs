//! Licences in the words of each hub: which spellings a hub takes, and what another hub calls the same licence.
//!
//! Both hubs state a licence as one word. Hugging Face takes only the ids of its list, in lower case, and has `other` with
//! `license_name` and `license_link` for the rest. ModelScope writes SPDX ids or display names ("Apache License 2.0"), and carries
//! cards with the ids of Hugging Face as well. A word is translated only where the other hub has one for the very same licence;
//! nothing is ever called by the name of a similar one.

mod table;

use table::{LICENSES, License};

/// Longest `license_name` made from a text, in characters.
const NAME_LIMIT: usize = 100;

/// The words in which a hub states licences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vocabulary {
    /// The ids of <https://huggingface.co/docs/hub/repositories-licenses>; nothing else is taken, not even in other letter case.
    HuggingFace,
    /// The ids of the SDK (`modelscope_hub.constants.License`, `modelscope.hub.constants.Licenses`) and of the site's licence page;
    /// other ids of Hugging Face are passed as they are.
    ModelScope,
}

impl Vocabulary {
    /// The word for the licence that `text` means: an id of either hub or of SPDX, or a display name, whatever the letter case,
    /// blanks and punctuation. `None` when it is not known, or known and without a word here.
    pub fn word(self, text: &str) -> Option<&'static str> {
        let wanted = fold(text);
        if wanted.is_empty() {
            return None;
        }
        LICENSES.iter().find(|license| license.spellings().any(|spelling| fold(spelling) == wanted))?.word(self)
    }

    /// Whether a card may say exactly `text`.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::HuggingFace => self.words().any(|word| word == text),
            Self::ModelScope => LICENSES.iter().flat_map(License::modelscope_spellings).any(|spelling| spelling.eq_ignore_ascii_case(text)),
        }
    }

    /// The word for a licence that the hub has no word for.
    pub fn other(self) -> &'static str {
        match self {
            Self::HuggingFace => "other",
            Self::ModelScope => "Other",
        }
    }

    /// What to declare when a repository is created from one whose licence reads `given`: this hub's word if there is one, else the
    /// text as it is, and [`Self::other`] when none is given.
    pub fn declared(self, given: Option<&str>) -> String {
        let given = given.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(self.other());
        self.word(given).unwrap_or(given).to_owned()
    }

    /// Every word of this vocabulary, each once.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        LICENSES.iter().filter_map(move |license| license.word(self))
    }
}

/// A `license_name` made from any text: lower case and without blanks, as the metadata guide of Hugging Face asks ("short,
/// lowercase, without spaces"), at most 100 characters. `None` when no letter or digit is in it.
pub fn name(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        // Some capital letters have no small form.
        if (c.is_alphanumeric() && !c.is_uppercase()) || matches!(c, '.' | '_' | '+') {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name: String = name.chars().take(NAME_LIMIT).collect();
    let name = name.trim_matches(['-', '.', '_']);
    name.contains(char::is_alphanumeric).then(|| name.to_owned())
}

/// Whether `text` can stand as a `license_name`: lower case, without blanks.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_uppercase())
}

/// What remains of a spelling when letter case, punctuation and the words that change nothing are left out.
fn fold(text: &str) -> String {
    let lower = text.to_lowercase();
    let tokens = lower.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '+'))).map(|token| token.trim_matches('.'));
    let tokens = tokens.map(|token| match token.strip_prefix('v') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
        _ => token,
    });
    let tokens: Vec<&str> = tokens.filter(|t| !matches!(*t, "" | "the" | "gnu" | "license" | "licence" | "version")).collect();
    tokens.join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use Vocabulary::{HuggingFace, ModelScope};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn licences_in_the_words_of_modelscope() {
        for (given, declared) in [
            (Some("apache-2.0"), "Apache-2.0"),
            (Some("Apache License 2.0"), "Apache-2.0"),
            (Some("mit"), "MIT"),
            (Some("llama3.1"), "llama3.1"),
            (Some("GNU General Public License v3.0"), "GPL-3.0"),
            (Some("other"), "Other"),
            (Some("Terms of Acme"), "Terms of Acme"),
            (Some(" "), "Other"),
            (None, "Other"),
        ] {
            assert_eq!(ModelScope.declared(given), declared);
        }
    }

    #[test]
    fn licences_in_the_words_of_hugging_face() {
        for (given, word) in [
            ("Apache License 2.0", Some("apache-2.0")),
            ("Apache License, Version 2.0", Some("apache-2.0")),
            ("Apache-2.0", Some("apache-2.0")),
            ("apache 2.0", Some("apache-2.0")),
            ("MIT License", Some("mit")),
            ("The MIT License", Some("mit")),
            ("GPLv3", Some("gpl-3.0")),
            ("GPL-3.0-or-later", Some("gpl-3.0")),
            ("CC BY-NC 4.0", Some("cc-by-nc-4.0")),
            ("BSD 3-Clause License", Some("bsd-3-clause")),
            ("Llama 3.1 Community License Agreement", Some("llama3.1")),
            ("Gemma Terms of Use", Some("gemma")),
            ("ODbL-1.0", Some("odbl")),
            ("OpenRAIL++", Some("openrail++")),
            ("Other", Some("other")),
            // Similar is not the same.
            ("Apache-1.1", None),
            ("Apache", None),
            ("MIT-0", None),
            ("UNLICENSED", None),
            ("BSL-1.1", None),
            ("CC-BY-NC-ND", None),
            ("CC-BY-SA", None),
            ("MIT OR Apache-2.0", None),
            ("License", None),
            ("", None),
        ] {
            assert_eq!(HuggingFace.word(given), word, "{given}");
        }
    }

    #[test]
    fn what_a_card_may_say() {
        for text in ["apache-2.0", "llama3.1", "gemma", "other", "unknown", "openrail++"] {
            assert!(HuggingFace.accepts(text) && ModelScope.accepts(text), "{text}");
        }
        for text in ["Apache-2.0", "Apache License 2.0", "MIT License", "Other", "CC-BY-NC-ND"] {
            assert!(!HuggingFace.accepts(text) && ModelScope.accepts(text), "{text}");
        }
        for text in ["", "proprietary", "Apache License, Version 2.0"] {
            assert!(!HuggingFace.accepts(text) && !ModelScope.accepts(text), "{text}");
        }
    }

    #[test]
    fn every_word_of_both_hubs_goes_over_and_comes_back() {
        for word in HuggingFace.words() {
            let there = ModelScope.word(word).unwrap();
            assert!(ModelScope.accepts(there), "{there}");
            assert_eq!(HuggingFace.word(there), Some(word));
        }
        for word in ModelScope.words() {
            match HuggingFace.word(word) {
                Some(there) => assert_eq!(ModelScope.word(there), Some(word)),
                // The only one that names no version: Hugging Face has two, and neither may be guessed.
                None => assert_eq!((word, name(word).as_deref()), ("CC-BY-NC-ND", Some("cc-by-nc-nd"))),
            }
        }
    }

    #[test]
    fn no_spelling_means_two_licences() {
        let mut seen = HashMap::new();
        for license in LICENSES {
            for spelling in license.spellings() {
                let folded = fold(spelling);
                assert!(!folded.is_empty(), "{spelling}");
                let before = seen.insert(folded, license.word(ModelScope));
                assert!(before.is_none_or(|before| before == license.word(ModelScope)), "{spelling}");
            }
        }
    }

    #[test]
    fn the_list_of_hugging_face_is_whole() {
        // As published in January 2025, without `array`, which is what that hub calls several licences at once.
        let published = "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 \
            bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 \
            cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 \
            cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 \
            cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl \
            lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib \
            pddl lgpl-lr unknown other";
        for id in published.split_whitespace() {
            assert!(HuggingFace.accepts(id), "{id}");
        }
    }

    #[test]
    fn names_are_lower_case_without_blanks() {
        for (text, made) in [
            ("Tongyi Qianwen LICENSE AGREEMENT", Some("tongyi-qianwen-license-agreement")),
            ("Acme (v1.0)", Some("acme-v1.0")),
            ("https://acme.example/terms", Some("https-acme.example-terms")),
            ("自定义 协议", Some("自定义-协议")),
            ("  ", None),
            ("***", None),
        ] {
            assert_eq!(name(text).as_deref(), made);
        }
    }

    proptest! {
        #[test]
        fn a_name_is_a_name_and_stays_one(text in any::<String>()) {
            if let Some(made) = name(&text) {
                prop_assert!(is_name(&made) && made.chars().count() <= NAME_LIMIT, "{made:?}");
                prop_assert_eq!(name(&made), Some(made.clone()));
            }
        }

        #[test]
        fn letter_case_and_punctuation_change_nothing(index in 0..LICENSES.len(), upper in any::<bool>(), glue in "[ _-]{1,2}") {
            let word = LICENSES[index].word(ModelScope).unwrap();
            let spelt = word.replace('-', &glue);
            let spelt = if upper { spelt.to_uppercase() } else { spelt.to_lowercase() };
            prop_assert_eq!(ModelScope.word(&spelt), Some(word));
        }
    }
}
