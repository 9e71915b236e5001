//! What is particular to Windows: no socket files, and a private file is one in a private directory.
//! The twin of `unix.rs`.

use std::io::{self, Write as _};
use std::path::Path;

/// Writes `content` whole or not at all; the directory's access list decides who reads it.
pub(crate) fn write_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = std::fs::File::create(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&staged, path)
}

/// Always refuses: here a host listens on loopback TCP with a token.
pub(crate) fn bind_socket_file(_path: &Path) -> io::Result<std::net::TcpListener> {
    Err(unsupported())
}

/// Always refuses, like [`bind_socket_file`].
#[cfg(feature = "omq")]
pub(crate) fn clear_socket_file(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Always refuses, like [`bind_socket_file`].
#[cfg(feature = "omq")]
pub(crate) fn protect_socket_file(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Always refuses, like [`bind_socket_file`].
pub(crate) async fn probe_socket_file(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "Unix sockets are not served on Windows; use tcp:127.0.0.1:0")
}
