//! Bytes that are read from below and written only here: a database that its disk refuses to write is still read.
//!
//! redb writes when it opens: a header, and what repair needs. Those few blocks live in memory and vanish with the
//! handle. Never here: anything that is to last.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// Bytes that are copied up when they are first written. A page of redb's is a multiple of it.
const BLOCK: u64 = 4_096;

/// The bytes below, and what was written over them.
pub(crate) struct Overlay {
    below: Arc<dyn StorageBackend>,
    above: Mutex<Above>,
}

struct Above {
    len: u64,
    /// Bytes from here on are no longer the ones below, even where the length grew past them again.
    cut_at: u64,
    blocks: HashMap<u64, Vec<u8>>,
}

impl Overlay {
    /// Nothing written yet.
    pub(crate) fn over(below: impl Into<Arc<dyn StorageBackend>>) -> io::Result<Overlay> {
        let below = below.into();
        let len = below.len()?;
        Ok(Overlay { below, above: Mutex::new(Above { len, cut_at: len, blocks: HashMap::new() }) })
    }

    /// One block as it is below: zero past the end.
    fn read_below(&self, block: u64, cut_at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; as_len(BLOCK)];
        let start = block * BLOCK;
        let there = as_len(cut_at.saturating_sub(start).min(BLOCK));
        if let Some(there) = bytes.get_mut(..there)
            && !there.is_empty()
        {
            self.below.read(start, there)?;
        }
        Ok(bytes)
    }
}

/// The parts of `len` bytes from `offset`, block by block: the block, where in it, and where in the bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = as_len(at % BLOCK);
        let more = (len - done).min(as_len(BLOCK) - within);
        let part = (at / BLOCK, within, done..done + more);
        done += more;
        (more > 0).then_some(part)
    })
}

/// At most a block.
fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above.lock();
        if offset.saturating_add(out.len() as u64) > above.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (block, within, range) in parts(offset, out.len()) {
            let out = out.get_mut(range).unwrap_or_default();
            let copy = |bytes: &[u8], out: &mut [u8]| {
                out.copy_from_slice(bytes.get(within..within + out.len()).unwrap_or_default());
            };
            match above.blocks.get(&block) {
                Some(bytes) => copy(bytes, out),
                None => copy(&self.read_below(block, above.cut_at)?, out),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut above = self.above.lock();
        above.cut_at = above.cut_at.min(len);
        above.len = len;
        above.blocks.retain(|block, _| block * BLOCK < len);
        let (last, within) = (len / BLOCK, as_len(len % BLOCK));
        let rest = above.blocks.get_mut(&last).and_then(|bytes| bytes.get_mut(within..));
        rest.into_iter().for_each(|rest| rest.fill(0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above.lock();
        if offset.saturating_add(data.len() as u64) > above.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let cut_at = above.cut_at;
        for (block, within, range) in parts(offset, data.len()) {
            let data = data.get(range).unwrap_or_default();
            let bytes = match above.blocks.entry(block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.read_below(block, cut_at)?),
            };
            if let Some(bytes) = bytes.get_mut(within..within + data.len()) {
                bytes.copy_from_slice(data);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("written", &self.above.lock().blocks.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
