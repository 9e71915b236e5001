//! Which store this is: a random number that stays with its rows through every copy, so that a backup of another
//! home can be told.

use std::fmt;
use std::str::FromStr;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, NameError};
use crate::tables::{META_STORE_HIGH, META_STORE_LOW, Tables, read_meta};

/// The identity of one store: 128 random bits, made with its database. As text and in serde: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreId(u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

impl FromStr for StoreId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<StoreId, NameError> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        bits.map(StoreId).ok_or_else(|| NameError::new("store id", text, "32 hex digits"))
    }
}

impl TryFrom<String> for StoreId {
    type Error = NameError;

    fn try_from(text: String) -> Result<StoreId, NameError> {
        text.parse()
    }
}

impl From<StoreId> for String {
    fn from(id: StoreId) -> String {
        id.to_string()
    }
}

/// Gives a store its identity, within the transaction that makes or raises it.
pub(crate) fn make(tables: &mut Tables<'_>) -> Result<(), Failure> {
    tables.meta.open()?.insert(META_STORE_HIGH, rand::random::<u64>())?;
    tables.meta.open()?.insert(META_STORE_LOW, rand::random::<u64>())?;
    Ok(())
}

/// The identity in a meta table.
pub(crate) fn read(meta: &impl ReadableTable<&'static str, u64>) -> Result<StoreId, Failure> {
    let high = u128::from(read_meta(meta, META_STORE_HIGH)?);
    Ok(StoreId(high << 64 | u128::from(read_meta(meta, META_STORE_LOW)?)))
}
