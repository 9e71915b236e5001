//! A file that is only read: what a database writes over it stays in memory and is forgotten. So a copy, or a store
//! that may be damaged, is looked at without changing one of its bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::Backend;

/// Bytes of one block kept in memory.
const BLOCK: u64 = 4096;

/// One file, read only. Memory: what is written, in blocks of 4 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    path: PathBuf,
}

impl Overlay {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Overlay {
        Overlay { path: path.into() }
    }
}

impl Backend for Overlay {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = redb::backends::FileBackend::new(File::open(&self.path)?).map_err(io::Error::other)?;
        let len = file.len()?;
        let state = State { len, shared: len, blocks: BTreeMap::new() };
        Ok(Box::new(OverlayBytes { file, state: Mutex::new(state) }))
    }
}

#[derive(Debug)]
struct OverlayBytes {
    file: redb::backends::FileBackend,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// Up to here the file's bytes shine through; what was cut off once stays zero.
    shared: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl OverlayBytes {
    /// The block as the file has it, zero past its end.
    fn block_of_file(&self, index: u64, shared: u64) -> io::Result<Box<[u8]>> {
        let start = index * BLOCK;
        let mut block = vec![0; size(BLOCK)?].into_boxed_slice();
        let held = size(shared.saturating_sub(start).min(BLOCK))?;
        if let Some(part) = block.get_mut(..held).filter(|part| !part.is_empty()) {
            self.file.read(start, part)?;
        }
        Ok(block)
    }

    /// Calls `act` with every block that the bytes lie in: its part of them and the place within.
    fn each_block(
        offset: u64,
        len: usize,
        mut act: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = size(at % BLOCK)?;
            let part = (len - done).min(size(BLOCK)? - within);
            act(at / BLOCK, done..done + part, within..within + part)?;
            done += part;
        }
        Ok(())
    }
}

impl StorageBackend for OverlayBytes {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(out_of_range());
        }
        OverlayBytes::each_block(offset, out.len(), |index, part, within| {
            let of_file;
            let block = match state.blocks.get(&index) {
                Some(block) => block,
                None => {
                    of_file = self.block_of_file(index, state.shared)?;
                    &of_file
                }
            };
            let (out, bytes) = out.get_mut(part).zip(block.get(within)).ok_or_else(out_of_range)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            // The block that is cut in the middle keeps its first part only.
            let (cut, kept) = (len / BLOCK, size(len % BLOCK)?);
            state.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(rest) = state.blocks.get_mut(&cut).and_then(|block| block.get_mut(kept..)) {
                rest.fill(0);
            }
            state.shared = state.shared.min(len);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > state.len) {
            return Err(out_of_range());
        }
        OverlayBytes::each_block(offset, data.len(), |index, part, within| {
            if !state.blocks.contains_key(&index) {
                let block = self.block_of_file(index, state.shared)?;
                state.blocks.insert(index, block);
            }
            let block = state.blocks.get_mut(&index).and_then(|block| block.get_mut(within));
            let (block, data) = block.zip(data.get(part)).ok_or_else(out_of_range)?;
            block.copy_from_slice(data);
            Ok(())
        })
    }
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| out_of_range())
}

fn out_of_range() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "offset outside the bytes")
}
