//! Files that are open already: all that is known of them is asked of the handle that is read.
//!
//! A path can lead to something else each time it is looked up; a handle cannot. So a file is opened first, then
//! judged, then read, by one handle. A pipe would keep its reader waiting for ever, a device or a sparse file would fill
//! the memory: neither is read, and nothing is read past its bound.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::time::SystemTime;

/// Size in bytes and time of the last change: what must stay as it is while a file is at rest.
pub(super) type Stamp = (u64, Option<SystemTime>);

/// An open file, and what was so when it was opened.
pub(super) struct Opened {
    file: File,
    about: Metadata,
}

impl Opened {
    /// Takes in whatever was opened.
    ///
    /// # Errors
    /// When the system does not tell of an open file.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self { file, about })
    }

    /// Size and time.
    pub(super) fn stamp(&self) -> Stamp {
        stamp(&self.about)
    }

    /// What is wrong with it and what to do about it, to be said after its name; none when so many bytes may be read.
    pub(super) fn problem(&self, bytes_max: usize) -> Option<String> {
        if self.about.is_dir() {
            return Some(FOLDER.into());
        }
        if !self.about.is_file() {
            return Some(NOT_REGULAR.into());
        }
        let bytes = self.about.len();
        let is_too_large = usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max);
        is_too_large
            .then(|| format!("is {bytes} bytes, at most {bytes_max} are read; make it smaller, or remove it"))
    }

    /// All its bytes, at most so many. Never waits for a writer, who may go on meanwhile: then none are answered.
    ///
    /// # Errors
    /// What is wrong and what to do, to be said after its name.
    pub(super) fn read(self, bytes_max: usize) -> Result<Vec<u8>, String> {
        if let Some(problem) = self.problem(bytes_max) {
            return Err(problem);
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        (&self.file).take(most).read_to_end(&mut bytes).map_err(|error| unread(&error))?;
        if bytes.len() > bytes_max {
            return Err(format!(
                "grew past {bytes_max} bytes while it was read; make it smaller, or remove it"
            ));
        }
        let now = self.file.metadata().map_err(|error| unread(&error))?;
        let is_whole = u64::try_from(bytes.len()).is_ok_and(|read| read == now.len());
        match is_whole && stamp(&now) == self.stamp() {
            true => Ok(bytes),
            false => Err(CHANGED.into()),
        }
    }
}

/// Said of a folder in the place of a file.
pub(super) const FOLDER: &str = "is a folder where a file is expected; rename it, or remove it";

/// Said of a pipe, a socket, a device.
pub(super) const NOT_REGULAR: &str = "is not a regular file; replace it by one, or remove it";

/// Said of what is being written.
pub(super) const CHANGED: &str = "changed while it was read; it has to rest for half a second first";

fn stamp(about: &Metadata) -> Stamp {
    (about.len(), about.modified().ok())
}

fn unread(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of ten bytes that was opened, and a second handle to write to it.
    fn opened() -> (Opened, File) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"ten bytes.").unwrap();
        (Opened::of(file.reopen().unwrap()).unwrap(), file.into_file())
    }

    #[test]
    fn a_file_of_exactly_the_bound_is_read_and_one_byte_more_is_not() {
        assert_eq!(opened().0.read(10).unwrap(), b"ten bytes.");
        assert!(opened().0.read(9).unwrap_err().contains("is 10 bytes, at most 9"));
    }

    #[test]
    fn what_grows_or_shrinks_while_it_is_read_is_not_taken_for_a_whole_file() {
        let (reading, mut writing) = opened();
        writing.write_all(b"more").unwrap();
        assert!(reading.read(20).unwrap_err().contains("changed while it was read"));
        let (reading, mut writing) = opened();
        writing.write_all(b"more").unwrap();
        assert!(reading.read(12).unwrap_err().contains("grew past 12 bytes"));
        let (reading, writing) = opened();
        writing.set_len(3).unwrap();
        assert!(reading.read(20).unwrap_err().contains("changed while it was read"));
    }

    #[test]
    fn what_grows_for_ever_is_read_up_to_the_bound() {
        let (reading, writing) = opened();
        writing.set_len(3 << 30).unwrap();
        assert!(reading.read(1_000).unwrap_err().contains("grew past 1000 bytes"));
    }
}
