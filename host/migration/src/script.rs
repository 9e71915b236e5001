//! The script: read whole, bounded, text, with the digest that the audit keeps.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::EvolveError;

/// Bytes of one script: a large migration by hand is some hundred lines.
const BYTES_MAX: u64 = 256 * 1024;

/// A script that was read, and is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    path: PathBuf,
    text: String,
    sha256: String,
}

impl Script {
    /// Reads a script of at most 256 KiB and parses it; nothing of it runs.
    ///
    /// # Errors
    /// [`EvolveError::Unreadable`], [`EvolveError::ScriptTooLarge`], [`EvolveError::NotText`], [`EvolveError::Syntax`].
    pub fn read(path: &Path) -> Result<Script, EvolveError> {
        let unreadable = |cause| EvolveError::Unreadable { path: path.into(), cause };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(EvolveError::ScriptTooLarge { path: path.into(), allowed: BYTES_MAX });
        }
        Script::parse(path, bytes)
    }

    /// Takes a script's bytes, which came from `path`.
    ///
    /// # Errors
    /// [`EvolveError::NotText`], [`EvolveError::Syntax`].
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Script, EvolveError> {
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            EvolveError::NotText { path: path.into(), line }
        })?;
        let script = Script { path: path.into(), text, sha256 };
        crate::lua::check(&script)?;
        Ok(script)
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of its bytes, 64 hex digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
