//! Where a guard is: `noise:ADDRESS:PORT/HOSTPUBLICKEY`.

use std::fmt;
use std::str::FromStr;

use telos_bridge::Fault;

use crate::key::PublicKey;

/// The longest address: names of machines have at most 253 letters.
const ADDRESS_BYTES_MAX: usize = 260;

/// A guard's place and its host's key. The key is no secret, but whoever does not know it is told nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    address: String,
    host: PublicKey,
}

/// Why a text names no guard.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error(
    "endpoint {found:?}: expected noise:ADDRESS:PORT/KEY, with the key that the host prints when it is ready"
)]
pub struct RemoteError {
    found: String,
}

impl RemoteError {
    /// Always whoever typed it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

impl Remote {
    /// The guard at an address such as `host.example:7441` of the host with this key.
    ///
    /// # Errors
    /// [`RemoteError`] when the address has no port, or is none.
    pub fn new(address: impl Into<String>, host: PublicKey) -> Result<Self, RemoteError> {
        let remote = Self { address: address.into(), host };
        match is_address(&remote.address) {
            true => Ok(remote),
            false => Err(RemoteError { found: remote.to_string() }),
        }
    }

    /// Name or number of the machine, and the port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The key that the host there must have.
    #[must_use]
    pub fn host(&self) -> &PublicKey {
        &self.host
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "noise:{}/{}", self.address, self.host)
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || RemoteError { found: text.chars().take(400).collect() };
        let (address, key) =
            text.strip_prefix("noise:").and_then(|rest| rest.rsplit_once('/')).ok_or_else(error)?;
        Self::new(address, key.parse().map_err(|_| error())?).map_err(|_| error())
    }
}

fn is_address(address: &str) -> bool {
    let Some((machine, port)) = address.rsplit_once(':') else { return false };
    let is_number = machine.starts_with('[') && machine.ends_with(']');
    let is_name = machine.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_short = address.len() <= ADDRESS_BYTES_MAX;
    is_short && is_port && !machine.is_empty() && (is_name || is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";

    #[test]
    fn remotes_survive_printing_and_parsing() {
        for address in ["127.0.0.1:4000", "[::1]:65535", "host.example:7441", "my_box-2:1"] {
            let text = format!("noise:{address}/{KEY}");
            let remote: Remote = text.parse().unwrap();
            assert_eq!((remote.to_string(), remote.address()), (text, address));
        }
    }

    #[test]
    fn what_names_no_guard_is_refused_with_the_spelling_that_works() {
        let short = &KEY[..62];
        for text in [
            format!("tcp:127.0.0.1:1/{KEY}"),
            format!("noise:127.0.0.1/{KEY}"),
            format!("noise:127.0.0.1:65536/{KEY}"),
            format!("noise:127.0.0.1:+1/{KEY}"),
            format!("noise::1/{KEY}"),
            format!("noise:a b:1/{KEY}"),
            format!("noise:{}:1/{KEY}", "a".repeat(300)),
            format!("noise:127.0.0.1:1/{short}"),
            "noise:127.0.0.1:1".to_owned(),
            String::new(),
        ] {
            let error = text.parse::<Remote>().unwrap_err().to_string();
            assert!(error.contains("noise:ADDRESS:PORT/KEY"), "{error}");
        }
    }
}
