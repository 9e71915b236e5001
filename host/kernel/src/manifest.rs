//! `plugin.toml`: what an author asks for. What the component embeds (id, version, imports) beats it.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// Bytes of a manifest file: a thousand times what one needs, and cheap to read on every scan.
pub(crate) const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// A plugin's manifest. Unknown keys are refused, so that a misspelt limit is not silently no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The component's id; must equal the embedded one.
    pub id: String,
    /// The component's version; the embedded one wins where they differ.
    #[serde(default)]
    pub version: Option<String>,
    /// Interfaces beyond the default set that it asks an operator for, such as `["messaging"]`.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Other limits than the host's defaults. Higher ones count where an operator installs it, or the bundle.
    #[serde(default)]
    pub limits: Limits,
    /// The component's file beside the manifest; default: the only `.wasm` file there.
    #[serde(default)]
    pub wasm: Option<String>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The parser's message with line and column; for an unknown key, the keys there are.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}
