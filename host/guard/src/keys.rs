//! The host's keys: its own, and the list of those that may come in, each with a role.
//!
//! ```text
//! host.key       this host's private key; made when it is first needed
//! allowed.toml   who may come in: name, public key, role; replaced as a whole
//! allowed.lock   held while the list is changed
//! NAME.key       private keys of this machine's own, made by `telos keys new`
//! ```
//! The list is read anew at every handshake and once a second, so a running host follows it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use telos_bridge::{Fault, Role};

use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::os;

/// The most keys that a list has.
pub const KEYS_MAX: usize = 1_024;
/// The longest name of a key.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest list that is read; [`KEYS_MAX`] keys take a third of it.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// A directory of keys, private to its user.
#[derive(Debug, Clone)]
pub struct Keys {
    directory: PathBuf,
}

/// A key that may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedKey {
    /// Whose it is, for people: `[a-z0-9._-]`, at most [`NAME_BYTES_MAX`].
    pub name: String,
    /// The key.
    pub public: PublicKey,
    /// The most that its owner may do.
    #[serde(with = "role")]
    pub role: Role,
    /// When it came on the list, in milliseconds since 1970.
    pub added_ms: u64,
}

/// The list as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowList {
    #[serde(default, rename = "key")]
    keys: Vec<AllowedKey>,
}

/// Why the keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// One key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file system refused.
    #[error("list of keys {}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// The list is not one.
    #[error("list of keys {}: {cause}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        cause: String,
    },
    /// Somebody else may write it: then anybody of theirs may come in.
    #[error("{} can be changed by other users of this machine, so nobody is let in by it; take that away: chmod go-w {}", path.display(), path.display())]
    Shared {
        /// The list, or its directory.
        path: PathBuf,
    },
    /// A key that proves nothing: its private half is anybody's.
    #[error("{public} is the key of nobody: what is agreed with it is known to everybody")]
    Weak {
        /// The key.
        public: PublicKey,
    },
    /// The host's own key is no peer's.
    #[error("{public} is this host's own key, which peers name in the endpoint; it is not theirs to show")]
    Own {
        /// The key.
        public: PublicKey,
    },
    /// A name that no key can have.
    #[error(
        "{found:?} cannot name a key: 1 to {NAME_BYTES_MAX} of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit"
    )]
    Name {
        /// What was given.
        found: String,
    },
    /// The name, or the key under another name, is on the list.
    #[error("{name} is on the list already, with the key {public}")]
    Taken {
        /// The name.
        name: String,
        /// Its key.
        public: PublicKey,
    },
    /// No key has that name.
    #[error("no key is called {name}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// As many as a list has.
    #[error("the list has {KEYS_MAX} keys and takes no more")]
    Full,
}

impl KeysError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(cause) => cause.fault(),
            _ => Fault::Operator,
        }
    }
}

impl Keys {
    /// The keys in this directory; nothing is touched.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The host's own key, made when there is none.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn host(&self) -> Result<PrivateKey, KeysError> {
        self.prepare()?;
        let path = self.host_file();
        match PrivateKey::generate()?.write_new(&path) {
            Ok(()) | Err(KeyError::Exists { .. }) => Ok(PrivateKey::read(&path)?),
            Err(error) => Err(error.into()),
        }
    }

    /// The host's own public key; `None` before [`Keys::host`] made one.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn host_public(&self) -> Result<Option<PublicKey>, KeysError> {
        match PrivateKey::read(&self.host_file()) {
            Ok(key) => Ok(Some(key.public())),
            Err(KeyError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a key pair, and where the private half was written: `to`, else NAME.key in this directory.
    ///
    /// # Errors
    /// [`KeysError::Name`] and [`KeyError`]; a file that is there is never overwritten.
    pub fn create(&self, name: &str, to: Option<&Path>) -> Result<(PublicKey, PathBuf), KeysError> {
        check_name(name)?;
        let path = match to {
            Some(path) => path.to_owned(),
            None => {
                self.prepare()?;
                self.directory.join(format!("{name}.key"))
            }
        };
        let key = PrivateKey::generate()?;
        key.write_new(&path)?;
        Ok((key.public(), path))
    }

    /// Every key that may come in, in the order in which they were allowed; none when there is no list.
    ///
    /// # Errors
    /// [`KeysError::File`], [`KeysError::Content`] and [`KeysError::Shared`]: nobody is let in then.
    pub fn allowed(&self) -> Result<Vec<AllowedKey>, KeysError> {
        self.read().map(|list| list.keys)
    }

    /// Lets the owner of a key in; `now_ms` is noted.
    ///
    /// # Errors
    /// [`KeysError::Name`], [`KeysError::Weak`], [`KeysError::Own`], [`KeysError::Taken`], [`KeysError::Full`], and those
    /// of reading and writing the list.
    pub fn allow(
        &self,
        name: &str,
        public: PublicKey,
        role: Role,
        now_ms: u64,
    ) -> Result<AllowedKey, KeysError> {
        check_name(name)?;
        if public.is_weak() {
            return Err(KeysError::Weak { public });
        }
        if self.host_public()? == Some(public) {
            return Err(KeysError::Own { public });
        }
        let key = AllowedKey { name: name.to_owned(), public, role, added_ms: now_ms };
        self.change(|list| {
            let twin = list.keys.iter().find(|key| key.name == name || key.public == public);
            if let Some(AllowedKey { name, public, .. }) = twin.cloned() {
                return Err(KeysError::Taken { name, public });
            }
            if list.keys.len() >= KEYS_MAX {
                return Err(KeysError::Full);
            }
            list.keys.push(key.clone());
            Ok(key)
        })
    }

    /// Takes a key off the list; a running host closes its connections within seconds.
    ///
    /// # Errors
    /// [`KeysError::Unknown`], and those of reading and writing the list.
    pub fn revoke(&self, name: &str) -> Result<AllowedKey, KeysError> {
        self.change(|list| {
            let place = list.keys.iter().position(|key| key.name == name);
            let place = place.ok_or_else(|| KeysError::Unknown { name: name.to_owned() })?;
            Ok(list.keys.remove(place))
        })
    }

    pub(crate) fn read(&self) -> Result<AllowList, KeysError> {
        let path = self.list_file();
        for path in [&self.directory, &path] {
            match os::is_changed_by_others(path) {
                Ok(true) => return Err(KeysError::Shared { path: path.clone() }),
                Ok(false) => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(KeysError::File { path: path.clone(), cause }),
            }
        }
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(AllowList::default()),
            Err(cause) => return Err(KeysError::File { path, cause }),
        };
        toml::from_str(&text).map_err(|cause| KeysError::Content { path, cause: cause.to_string() })
    }

    /// One change at a time, by whichever process.
    fn change<T>(&self, change: impl FnOnce(&mut AllowList) -> Result<T, KeysError>) -> Result<T, KeysError> {
        self.prepare()?;
        let path = self.list_file();
        let failed = |cause| KeysError::File { path: path.clone(), cause };
        let lock = File::create(path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut list = self.read()?;
        let changed = change(&mut list)?;
        let text = toml::to_string(&list)
            .map_err(|cause| KeysError::Content { path: path.clone(), cause: cause.to_string() })?;
        os::replace_private_file(&path, text.as_bytes()).map_err(failed)?;
        Ok(changed)
    }

    fn prepare(&self) -> Result<(), KeysError> {
        let failed = |cause| KeysError::File { path: self.directory.clone(), cause };
        os::make_private_directory(&self.directory).map_err(failed)
    }

    fn host_file(&self) -> PathBuf {
        self.directory.join("host.key")
    }

    fn list_file(&self) -> PathBuf {
        self.directory.join("allowed.toml")
    }
}

impl AllowList {
    /// The entry of a key.
    pub(crate) fn find(&self, public: &PublicKey) -> Option<&AllowedKey> {
        self.keys.iter().find(|key| key.public == *public)
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let read = File::open(path)?.take(LIST_BYTES_MAX + 1).read_to_string(&mut text)?;
    // A beginning could be a list too, without whoever comes later.
    if read as u64 > LIST_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than a list of keys can be"));
    }
    Ok(text)
}

fn check_name(name: &str) -> Result<(), KeysError> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_allowed = |byte: u8| is_word(byte) || b"._-".contains(&byte);
    // `host` is the name of this host's own file.
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_allowed)
        && name.bytes().next().is_some_and(is_word)
        && name != "host";
    if is_name { Ok(()) } else { Err(KeysError::Name { found: name.chars().take(80).collect() }) }
}

mod role {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use telos_bridge::Role;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(role.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
