//! What is done about a message that nobody understands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a home, or one object, wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nothing: the sender is told that it was not understood.
    Off,
    /// Behaviour is written and tried, and an operator decides; the sender is told at once.
    #[default]
    Propose,
    /// Behaviour that passes serves, and the sender waits for it.
    Auto,
}

impl Policy {
    const ALL: [Self; 3] = [Self::Off, Self::Propose, Self::Auto];

    /// As it is spelled.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Propose => "propose",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is no policy; there are off, propose and auto"))
    }
}
