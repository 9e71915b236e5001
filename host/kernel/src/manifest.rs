//! `plugin.toml`: what an author asks for. Id and version must be those that the component embeds; imports are the component's own.

use serde::{Deserialize, Serialize};

use crate::grant::INTERFACES;
use crate::limits::{Limits, LimitsError};

/// Bytes of a manifest file: a thousand times what one needs, and cheap to read on every scan.
pub(crate) const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// A plugin's manifest. Unknown keys are refused, so that a misspelt limit is not silently no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The component's id; must equal the embedded one.
    pub id: String,
    /// The component's version; must equal the embedded one.
    #[serde(default)]
    pub version: Option<String>,
    /// Interfaces beyond the default set that it asks an operator for, such as `["messaging"]`.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Other limits than the host's defaults, within [`Limits`]' bounds. Higher ones count where an operator installs it, or the bundle.
    #[serde(default)]
    pub limits: Limits,
    /// The component's file beside the manifest; default: the only `.wasm` file there.
    #[serde(default)]
    pub wasm: Option<String>,
}

/// Why a text is no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The parser's message with line and column; for an unknown key, the keys there are.
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    /// It asks for an interface that nobody can grant.
    #[error("grants: there is no interface `{0}`; there are {known}", known = INTERFACES.join(", "))]
    NoSuchInterface(String),
    /// It asks for a limit that no operator can give.
    #[error("limits: {0}")]
    Limits(#[from] LimitsError),
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)?;
        manifest.limits.check()?;
        match manifest.grants.iter().find(|interface| !INTERFACES.contains(&interface.as_str())) {
            None => Ok(manifest),
            Some(unknown) => Err(ManifestError::NoSuchInterface(unknown.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, reason: &str) {
        let refusal = Manifest::parse(text).unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }

    #[test]
    fn what_nobody_can_give_is_named() {
        refused(
            "id = \"a\"\ngrants = [\"vectors\", \"fs\"]\n",
            "there is no interface `fs`; there are logging",
        );
        let limit = |key: &str, value: u64| format!("id = \"a\"\n[limits]\n{key} = {value}\n");
        refused(&limit("memory_mib", 257), "memory_mib is 257; from 1 to 256");
        refused(&limit("memory_mib", 0), "memory_mib is 0;");
        refused(&limit("cpu_ms", 60_001), "cpu_ms is 60001; from 1 to 60000");
        assert_eq!(Manifest::parse(&limit("memory_mib", 256)).unwrap().limits.memory_mib, 256);
    }
}
