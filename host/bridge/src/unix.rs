//! What is particular to Unix: socket files and private files. The twin of `windows.rs`.

use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Writes `content` where only this user can read it, whole or not at all.
pub(crate) fn write_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let _ = std::fs::remove_file(&staged);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&staged, path)
}

/// A listener at `path`. The file of a host that died is replaced; `AddrInUse` when one answers,
/// `AlreadyExists` when the file is something else.
pub(crate) fn bind_socket_file(path: &Path) -> io::Result<UnixListener> {
    clear_socket_file(path)?;
    let listener = UnixListener::bind(path)?;
    protect_socket_file(path)?;
    Ok(listener)
}

/// Nobody but this user may connect.
pub(crate) fn protect_socket_file(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// Whether somebody listens at `path`, without keeping the connection.
pub(crate) async fn probe_socket_file(path: &Path) -> io::Result<()> {
    tokio::net::UnixStream::connect(path).await.map(drop)
}

/// Removes the file of a host that died; errors as in [`bind_socket_file`].
pub(crate) fn clear_socket_file(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not a socket; move it away"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another host answers there")),
        Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(cause) => Err(cause),
    }
}
