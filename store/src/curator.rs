//! The curator: builds graphs for vectors that were only gathered so far, beside everything else.
//!
//! ```text
//! wake     a commit filled a tail, a snapshot that held dead    a thread begins, unless it runs
//!          rows back is gone, or the store was opened
//! work     what to build is chosen                             under the index's lock, for a look
//! gather   rows are copied, a part at a time                   under the lock, shared
//! build    a graph                                             no lock; it ends at the next row when the store closes,
//!                                                              or forgets one of its objects
//! install  the segment joins the index                         under the lock, for one pass over dates; what it
//!                                                              replaces is freed after it
//! seal     the segment is copied, a part at a time, and        under the lock, shared, to copy a part; no lock to
//!          written down                                        write
//! tidy     files of what is no more are deleted, editions      no lock
//!          of the archive among them, and what a search
//!          could not read is given up
//! ```
//! A store that is opened again has the graphs that are sealed, and begins with all other vectors in a tail. A panic in
//! an engine costs a collection its graphs; its vectors are then read one by one.
//! Never here: what is worth building.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;

use crate::archive;
use crate::bug;
use crate::damage;
use crate::error::Failure;
use crate::id::Position;
use crate::limit;
use crate::segments::{Kept, Writing};
use crate::shared::{Collection, Shared, read_collections};
use crate::vectors::{CollectionKey, Outcome, Sealing, Work};

/// The thread that builds, while there is something to build.
#[derive(Default)]
pub(crate) struct Curator {
    thread: Mutex<Option<JoinHandle<()>>>,
    is_running: AtomicBool,
    is_stopping: AtomicBool,
}

/// Sees to it that what is to be built is, from now on.
pub(crate) fn begin(shared: &Arc<Shared>) {
    let of_pins = Arc::downgrade(shared);
    shared.pins.when_oldest_goes(move || {
        if let Some(shared) = of_pins.upgrade() {
            wake(&shared);
        }
    });
    wake(shared);
}

/// Somebody read an edition, and does not any more: it may only have been there for that.
pub(crate) fn reader_left(shared: &Arc<Shared>) {
    if shared.shelves.has_left() {
        shared.shelves.suspect();
        wake(shared);
    }
}

/// A search could not read an edition: it is given up, and its collection searched without it.
pub(crate) fn reader_failed(shared: &Arc<Shared>, failure: &Failure) {
    tracing::error!(%failure, "an edition of the archive cannot be read; its vectors are taken from the database");
    shared.shelves.suspect();
    wake(shared);
}

/// Sees to it that what is to be built is.
pub(crate) fn wake(shared: &Arc<Shared>) {
    if !has_anything(shared) {
        return;
    }
    let curator = &shared.curator;
    // Held until the thread is known, so that whoever stops it finds it.
    let mut thread = curator.thread.lock();
    if curator.is_stopping.load(Ordering::Acquire) || curator.is_running.swap(true, Ordering::AcqRel) {
        return;
    }
    // The one before is on its last step, and holds nothing that is waited for here.
    if let Some(before) = thread.take() {
        let _ = before.join();
    }
    let of_thread = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name("store-curator".into()).spawn(move || run(&of_thread));
    match spawned {
        Ok(spawned) => *thread = Some(spawned),
        Err(cause) => {
            tracing::warn!(%cause, "no thread could be had to build graphs of vectors; the next commit tries again");
            curator.is_running.store(false, Ordering::Release);
        }
    }
}

impl Curator {
    /// Ends what is being built, and waits for that. Nothing is built from then on.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut thread = self.thread.lock();
            self.is_stopping.store(true, Ordering::Release);
            thread.take()
        };
        // The thread itself may be the last to know the store.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Arc<Shared>) {
    let curator = &shared.curator;
    loop {
        let build_all = || {
            tidy_shelves(shared);
            while let Some((key, work)) = next(shared) {
                build(shared, &key, work);
            }
            seal_all(shared);
        };
        if let Err(failure) = bug::guard("the curator", build_all) {
            tracing::error!(%failure, "no more graphs of vectors are built until the store is opened again");
            return;
        }
        curator.is_running.store(false, Ordering::Release);
        // What came up in between has found a curator that runs.
        let is_last = is_stopping(shared) || !has_anything(shared);
        if is_last || curator.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
    }
}

/// Whether there is anything to do.
fn has_anything(shared: &Shared) -> bool {
    has_work(shared) || must_seal(shared) || shared.shelves.are_untidy()
}

fn has_work(shared: &Shared) -> bool {
    let index = shared.index.read();
    if !index.may_have_work() {
        return false;
    }
    // Before the look, so that no snapshot goes unseen in between.
    shared.pins.watch();
    index.has_work(oldest(shared))
}

fn is_stopping(shared: &Shared) -> bool {
    shared.curator.is_stopping.load(Ordering::Acquire)
}

/// Whether a segment is to be written down, or a file to be deleted.
fn must_seal(shared: &Shared) -> bool {
    shared.segments.are_kept() && (shared.segments.are_untidy() || shared.index.read().has_unsealed())
}

/// Writes down what is not, then deletes the files of what is no more.
fn seal_all(shared: &Shared) {
    if !shared.segments.are_kept() {
        return;
    }
    while let Some((sealing, writing)) = next_sealing(shared) {
        seal(shared, sealing, &writing);
        if is_stopping(shared) || has_work(shared) {
            // A merge may be due, and makes some of them needless.
            return;
        }
    }
    let index = shared.index.read();
    if !index.has_unsealed() {
        let kept = shared.segments.kept(index.files());
        drop(index);
        tidy(shared, &kept);
    }
}

/// Deletes files of what is no more.
fn tidy(shared: &Shared, kept: &Kept) {
    fail::fail_point!("store::curator-tidies");
    shared.segments.keep(kept);
    // The index may be another by now, which was read while its files were still there.
    let mut gone = shared.index.read().files();
    gone.retain(|file| shared.segments.is_gone(*file));
    if !gone.is_empty() {
        shared.index.write().unseal(&gone);
    }
}

/// Gives up editions that cannot be read; deletes those that do not serve, and shelves of collections that there are not.
fn tidy_shelves(shared: &Arc<Shared>) {
    if !shared.shelves.are_untidy() {
        return;
    }
    shared.shelves.begin_tidying();
    archive::leave(shared);
    // Before the collections: a shelf is made after its collection.
    let shelves = shared.shelves.collections();
    let read = || read_collections(&shared.database.read()?);
    let collections = match damage::guard(read) {
        Ok(collections) => collections,
        Err(failure) => {
            tracing::warn!(%failure, "editions of the archive that are of no use are deleted at the next start");
            return;
        }
    };
    for number in shelves.into_iter().take_while(|_| !is_stopping(shared)) {
        match collections.iter().find(|collection| collection.number == number) {
            Some(Collection { key, .. }) => {
                shared.shelves.collect(number, || shared.index.read().edition(key));
            }
            None => shared.shelves.remove(number),
        }
    }
    if let Err(cause) = archive::withdraw_unused(shared, &collections) {
        tracing::debug!(%cause, "rows still name editions that do not serve");
    }
}

fn next_sealing(shared: &Shared) -> Option<(Sealing, Arc<Writing>)> {
    if is_stopping(shared) {
        return None;
    }
    let sealing = shared.index.read().seal(shared.options.vector_engine)?;
    Some((sealing, shared.segments.begin()))
}

fn seal(shared: &Shared, mut sealing: Sealing, writing: &Writing) {
    loop {
        match shared.index.read().copy(&mut sealing, &mut writing.bytes.write()) {
            Some(true) if !is_stopping(shared) => {}
            Some(false) => break,
            Some(true) | None => return,
        }
    }
    Sealing::close(&mut writing.bytes.write());
    // What saves time takes no room that commits need.
    let written = shared.segments.write(writing, || shared.database.try_room(limit::ROOM_BYTES));
    if let Err(cause) = &written {
        tracing::warn!(%cause, "a segment was not written down; the next start builds its graph anew");
    }
    let file = written.ok().map(|()| writing.number);
    let is_kept = shared.index.write().end_sealing(&sealing, file);
    if let Some(file) = file.filter(|_| !is_kept) {
        shared.segments.delete(file);
    }
}

fn oldest(shared: &Shared) -> Position {
    shared.pins.oldest(&shared.decided, Instant::now())
}

fn next(shared: &Shared) -> Option<(CollectionKey, Work)> {
    let is_idle = shared.curator.is_stopping.load(Ordering::Acquire) || !has_work(shared);
    if is_idle { None } else { shared.index.write().work(shared.options.vector_engine, oldest(shared)) }
}

fn build(shared: &Shared, key: &CollectionKey, work: Work) {
    match catch_unwind(AssertUnwindSafe(|| gather_and_build(shared, key, work))) {
        Ok(Outcome::Built(built)) => {
            let freed = shared.index.write().install(key, *built);
            // Here and not under the lock: it may take a while.
            drop(freed);
        }
        Ok(Outcome::Ended) => shared.index.write().abandon(key, false),
        Ok(Outcome::Failed) => shared.index.write().abandon(key, true),
        Err(_) => {
            tracing::error!(owner = %key.owner, collection = %key.name, "no graph could be built over these vectors");
            shared.index.write().abandon(key, true);
        }
    }
}

fn gather_and_build(shared: &Shared, key: &CollectionKey, mut work: Work) -> Outcome {
    let is_stopping = &shared.curator.is_stopping;
    while !is_stopping.load(Ordering::Acquire) && shared.index.read().gather(key, &mut work) {}
    fail::fail_point!("store::curator-builds");
    work.build(is_stopping)
}
