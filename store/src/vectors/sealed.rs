//! Sealed segments: a graph and whose its rows are, written down so that a start need not build it again.
//!
//! ```text
//! magic       8 bytes    TELOSSEG
//! version     u32        2; all numbers are little endian
//! head        u32 long   JSON: collection, form, engine, rows, nodes, entry, strays, effort, recall
//! rows        36 bytes   object, added, digest of where it lies, its node; zeros and no node for one that was erased
//! links       of each node how many (u8), then which (u32)
//! strays      u32        each node that walks do not find although links may lead to it
//! checksum    32 bytes   BLAKE3 of all before
//! ```
//! Vectors are not in it: they are the database's, and a row counts only while the database has the vector that its
//! digest is of. So no such file can show anything that is not so, however old it is or wherever it is from. Links that
//! are well formed and lead elsewhere than an engine's can make a search of its graph miss what is near, though.
//! Never here: files, directories.

use serde::{Deserialize, Serialize};
use telos_graph::{NO_NODE, Sketch};

use crate::id::{ComponentId, ObjectId, Position};
use crate::limit;

use super::room::BYTES_BESIDE;
use super::{CollectionForm, CollectionKey};

const MAGIC: &[u8; 8] = b"TELOSSEG";
/// Before 2 no file said which nodes walks do not find, nor how much effort a graph is worth, so those of
/// version 1 are built anew.
const VERSION: u32 = 2;
const CHECKSUM: usize = blake3::OUT_LEN;

/// What a sealed segment begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) owner: ComponentId,
    pub(crate) collection: String,
    #[serde(flatten)]
    pub(crate) form: CollectionForm,
    /// What built the graph, and in which version.
    pub(crate) engine: String,
    pub(crate) rows: u32,
    pub(crate) nodes: u32,
    /// The node where walks begin.
    pub(crate) entry: u32,
    /// Nodes that walks do not find although links may lead to them.
    pub(crate) strays: u32,
    /// With which effort it is searched by those who ask for none; none where every row is read.
    pub(crate) effort: Option<u32>,
    /// How many of the ten nearest that finds: an estimate.
    pub(crate) recall: Option<f32>,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedRow {
    pub(crate) object: ObjectId,
    pub(crate) added: Position,
    pub(crate) digest: u64,
    /// [`NO_NODE`] for one that was erased.
    pub(crate) node: u32,
}

/// A segment that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sealed {
    pub(crate) head: Head,
    pub(crate) rows: Vec<SealedRow>,
    pub(crate) links: Vec<Vec<u32>>,
    pub(crate) strays: Vec<u32>,
}

/// Why bytes are no sealed segment of this host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is of version {0}, and this host reads {VERSION}")]
    Version(u32),
    #[error("its checksum does not fit")]
    Checksum,
    #[error("{0}")]
    Shape(&'static str),
}

impl Head {
    pub(crate) fn new(key: &CollectionKey, form: CollectionForm, engine: String) -> Head {
        let collection = key.name.as_str().to_owned();
        let owner = key.owner.clone();
        let (rows, nodes, entry, strays, effort, recall) = (0, 0, 0, 0, None, None);
        Head { owner, collection, form, engine, rows, nodes, entry, strays, effort, recall }
    }

    /// Reads it of the first bytes of a file, before anybody knows whether the checksum fits.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Head, Unreadable> {
        let mut bytes = Bytes(bytes);
        bytes.opening()?;
        bytes.head()
    }

    /// Whether it is of a collection of a form, by an engine of that version.
    pub(crate) fn is_of(&self, key: &CollectionKey, form: CollectionForm, engine: &str) -> bool {
        self.owner == key.owner
            && self.collection == key.name.as_str()
            && (self.form, self.engine.as_str()) == (form, engine)
    }

    /// Bytes that it takes in memory once it is loaded, metadata aside.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.rows) * (self.form.dim * size_of::<f32>() + BYTES_BESIDE) as u64
    }
}

impl Sealed {
    /// Reads all of it. Nothing is believed before the checksum fits.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Sealed, Unreadable> {
        let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else {
            return Err(Unreadable::Shape("it is too short"));
        };
        let mut bytes = Bytes(body);
        bytes.opening()?;
        if blake3::hash(body).as_bytes() != checksum {
            return Err(Unreadable::Checksum);
        }
        let head = bytes.head()?;
        let rows = (0..head.rows).map(|_| bytes.row()).collect::<Result<_, _>>()?;
        let links = (0..head.nodes).map(|_| bytes.links()).collect::<Result<_, _>>()?;
        let strays = (0..head.strays).map(|_| bytes.number()).collect::<Result<_, _>>()?;
        if !bytes.0.is_empty() {
            return Err(Unreadable::Shape("it is too long"));
        }
        Ok(Sealed { head, rows, links, strays })
    }

    /// Its graph, without the rows.
    pub(crate) fn into_sketch(self) -> Sketch {
        let nodes = self.rows.iter().map(|row| row.node).collect();
        Sketch { nodes, entry: self.head.entry, links: self.links, strays: self.strays }
    }
}

/// The bytes before the rows.
pub(crate) fn encode_head(head: &Head) -> Vec<u8> {
    // A head is names and numbers: nothing in it cannot be JSON.
    let json = serde_json::to_vec(head).unwrap_or_default();
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    [&MAGIC[..], &VERSION.to_le_bytes(), &length.to_le_bytes(), &json].concat()
}

/// Appends the bytes of one row.
pub(crate) fn encode_row(row: SealedRow, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&row.object.to_bits().to_le_bytes());
    bytes.extend_from_slice(&row.added.get().to_le_bytes());
    bytes.extend_from_slice(&row.digest.to_le_bytes());
    bytes.extend_from_slice(&row.node.to_le_bytes());
}

/// Appends the bytes of one node's links.
pub(crate) fn encode_links(links: impl Iterator<Item = u32>, bytes: &mut Vec<u8>) {
    let (at, mut count) = (bytes.len(), 0);
    bytes.push(count);
    // An engine gives a node some dozens; what is past 255 is left out.
    for link in links.take(usize::from(u8::MAX)) {
        bytes.extend_from_slice(&link.to_le_bytes());
        count += 1;
    }
    bytes[at] = count;
}

/// Appends the bytes of one stray.
pub(crate) fn encode_stray(stray: u32, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&stray.to_le_bytes());
}

/// Appends the checksum.
pub(crate) fn close(bytes: &mut Vec<u8>) {
    let checksum = blake3::hash(bytes);
    bytes.extend_from_slice(checksum.as_bytes());
}

/// The row in the place of one that was erased.
pub(crate) fn erased_row() -> SealedRow {
    SealedRow { object: ObjectId::from_bits(0), added: Position::NONE, digest: 0, node: NO_NODE }
}

/// A digest of where a vector lies in its index.
pub(crate) fn digest(place: &[f32]) -> u64 {
    let bytes: Vec<u8> = place.iter().flat_map(|component| component.to_le_bytes()).collect();
    blake3::hash(&bytes).as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable::Shape("it ends too soon"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unreadable::Shape("it ends too soon"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Magic and version.
    fn opening(&mut self) -> Result<(), Unreadable> {
        if self.array::<8>()? != *MAGIC {
            return Err(Unreadable::Shape("it does not begin as one does"));
        }
        match self.number()? {
            VERSION => Ok(()),
            version => Err(Unreadable::Version(version)),
        }
    }

    fn head(&mut self) -> Result<Head, Unreadable> {
        let length = self.number()? as usize;
        let head: Head = serde_json::from_slice(self.take(length)?)
            .map_err(|_| Unreadable::Shape("its head is malformed"))?;
        if head.form.dim == 0 || head.form.dim > limit::VECTOR_DIM_MAX {
            return Err(Unreadable::Shape("its dimension is none"));
        }
        Ok(head)
    }

    fn row(&mut self) -> Result<SealedRow, Unreadable> {
        let object = ObjectId::from_bits(u128::from_le_bytes(self.array()?));
        let added = Position::new(u64::from_le_bytes(self.array()?));
        let digest = u64::from_le_bytes(self.array()?);
        Ok(SealedRow { object, added, digest, node: self.number()? })
    }

    fn links(&mut self) -> Result<Vec<u32>, Unreadable> {
        let [count] = self.array()?;
        (0..count).map(|_| self.number()).collect()
    }
}

#[cfg(test)]
mod tests;
