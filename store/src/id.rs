//! The identities of the store: newtypes with one textual form each, checked where they are made.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Fault, NameError};
use crate::limit;

/// The identity of one object: 128 random bits, never reused. As text and in serde: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(u128);

impl ObjectId {
    /// A new identity from the operating system's randomness.
    pub fn random() -> ObjectId {
        ObjectId(rand::random())
    }

    /// The identity with these halves.
    pub const fn from_parts(high: u64, low: u64) -> ObjectId {
        ObjectId(((high as u128) << 64) | low as u128)
    }

    /// The upper 64 bits.
    pub const fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The lower 64 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    pub const fn low(self) -> u64 {
        self.0 as u64
    }

    pub(crate) const fn to_bits(self) -> u128 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u128) -> ObjectId {
        ObjectId(bits)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl FromStr for ObjectId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ObjectId, NameError> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        bits.map(ObjectId).ok_or_else(|| NameError::new("object id", text, "32 hex digits"))
    }
}

/// The id of one component: 1 to 64 bytes, a lower-case letter and then lower-case letters, digits and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentId(Arc<str>);

impl ComponentId {
    /// Checks and takes a component id.
    ///
    /// # Errors
    /// [`NameError`] when the text is not of the form above.
    pub fn new(text: &str) -> Result<ComponentId, NameError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase());
        let is_plain = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if starts_well && is_plain && text.len() <= limit::COMPONENT_BYTES_MAX {
            return Ok(ComponentId(text.into()));
        }
        Err(NameError::new("component id", text, "1 to 64 bytes of [a-z][a-z0-9-]*"))
    }

    /// The owner of what operators make by hand.
    pub fn operator() -> ComponentId {
        ComponentId("operator".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id that was checked when it was stored.
    pub(crate) fn trusted(text: &str) -> ComponentId {
        ComponentId(text.into())
    }
}

/// The name of one object, or of a vector collection: 1 to 256 bytes of letters, digits and `-_./`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// Checks and takes a name. Letters and digits are ASCII, so that one name has one spelling.
    ///
    /// # Errors
    /// [`NameError`] when the text is not of the form above.
    pub fn new(text: &str) -> Result<ObjectName, NameError> {
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'));
        if is_plain && (1..=limit::NAME_BYTES_MAX).contains(&text.len()) {
            return Ok(ObjectName(text.into()));
        }
        Err(NameError::new("name", text, "1 to 256 bytes of letters, digits and `-_./`"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that was checked when it was stored.
    pub(crate) fn trusted(text: &str) -> ObjectName {
        ObjectName(text.into())
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<$name, NameError> {
                $name::new(text)
            }
        }
    };
}

text_newtype!(ComponentId);
text_newtype!(ObjectName);

/// The place of one commit in the order of all commits; the first is 1, and there are no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

/// The count of one object's states; the first is 1, and there are no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

macro_rules! counter_newtype {
    ($name:ident) => {
        impl $name {
            /// Before the first: what has not been committed.
            pub const NONE: $name = $name(0);

            /// The counter with this value.
            pub const fn new(value: u64) -> $name {
                $name(value)
            }

            /// The plain value.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after this.
            pub const fn next(self) -> $name {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter_newtype!(Position);
counter_newtype!(Revision);

/// The BLAKE3 digest of some bytes. As text and in serde: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Digest, NameError> {
        let hash = blake3::Hash::from_hex(text);
        hash.map(|hash| Digest(*hash.as_bytes())).map_err(|_| NameError::new("digest", text, "64 hex digits"))
    }
}

/// The place of one post: the commit that made it, and its number within that commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PostId {
    /// The commit that made the post.
    pub position: Position,
    /// From 0, in the order of posting.
    pub index: u32,
}

impl fmt::Display for PostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.index)
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<$name, NameError> {
                text.parse()
            }
        }
    )*};
}

serde_as_text!(ObjectId, ComponentId, ObjectName, Digest);

impl NameError {
    /// Whose mistake it was: whoever wrote the text.
    pub fn fault(&self) -> Fault {
        Fault::Guest
    }
}

#[cfg(test)]
mod tests;
