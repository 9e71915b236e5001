//! One JSON value as text, checked once, so that nobody downstream meets text that does not parse.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::error::{Fault, Overflow};
use crate::limit;

/// One JSON value as UTF-8 text, at most 256 KiB, nested at most 127 deep, its numbers in the range of `f64`.
///
/// Keeps the text as given, spaces and key order included. In serde it is that text as a string.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// Why a text was not taken as JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not one JSON value.
    #[error("not one JSON value")]
    Syntax(#[source] serde_json::Error),
    /// The text is longer than a value may be.
    #[error(transparent)]
    TooLarge(Overflow),
}

impl JsonError {
    /// Whose mistake it was.
    pub fn fault(&self) -> Fault {
        Fault::Guest
    }
}

impl Json {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`JsonError::TooLarge`] past 256 KiB, [`JsonError::Syntax`] when it is not exactly one JSON value.
    pub fn parse(text: &str) -> Result<Json, JsonError> {
        Overflow::check("JSON bytes", text.len(), limit::VALUE_BYTES_MAX).map_err(JsonError::TooLarge)?;
        serde_json::from_str::<Checked>(text).map_err(JsonError::Syntax)?;
        Ok(Json(text.into()))
    }

    /// The text of a parsed value.
    ///
    /// # Errors
    /// [`JsonError::TooLarge`] when its text passes 256 KiB.
    pub fn from_value(value: &serde_json::Value) -> Result<Json, JsonError> {
        let text = value.to_string();
        Overflow::check("JSON bytes", text.len(), limit::VALUE_BYTES_MAX).map_err(JsonError::TooLarge)?;
        Ok(Json(text.into()))
    }

    /// `null`.
    pub fn null() -> Json {
        Json("null".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes in memory, its counters included.
    pub(crate) fn memory(&self) -> usize {
        self.0.len().next_multiple_of(size_of::<usize>()) + 2 * size_of::<usize>()
    }

    /// The parsed value.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// A text that was checked when it was stored.
    pub(crate) fn trusted(text: &str) -> Json {
        Json(text.into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({})", self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Json::parse(&text).map_err(de::Error::custom)
    }
}

/// Walks a value and keeps nothing. Unlike serde's `IgnoredAny` it meets the parser's depth and number limits,
/// so a text that passes also parses later.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Checked, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
        while entries.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests;
