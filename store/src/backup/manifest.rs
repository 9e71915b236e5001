//! `MANIFEST.json`: what a backup holds, with checksums, written last. A directory without it is no backup.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::directory;
use crate::id::{Digest, Position};
use crate::store_id::StoreId;
use crate::tables::LAYOUT;

use super::{BackupError, at};

/// The format that this code writes, and the newest that it reads.
const FORMAT: u64 = 1;
pub(super) const FILE: &str = "MANIFEST.json";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u64,
    pub(crate) store: StoreId,
    pub(crate) layout: u64,
    pub(crate) position: Position,
    pub(crate) created_at_ms: u64,
    pub(crate) objects: u64,
    pub(crate) rows: u64,
    pub(crate) database: DatabaseEntry,
    pub(crate) blobs: Vec<BlobEntry>,
}

/// The database file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseEntry {
    pub(crate) bytes: u64,
    pub(crate) blake3: Digest,
}

/// One blob; its name is its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlobEntry {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// A manifest and the checksum of its own JSON without spaces.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    manifest: Manifest,
    blake3: Digest,
}

impl Manifest {
    /// A manifest of today's format and layout that holds nothing yet.
    pub(crate) fn of(store: StoreId, position: Position, created_at_ms: u64) -> Manifest {
        let database = DatabaseEntry { bytes: 0, blake3: Digest::of(b"") };
        let (format, layout, blobs) = (FORMAT, LAYOUT, Vec::new());
        Manifest { format, store, layout, position, created_at_ms, objects: 0, rows: 0, database, blobs }
    }

    pub(crate) fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.bytes).sum()
    }

    /// Writes the manifest durably, but for the name of its directory.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let path = dir.join(FILE);
        at(&path, self.write_to(&path))
    }

    /// Reads a backup's manifest and checks it against its own checksum.
    ///
    /// # Errors
    /// [`BackupError::NotABackup`], [`BackupError::NewerFormat`], [`BackupError::NewerLayout`],
    /// [`BackupError::Damaged`].
    pub(crate) fn read(dir: &Path) -> Result<Manifest, BackupError> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::NotABackup { dir: dir.into() });
            }
            bytes => at(&path, bytes)?,
        };
        let damaged = |why: String| BackupError::Damaged { path: path.clone(), why };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|why| damaged(why.to_string()))?;
        // Asked before anything else: a newer format may have other fields.
        let format = value.pointer("/manifest/format").and_then(serde_json::Value::as_u64);
        if let Some(found) = format.filter(|format| *format > FORMAT) {
            return Err(BackupError::NewerFormat { dir: dir.into(), found, known: FORMAT });
        }
        let Sealed { manifest, blake3 } =
            serde_json::from_value(value).map_err(|why| damaged(why.to_string()))?;
        if manifest.checksum() != Some(blake3) {
            return Err(damaged("it does not match its checksum".into()));
        }
        if manifest.layout > LAYOUT {
            return Err(BackupError::NewerLayout { dir: dir.into(), found: manifest.layout, known: LAYOUT });
        }
        Ok(manifest)
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let blake3 = self.checksum().ok_or(io::ErrorKind::InvalidData)?;
        let sealed = Sealed { manifest: self.clone(), blake3 };
        let mut file = directory::create(path)?;
        file.write_all(&serde_json::to_vec_pretty(&sealed)?)?;
        directory::sync_file(&file, path)
    }

    fn checksum(&self) -> Option<Digest> {
        serde_json::to_vec(self).ok().map(|bytes| Digest::of(&bytes))
    }
}
