//! A host's home: one private directory that holds everything it keeps.
//!
//! ```text
//! store/     the object store and its blobs; locked by the running host
//! journal/   journal.jsonl and five backups
//! plugins/   the inbox
//! cache/     compiled code, sealed by `cache.key`; both may be deleted when no host runs
//! run/       the socket, and `endpoint`, which names it, and doors for the guard; only while a host runs;
//!            `supervisor.lock`, locked while somebody starts the host again when it dies
//! keys/      the host's key, and whose keys may come in through an open port
//! models/    minds, when `TELOS_MODELS_DIR` does not say otherwise
//! ```

use std::io;
use std::path::{Path, PathBuf};

/// Where everything of one host is.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at this directory; nothing is touched.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the directories, readable by their owner alone.
    ///
    /// # Errors
    /// The directory that could not be made, in the message.
    pub fn prepare(&self) -> io::Result<()> {
        for directory in
            [&self.root, &self.store(), &self.journal(), &self.inbox(), &self.cache(), &self.run()]
        {
            make_private(directory).map_err(|error| {
                io::Error::new(error.kind(), format!("{} cannot be made: {error}", directory.display()))
            })?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The object store.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The inbox that is always watched.
    pub fn inbox(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Compiled code.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The key that seals compiled code.
    pub fn cache_key(&self) -> PathBuf {
        self.root.join("cache.key")
    }

    /// What exists only while a host runs.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The host's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("host.sock")
    }

    /// Names the endpoint of the running host, as text.
    pub fn endpoint_file(&self) -> PathBuf {
        self.run().join("endpoint")
    }

    /// Locked by whoever starts the host again when it dies.
    pub(crate) fn supervisor_file(&self) -> PathBuf {
        self.run().join("supervisor.lock")
    }

    /// The socket to which the guard leads whoever has this role. Its name is short, since paths of sockets are.
    pub fn door(&self, role: &str) -> PathBuf {
        self.run().join(format!("{role}.sock"))
    }

    /// Keys for an open port.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Minds.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }
}

#[cfg(unix)]
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    // A user's own profile directory is private by its inherited access list.
    std::fs::create_dir_all(directory)
}
