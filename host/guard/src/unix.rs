//! What is particular to Unix: private files, and sockets that are files. The twin of `windows.rs`.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use telos_bridge::Endpoint;
use tempfile::TempDir;

/// A connection by a socket file.
pub(crate) type PrivateStream = tokio::net::UnixStream;

/// Where local programs connect to a proxy.
pub(crate) struct PrivateListener(tokio::net::UnixListener);

impl PrivateListener {
    pub(crate) async fn accept(&self) -> io::Result<PrivateStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }
}

/// Listens at a socket file that only this user can open; a file that nobody listens at any more is replaced.
pub(crate) fn listen_private(path: &Path) -> io::Result<PrivateListener> {
    if is_left_behind(path)? {
        std::fs::remove_file(path)?;
    }
    let listener = tokio::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(PrivateListener(listener))
}

fn is_left_behind(path: &Path) -> io::Result<bool> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    match is_socket.then(|| std::os::unix::net::UnixStream::connect(path)) {
        Some(Err(cause)) if cause.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Some(Err(cause)) => Err(cause),
        _ => Ok(false),
    }
}

pub(crate) async fn connect_private(path: &Path) -> io::Result<PrivateStream> {
    tokio::net::UnixStream::connect(path).await
}

/// Whether [`connect_private`] can work here.
pub(crate) const HAS_PRIVATE_SOCKETS: bool = true;

/// Where a proxy of this process alone listens, and the directory that goes with it.
pub(crate) fn choose_local_endpoint() -> io::Result<(Endpoint, Option<TempDir>)> {
    let directory = tempfile::Builder::new().prefix("telos-").tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700))?;
    Ok((Endpoint::Unix(directory.path().join("proxy.sock")), Some(directory)))
}

/// Makes a directory that only this user can enter, unless it is there.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether nobody else can read the file.
pub(crate) fn is_private(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// Whether its group or others may write it.
pub(crate) fn is_changed_by_others(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o022 != 0)
}

/// Writes a new file that only this user can read; `AlreadyExists` when there is one.
pub(crate) fn create_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts a file in the place of what was there, whole or not at all, and for good: a power cut does not bring back what
/// was replaced.
pub(crate) fn replace_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let _ = std::fs::remove_file(&staged);
    create_private_file(&staged, content)?;
    std::fs::rename(&staged, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}
