//! The key that seals compiled code: made by the first start, readable by its owner alone, and never shown.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use rand::RngExt;
use telos_kernel::SEAL_KEY_BYTES;

/// The key in a file; a new one where there is none, or where what is there is no key that only its owner knows. With a
/// new key nothing in the cache is believed, and everything is compiled anew.
///
/// # Errors
/// When a key can be neither read nor written.
pub(crate) fn read_or_make(path: &Path) -> io::Result<[u8; SEAL_KEY_BYTES]> {
    match read(path) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => {
            fs::remove_file(path)?;
            make(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(named(path, &error)),
    }
}

fn read(path: &Path) -> io::Result<Option<[u8; SEAL_KEY_BYTES]>> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() || metadata.len() != SEAL_KEY_BYTES as u64 || is_open_to_others(&metadata) {
        return Ok(None);
    }
    let mut key = [0; SEAL_KEY_BYTES];
    fs::File::open(path)?.read_exact(&mut key)?;
    Ok(Some(key))
}

fn make(path: &Path) -> io::Result<[u8; SEAL_KEY_BYTES]> {
    let key: [u8; SEAL_KEY_BYTES] = rand::rng().random();
    create_private(path).and_then(|mut file| file.write_all(&key)).map_err(|error| named(path, &error))?;
    Ok(key)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<fs::File> {
    // A user's own profile directory is private by its inherited access list.
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &fs::Metadata) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_key_stays_and_what_is_none_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.key");
        let key = read_or_make(&path).unwrap();
        assert_eq!(read_or_make(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let anew = read_or_make(&path).unwrap();
        assert_ne!(anew, key, "others may have read it");
        fs::write(&path, "short").unwrap();
        assert_ne!(read_or_make(&path).unwrap(), anew);
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, [9; SEAL_KEY_BYTES]).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_ne!(read_or_make(&path).unwrap(), [9; SEAL_KEY_BYTES]);
        assert_eq!(fs::read(&elsewhere).unwrap(), [9; SEAL_KEY_BYTES], "what the link led to is left alone");
    }
}
