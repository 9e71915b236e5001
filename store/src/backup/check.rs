//! Checking a backup without changing one of its bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::backend::Overlay;
use crate::blob::Blobs;
use crate::damage;
use crate::database::Database;
use crate::error::BlobError;
use crate::id::{Digest, Position};
use crate::progress::{Meter, Phase, Progress};
use crate::store::{self, BLOBS_DIR, DATABASE_FILE, StoreOptions};
use crate::store_id;
use crate::tables::{LAYOUT, META, META_POSITION, read_meta};
use crate::verify::{self, Report};

use super::manifest::{BlobEntry, DatabaseEntry, Manifest};
use super::{BackupError, at, failed};

/// Checks every file against the manifest, before anything parses it.
pub(crate) fn files(
    dir: &Path,
    manifest: &Manifest,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BackupError> {
    let mut meter = Meter::new(progress);
    let path = dir.join(DATABASE_FILE);
    let found = checksum(&path, manifest.database.bytes, &mut meter)?;
    if found != manifest.database {
        let why = match (found.bytes, manifest.database.bytes) {
            (found, written) if found == written => "its checksum is not that of what was written".into(),
            (found, written) => format!("{found} bytes, not the {written} that were written"),
        };
        return Err(BackupError::Damaged { path, why });
    }
    let blobs = blobs_of(dir)?;
    meter.begin(Phase::Blobs, manifest.blobs.len() as u64);
    for blob in &manifest.blobs {
        check_blob(dir, &blobs, blob)?;
        meter.step(1);
    }
    meter.end();
    Ok(())
}

/// Opens the backup in memory over its files, and checks every row; what is wrong with rows is in the report.
pub(crate) fn rows(
    dir: &Path,
    manifest: &Manifest,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, BackupError> {
    let backend = Box::new(Overlay::new(dir.join(DATABASE_FILE)));
    let database = store::open_database(dir, backend, super::whole(&StoreOptions::default()))?;
    damage::guard(|| check_manifest(dir, &database, manifest))?;
    Ok(verify::verify_offline(&database, &blobs_of(dir)?, Ok(()), progress)?)
}

/// Whether a database is the one that its manifest tells of.
fn check_manifest(dir: &Path, database: &Database, manifest: &Manifest) -> Result<(), BackupError> {
    let txn = database.read()?;
    let meta = txn.open_table(META).map_err(failed)?;
    // An older layout was just raised in memory, which has a commit of its own.
    let position = Position::new(read_meta(&meta, META_POSITION)?);
    let is_other_position = manifest.layout == LAYOUT && position != manifest.position;
    if store_id::read(&meta)? != manifest.store || is_other_position {
        let why = "the manifest tells of another database".into();
        return Err(BackupError::Damaged { path: dir.into(), why });
    }
    Ok(())
}

/// The length and checksum of a file.
pub(crate) fn checksum(
    path: &Path,
    expected: u64,
    meter: &mut Meter<'_>,
) -> Result<DatabaseEntry, BackupError> {
    let mut file = at(path, File::open(path))?;
    let (mut hasher, mut buffer, mut bytes) = (blake3::Hasher::new(), vec![0; 128 * 1024], 0);
    meter.begin(Phase::Checksum, expected);
    loop {
        let read = at(path, file.read(&mut buffer))?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        hasher.update(part);
        bytes += read as u64;
        meter.step(read as u64);
    }
    meter.end();
    Ok(DatabaseEntry { bytes, blake3: Digest::from_bytes(*hasher.finalize().as_bytes()) })
}

/// The blobs of a backup.
pub(crate) fn blobs_of(dir: &Path) -> Result<Blobs, BackupError> {
    let path = dir.join(BLOBS_DIR);
    at(&path, Blobs::files(path.clone(), u64::MAX))
}

fn check_blob(dir: &Path, blobs: &Blobs, blob: &BlobEntry) -> Result<(), BackupError> {
    match blobs.get(&blob.digest) {
        Ok(Some(bytes)) if bytes.len() as u64 == blob.bytes => Ok(()),
        Ok(Some(_)) => {
            let why = format!("blob {} is not of {} bytes", blob.digest, blob.bytes);
            Err(BackupError::Damaged { path: dir.into(), why })
        }
        Ok(None) => Err(BackupError::BlobMissing { dir: dir.into(), digest: blob.digest }),
        Err(BlobError::Damaged { path }) => {
            Err(BackupError::Damaged { path, why: "the bytes do not match their digest".into() })
        }
        Err(error) => Err(error.into()),
    }
}
