//! What is asked of the swapper, and what it answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telos_store::{ComponentId, Digest};

use crate::lesson::Lesson;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::trial::ExampleResult;

/// What an install asks for besides the bytes.
#[derive(Debug, Clone, Default)]
pub struct InstallRequest {
    /// Where the bytes came from, for people and the record.
    pub source: String,
    /// The id that a manifest claims.
    pub manifest_id: Option<String>,
    /// The version that a manifest claims.
    pub manifest_version: Option<String>,
    /// Limits that a manifest asks for.
    pub limits: Limits,
    /// Interfaces granted along with it, by an operator or by the bundle.
    pub grants: Granting,
    /// The inbox path to mark as consumed in the same commit.
    pub consumed: Option<String>,
    /// Components that other files of the same directory hold, with their paths.
    pub rivals: BTreeMap<String, String>,
    /// What an object is taught with it; decided when the release comes to serve at once.
    pub lesson: Option<Lesson>,
}

impl InstallRequest {
    /// To install a candidate from `source` as its manifest asks, with no grants.
    pub fn of(source: String, manifest: Option<&Manifest>) -> Self {
        Self {
            source,
            manifest_id: manifest.map(|manifest| manifest.id.clone()),
            manifest_version: manifest.and_then(|manifest| manifest.version.clone()),
            limits: manifest.map(|manifest| manifest.limits).unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// What an install grants.
#[derive(Debug, Clone, Default)]
pub enum Granting {
    /// Nothing beyond what there is.
    #[default]
    Nothing,
    /// Whatever the release imports.
    All,
    /// These.
    These(Vec<String>),
}

/// How a kept release is let serve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swapping {
    /// Where its state must be carried over, end messages that do not end by themselves in time.
    pub force: bool,
    /// Where its state must be carried over, let it serve although it cannot be carried back.
    pub no_return: bool,
}

/// What became of an install, swap or rollback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// The component.
    pub id: ComponentId,
    /// The release's version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// `serving`, or `staged` while it needs a grant or waits for the next start.
    pub state: Cow<'static, str>,
    /// What an operator must grant before it may serve.
    pub missing_grants: Vec<String>,
    /// Why it waits for the next start, in a sentence.
    #[serde(default)]
    pub cause: Option<String>,
    /// What to do next, when it waits for the next start.
    #[serde(default)]
    pub next: Option<String>,
    /// The version that served before, if any.
    pub previous: Option<String>,
    /// The commit that decided it; where nothing had to be decided, the newest.
    pub position: u64,
    /// Microseconds during which no root could begin, table published → position visible: of the two such moments,
    /// one for roots that may write and one for those that only read, the longer. 0 in a later answer to the same
    /// request.
    pub pause_us: u64,
    /// It was so already: nothing was decided.
    #[serde(default)]
    pub is_unchanged: bool,
}

/// A candidate's examination for people, nothing changed.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// All of it would pass.
    pub ok: bool,
    /// The component.
    pub id: ComponentId,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// The contract it was built for.
    pub contract: &'static str,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// What an operator would have to grant.
    pub missing_grants: Vec<String>,
    /// Why it would wait for the next start, in a sentence.
    pub cause: Option<String>,
    /// Its selectors.
    pub selectors: Vec<String>,
    /// How its examples went.
    pub examples: Vec<ExampleResult>,
}
