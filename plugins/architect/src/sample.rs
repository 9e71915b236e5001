//! What a message's arguments say about the arguments of its kind. Pure.
//!
//! Names at the top are parameters: every message has them. Names below are data, and may be others next time. So
//! `{"rows": [{"a": 1}], "by": "a"}` says: `rows`, a list of objects, and `by`, a text.

use telos_sdk::prelude::*;

/// Names that are taken for parameters; an object with more is data.
const PARAMETERS_MAX: usize = 16;

/// JSON Schema of what is like the sample.
pub(crate) fn schema(sample: &Value) -> Value {
    match sample {
        Value::Object(parameters) if (1..=PARAMETERS_MAX).contains(&parameters.len()) => {
            let required: Vec<_> =
                parameters.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).collect();
            let properties: serde_json::Map<_, _> =
                parameters.iter().map(|(name, value)| (name.clone(), below(value))).collect();
            json!({"type": "object", "properties": properties, "required": required})
        }
        sample => below(sample),
    }
}

/// The sample, and where something of it can be changed so that it stays of its kind, that.
pub(crate) fn variants(sample: &Value) -> Vec<Value> {
    let mut variants = vec![sample.clone()];
    variants.extend(varied(sample));
    variants
}

/// Every whole number is a number: the next one may have a fraction.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn below(value: &Value) -> Value {
    match value {
        Value::Null => Value::Bool(true),
        Value::Array(items) => {
            let mut schemas = items.iter().map(below);
            match schemas.next() {
                Some(first) if first.is_object() && schemas.all(|schema| schema == first) => {
                    json!({"type": "array", "items": first})
                }
                _ => json!({"type": "array"}),
            }
        }
        value => json!({"type": type_of(value)}),
    }
}

/// A text may be a name of something else in the arguments, so it is changed only where it is a sentence.
fn varied(value: &Value) -> Option<Value> {
    match value {
        Value::Array(items) if items.len() > 2 => Some(json!(items[..items.len() - 1])),
        Value::Array(items) if items.len() == 2 => Some(json!([items[1], items[0]])),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.checked_add(1).map(Value::from),
            None => number.as_f64().map(|number| json!(number + 1.0)),
        },
        Value::String(text) => {
            let (rest, last) = text.trim().rsplit_once(char::is_whitespace)?;
            Some(json!(format!("{last} {rest}")))
        }
        Value::Object(parameters) => {
            let order = |value: &Value| match value {
                Value::Array(_) => 0,
                Value::Number(_) => 1,
                Value::Object(_) => 2,
                _ => 3,
            };
            let mut names: Vec<_> = parameters.iter().collect();
            names.sort_by_key(|(_, value)| order(value));
            let (name, new) = names.into_iter().find_map(|(name, value)| Some((name, varied(value)?)))?;
            let mut parameters = parameters.clone();
            parameters.insert(name.clone(), new);
            Some(Value::Object(parameters))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_top_are_parameters_and_names_below_are_data() {
        let sample = json!({"rows": [{"a": 1}, {"b": 2}], "by": "a", "more": null});
        let expected = json!({
            "type": "object",
            "properties": {
                "rows": {"type": "array", "items": {"type": "object"}},
                "by": {"type": "string"},
                "more": true,
            },
            "required": ["rows", "by"],
        });
        let mut found = schema(&sample);
        found["required"].as_array_mut().unwrap().sort_by_key(|name| name != "rows");
        assert_eq!(found, expected);
    }

    #[test]
    fn lists_are_of_one_kind_or_of_any() {
        assert_eq!(schema(&json!([1, 2.5])), json!({"type": "array", "items": {"type": "number"}}));
        assert_eq!(schema(&json!([1, "a"])), json!({"type": "array"}));
        assert_eq!(schema(&json!([])), json!({"type": "array"}));
        assert_eq!(schema(&json!([null])), json!({"type": "array"}));
        assert_eq!(schema(&Value::Null), Value::Bool(true));
        assert_eq!(schema(&json!({})), json!({"type": "object"}));
    }

    #[test]
    fn a_variant_is_of_the_same_kind_and_names_keep_their_meaning() {
        for (sample, expected) in [
            (json!([1, 2, 3]), json!([1, 2])),
            (json!(["a", "b"]), json!(["b", "a"])),
            (json!("one two three"), json!("three one two")),
            (json!(4), json!(5)),
            (json!({"by": "size", "rows": [3, 2, 1]}), json!({"by": "size", "rows": [3, 2]})),
            (json!({"one": {"a": 1}}), json!({"one": {"a": 2}})),
        ] {
            assert_eq!(variants(&sample), [sample.clone(), expected]);
            assert_eq!(schema(&sample), schema(&variants(&sample)[1]), "{sample}");
        }
        for sample in
            [json!(null), json!("word"), json!(true), json!([]), json!({"by": "size"}), json!(i64::MAX)]
        {
            assert_eq!(variants(&sample), [sample.clone()]);
        }
    }
}
