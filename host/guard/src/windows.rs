//! What is particular to Windows: a private file is one in a private directory, and there are no socket files here.
//! The twin of `unix.rs`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use telos_bridge::Endpoint;
use tempfile::TempDir;

/// A connection that nobody can have: without socket files the private side has no place yet.
pub(crate) type PrivateStream = tokio::net::TcpStream;

/// A listener that nobody can have.
pub(crate) struct PrivateListener;

impl PrivateListener {
    pub(crate) async fn accept(&self) -> io::Result<PrivateStream> {
        Err(unsupported())
    }
}

pub(crate) fn listen_private(_path: &Path) -> io::Result<PrivateListener> {
    Err(unsupported())
}

pub(crate) async fn connect_private(_path: &Path) -> io::Result<PrivateStream> {
    Err(unsupported())
}

/// Whether [`connect_private`] can work here.
pub(crate) const HAS_PRIVATE_SOCKETS: bool = false;

/// A loopback port that the system chooses: whoever uses this machine can reach it.
pub(crate) fn choose_local_endpoint() -> io::Result<(Endpoint, Option<TempDir>)> {
    Ok((Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), None))
}

/// Makes a directory unless it is there; a user's own profile directory is private by its inherited access list.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// The directory's access list decides.
pub(crate) fn is_private(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| true)
}

/// The directory's access list decides.
pub(crate) fn is_changed_by_others(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| false)
}

/// Writes a new file; `AlreadyExists` when there is one.
pub(crate) fn create_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts a file in the place of what was there, whole or not at all.
pub(crate) fn replace_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let _ = std::fs::remove_file(&staged);
    create_private_file(&staged, content)?;
    std::fs::rename(&staged, path)
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "socket files are not used on Windows")
}
