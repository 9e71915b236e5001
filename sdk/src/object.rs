//! The identity of an object, as a value that can be passed about, compared and stored.
//!
//! An [`Object`] is a name for something the host holds; it has no state and costs nothing. What can be done with it
//! is in [`crate::storage`] and [`crate::messaging`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bindings::telos::host::types::ObjectId;

/// One object. As text and in JSON: 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    high: u64,
    low: u64,
}

/// A text that is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no object identity: 32 hex digits")]
pub struct NotAnIdentity(String);

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

impl FromStr for Object {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        // from_str_radix also takes a leading sign, which no identity has.
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let half = |digits: &str| u64::from_str_radix(digits, 16).ok();
        match is_hex.then(|| text.split_at(16)).map(|(high, low)| (half(high), half(low))) {
            Some((Some(high), Some(low))) => Ok(Self { high, low }),
            _ => Err(NotAnIdentity(text.to_owned())),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl From<ObjectId> for Object {
    fn from(id: ObjectId) -> Self {
        Self { high: id.high, low: id.low }
    }
}

impl From<Object> for ObjectId {
    fn from(object: Object) -> Self {
        Self { high: object.high, low: object.low }
    }
}

#[cfg(test)]
mod tests {
    use super::Object;

    #[test]
    fn text_and_identity_are_one() {
        let text = "00000000000000ff8000000000000001";
        let object: Object = text.parse().unwrap();
        assert_eq!(object, Object { high: 255, low: (1 << 63) | 1 });
        assert_eq!(object.to_string(), text);
        assert_eq!(serde_json::to_string(&object).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Object>(&format!("\"{text}\"")).unwrap(), object);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "ff", "+0000000000000ff8000000000000001", "00000000000000ff800000000000000é", "counter"]
        {
            assert!(text.parse::<Object>().is_err(), "{text}");
        }
    }
}
