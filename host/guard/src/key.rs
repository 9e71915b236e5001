//! Keys: 32 bytes that say who somebody is, and 32 that prove it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use telos_bridge::Fault;
use zeroize::{Zeroize as _, Zeroizing};

use crate::noise;
use crate::os;

/// How long a key is, private or public.
pub const KEY_BYTES: usize = 32;

/// The most that is read of a key's file.
const KEY_FILE_BYTES_MAX: usize = 1_024;

/// Who somebody is: a point of Curve25519, spelt as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_BYTES]);

/// What proves it. Printing it shows nothing; its bytes are overwritten when it is dropped.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; KEY_BYTES]>);

/// Why a key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the text of a public key.
    #[error("a public key has 64 hexadecimal digits; {found:?} has not")]
    Public {
        /// What was given, its beginning.
        found: String,
    },
    /// The file system refused.
    #[error("key file {}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// There is one already; a key that is overwritten is lost.
    #[error("key file {} is there already, and a private key is never overwritten", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not 64 hexadecimal digits.
    #[error("key file {} does not hold 64 hexadecimal digits; bring it back from a copy, or move it away and make a new key", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
    },
    /// A directory, a device or a pipe.
    #[error("key file {} is not a regular file", path.display())]
    NotFile {
        /// Which.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("key file {} can be read by others; make it private (chmod 600), or make a new key", path.display())]
    NotPrivate {
        /// Which file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("no key can be made: {0}")]
    Made(String),
}

impl KeyError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Made(_) => Fault::Host,
            _ => Fault::Operator,
        }
    }
}

impl PublicKey {
    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Whether it is a point of small order, as all zeroes are: whoever agrees on a secret with it agrees on zero.
    ///
    /// # Source
    /// RFC 7748, section 6.1: the check for the all-zero value.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        // The same for every private key: each is a multiple of eight.
        noise::agree(&[1; KEY_BYTES], &self.0).is_none_or(|secret| secret == [0; KEY_BYTES])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = from_hex(text.as_bytes());
        bytes.map(Self).ok_or_else(|| KeyError::Public { found: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl PrivateKey {
    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh one, from the system's generator.
    ///
    /// # Errors
    /// [`KeyError::Made`].
    pub fn generate() -> Result<Self, KeyError> {
        let bytes = noise::generate_private().map_err(|cause| KeyError::Made(cause.to_string()))?;
        Ok(Self(bytes))
    }

    /// Reads what [`PrivateKey::write_new`] wrote.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Content`], and on Unix [`KeyError::NotPrivate`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |cause| KeyError::File { path: path.to_owned(), cause };
        // Opening anything else may wait for ever, and reading it never end.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(KeyError::NotFile { path: path.to_owned() });
        }
        if !os::is_private(path).map_err(failed)? {
            return Err(KeyError::NotPrivate { path: path.to_owned() });
        }
        let text = Zeroizing::new(read_beginning(path).map_err(failed)?);
        let bytes = from_hex(text.trim_ascii()).map(Zeroizing::new);
        bytes.map(Self).ok_or_else(|| KeyError::Content { path: path.to_owned() })
    }

    /// Writes it to a new file that only this user can read.
    ///
    /// # Errors
    /// [`KeyError::Exists`] and [`KeyError::File`].
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        for byte in self.0.iter() {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text.push('\n');
        os::create_private_file(path, text.as_bytes()).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::File { path: path.to_owned(), cause },
        })
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(noise::public_of(&self.0))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// As much as a key and some blanks take; a longer file is none, and need not be read.
fn read_beginning(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::with_capacity(KEY_FILE_BYTES_MAX);
    std::fs::File::open(path)?.take(KEY_FILE_BYTES_MAX as u64).read_to_end(&mut text)?;
    Ok(text)
}

fn digit(half: u8) -> char {
    char::from_digit(u32::from(half), 16).unwrap_or_default()
}

fn from_hex(text: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let half = |digit: u8| char::from(digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
        let read = pair.iter().try_fold(0, |byte, digit| Some(byte << 4 | half(*digit)?));
        let Some(read) = read else {
            bytes.zeroize();
            return None;
        };
        *byte = read;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_key_reads_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let key = PrivateKey::generate().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(PrivateKey::read(&path).unwrap().public(), key.public());
        assert!(matches!(PrivateKey::generate().unwrap().write_new(&path), Err(KeyError::Exists { .. })));
        assert_eq!(PrivateKey::read(&path).unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn the_public_key_is_the_one_of_the_standard() {
        let text = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let private = PrivateKey::from_bytes(from_hex(text.as_bytes()).unwrap());
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(private.public(), public.parse().unwrap());
        assert_eq!(private.public().to_string(), public);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        PrivateKey::generate().unwrap().write_new(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(PrivateKey::read(&path), Err(KeyError::NotPrivate { .. })));
    }

    /// The points of small order of Curve25519, in every spelling that fits, are all that agree on zero.
    #[test]
    fn keys_of_small_order_are_weak_and_others_are_not() {
        let of = |text: &str| text.parse::<PublicKey>().unwrap();
        for weak in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000080",
        ] {
            assert!(of(weak).is_weak(), "{weak}");
        }
        assert!(!PrivateKey::generate().unwrap().public().is_weak());
        assert!(!of("0900000000000000000000000000000000000000000000000000000000000000").is_weak());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [dir.path(), &pipe, Path::new("/dev/zero")] {
            assert!(matches!(PrivateKey::read(path), Err(KeyError::NotFile { .. })), "{}", path.display());
        }
    }

    #[test]
    fn what_is_no_key_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        os::create_private_file(&path, b"short").unwrap();
        assert!(matches!(PrivateKey::read(&path), Err(KeyError::Content { .. })));
        for text in ["", "xyz", &"é".repeat(32), &"g".repeat(64), &"+1".repeat(32)] {
            assert!(matches!(text.parse::<PublicKey>(), Err(KeyError::Public { .. })), "{text}");
        }
    }
}
