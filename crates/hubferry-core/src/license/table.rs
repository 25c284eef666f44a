//! The licences that the hubs have words for.

use super::Vocabulary;

/// One licence and how it is spelt.
pub(super) struct License {
    hugging_face: Option<&'static str>,
    modelscope: Option<&'static str>,
    /// What a card on ModelScope may call it as well.
    display: Option<&'static str>,
    /// Names and ids met elsewhere, first the full name.
    elsewhere: &'static [&'static str],
}

impl License {
    pub(super) fn word(&self, to: Vocabulary) -> Option<&'static str> {
        match to {
            Vocabulary::HuggingFace => self.hugging_face,
            Vocabulary::ModelScope => self.modelscope.or(self.hugging_face),
        }
    }

    pub(super) fn modelscope_spellings(&self) -> impl Iterator<Item = &'static str> {
        [self.modelscope, self.display, self.hugging_face].into_iter().flatten()
    }

    pub(super) fn spellings(&self) -> impl Iterator<Item = &'static str> {
        self.modelscope_spellings().chain(self.elsewhere.iter().copied())
    }
}

/// A licence that only Hugging Face has a word for.
const fn hub(id: &'static str, elsewhere: &'static [&'static str]) -> License {
    License { hugging_face: Some(id), modelscope: None, display: None, elsewhere }
}

/// A licence that both hubs have a word for.
const fn both(hugging_face: &'static str, modelscope: &'static str, elsewhere: &'static [&'static str]) -> License {
    License { hugging_face: Some(hugging_face), modelscope: Some(modelscope), display: None, elsewhere }
}

/// A licence that ModelScope shows under another name than its id.
const fn shown(hugging_face: &'static str, modelscope: &'static str, display: &'static str, more: &'static [&'static str]) -> License {
    License { hugging_face: Some(hugging_face), modelscope: Some(modelscope), display: Some(display), elsewhere: more }
}

/// All of them, in the order in which Hugging Face lists its ids (August 2026). `array` is not among them: that is what this hub
/// calls several licences at once. Those that grant "any later version" have the id of the version they name: neither hub says more.
pub(super) const LICENSES: &[License] = &[
    shown("apache-2.0", "Apache-2.0", "Apache License 2.0", &["Apache 2", "Apache2", "Apache2.0", "Apache Software License 2.0"]),
    shown("mit", "MIT", "MIT License", &["Expat"]),
    hub("openrail", &["OpenRAIL license family"]),
    hub("bigscience-openrail-m", &[]),
    hub("creativeml-openrail-m", &[]),
    hub("bigscience-bloom-rail-1.0", &[]),
    hub("bigcode-openrail-m", &["BigCode Open RAIL-M v1"]),
    both("afl-3.0", "AFL-3.0", &["Academic Free License v3.0"]),
    hub("artistic-2.0", &[]),
    hub("bsl-1.0", &["Boost Software License 1.0"]),
    hub("bsd", &["BSD license family"]),
    both("bsd-2-clause", "BSD-2-Clause", &["BSD 2-clause \"Simplified\" license", "Simplified BSD"]),
    both("bsd-3-clause", "BSD-3-Clause", &["BSD 3-clause \"New\" or \"Revised\" license", "New BSD", "Modified BSD", "Revised BSD"]),
    hub("bsd-3-clause-clear", &[]),
    hub("c-uda", &["Computational Use of Data Agreement", "C-UDA-1.0"]),
    hub("cc", &["Creative Commons license family"]),
    both("cc0-1.0", "CC0-1.0", &["Creative Commons Zero v1.0 Universal", "CC0", "CC0 1.0 Universal"]),
    hub("cc-by-2.0", &["Creative Commons Attribution 2.0"]),
    hub("cc-by-2.5", &["Creative Commons Attribution 2.5"]),
    hub("cc-by-3.0", &["Creative Commons Attribution 3.0"]),
    both("cc-by-4.0", "CC-BY-4.0", &["Creative Commons Attribution 4.0", "Creative Commons Attribution 4.0 International"]),
    hub("cc-by-sa-3.0", &["Creative Commons Attribution Share Alike 3.0"]),
    both("cc-by-sa-4.0", "CC-BY-SA-4.0", &["Creative Commons Attribution Share Alike 4.0"]),
    hub("cc-by-nc-2.0", &["Creative Commons Attribution Non Commercial 2.0"]),
    hub("cc-by-nc-3.0", &["Creative Commons Attribution Non Commercial 3.0"]),
    both("cc-by-nc-4.0", "CC-BY-NC-4.0", &["Creative Commons Attribution Non Commercial 4.0"]),
    hub("cc-by-nd-4.0", &["Creative Commons Attribution No Derivatives 4.0"]),
    hub("cc-by-nc-nd-3.0", &["Creative Commons Attribution Non Commercial No Derivatives 3.0"]),
    hub("cc-by-nc-nd-4.0", &["Creative Commons Attribution Non Commercial No Derivatives 4.0"]),
    hub("cc-by-nc-sa-2.0", &["Creative Commons Attribution Non Commercial Share Alike 2.0"]),
    hub("cc-by-nc-sa-3.0", &["Creative Commons Attribution Non Commercial Share Alike 3.0"]),
    hub("cc-by-nc-sa-4.0", &["Creative Commons Attribution Non Commercial Share Alike 4.0"]),
    // The site's licence page names no version. Hugging Face has two, so the name is kept beside `other`.
    License { hugging_face: None, modelscope: Some("CC-BY-NC-ND"), display: None, elsewhere: &[] },
    hub("cdla-sharing-1.0", &["Community Data License Agreement – Sharing, Version 1.0"]),
    hub("cdla-permissive-1.0", &["Community Data License Agreement – Permissive, Version 1.0"]),
    hub("cdla-permissive-2.0", &["Community Data License Agreement – Permissive, Version 2.0"]),
    hub("wtfpl", &["Do What The F*ck You Want To Public License"]),
    both("ecl-2.0", "ECL-2.0", &["Educational Community License v2.0"]),
    hub("epl-1.0", &["Eclipse Public License 1.0"]),
    hub("epl-2.0", &["Eclipse Public License 2.0"]),
    hub("etalab-2.0", &["Etalab Open License 2.0"]),
    hub("eupl-1.1", &["European Union Public License 1.1"]),
    hub("eupl-1.2", &["European Union Public License 1.2"]),
    hub("agpl-3.0", &["GNU Affero General Public License v3.0", "AGPLv3", "AGPL-3", "AGPL-3.0-only", "AGPL-3.0-or-later", "AGPL-3.0+"]),
    hub("gfdl", &["GNU Free Documentation License family", "GNU Free Documentation License"]),
    hub("gpl", &["GNU General Public License family", "GNU General Public License"]),
    both("gpl-2.0", "GPL-2.0", &["GNU General Public License v2.0", "GPLv2", "GPL-2", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-2.0+"]),
    both("gpl-3.0", "GPL-3.0", &["GNU General Public License v3.0", "GPLv3", "GPL-3", "GPL-3.0-only", "GPL-3.0-or-later", "GPL-3.0+"]),
    hub("lgpl", &["GNU Lesser General Public License family", "GNU Lesser General Public License"]),
    both("lgpl-2.1", "LGPL-2.1", &["GNU Lesser General Public License v2.1", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-2.1+"]),
    both("lgpl-3.0", "LGPL-3.0", &["GNU Lesser General Public License v3.0", "LGPLv3", "LGPL-3.0-only", "LGPL-3.0-or-later", "LGPL-3.0+"]),
    hub("isc", &[]),
    hub("h-research", &[]),
    hub("intel-research", &["Intel Research Use License Agreement"]),
    hub("lppl-1.3c", &["LaTeX Project Public License v1.3c"]),
    hub("ms-pl", &["Microsoft Public License"]),
    hub("apple-ascl", &["Apple Sample Code license"]),
    hub("apple-amlr", &["Apple Model License for Research"]),
    both("mpl-2.0", "MPL-2.0", &["Mozilla Public License 2.0", "MPL-2"]),
    hub("odc-by", &["Open Data Commons License Attribution family", "ODC-By-1.0"]),
    hub("odbl", &["Open Database License family", "Open Database License", "ODbL-1.0"]),
    hub("openmdw-1.0", &["Open Model, Data & Weights License Agreement"]),
    hub("openmdw-1.1", &["Open Model, Data & Weights License Agreement v1.1"]),
    hub("openrail++", &["Open Rail++-M License", "OpenRAIL++-M"]),
    hub("osl-3.0", &["Open Software License 3.0"]),
    hub("postgresql", &[]),
    hub("ofl-1.1", &["SIL Open Font License 1.1"]),
    hub("ncsa", &["University of Illinois/NCSA Open Source License"]),
    both("unlicense", "Unlicense", &[]),
    hub("zlib", &[]),
    hub("pddl", &["Open Data Commons Public Domain Dedication and License", "PDDL-1.0"]),
    hub("lgpl-lr", &["Lesser General Public License For Linguistic Resources"]),
    hub("deepfloyd-if-license", &["DeepFloyd IF Research License Agreement"]),
    hub("fair-noncommercial-research-license", &[]),
    hub("llama2", &["Llama 2 Community License Agreement", "Llama 2"]),
    hub("llama3", &["Llama 3 Community License Agreement", "Llama 3"]),
    hub("llama3.1", &["Llama 3.1 Community License Agreement", "Llama 3.1"]),
    hub("llama3.2", &["Llama 3.2 Community License Agreement", "Llama 3.2"]),
    hub("llama3.3", &["Llama 3.3 Community License Agreement", "Llama 3.3"]),
    hub("llama4", &["Llama 4 Community License Agreement", "Llama 4"]),
    hub("grok2-community", &["Grok 2 Community License Agreement"]),
    hub("gemma", &["Gemma Terms of Use"]),
    hub("unknown", &[]),
    both("other", "Other", &[]),
];
