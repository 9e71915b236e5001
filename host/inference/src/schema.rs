//! Which JSON Schemas an engine may be given.
//!
//! Engines turn a schema into a grammar with recursive C++ code. A schema that passes here is small, shallow, and free
//! of the keywords whose cost is not bounded by its size (`pattern`, `$ref`, `format`, large counts). Bounds that cross
//! (`minLength` 9 with `maxLength` 3) are refused too: llama.cpp writes out their difference and would not come back.

use serde_json::{Map, Value};

use crate::MindError;

/// Bytes of a schema.
const SCHEMA_BYTES_MAX: usize = 16 * 1024;
/// Schemas inside schemas.
const DEPTH_MAX: usize = 16;
/// The largest `minItems`, `maxItems`, `minLength`, `maxLength`: each is written out in the grammar.
const COUNT_MAX: u64 = 1_024;

/// Passes when an engine may be given this schema.
///
/// # Errors
/// [`MindError::Invalid`] naming the keyword or bound.
pub(crate) fn check(schema: &str) -> Result<(), MindError> {
    if schema.len() > SCHEMA_BYTES_MAX {
        return invalid(format!("{} bytes, at most {SCHEMA_BYTES_MAX} are taken", schema.len()));
    }
    let value: Value = serde_json::from_str(schema).or_else(|error| invalid(format!("not JSON: {error}")))?;
    check_schema(&value, 1)
}

fn check_schema(schema: &Value, depth: usize) -> Result<(), MindError> {
    if depth > DEPTH_MAX {
        return invalid(format!("nested deeper than {DEPTH_MAX}"));
    }
    let Value::Object(keywords) = schema else {
        return invalid(format!("expected an object, found {}", brief(schema)));
    };
    if keywords.is_empty() {
        return invalid("an empty schema takes anything; ask for free text instead".into());
    }
    keywords.iter().try_for_each(|(keyword, value)| check_keyword(keyword, value, depth))?;
    [("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum")]
        .into_iter()
        .try_for_each(|(least, most)| check_order(keywords, least, most))
}

fn check_order(keywords: &Map<String, Value>, least: &str, most: &str) -> Result<(), MindError> {
    let number = |keyword| keywords.get(keyword).and_then(Value::as_i64);
    match (number(least), number(most)) {
        (Some(low), Some(high)) if low > high => invalid(format!("`{least}` {low} is above `{most}` {high}")),
        _ => Ok(()),
    }
}

fn check_keyword(keyword: &str, value: &Value, depth: usize) -> Result<(), MindError> {
    match keyword {
        "title" | "description" | "default" | "examples" | "$schema" | "enum" | "const" => Ok(()),
        "required" if value.is_array() => Ok(()),
        "minimum" | "maximum" if value.is_i64() => Ok(()),
        "type" => check_type(value),
        "additionalProperties" if *value == Value::Bool(false) => Ok(()),
        "minItems" | "maxItems" | "minLength" | "maxLength" => check_count(keyword, value),
        "properties" => check_each(object(keyword, value)?.values(), depth),
        "items" => check_schema(value, depth + 1),
        "anyOf" | "oneOf" => check_each(array(keyword, value)?.iter(), depth),
        _ => invalid(format!("`{keyword}` with this value is not supported")),
    }
}

fn check_each<'a>(mut schemas: impl Iterator<Item = &'a Value>, depth: usize) -> Result<(), MindError> {
    schemas.try_for_each(|schema| check_schema(schema, depth + 1))
}

fn check_type(value: &Value) -> Result<(), MindError> {
    match value.as_str() {
        Some("object" | "array" | "string" | "number" | "integer" | "boolean" | "null") => Ok(()),
        _ => invalid(format!("`type` {} is not one of JSON's types", brief(value))),
    }
}

fn check_count(keyword: &str, value: &Value) -> Result<(), MindError> {
    match value.as_u64() {
        Some(count) if count <= COUNT_MAX => Ok(()),
        _ => invalid(format!("`{keyword}` {} is not within 0 to {COUNT_MAX}", brief(value))),
    }
}

fn object<'a>(keyword: &str, value: &'a Value) -> Result<&'a Map<String, Value>, MindError> {
    value.as_object().map_or_else(|| invalid(format!("`{keyword}` is not an object")), Ok)
}

fn array<'a>(keyword: &str, value: &'a Value) -> Result<&'a Vec<Value>, MindError> {
    value.as_array().map_or_else(|| invalid(format!("`{keyword}` is not an array")), Ok)
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

fn invalid<T>(message: String) -> Result<T, MindError> {
    Err(MindError::Invalid(format!("schema: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_schema_passes() {
        let schema = r#"{"type": "object", "required": ["mood"], "additionalProperties": false, "properties": {
            "mood": {"enum": ["good", "bad"]},
            "tags": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 20}},
            "age": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}}}"#;
        assert_eq!(check(schema), Ok(()));
    }

    #[test]
    fn what_could_cost_the_engine_without_bound_is_refused_by_name() {
        let deep = format!("{}{{\"type\":\"null\"}}{}", "{\"items\":".repeat(100), "}".repeat(100));
        let very_deep = "[".repeat(10_000);
        let long = format!("{{\"const\":\"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX));
        for (schema, reason) in [
            (r#"{"type": "string", "pattern": "^(((a{999}){999}){999})$"}"#, "`pattern`"),
            (r##"{"$ref": "#"}"##, "`$ref`"),
            (r#"{"type": "string", "maxLength": 1000000000}"#, "`maxLength`"),
            (r#"{"type": "array", "minItems": -1}"#, "`minItems`"),
            (r#"{"type": "string", "minLength": 9, "maxLength": 3}"#, "above `maxLength`"),
            (r#"{"items": {"type": "array", "minItems": 2, "maxItems": 1}}"#, "above `maxItems`"),
            (r#"{"type": "integer", "minimum": 0, "maximum": -1}"#, "above `maximum`"),
            (r#"{"type": "monster"}"#, "`type`"),
            (r#"{"additionalProperties": {"type": "null"}}"#, "`additionalProperties`"),
            ("true", "expected an object"),
            ("{}", "empty"),
            (deep.as_str(), "nested deeper"),
            (very_deep.as_str(), "not JSON"),
            (long.as_str(), "bytes"),
        ] {
            match check(schema) {
                Err(MindError::Invalid(message)) => assert!(message.contains(reason), "{message}"),
                other => panic!("{schema:.60}: {other:?}"),
            }
        }
    }
}
