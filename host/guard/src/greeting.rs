//! What the host tells a peer once it knows who that is: come in, or why not. The first record; everything after it is
//! the peer's own stream.

use telos_bridge::Role;

use crate::refusal::Refusal;

const ADMITTED: u8 = 0;
const REFUSED: u8 = 1;
/// The longest reason that is believed.
const REASON_BYTES_MAX: usize = 256;

/// The first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Greeting {
    Admitted(Role),
    /// [`Refusal::name`], and the refusal in words: another version of the host may have others than we know.
    Refused {
        name: String,
        reason: String,
    },
}

impl Greeting {
    pub(crate) fn of(verdict: Result<Role, &Refusal>) -> Self {
        match verdict {
            Ok(role) => Self::Admitted(role),
            Err(refusal) => Self::Refused { name: refusal.name().to_owned(), reason: refusal.to_string() },
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Admitted(role) => [&[ADMITTED], role.as_str().as_bytes()].concat(),
            Self::Refused { name, reason } => [&[REFUSED], name.as_bytes(), b":", reason.as_bytes()].concat(),
        }
    }

    /// `None` for anything but what `encode` makes.
    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let (kind, text) = record.split_first()?;
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= REASON_BYTES_MAX)?;
        match *kind {
            ADMITTED => text.parse().ok().map(Self::Admitted),
            REFUSED => {
                let (name, reason) = text.split_once(':')?;
                Some(Self::Refused { name: name.to_owned(), reason: reason.to_owned() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_read_back_and_nothing_else_does() {
        let refusals = [Refusal::UnknownKey, Refusal::Crowded { allowed: 3 }, Refusal::NoList];
        let greetings = refusals.iter().map(Err).chain(Role::ALL.map(Ok)).map(Greeting::of);
        for greeting in greetings {
            assert_eq!(Greeting::decode(&greeting.encode()), Some(greeting));
        }
        for record in [&b""[..], b"\0", b"\0king", b"\x01", b"\x01x", b"\x02client", b"\x01\xff:", &[1; 300]]
        {
            assert_eq!(Greeting::decode(record), None, "{record:?}");
        }
    }
}
