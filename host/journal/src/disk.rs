//! The byte seam: the files the writer writes to. Tests bring one whose writes and syncs fail.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Opens the files that lines go to.
pub trait Disk: Send + Sync + 'static {
    /// The file at `path`, created when absent, to be written at its end.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;
}

/// One open file.
pub trait LogFile: Send + Debug {
    /// Writes all bytes at the end, or fails with any part of them written.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written is on the disk.
    ///
    /// # Errors
    /// Whatever the operating system says. After an error the file must not be used again: the kernel may have
    /// marked the lost pages clean (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `bytes`.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
}

/// This machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Box::new(file))
    }
}

impl LogFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

/// Makes a rename or a new name in `dir` durable. Windows has no such call and needs none: opening a directory
/// fails there, and names are journalled by NTFS.
pub(crate) fn sync_names(dir: &Path) -> io::Result<()> {
    match File::open(dir) {
        Ok(handle) => handle.sync_all(),
        Err(_) if cfg!(windows) => Ok(()),
        Err(error) => Err(error),
    }
}
