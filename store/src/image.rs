//! An image: bytes as they were at one moment, read while others write to them.
//!
//! ```text
//! begin    no write is under way                    a length and nothing else
//! write    the blocks that are about to change      kept in memory first, once each
//! read     kept blocks, and the rest from below     what it was at the moment of the beginning
//! lost     too much was overwritten, the bytes      every read from then on fails; whoever wrote goes on
//!          were cut short, or closed
//! ```
//! Between two writes the bytes are what a process that dies there leaves, so an image of a database is one that a crash
//! left: nothing in it is half-written but what no commit has named yet.
//! Never here: what the bytes mean.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use redb::{BackendError, StorageBackend};

/// Bytes that are kept at once. A page of redb's is a multiple of it.
const BLOCK: u64 = 4_096;
/// Blocks that one image keeps at most, 64 MiB. A store at its busiest overwrites as much in some seconds, in which some
/// gigabytes are read.
const BLOCKS_MAX: usize = 16 * 1024;

/// A place that images can be taken of. Clones are the same; without an image it only passes calls on.
#[derive(Clone)]
pub(crate) struct Imaged {
    place: Arc<Place>,
}

struct Place {
    below: Box<dyn StorageBackend>,
    /// Held shared by every write, so that an image begins between two of them.
    images: RwLock<Vec<Weak<Kept>>>,
    /// Others may write to the bytes from then on, so nothing is said of them; readers may still hold the place.
    is_closed: AtomicBool,
}

/// The bytes as they were when it was taken; whoever reads it may be told to stop.
pub(crate) struct Image {
    place: Weak<Place>,
    kept: Arc<Kept>,
    is_stopping: Arc<AtomicBool>,
}

/// What an image has of the bytes that changed since.
struct Kept {
    len: u64,
    blocks_max: usize,
    blocks: RwLock<Blocks>,
}

#[derive(Default)]
struct Blocks {
    is_lost: bool,
    kept: HashMap<u64, Vec<u8>>,
}

impl Imaged {
    pub(crate) fn over(below: Box<dyn StorageBackend>) -> Imaged {
        Imaged {
            place: Arc::new(Place { below, images: RwLock::default(), is_closed: AtomicBool::new(false) }),
        }
    }

    /// Something to take images from that does not keep the place open.
    pub(crate) fn lens(&self) -> Lens {
        Lens(Arc::downgrade(&self.place))
    }

    /// Does a write; every image keeps first what it changes.
    fn change(&self, keep: impl Fn(&Kept), change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let images = self.place.images.read();
        images.iter().filter_map(Weak::upgrade).for_each(|kept| keep(&kept));
        change()
    }
}

/// Takes images of a place for as long as it is open.
#[derive(Clone, Default)]
pub(crate) struct Lens(Weak<Place>);

impl Lens {
    /// The bytes as they are now. Memory: what is overwritten while it lives, at most 64 MiB; then it is lost. Reads fail
    /// once `is_stopping` is set.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] when the place is closed, and whatever it answers.
    pub(crate) fn image(&self, is_stopping: &Arc<AtomicBool>) -> io::Result<Image> {
        self.image_within(BLOCKS_MAX, is_stopping)
    }

    fn image_within(&self, blocks_max: usize, is_stopping: &Arc<AtomicBool>) -> io::Result<Image> {
        let place = self.0.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let mut images = place.images.write();
        if place.is_closed.load(Ordering::Acquire) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        images.retain(|image| image.strong_count() > 0);
        let kept = Kept { len: place.below.len()?, blocks_max, blocks: RwLock::default() };
        let kept = Arc::new(kept);
        images.push(Arc::downgrade(&kept));
        drop(images);
        Ok(Image { place: Weak::clone(&self.0), kept, is_stopping: Arc::clone(is_stopping) })
    }
}

impl Image {
    /// As it is, for a reader who is told to stop by this.
    pub(crate) fn stopped_by(self, is_stopping: &Arc<AtomicBool>) -> Image {
        Image { is_stopping: Arc::clone(is_stopping), ..self }
    }

    /// Tells whether it could not be read to the end, so that nothing follows from what a reader of it found.
    pub(crate) fn lost(&self) -> impl Fn() -> bool + use<> {
        let (place, kept, is_stopping) =
            (Weak::clone(&self.place), Arc::clone(&self.kept), Arc::clone(&self.is_stopping));
        move || {
            let is_gone = place.strong_count() == 0 || kept.blocks.read().is_lost;
            is_gone || is_stopping.load(Ordering::Acquire)
        }
    }
}

impl Kept {
    /// Keeps what is about to change, as far as the image has it.
    fn keep(&self, below: &dyn StorageBackend, change: Range<u64>) {
        let change = change.start..change.end.min(self.len);
        if change.is_empty() {
            return;
        }
        let mut blocks = self.blocks.write();
        for block in change.start / BLOCK..change.end.div_ceil(BLOCK) {
            if blocks.is_lost || blocks.kept.contains_key(&block) {
                continue;
            }
            match self.read_block(below, block) {
                Ok(bytes) if blocks.kept.len() < self.blocks_max => drop(blocks.kept.insert(block, bytes)),
                // Whoever writes is not to fail for it.
                _ => blocks.lose(),
            }
        }
    }

    fn lose(&self) {
        self.blocks.write().lose();
    }

    fn read_block(&self, below: &dyn StorageBackend, block: u64) -> io::Result<Vec<u8>> {
        let start = block * BLOCK;
        let mut bytes = vec![0; as_len(BLOCK.min(self.len - start))];
        below.read(start, &mut bytes)?;
        Ok(bytes)
    }

    /// Holds back whoever is about to keep a block: what is not kept by then is unchanged below until it returns. The
    /// place is let go before that too, so that one that was closed is free once its images are lost.
    fn read(&self, place: &Weak<Place>, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let blocks = self.blocks.read();
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let place = place.upgrade().filter(|_| !blocks.is_lost).ok_or_else(lost)?;
        place.below.read(offset, out)?;
        drop(place);
        for block in offset / BLOCK..end.div_ceil(BLOCK) {
            if let Some(kept) = blocks.kept.get(&block) {
                overlay(block * BLOCK, kept, offset, out);
            }
        }
        Ok(())
    }
}

impl Blocks {
    fn lose(&mut self) {
        *self = Blocks { is_lost: true, kept: HashMap::new() };
    }
}

/// Copies the bytes `from`, which begin at `from_at`, over those that begin at `to_at`, where both have some.
fn overlay(from_at: u64, from: &[u8], to_at: u64, to: &mut [u8]) {
    let start = from_at.max(to_at);
    let (from, to) = (from.get(as_len(start - from_at)..), to.get_mut(as_len(start - to_at)..));
    for (to, from) in to.into_iter().flatten().zip(from.into_iter().flatten()) {
        *to = *from;
    }
}

/// Within what is in memory.
fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn lost() -> io::Error {
    io::Error::other("these bytes were overwritten, cut short or closed while they were looked at")
}

impl StorageBackend for Imaged {
    fn len(&self) -> io::Result<u64> {
        self.place.below.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.place.below.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let below = &self.place.below;
        let keep = |kept: &Kept| {
            if len < kept.len {
                kept.lose();
            }
        };
        self.change(keep, || below.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.place.below.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let below = &self.place.below;
        let change = offset..offset.saturating_add(data.len() as u64);
        self.change(|kept| kept.keep(below.as_ref(), change.clone()), || below.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        let below = &self.place.below;
        let close = || {
            self.place.is_closed.store(true, Ordering::Release);
            below.close()
        };
        self.change(Kept::lose, close)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.place.below.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.place.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.place.below.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.place.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.place.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.place.below.query_lock_range(start, end)
    }
}

/// Only read: whoever is to write puts an overlay over it.
impl StorageBackend for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.kept.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_stopping.load(Ordering::Acquire) {
            return Err(io::Error::other("whoever looked was told to stop"));
        }
        self.kept.read(&self.place, offset, out)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl fmt::Debug for Imaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imaged").field("below", &self.place.below).finish_non_exhaustive()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("len", &self.kept.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
