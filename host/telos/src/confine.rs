//! A process confines itself, for good: what is tried or compiled in it reaches nothing but what is open already.
//!
//! ```text
//! Files::give_up    landlock: no file can be reached, and no port and no other process where the kernel knows these
//! Files::close      rlimits: memory, processor time, no new file, no byte in one; seccomp: the system calls of ALLOWED
//! ```
//! The first is done before there is a second thread, since landlock holds the thread that asks and those that it
//! begins; the second when everything is there that needs files. What a system does not have is left out, and told.
//! Nothing here is ever undone, and nobody is asked.

#[cfg(target_os = "linux")]
mod linux;

use telos_service::Confinement;

/// What a process may use.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "only Linux holds a process to all of them; elsewhere the host's clock does")
)]
pub(crate) struct Bounds {
    /// Bytes that it may write to in memory. Address space is no bound: an engine reserves a lot and touches little.
    pub(crate) memory_bytes: u64,
    /// Seconds of processor time.
    pub(crate) cpu_s: u64,
    /// It may begin threads. Else it has those that there are, and may have no process either where its user is bound.
    pub(crate) threads: bool,
}

/// A process that has given up files.
#[must_use = "half of a confinement is none"]
pub(crate) struct Files {
    confinement: Confinement,
}

impl Files {
    /// Gives them up. To be called while there is one thread.
    pub(crate) fn give_up() -> Self {
        Self { confinement: give_up_files() }
    }

    /// The rest; says what holds this process from now on.
    pub(crate) fn close(self, bounds: Bounds) -> Confinement {
        close(self.confinement, bounds)
    }
}

#[cfg(target_os = "linux")]
fn give_up_files() -> Confinement {
    linux::give_up_files()
}

#[cfg(target_os = "linux")]
fn close(before: Confinement, bounds: Bounds) -> Confinement {
    Confinement { rlimits: linux::bound(bounds), seccomp: linux::filter(bounds.threads), ..before }
}

#[cfg(not(target_os = "linux"))]
fn give_up_files() -> Confinement {
    Confinement::default()
}

#[cfg(not(target_os = "linux"))]
fn close(before: Confinement, _bounds: Bounds) -> Confinement {
    before
}
