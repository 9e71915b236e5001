//! The 32 bytes that stand in for directory permissions where the endpoint is a TCP port.
//!
//! The host writes the file before it listens; a client reads it and sends it in HELLO. Compared in constant time.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rand::TryRng as _;

use crate::os;
use crate::service::Fault;

/// A shared secret of 32 random bytes. Printing it shows nothing.
#[derive(Clone)]
pub struct Token([u8; Self::BYTES]);

/// Why a token could not be made, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file system refused.
    #[error("token file {}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// The file is not 64 hexadecimal digits.
    #[error("token file {}: {found} bytes that are not 64 hexadecimal digits; restart the host to write it anew", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// How many bytes it has.
        found: usize,
    },
    /// The system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

impl TokenError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::File { .. } | Self::Content { .. } => Fault::Operator,
            Self::Random(_) => Fault::Host,
        }
    }
}

impl Token {
    /// How long a token is.
    pub const BYTES: usize = 32;

    /// A token of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// A fresh one from the system's generator.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; Self::BYTES];
        rand::rngs::SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|cause| TokenError::Random(cause.to_string()))?;
        Ok(Self(bytes))
    }

    /// Writes the token to a file that only this user can read, replacing what was there.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn write(&self, path: &Path) -> Result<(), TokenError> {
        os::write_private_file(path, self.to_hex().as_bytes())
            .map_err(|cause| TokenError::File { path: path.to_owned(), cause })
    }

    /// Reads what [`Token::write`] wrote.
    ///
    /// # Errors
    /// [`TokenError::File`] and [`TokenError::Content`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read(path).map_err(|cause| TokenError::File { path: path.to_owned(), cause })?;
        Self::from_hex(text.trim_ascii())
            .ok_or(TokenError::Content { path: path.to_owned(), found: text.len() })
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Whether `offered` is this token; takes the same time whatever the difference.
    pub(crate) fn matches(&self, offered: Option<&[u8; Self::BYTES]>) -> bool {
        let Some(offered) = offered else { return false };
        let difference = self.0.iter().zip(offered).fold(0, |seen, (a, b)| seen | (a ^ b));
        std::hint::black_box(difference) == 0
    }

    fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 2 * Self::BYTES {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_token_reads_back_and_matches_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::generate().unwrap();
        token.write(&path).unwrap();
        let again = Token::read(&path).unwrap();
        assert!(token.matches(Some(again.as_bytes())));
        let mut other = *token.as_bytes();
        other[31] ^= 1;
        assert!(!token.matches(Some(&other)));
        assert!(!token.matches(None));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_damaged_token_file_says_how_to_mend_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "abc").unwrap();
        assert!(Token::read(&path).unwrap_err().to_string().contains("restart the host"));
    }
}
