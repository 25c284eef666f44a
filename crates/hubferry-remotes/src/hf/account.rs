//! Who a token belongs to and where it may write, from the answer of `GET /api/whoami-v2`.

use hubferry_core::error::{Error, Result};
use serde_json::Value;

use crate::http::clean;

/// The account behind a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its name, which is a namespace too.
    pub name: String,
    /// Organisations it belongs to.
    pub organisations: Vec<String>,
    /// `read`, `write` or `fineGrained`, when the hub says.
    pub role: Option<String>,
    /// Namespaces and single repositories it may write to; `None` when the hub does not say.
    pub writes: Option<Vec<String>>,
}

impl Account {
    pub(super) fn read(answer: &Value) -> Result<Self> {
        let name = text(&answer["name"]).ok_or_else(|| Error::invalid("the hub does not say whose token this is"))?;
        let organisations = list(&answer["orgs"]).filter_map(|org| text(&org["name"])).collect();
        let token = &answer["auth"]["accessToken"];
        let role = text(&token["role"]);
        let writes = match role.as_deref() {
            Some("read") => Some(Vec::new()),
            // In an organisation the member's role counts as well; `read` is the one that may not write.
            Some("write") => {
                let may_write = list(&answer["orgs"]).filter(|org| org["roleInOrg"].as_str() != Some("read"));
                Some(std::iter::once(name.clone()).chain(may_write.filter_map(|org| text(&org["name"]))).collect())
            }
            _ => scopes(&token["fineGrained"]),
        };
        Ok(Self { name, organisations, role, writes })
    }
}

/// What a fine-grained token may write to: entities of `scoped` with the permission `repo.write`, as the token page names it. Inferred
/// from answers that users show; a hub that says it otherwise is taken to say nothing.
fn scopes(rights: &Value) -> Option<Vec<String>> {
    let scoped = rights.get("scoped")?.as_array()?;
    let may_write = |scope: &&Value| list(&scope["permissions"]).any(|right| right.as_str() == Some("repo.write"));
    Some(scoped.iter().filter(may_write).filter_map(|scope| text(&scope["entity"]["name"])).collect())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| clean(text, 100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rights_are_read_for_every_kind_of_token() {
        let orgs = json!([{"name": "lab", "roleInOrg": "admin"}, {"name": "guests", "roleInOrg": "read"}, {"name": "old"}]);
        let writes = |token: Value| Account::read(&json!({"name": "alice", "orgs": orgs, "auth": {"accessToken": token}})).unwrap().writes;
        assert_eq!(writes(json!({"role": "read"})), Some(vec![]));
        assert_eq!(writes(json!({"role": "write"})).unwrap(), ["alice", "lab", "old"]);
        let scoped = json!([
            {"entity": {"type": "user", "name": "alice"}, "permissions": ["repo.content.read"]},
            {"entity": {"type": "org", "name": "lab"}, "permissions": ["repo.content.read", "repo.write"]},
            {"entity": {"type": "model", "name": "x/y"}, "permissions": ["repo.write"]},
        ]);
        assert_eq!(writes(json!({"role": "fineGrained", "fineGrained": {"global": [], "scoped": scoped}})).unwrap(), ["lab", "x/y"]);
        assert_eq!(writes(json!({"role": "fineGrained"})), None);
        assert_eq!(writes(Value::Null), None);
        assert!(Account::read(&json!({})).is_err());
    }
}
