//! Which JSON Schemas an engine may be given.
//!
//! Engines turn a schema into a grammar with recursive C++ code. A schema that passes here is small, shallow, and free
//! of the keywords whose cost is not bounded by its size (`pattern`, `$ref`, `format`). What else can be asked for was
//! read in llama.cpp's `json-schema.cpp`, `json-schema-to-grammar.cpp` and `llama-grammar.cpp`, and measured:
//!
//! ```text
//! minimum, maximum    written out digit by digit, 16 at most; beyond, a count wraps below zero and memory ends
//! alone               loose above 99 or below 0: `minimum` 105 lets 15 through, `maximum` -5 lets -034 through
//! both                exact; crossed ones match nothing, or are written out by their difference
//! minItems, maxLength each a rule of its own, under the names of all properties around it
//! enum, anyOf         every choice is tried on every token of the vocabulary, for every token of the answer
//! properties          choices too; and when optional, written out by the square of their number
//! the name ""         takes the place of the whole schema
//! const, required     one literal, one look-up
//! anyOf, const, enum  what stands beside them is not looked at: `properties` would be lost without a word
//! ```
//!
//! Everything else is refused by name, or (`title`, `default`) never looked at.

use serde_json::{Map, Value};

use crate::MindError;

/// Bytes of a schema.
const SCHEMA_BYTES_MAX: usize = 16 * 1024;
/// Schemas inside schemas.
const DEPTH_MAX: usize = 16;
/// The largest `minItems`, `maxItems`, `minLength`, `maxLength`: each is written out in the grammar.
const COUNT_MAX: u64 = 1_024;
/// All those together: eight of the largest.
const COUNTS_MAX: u64 = 8 * COUNT_MAX;
/// Bounds of integers have at most 15 digits, either sign.
const INTEGER_MAX: u64 = 999_999_999_999_999;
/// A `minimum` up to this one is exact without a `maximum`.
const LONE_MINIMUM_MAX: i64 = 99;
/// Bytes of a property's name.
const NAME_BYTES_MAX: usize = 64;
/// Properties, values of `enum`, arms of `anyOf` and digits of integer bounds, in the whole schema. On two busy cores,
/// 250 properties or values cost a token 0.7 s, and 8,000 cost 7 s.
const CHOICES_MAX: usize = 256;

/// Keywords that constrain nothing.
const NOTES: [&str; 5] = ["title", "description", "default", "examples", "$schema"];
/// Keywords beside which an engine looks at no other; the first one counts.
const ALONE: [&str; 4] = ["oneOf", "anyOf", "const", "enum"];

/// Passes when an engine may be given this schema.
///
/// # Errors
/// [`MindError::Invalid`] naming the keyword or bound.
pub(crate) fn check(schema: &str) -> Result<(), MindError> {
    if schema.len() > SCHEMA_BYTES_MAX {
        return invalid(format!("{} bytes, at most {SCHEMA_BYTES_MAX} are taken", schema.len()));
    }
    let value: Value = serde_json::from_str(schema).or_else(|error| invalid(format!("not JSON: {error}")))?;
    Budget { choices: CHOICES_MAX, counts: COUNTS_MAX }.check_schema(&value, 1)
}

/// What the rest of a schema may still ask for.
struct Budget {
    choices: usize,
    counts: u64,
}

impl Budget {
    fn check_schema(&mut self, schema: &Value, depth: usize) -> Result<(), MindError> {
        if depth > DEPTH_MAX {
            return invalid(format!("nested deeper than {DEPTH_MAX}"));
        }
        let Value::Object(keywords) = schema else {
            return invalid(format!("expected an object, found {}", brief(schema)));
        };
        if keywords.is_empty() {
            return invalid("an empty schema takes anything; ask for free text instead".into());
        }
        keywords.iter().try_for_each(|(keyword, value)| self.check_keyword(keyword, value, depth))?;
        check_alone(keywords)?;
        check_lone_bound(keywords)?;
        [("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum")]
            .into_iter()
            .try_for_each(|(least, most)| check_order(keywords, least, most))
    }

    fn check_keyword(&mut self, keyword: &str, value: &Value, depth: usize) -> Result<(), MindError> {
        match keyword {
            note if NOTES.contains(&note) => Ok(()),
            "const" => Ok(()),
            "required" if value.is_array() => Ok(()),
            "enum" => self.spend_choices(some(keyword, value)?.len()),
            "minimum" | "maximum" => self.check_bound(keyword, value),
            "type" => check_type(value),
            "additionalProperties" if *value == Value::Bool(false) => Ok(()),
            "minItems" | "maxItems" | "minLength" | "maxLength" => self.check_count(keyword, value),
            "properties" => self.check_properties(object(keyword, value)?, depth),
            "items" => self.check_schema(value, depth + 1),
            "anyOf" | "oneOf" => self.check_arms(some(keyword, value)?, depth),
            _ => invalid(format!("`{keyword}` with this value is not supported")),
        }
    }

    fn check_properties(&mut self, properties: &Map<String, Value>, depth: usize) -> Result<(), MindError> {
        self.spend_choices(properties.len())?;
        properties.iter().try_for_each(|(name, schema)| {
            check_name(name)?;
            self.check_schema(schema, depth + 1)
        })
    }

    fn check_arms(&mut self, arms: &[Value], depth: usize) -> Result<(), MindError> {
        self.spend_choices(arms.len())?;
        arms.iter().try_for_each(|arm| self.check_schema(arm, depth + 1))
    }

    fn check_bound(&mut self, keyword: &str, value: &Value) -> Result<(), MindError> {
        match value.as_i64().map(i64::unsigned_abs) {
            Some(size) if size <= INTEGER_MAX => self.spend_choices(size.to_string().len()),
            _ => invalid(format!(
                "`{keyword}` {} is not an integer within -{INTEGER_MAX} to {INTEGER_MAX}",
                brief(value)
            )),
        }
    }

    fn check_count(&mut self, keyword: &str, value: &Value) -> Result<(), MindError> {
        let Some(count) = value.as_u64().filter(|count| *count <= COUNT_MAX) else {
            return invalid(format!("`{keyword}` {} is not within 0 to {COUNT_MAX}", brief(value)));
        };
        let Some(left) = self.counts.checked_sub(count) else {
            return invalid(format!("its counts of items and characters add up to more than {COUNTS_MAX}"));
        };
        self.counts = left;
        Ok(())
    }

    fn spend_choices(&mut self, choices: usize) -> Result<(), MindError> {
        let Some(left) = self.choices.checked_sub(choices) else {
            return invalid(format!(
                "more than {CHOICES_MAX} properties, `enum` values, `anyOf` arms and digits of bounds together"
            ));
        };
        self.choices = left;
        Ok(())
    }
}

fn check_order(keywords: &Map<String, Value>, least: &str, most: &str) -> Result<(), MindError> {
    let number = |keyword| keywords.get(keyword).and_then(Value::as_i64);
    match (number(least), number(most)) {
        (Some(low), Some(high)) if low > high => invalid(format!("`{least}` {low} is above `{most}` {high}")),
        _ => Ok(()),
    }
}

/// What decides a schema alone stands alone; a `type` beside values says nothing that they do not.
fn check_alone(keywords: &Map<String, Value>) -> Result<(), MindError> {
    let Some(alone) = ALONE.into_iter().find(|alone| keywords.contains_key(*alone)) else {
        return Ok(());
    };
    let is_ignored = |keyword: &str| {
        let is_note = NOTES.contains(&keyword) || (keyword == "type" && matches!(alone, "const" | "enum"));
        keyword != alone && !is_note
    };
    match keywords.keys().find(|keyword| is_ignored(keyword)) {
        Some(ignored) => invalid(format!("`{ignored}` beside `{alone}` is not supported; keep one of them")),
        None => Ok(()),
    }
}

fn check_lone_bound(keywords: &Map<String, Value>) -> Result<(), MindError> {
    let bound = |keyword| keywords.get(keyword).and_then(Value::as_i64);
    match (bound("minimum"), bound("maximum")) {
        (Some(low), None) if low > LONE_MINIMUM_MAX => {
            invalid(format!("`minimum` {low} needs a `maximum`, as any above {LONE_MINIMUM_MAX} does"))
        }
        (None, Some(high)) if high < 0 => {
            invalid(format!("`maximum` {high} needs a `minimum`, as any below 0 does"))
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), MindError> {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        bytes => invalid(format!(
            "the name of a property has 1 to {NAME_BYTES_MAX} bytes, {} has {bytes}",
            brief(&Value::from(name))
        )),
    }
}

fn check_type(value: &Value) -> Result<(), MindError> {
    match value.as_str() {
        Some("object" | "array" | "string" | "number" | "integer" | "boolean" | "null") => Ok(()),
        _ => invalid(format!("`type` {} is not one of JSON's types", brief(value))),
    }
}

fn object<'a>(keyword: &str, value: &'a Value) -> Result<&'a Map<String, Value>, MindError> {
    value.as_object().map_or_else(|| invalid(format!("`{keyword}` is not an object")), Ok)
}

/// An array with something in it.
fn some<'a>(keyword: &str, value: &'a Value) -> Result<&'a [Value], MindError> {
    match value.as_array() {
        Some(values) if !values.is_empty() => Ok(values),
        _ => invalid(format!("`{keyword}` is not an array with something in it")),
    }
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

    #[track_caller]
    fn refused(schema: &str, reason: &str) {
        match check(schema) {
            Err(MindError::Invalid(message)) => assert!(message.contains(reason), "{message}"),
            other => panic!("{schema:.60}: {other:?}"),
        }
    }

    #[track_caller]
    fn passes(schema: &str) {
        assert_eq!(check(schema), Ok(()), "{schema:.60}");
    }

    #[test]
    fn what_could_cost_the_engine_without_bound_is_refused_by_name() {
        let deep = format!("{}{{\"type\":\"null\"}}{}", "{\"items\":".repeat(100), "}".repeat(100));
        let very_deep = "[".repeat(10_000);
        let long = format!("{{\"const\":\"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX));
        for (schema, reason) in [
            (r#"{"type": "string", "pattern": "^(((a{999}){999}){999})$"}"#, "`pattern`"),
            (r#"{"type": "string", "pattern": ""}"#, "`pattern`"),
            (r#"{"type": "string", "format": "date"}"#, "`format`"),
            (r##"{"$ref": "#"}"##, "`$ref`"),
            (r##"{"properties": {"a": {"$ref": "#/properties/a"}}}"##, "`$ref`"),
            (r#"{"allOf": [{"type": "null"}]}"#, "`allOf`"),
            (r#"{"prefixItems": [{"type": "null"}]}"#, "`prefixItems`"),
            (r#"{"items": [{"type": "null"}]}"#, "expected an object"),
            (r#"{"type": ["integer", "null"]}"#, "`type`"),
            (r#"{"type": "monster"}"#, "`type`"),
            (r#"{"required": "a"}"#, "`required`"),
            (r#"{"additionalProperties": {"type": "null"}}"#, "`additionalProperties`"),
            (r#"{"additionalProperties": true}"#, "`additionalProperties`"),
            (r#"{"enum": []}"#, "`enum`"),
            (r#"{"enum": {"a": 1}}"#, "`enum`"),
            (r#"{"anyOf": []}"#, "`anyOf`"),
            (r#"{"oneOf": {"type": "null"}}"#, "`oneOf`"),
            ("true", "expected an object"),
            ("{}", "empty"),
            (deep.as_str(), "nested deeper"),
            (very_deep.as_str(), "not JSON"),
            (long.as_str(), "bytes"),
        ] {
            refused(schema, reason);
        }
    }

    #[test]
    fn integer_bounds_are_taken_where_the_engine_writes_them_out_exactly() {
        for bounds in [
            r#""minimum": 0"#,
            r#""minimum": 99"#,
            r#""minimum": -999999999999999"#,
            r#""maximum": 0"#,
            r#""maximum": 999999999999999"#,
            r#""minimum": -999999999999999, "maximum": 999999999999999"#,
            r#""minimum": 999999999999999, "maximum": 999999999999999"#,
            r#""minimum": -9, "maximum": -3"#,
        ] {
            passes(&format!(r#"{{"type": "integer", {bounds}}}"#));
        }
        for (bounds, reason) in [
            (r#""minimum": 100"#, "needs a `maximum`"),
            (r#""maximum": -1"#, "needs a `minimum`"),
            (r#""minimum": 1000000000000000, "maximum": 1"#, "`minimum`"),
            (r#""minimum": 2000000000000000"#, "`minimum`"),
            (r#""minimum": -1000000000000000"#, "`minimum`"),
            (r#""minimum": -9223372036854775808"#, "`minimum`"),
            (r#""maximum": -2000000000000000"#, "`maximum`"),
            (r#""maximum": 1000000000000000"#, "`maximum`"),
            (r#""maximum": 9223372036854775808"#, "`maximum`"),
            (r#""maximum": 1e3"#, "`maximum`"),
            (r#""minimum": 0.5"#, "`minimum`"),
            (r#""minimum": 0, "maximum": -1"#, "above `maximum`"),
            (r#""exclusiveMinimum": 0"#, "`exclusiveMinimum`"),
            (r#""exclusiveMaximum": 0"#, "`exclusiveMaximum`"),
        ] {
            refused(&format!(r#"{{"type": "integer", {bounds}}}"#), reason);
        }
    }

    #[test]
    fn counts_are_bounded_one_by_one_and_together() {
        for (keyword, type_name) in
            [("minItems", "array"), ("maxItems", "array"), ("minLength", "string"), ("maxLength", "string")]
        {
            let named = format!("`{keyword}`");
            let with = |count: &str| format!(r#"{{"type": "{type_name}", "{keyword}": {count}}}"#);
            passes(&with("0"));
            passes(&with("1024"));
            ["1025", "1000000000", "-1", "1.0", "18446744073709551616"]
                .iter()
                .for_each(|count| refused(&with(count), &named));
        }
        refused(r#"{"type": "string", "minLength": 9, "maxLength": 3}"#, "above `maxLength`");
        refused(r#"{"items": {"type": "array", "minItems": 2, "maxItems": 1}}"#, "above `maxItems`");
        let arms = |count| vec![r#"{"maxLength": 1024}"#; count].join(",");
        passes(&format!(r#"{{"anyOf": [{}]}}"#, arms(8)));
        refused(&format!(r#"{{"anyOf": [{}]}}"#, arms(9)), "add up");
    }

    #[test]
    fn choices_are_bounded_over_the_whole_schema() {
        let values = |count| vec!["0"; count].join(",");
        let arms = |count| vec![r#"{"type": "null"}"#; count].join(",");
        let properties = |count| {
            (0..count).map(|n| format!(r#""p{n}": {{"type": "null"}}"#)).collect::<Vec<_>>().join(",")
        };
        let integers = |count| vec![r#"{"minimum": 1000, "maximum": 2000}"#; count].join(",");
        passes(&format!(r#"{{"enum": [{}]}}"#, values(256)));
        refused(&format!(r#"{{"enum": [{}]}}"#, values(257)), "more than 256");
        passes(&format!(r#"{{"anyOf": [{}]}}"#, arms(256)));
        refused(&format!(r#"{{"oneOf": [{}]}}"#, arms(257)), "more than 256");
        passes(&format!(r#"{{"properties": {{{}}}}}"#, properties(256)));
        refused(&format!(r#"{{"properties": {{{}}}}}"#, properties(257)), "more than 256");
        passes(&format!(r#"{{"anyOf": [{}]}}"#, integers(28)));
        refused(&format!(r#"{{"anyOf": [{}]}}"#, integers(29)), "more than 256");
        refused(
            &format!(r#"{{"items": {{"enum": [{}]}}, "properties": {{{}}}}}"#, values(200), properties(57)),
            "more than 256",
        );
    }

    #[test]
    fn what_an_engine_would_not_look_at_is_refused() {
        let with = |more: &str| format!(r#"{{"anyOf": [{{"type": "null"}}], {more}}}"#);
        refused(&with(r#""properties": {"a": {"type": "null"}}"#), "`properties` beside `anyOf`");
        refused(&with(r#""type": "string""#), "`type` beside `anyOf`");
        refused(&with(r#""oneOf": [{"type": "null"}]"#), "`anyOf` beside `oneOf`");
        refused(r#"{"enum": [1, 2], "minimum": 2}"#, "`minimum` beside `enum`");
        refused(r#"{"const": 1, "enum": [1, 2]}"#, "`enum` beside `const`");
        passes(&with(r#""title": "a", "description": "b""#));
        passes(r#"{"type": "string", "enum": ["a"]}"#);
        passes(r#"{"type": "integer", "const": 1}"#);
    }

    #[test]
    fn names_of_properties_are_short_and_never_empty() {
        let with = |name: String| format!(r#"{{"properties": {{"{name}": {{"type": "null"}}}}}}"#);
        passes(&with("x".repeat(64)));
        refused(&with("x".repeat(65)), "has 65");
        refused(&with(String::new()), "has 0");
    }
}
