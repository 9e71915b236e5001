//! Regular files of bounded size: all that is read from a directory into which anyone may put anything.
//!
//! A pipe would keep its reader waiting for ever, a device or a sparse file would fill the memory. So a file is looked
//! at before it is opened, again once it is open (it may have been swapped meanwhile), and never read past its bound.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// What is wrong with a file and what to do about it, to be said after its name; none when it may be read.
pub(super) fn problem(about: &Metadata, bytes_max: usize) -> Option<String> {
    if about.is_dir() {
        return Some("is a folder where a file is expected; rename it, or remove it".into());
    }
    if !about.is_file() {
        return Some("is not a regular file; replace it by one, or remove it".into());
    }
    is_too_large(about.len(), bytes_max).then(|| {
        format!("is {} bytes, at most {bytes_max} are read; make it smaller, or remove it", about.len())
    })
}

/// The bytes of a regular file, at most so many. Never waits for a writer.
///
/// # Errors
/// What the file system says, or what [`problem`] says of the file that was opened.
pub(super) fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let about = file.metadata()?;
    if let Some(problem) = problem(&about, bytes_max) {
        return Err(refused(format!("it {problem}")));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(refused(format!("it grew past {bytes_max} bytes while it was read; make it smaller")));
    }
    Ok(bytes)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and when the bytes are not UTF-8.
pub(super) fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|error| refused(error.to_string()))
}

/// Opening a pipe waits for its other end, unless told not to. Regular files do not mind.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path)
}

fn is_too_large(bytes: u64, bytes_max: usize) -> bool {
    usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max)
}

fn refused(cause: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}
