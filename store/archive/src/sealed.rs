//! Files that are checked as they are read: each block has a sum, and the sums have one in the manifest. A flipped bit
//! is an error wherever it is met, never a wrong answer, and opening need not read what it does not need.
//!
//! ```text
//! data | one sum of 8 bytes for each block of 4,096 bytes, the last as far as there is data
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Verify;
use crate::directory;
use crate::error::{FileError, OpenError, ReadError};

/// What is read and checked at a time: a page, and a sector of the graph.
pub(crate) const BLOCK: usize = 4096;
/// The first bytes of a block's BLAKE3: chance is what they guard against.
const SUM: usize = 8;
/// Read at a time by whoever reads everything.
pub(crate) const STRIDE: usize = 64 * BLOCK;

/// What a manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Bytes of data; the sums of its blocks follow them in the file.
    pub bytes: u64,
    /// BLAKE3 of the data.
    pub blake3: String,
    /// BLAKE3 of the sums.
    pub sums: String,
}

/// A file whose every byte that is handed out was checked.
pub(crate) struct Sealed {
    path: PathBuf,
    file: File,
    bytes: u64,
    sums: Box<[[u8; SUM]]>,
}

/// Appends the sums to a file, and makes all of it safe.
pub(crate) fn seal(path: &Path) -> io::Result<Seal> {
    let mut file = File::options().read(true).append(true).open(path)?;
    let (mut whole, mut sums, mut bytes) = (blake3::Hasher::new(), Vec::new(), 0);
    let mut buffer = vec![0; STRIDE];
    loop {
        let found = read_full(&mut file, &mut buffer)?;
        whole.update(&buffer[..found]);
        buffer[..found].chunks(BLOCK).for_each(|block| sums.extend(sum(block)));
        bytes += found as u64;
        if found < STRIDE {
            break;
        }
    }
    file.write_all(&sums)?;
    file.sync_all()?;
    Ok(Seal { bytes, blake3: whole.finalize().to_string(), sums: blake3::hash(&sums).to_string() })
}

impl Sealed {
    pub(crate) fn open(path: PathBuf, seal: &Seal, verify: Verify) -> Result<Sealed, OpenError> {
        let file = OpenError::at(&path, File::open(&path))?;
        let found = OpenError::at(&path, file.metadata())?.len();
        let blocks = seal.bytes.div_ceil(BLOCK as u64);
        // Before anything of that size is asked for.
        let expected = blocks.checked_mul(SUM as u64).and_then(|sums| sums.checked_add(seal.bytes));
        if expected != Some(found) {
            return Err(OpenError::Length { path, found, expected: expected.unwrap_or(u64::MAX) });
        }
        let Ok(len) = usize::try_from(found - seal.bytes) else {
            return Err(OpenError::Length { path, found, expected: seal.bytes });
        };
        let mut sums = vec![0; len];
        OpenError::at(&path, directory::read_at(&file, &mut sums, seal.bytes))?;
        if blake3::hash(&sums).to_string() != seal.sums {
            return Err(OpenError::Damaged { path, at: seal.bytes });
        }
        let sums = sums.as_chunks::<SUM>().0.into();
        let sealed = Sealed { path, file, bytes: seal.bytes, sums };
        if verify == Verify::Full {
            sealed.verify(seal)?;
        }
        Ok(sealed)
    }

    /// Reads all of it.
    fn verify(&self, seal: &Seal) -> Result<(), OpenError> {
        let mut whole = blake3::Hasher::new();
        self.read_on::<ReadError>(0, |bytes| {
            whole.update(bytes);
            Ok(())
        })?;
        if whole.finalize().to_string() == seal.blake3 {
            return Ok(());
        }
        Err(OpenError::Damaged { path: self.path.clone(), at: 0 })
    }

    /// Bytes in memory.
    pub(crate) fn held(&self) -> usize {
        self.sums.len() * SUM
    }

    /// Bytes at a place, in a buffer that is used again. Cost: the blocks that they are in, read and checked.
    pub(crate) fn read<'a>(
        &self,
        from: u64,
        len: usize,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], ReadError> {
        let end = from.checked_add(len as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| self.damaged(from))?;
        let first = from - from % BLOCK as u64;
        let last = end.next_multiple_of(BLOCK as u64).min(self.bytes);
        let Ok(span) = usize::try_from(last - first) else { return Err(self.damaged(from)) };
        buffer.resize(span, 0);
        ReadError::at(&self.path, directory::read_at(&self.file, buffer, first))?;
        for (number, block) in (first / BLOCK as u64..).zip(buffer.chunks(BLOCK)) {
            let expected = usize::try_from(number).ok().and_then(|number| self.sums.get(number));
            if expected != Some(&sum(block)) {
                return Err(self.damaged(number * BLOCK as u64));
            }
        }
        let skipped = usize::try_from(from - first).unwrap_or(BLOCK);
        Ok(&buffer[skipped..skipped + len])
    }

    /// Hands out all bytes from a place on, in pieces of whole blocks but for the first and the last.
    pub(crate) fn read_on<E: From<ReadError>>(
        &self,
        from: u64,
        mut with: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut place, mut buffer) = (from, Vec::new());
        while place < self.bytes {
            let len = (STRIDE as u64 - place % BLOCK as u64).min(self.bytes - place);
            with(self.read(place, usize::try_from(len).unwrap_or(STRIDE), &mut buffer)?)?;
            place += len;
        }
        Ok(())
    }

    /// All of it, in memory.
    pub(crate) fn read_all(&self) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        // The file is as long as this: it was looked at.
        all.reserve_exact(usize::try_from(self.bytes).unwrap_or(0));
        self.read_on::<ReadError>(0, |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(all)
    }

    /// What is read there makes no sense.
    pub(crate) fn damaged(&self, at: u64) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), at }
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> OpenError {
        match error {
            ReadError::File { path, cause } => OpenError::File { path, cause },
            ReadError::Damaged { path, at } => OpenError::Damaged { path, at },
            other => OpenError::Manifest { path: PathBuf::new(), problem: other.to_string() },
        }
    }
}

fn sum(block: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    sum.copy_from_slice(&blake3::hash(block).as_bytes()[..SUM]);
    sum
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}
