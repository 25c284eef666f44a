//! Small request bodies. Clients send JSON under any content type or none, so only the bytes count.

use axum::extract::Multipart;
use axum::extract::multipart::MultipartError;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::envelope::{Answer, Refusal};

/// Most fields a form may have.
const MAX_FIELDS: usize = 64;

/// Reads JSON.
pub(super) fn from_json<T: DeserializeOwned>(body: &Bytes) -> Answer<T> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("the request is not understood: {error}")))
}

/// Reads a multipart form into the same shape that JSON has; numbers come as text there.
pub(super) async fn from_form(mut form: Multipart) -> Answer<Map<String, Value>> {
    let mut fields = Map::new();
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        if fields.len() >= MAX_FIELDS {
            return Err(Refusal::invalid("the form has too many fields"));
        }
        let value = field.text().await.map_err(|error| broken(&error))?;
        fields.insert(name, Value::String(value));
    }
    Ok(fields)
}

fn broken(error: &MultipartError) -> Refusal {
    Refusal::invalid(format!("the form is not understood: {}", error.body_text()))
}

/// A text field; an empty one counts as absent.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str).filter(|value| !value.is_empty())
}

/// A whole number, written as one or as text.
pub(super) fn number(fields: &Map<String, Value>, name: &str) -> Answer<Option<i64>> {
    let wrong = || Refusal::invalid(format!("{name} is not a number"));
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| wrong()),
        Some(value) => value.as_i64().map(Some).ok_or_else(wrong),
    }
}
