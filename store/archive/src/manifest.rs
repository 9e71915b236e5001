//! What an edition is: written last, so a directory without it is none.
//!
//! ```text
//! MANIFEST   JSON, a line feed, BLAKE3 of both in hexadecimal, a line feed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::directions::Places;
use crate::directory;
use crate::error::{FileError, OpenError};
use crate::rows::ENTRY;
use crate::sealed::Seal;
use crate::twins;
use crate::{DIM_MAX, ROWS_MAX};

pub(crate) const MANIFEST: &str = "MANIFEST";
const TEMPORARY: &str = "MANIFEST.tmp";
/// One that is longer was not written by us.
const BYTES_MAX: u64 = 64 << 10;
const HASH: usize = 64;

/// The layout of an edition's files; another one is refused, since an edition is quickly built anew.
pub const FORMAT: u32 = 1;

/// Distances are cosine: 0.0 the same way, 1.0 unrelated or zero, 2.0 opposite.
pub(crate) const COSINE: &str = "cosine";

pub(crate) const ENTRIES: &str = "rows";
pub(crate) const METADATA: &str = "metadata";
pub(crate) const TWINS: &str = "twins";
pub(crate) const VECTORS: &str = "vectors";
pub(crate) const GRAPH: &str = "graph";
pub(crate) const CODEBOOK: &str = "codebook";
pub(crate) const CODES: &str = "codes";

/// What an edition holds, how it was built and how well it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`] when it was built.
    pub format: u32,
    /// As it was given.
    pub base: u64,
    /// How many rows there are.
    pub rows: u32,
    /// How many distinct directions they have.
    pub directions: u32,
    /// Components of each direction.
    pub dim: usize,
    /// How distances are measured: `cosine`.
    pub metric: String,
    /// What searches them.
    pub engine: Engine,
    /// How well, when it was built.
    pub recall: Recall,
    /// Its files, each with what it is checked against.
    pub files: BTreeMap<String, Seal>,
}

/// What searches an edition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Engine {
    /// Every direction is read and compared.
    Flat,
    /// A graph on disk and codes in memory.
    DiskAnn {
        /// Of the crate that built it.
        version: String,
        /// Links that a node has room for.
        degree: usize,
        /// Where walks begin.
        entry: u32,
        /// Bytes of each code.
        pieces: usize,
    },
}

/// How much of the ten nearest a search finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recall {
    /// Of the ten nearest, compared with an exact search.
    pub at_10: f64,
    /// At this effort, the least that was enough: what to search with.
    pub effort: usize,
    /// Over so many queries beside sampled rows.
    pub queries: usize,
}

/// All that is read of a manifest of another format.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl Manifest {
    pub(crate) fn read(dir: &Path) -> Result<Manifest, OpenError> {
        let path = dir.join(MANIFEST);
        let file = match File::open(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Unfinished { path: dir.into() });
            }
            opened => OpenError::at(&path, opened)?,
        };
        let mut bytes = Vec::new();
        OpenError::at(&path, file.take(BYTES_MAX + 1).read_to_end(&mut bytes))?;
        parse(&bytes).map_err(|problem| match problem {
            Problem::Format(found) => OpenError::Format { path: path.clone(), found, known: FORMAT },
            Problem::Text(problem) => OpenError::Manifest { path: path.clone(), problem },
        })
    }

    /// Makes the directory an edition. The other files are safe already.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(format!("{hash}\n").as_bytes());
        let temporary = dir.join(TEMPORARY);
        directory::write_synced(&temporary, &bytes)?;
        fail::fail_point!("archive::manifest-before-rename");
        fs::rename(&temporary, dir.join(MANIFEST))?;
        fail::fail_point!("archive::manifest-after-rename");
        directory::sync(dir)
    }

    /// Whether counts and lengths belong together, so that nothing is asked for by a number that is only claimed.
    fn check(&self) -> Result<(), String> {
        if self.dim == 0 || self.dim > DIM_MAX || self.rows > ROWS_MAX || self.directions > self.rows {
            return Err(format!(
                "{} rows in {} directions of {} components",
                self.rows, self.directions, self.dim
            ));
        }
        if self.metric != COSINE {
            return Err(format!("metric {:?}, where {COSINE:?} is known", self.metric));
        }
        let mut expected = self.lengths()?;
        // Of any length.
        expected.insert(METADATA, self.files.get(METADATA).map_or(0, |seal| seal.bytes));
        let found = self.files.iter().map(|(name, seal)| (name.as_str(), seal.bytes)).collect();
        if expected == found {
            Ok(())
        } else {
            Err(format!("files {found:?}, where these belong: {expected:?}"))
        }
    }

    fn lengths(&self) -> Result<BTreeMap<&'static str, u64>, String> {
        let mut lengths = BTreeMap::from([(ENTRIES, u64::from(self.rows) * ENTRY as u64)]);
        if self.directions < self.rows {
            lengths.insert(TWINS, twins::bytes(self.directions, self.rows));
        }
        match &self.engine {
            Engine::Flat => {
                lengths.insert(VECTORS, Places::in_vectors(self.dim).bytes(self.directions));
            }
            Engine::DiskAnn { degree, entry, pieces, .. } => {
                if *degree > DEGREE_MAX || *entry >= self.directions || *pieces == 0 || *pieces > self.dim {
                    return Err(format!("{degree} links, entry {entry}, {pieces} pieces"));
                }
                lengths.insert(GRAPH, Places::in_graph(self.dim, *degree).bytes(self.directions));
                lengths.insert(CODEBOOK, codes::codebook_bytes(self.dim, *pieces));
                lengths.insert(CODES, u64::from(self.directions) * *pieces as u64);
            }
        }
        Ok(lengths)
    }
}

/// Far more links than any engine makes.
pub(crate) const DEGREE_MAX: usize = 4096;

enum Problem {
    Format(u32),
    Text(String),
}

fn parse(bytes: &[u8]) -> Result<Manifest, Problem> {
    let text = |problem: &str| Problem::Text(problem.into());
    if bytes.len() as u64 > BYTES_MAX {
        return Err(text("longer than any manifest"));
    }
    let hash_from = bytes.len().checked_sub(HASH + 1).ok_or_else(|| text("cut short"))?;
    let (json, hash) = bytes.split_at(hash_from);
    if hash != format!("{}\n", blake3::hash(json)).as_bytes() {
        return Err(text("not as it was written"));
    }
    let unreadable = |error: serde_json::Error| Problem::Text(error.to_string());
    let AnyFormat { format } = serde_json::from_slice(json).map_err(unreadable)?;
    if format != FORMAT {
        return Err(Problem::Format(format));
    }
    let manifest: Manifest = serde_json::from_slice(json).map_err(unreadable)?;
    manifest.check().map_err(Problem::Text)?;
    Ok(manifest)
}
