//! What generated files look like.
//!
//! The rules for `.gitattributes` are those that new repositories of Hugging Face and ModelScope have had over the years; the texts
//! of ModelScope's card without content are known from cards on the hub, in both of its languages.

use serde_json::Value;

use crate::card;

/// `.gitattributes` of a new model or space on Hugging Face.
pub const MODEL_ATTRIBUTES: &str = include_str!("huggingface_model.txt");
/// `.gitattributes` of a new dataset on Hugging Face.
pub const DATASET_ATTRIBUTES: &str = include_str!("huggingface_dataset.txt");

/// What else new repositories have been given rules for, on either hub.
const MORE_PATTERNS: &str = "*.ark* *.audio *.avi *.bin.* *.db* *.ggml *.gguf* *.jack *.jsonl *.llamafile* *.mkv *.mov *.pt2 *.tfevents* \
                             *.zstandard **/*ckpt*data* **/*ckpt*.index **/*ckpt*.meta";

/// Fewer rules than any hub writes: a person's own.
const FEWEST_RULES: usize = 20;

/// How the body of a card without content begins and ends, in English and Chinese.
const NO_CARD: [(&str, &str); 2] = [
    ("### You are viewing the default Readme template", "the model contribution documentation</a>.</p>"),
    ("### 当前模型的贡献者未提供更加详细的模型介绍", "及时完善模型卡片内容。</p>"),
];

/// Whether a file of this name with this content was written by a hub and by nobody else.
pub fn is_generated(path: &str, content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else { return false };
    match path {
        ".gitattributes" => is_attributes(text),
        card::FILE => is_no_card(text),
        "configuration.json" => is_configuration(text),
        "dataset_infos.json" => is_dataset_infos(text),
        _ => false,
    }
}

/// Only rules that hubs write, and about as many of them.
fn is_attributes(text: &str) -> bool {
    let rules = |text: &'static str| text.lines().filter_map(rule);
    let is_known = |pattern: &str| {
        let mut known = rules(MODEL_ATTRIBUTES).chain(rules(DATASET_ATTRIBUTES)).chain(MORE_PATTERNS.split_whitespace());
        known.any(|other| other == pattern)
    };
    let mut found = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match rule(line) {
            Some(pattern) if is_known(pattern) => found += 1,
            _ => return false,
        }
    }
    found >= FEWEST_RULES
}

/// The pattern of a line that puts files into LFS and does nothing else.
fn rule(line: &str) -> Option<&str> {
    let (pattern, attributes) = line.split_once(char::is_whitespace)?;
    attributes.split_whitespace().eq(["filter=lfs", "diff=lfs", "merge=lfs", "-text"]).then_some(pattern)
}

fn is_no_card(text: &str) -> bool {
    let body = card::body(text).trim();
    NO_CARD.iter().any(|(begins, ends)| body.starts_with(begins) && body.ends_with(ends))
}

/// What ModelScope's client writes for a model it knows nothing of: framework, task, and whether code may be loaded.
fn is_configuration(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return false };
    fields.contains_key("framework")
        && fields.contains_key("task")
        && fields.iter().all(|(name, value)| match name.as_str() {
            "framework" | "task" => value.is_string(),
            "allow_remote" => value.is_boolean(),
            _ => false,
        })
}

/// Descriptions of nothing.
fn is_dataset_infos(text: &str) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let Ok(Value::Object(parts)) = serde_json::from_str(text) else { return false };
    parts.values().all(|part| part.as_object().is_some_and(|fields| fields.values().all(is_empty)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_hubs_are_known_whatever_their_age() {
        assert_eq!((MODEL_ATTRIBUTES.len(), MODEL_ATTRIBUTES.lines().count()), (1519, 35), "as every new model has it");
        assert!(is_generated(".gitattributes", MODEL_ATTRIBUTES.as_bytes()));
        assert!(is_generated(".gitattributes", DATASET_ATTRIBUTES.as_bytes()));
        let older: Vec<&str> = MODEL_ATTRIBUTES.lines().filter(|line| !line.contains("safetensors")).collect();
        let older = older.join("\r\n");
        assert!(is_generated(".gitattributes", older.as_bytes()));
        assert!(!is_generated("sub/.gitattributes", MODEL_ATTRIBUTES.as_bytes()), "hubs write at the root");
    }

    #[test]
    fn one_rule_of_a_person_makes_it_theirs() {
        for line in ["tokenizer.json filter=lfs diff=lfs merge=lfs -text\n", "*.bin -text\n", "*.txt text eol=lf\n", "nonsense\n"] {
            assert!(!is_generated(".gitattributes", format!("{MODEL_ATTRIBUTES}{line}").as_bytes()), "{line}");
        }
        assert!(!is_generated(".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n"), "a short list is somebody's own");
        assert!(!is_generated(".gitattributes", b""));
        assert!(!is_generated(".gitattributes", b"\xff\xfe"));
    }

    #[test]
    fn a_card_without_content_is_known_in_both_languages() {
        let english = "### You are viewing the default Readme template as no detailed model-card was provided.\n\
                       #### More\n<p>see <a>the model contribution documentation</a>.</p>";
        let chinese =
            "### 当前模型的贡献者未提供更加详细的模型介绍。模型文件和权重,可浏览“模型文件”页面获取。\n<p>及时完善模型卡片内容。</p>\n";
        for body in [english, chinese] {
            assert!(is_generated("README.md", body.as_bytes()));
            assert!(is_generated("README.md", format!("---\r\nlicense: mit\r\n---\r\n{body}\n\n").as_bytes()));
            assert!(!is_generated("README.md", format!("---\nlicense: mit\n---\n{body}\nI added a line.\n").as_bytes()));
            assert!(!is_generated("README.md", format!("# Mine\n{body}").as_bytes()));
        }
        assert!(!is_generated("README.md", b"---\nlicense: mit\n---\n"), "somebody chose that licence");
    }

    #[test]
    fn configurations_that_say_something_are_somebodys() {
        assert!(is_generated("configuration.json", br#"{"framework":"pytorch","task":"text-generation","allow_remote":true}"#));
        for real in [r#"{"framework":"pytorch"}"#, r#"{"framework":"pytorch","task":"x","model":{"type":"y"}}"#, "[]", "{", "{}"] {
            assert!(!is_generated("configuration.json", real.as_bytes()), "{real}");
        }
        assert!(is_generated("dataset_infos.json", br#"{"default": {"features": {}, "splits": {}}}"#));
        assert!(!is_generated("dataset_infos.json", br#"{"default": {"features": {"text": {}}, "splits": {}}}"#));
        assert!(!is_generated("config.json", b"{}"));
    }
}
