//! A directory that is open: whatever is in it is reached from its handle, and nothing else is.
//!
//! ```text
//! the path to it    the operator's: links on the way are followed, once, when it is opened
//! what is in it     anybody's: looked up from the handle; a link is followed as long as it stays inside
//! ```
//! Links by an absolute path lead out, wherever they end. Never here: what a plugin looks like.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::opened::{NOT_REGULAR, Opened};

/// An open directory, by the path under which it was opened.
pub struct Directory {
    path: PathBuf,
    handle: Dir,
}

/// Names in a folder, in their order.
pub(super) struct Listing {
    pub(super) names: Vec<OsString>,
    /// Whether there are more than were asked for.
    pub(super) is_cut: bool,
}

impl Directory {
    /// Opens a directory. Where its path leads later does not matter to it.
    ///
    /// # Errors
    /// When it is not there, is none, or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let handle = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { path: path.to_owned(), handle })
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names in one of its folders, or with an empty path in itself. At most `names_max` are read.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub(super) fn list(&self, folder: &Path, names_max: usize) -> io::Result<Listing> {
        let mut entries = match folder.as_os_str().is_empty() {
            true => self.handle.entries()?,
            false => self.handle.read_dir(folder)?,
        };
        let names = entries.by_ref().take(names_max).map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(Listing { names, is_cut: entries.next().is_some() })
    }

    /// Opens what is at a place inside, whatever it is. Does not wait for the other end of a pipe.
    ///
    /// # Errors
    /// What [`trouble`] has words for.
    pub(super) fn open_file(&self, inside: &Path) -> io::Result<Opened> {
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        cap_std::fs::OpenOptionsExt::custom_flags(&mut options, WITHOUT_WAITING);
        Opened::of(self.handle.open_with(inside, &options)?.into_std())
    }

    /// Whether what is at a place inside opens as a folder.
    ///
    /// # Errors
    /// When it cannot be opened, except for being no folder.
    pub(super) fn opens_as_folder(&self, inside: &Path) -> io::Result<bool> {
        match self.handle.open_dir(inside) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the name itself is there, wherever it leads. Only words depend on the answer.
    pub(super) fn holds(&self, inside: &Path) -> bool {
        self.handle.symlink_metadata(inside).is_ok()
    }

    /// The path of a place inside, as it is told.
    pub(super) fn path_of(&self, inside: &Path) -> PathBuf {
        match inside.as_os_str().is_empty() {
            true => self.path.clone(),
            false => self.path.join(inside),
        }
    }

    /// The place inside that a path names. One that is not inside stays as it is, and is then refused as leading out.
    pub(super) fn place_of<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.path).unwrap_or(path)
    }
}

/// Opens a file that an operator names, wherever links on the way lead. Does not wait for the other end of a pipe.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn open_named(path: &Path) -> io::Result<Opened> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, WITHOUT_WAITING);
    Opened::of(options.open(path)?)
}

/// Why something could not be opened and what to do about it, to be said after its path.
pub(super) fn trouble(error: &io::Error) -> String {
    if leads_out(error) {
        return "is a link that leads out of the directory, or begins at the root; copy the file in, or remove it"
            .into();
    }
    if error.kind() == io::ErrorKind::NotFound {
        return "is a link to a file that is not there; mend the link, or remove it".into();
    }
    if is_loop(error) {
        return "is a link that leads back to itself; mend the link, or remove it".into();
    }
    match error.raw_os_error().is_some_and(|number| OF_NO_FILE.contains(&number)) {
        true => NOT_REGULAR.into(),
        false => format!("cannot be opened: {error}; mend that, or remove it"),
    }
}

/// Whether a link leads to itself in the end.
pub(super) fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(OF_A_LOOP)
}

/// Whether a link was not followed since it leads out. The handle's own word: no error of the system is without number.
fn leads_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// Opening a pipe waits for its other end, unless told not to, and a terminal may become the host's own. Regular files
/// do not mind.
#[cfg(unix)]
const WITHOUT_WAITING: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

#[cfg(unix)]
const OF_A_LOOP: i32 = libc::ELOOP;
/// `ERROR_TOO_MANY_LINKS`, which the handle takes for it there.
#[cfg(not(unix))]
const OF_A_LOOP: i32 = 1142;

/// Sockets, and devices without a driver.
#[cfg(unix)]
const OF_NO_FILE: &[i32] = &[libc::ENXIO, libc::ENODEV, libc::EOPNOTSUPP];
#[cfg(not(unix))]
const OF_NO_FILE: &[i32] = &[];
