//! What a client may say of a repository, at creation or later: visibility and protection codes, licence, descriptive fields.

use hubferry_core::remote::Visibility;
use serde_json::{Map, Value};

use super::envelope::{Answer, Refusal};
use super::fields::{number, text};
use crate::store::{Gated, Patch, Repo};

/// Descriptive fields that are kept as they come and given back.
const KEPT: &[&str] = &[
    "ChineseName",
    "Description",
    "ModelFramework",
    "ApprovalMode",
    "AigcType",
    "VisionFoundation",
    "ModelCover",
    "SubScientificField",
    "ScientificField",
    "Source",
    "ModelTask",
    "OriginalModelId",
];
/// Longest text that is kept, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// The licence of a repository that names none, as the hub shows it.
const DEFAULT_LICENSE: &str = "Apache License 2.0";

/// The hub's number for a visibility.
pub(super) fn visibility_code(visibility: Visibility) -> u8 {
    match visibility {
        Visibility::Public => 5,
        Visibility::Internal => 3,
        _ => 1,
    }
}

/// The hub's number for protection: 1 means that readers must be let in, 2 that it is off.
pub(super) fn protection_code(gated: Gated) -> u8 {
    if gated == Gated::No { 2 } else { 1 }
}

/// Everything a request says of a repository.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Settings {
    pub(super) visibility: Option<Visibility>,
    pub(super) gated: Option<Gated>,
    pub(super) license: Option<String>,
    /// The descriptive fields that were named.
    details: Map<String, Value>,
}

impl Settings {
    /// Reads the fields of a JSON object or a form.
    pub(super) fn read(fields: &Map<String, Value>) -> Answer<Self> {
        let visibility = match number(fields, "Visibility")? {
            None => None,
            Some(1) => Some(Visibility::Private),
            Some(3) => Some(Visibility::Internal),
            Some(5) => Some(Visibility::Public),
            Some(other) => return Err(Refusal::invalid(format!("Visibility {other} is none of 1, 3 and 5"))),
        };
        let gated = match number(fields, "ProtectedMode")? {
            None => None,
            // Protection exists for private repositories only; elsewhere it is ignored.
            Some(1) if visibility == Some(Visibility::Private) => Some(Gated::Manual),
            Some(1 | 2) => Some(Gated::No),
            Some(other) => return Err(Refusal::invalid(format!("ProtectedMode {other} is neither 1 nor 2"))),
        };
        let license = text(fields, "License").map(str::to_owned);
        let details: Map<String, Value> = KEPT.iter().filter_map(|name| kept(fields, name)).collect();
        let too_long = |value: &Value| value.as_str().is_some_and(|text| text.len() > MAX_TEXT);
        if license.as_ref().is_some_and(|text| text.len() > 200) || details.values().any(too_long) {
            return Err(Refusal::invalid("a field of the request is too long"));
        }
        Ok(Self { visibility, gated, license, details })
    }

    /// The licence a new repository gets.
    pub(super) fn license_or_default(&self) -> String {
        self.license.clone().unwrap_or_else(|| DEFAULT_LICENSE.into())
    }

    /// The descriptive fields of a new repository.
    pub(super) fn details(&self) -> Map<String, Value> {
        self.details.clone()
    }

    /// What changes in a repository: only what was named.
    pub(super) fn patch(self, repo: &Repo) -> Patch {
        let mut details = repo.details.clone();
        details.extend(self.details);
        Patch { visibility: self.visibility, gated: self.gated, license: self.license, details: Some(details) }
    }
}

fn kept(fields: &Map<String, Value>, name: &str) -> Option<(String, Value)> {
    let value = fields.get(name)?;
    (value.is_string() || value.is_number()).then(|| (name.to_owned(), value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Answer<Settings> {
        Settings::read(value.as_object().unwrap())
    }

    #[test]
    fn codes_come_as_numbers_or_text() {
        let settings = read(&json!({"Visibility": "1", "ProtectedMode": 1, "License": "", "ChineseName": "名", "Tasks": []})).unwrap();
        assert_eq!((settings.visibility, settings.gated), (Some(Visibility::Private), Some(Gated::Manual)));
        assert_eq!(settings.license_or_default(), DEFAULT_LICENSE);
        assert_eq!(settings.details.keys().collect::<Vec<_>>(), ["ChineseName"]);
        assert_eq!(read(&json!({"Visibility": 5, "ProtectedMode": 1})).unwrap().gated, Some(Gated::No));
    }

    #[test]
    fn unknown_codes_are_refused() {
        for bad in [
            json!({"Visibility": 2}),
            json!({"Visibility": "public"}),
            json!({"ProtectedMode": 3}),
            json!({"Description": "x".repeat(20_000)}),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
