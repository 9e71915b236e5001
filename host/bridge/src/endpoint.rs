//! Where a host listens: a Unix socket, or a loopback TCP port.
//!
//! Spelt `unix:PATH` and `tcp:ADDRESS:PORT`; ZeroMQ's own `ipc://PATH` and `tcp://ADDRESS:PORT` are understood too. Any
//! other address than loopback is refused here, in one place.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::service::Fault;

/// Where a host listens and a client connects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A socket file. Its directory is the caller's to protect: whoever can open the file is an operator.
    Unix(PathBuf),
    /// A loopback address; port 0 lets the system choose. Behind a token, unless it is one of a bare pair, see
    /// [`crate::PppConfig`].
    Tcp(SocketAddr),
}

/// Why a text is not an endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// Neither `unix:` nor `tcp:`.
    #[error("endpoint {text:?}: expected `unix:PATH` or `tcp:127.0.0.1:PORT`")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// The path is empty.
    #[error("endpoint `unix:` names no path")]
    EmptyPath,
    /// The address does not parse.
    #[error("endpoint {text:?}: not an address and port, such as tcp:127.0.0.1:0")]
    Address {
        /// What was given.
        text: String,
    },
    /// The address is reachable from other machines.
    #[error(
        "endpoint tcp:{address}: only loopback addresses are served; open ports are the guard's (`telos up --listen`)"
    )]
    NotLoopback {
        /// What was given.
        address: SocketAddr,
    },
}

impl EndpointError {
    /// Always whoever wrote the configuration.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

impl Endpoint {
    /// Refuses an address that other machines can reach.
    ///
    /// # Errors
    /// [`EndpointError::NotLoopback`].
    pub fn check(&self) -> Result<(), EndpointError> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() => {
                Err(EndpointError::NotLoopback { address: *address })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let strip =
            |ours: &str, zeromqs: &str| text.strip_prefix(zeromqs).or_else(|| text.strip_prefix(ours));
        let endpoint = if let Some(path) = strip("unix:", "ipc://") {
            parse_path(path)?
        } else if let Some(address) = strip("tcp:", "tcp://") {
            parse_address(address, text)?
        } else {
            return Err(EndpointError::Scheme { text: text.to_owned() });
        };
        endpoint.check()?;
        Ok(endpoint)
    }
}

fn parse_path(path: &str) -> Result<Endpoint, EndpointError> {
    if path.is_empty() {
        return Err(EndpointError::EmptyPath);
    }
    Ok(Endpoint::Unix(PathBuf::from(path)))
}

fn parse_address(address: &str, text: &str) -> Result<Endpoint, EndpointError> {
    let address = address.parse().map_err(|_| EndpointError::Address { text: text.to_owned() })?;
    Ok(Endpoint::Tcp(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_survive_printing_and_parsing() {
        for text in ["unix:/run/telos/host.sock", "tcp:127.0.0.1:4000", "tcp:[::1]:0"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn zeromqs_own_spellings_mean_the_same() {
        for (theirs, ours) in
            [("ipc:///run/a.sock", "unix:/run/a.sock"), ("tcp://127.0.0.1:1", "tcp:127.0.0.1:1")]
        {
            assert_eq!(theirs.parse::<Endpoint>(), ours.parse());
        }
        assert!("tcp://0.0.0.0:1".parse::<Endpoint>().is_err());
    }

    #[test]
    fn open_and_malformed_addresses_are_refused_with_the_spelling_that_works() {
        for (text, says) in [
            ("tcp:0.0.0.0:1", "loopback"),
            ("tcp:10.0.0.1:1", "loopback"),
            ("tcp:here", "tcp:127.0.0.1:0"),
            ("unix:", "no path"),
            ("/run/x", "unix:PATH"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
