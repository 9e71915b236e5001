//! The one thread on which all sockets of this process live, as in libzmq's context.
//!
//! The ZeroMQ crate keeps its peers in a map whose locks some of its tasks wait for while holding their thread, and
//! others by yielding it. Where both happen at once on every thread of a runtime, the lock belongs to a task that
//! nobody runs, and all of them stop for ever: a peer that is cut off while it sends is enough. On one thread no
//! lock is waited for as long as none is held across a wait, and the crate holds one across a wait in one place only:
//! while 100,000 messages wait for one peer. [`crate::unread`] keeps every peer far below that. What crosses to the
//! thread and back are channels, bounded by what the state machines feed them and by that count.
//!
//! The other wire needs no such care. It is here too, so that choosing it changes nothing else.

use std::io;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

/// The thread's runtime, once it was asked for.
static THREAD: Mutex<Option<Handle>> = Mutex::new(None);

/// Runs a task on the thread, and everything it spawns; answers its result. Dropping the answer lets it run on.
///
/// # Errors
/// When there can be no such thread, or the task panicked.
pub(crate) async fn run<T: Send + 'static>(
    task: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let running = thread()?.spawn(task);
    running.await.map_err(io::Error::other)?
}

/// Puts a task on the thread, beside the sockets that it serves, so that no message crosses threads on its way.
///
/// # Errors
/// When there can be no such thread.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    Ok(thread()?.spawn(task))
}

fn thread() -> io::Result<Handle> {
    let mut thread = THREAD.lock();
    if let Some(handle) = &*thread {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let serve = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("telos-sockets".into()).spawn(serve)?;
    *thread = Some(handle.clone());
    Ok(handle)
}
