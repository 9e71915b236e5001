//! The layer that a behaviour is tried in, and what holds it there.
//!
//! ```text
//! restricted   asks for storage and logging alone     an engine of this process: it has nothing else to reach
//! isolated     asks for more                          a process for this one candidate, confined, thrown away
//! shared       asks for more, and there is no such process: an engine of this process, and the record says so
//! ```
//! In each what it asks of the host is answered from recordings and scratch storage; what serves afterwards is live.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use telos_kernel::{TrialOrder, Tryout};

/// Where an attempt was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Layer {
    /// In the host's process, with nothing to reach but storage of its own and the log.
    Restricted,
    /// In a process of its own.
    Isolated {
        /// What held that; none where it ended before it could say.
        confinement: Option<Confinement>,
    },
    /// In the host's process although it asks for more.
    Shared,
}

/// What a process is confined with. Each is there or not as its system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Memory, processor time, files, their size and processes are bounded.
    pub rlimits: bool,
    /// Nothing that it could start would have more rights.
    pub no_new_privs: bool,
    /// By which version of landlock it reaches no file: from 4 on no TCP port either, from 6 on no process outside.
    pub landlock: Option<u32>,
    /// It can make no system calls but those that a trial needs.
    pub seccomp: bool,
}

/// Tries candidates in processes of their own.
#[async_trait]
pub trait Isolation: Send + Sync {
    /// What came of it, and what held its process as far as that said so. `code`: the order's module, compiled.
    async fn try_out(&self, order: &TrialOrder, code: &[u8]) -> (Tryout, Option<Confinement>);
}

impl Confinement {
    /// Whether it can make no system call that opens a file or a socket, or starts a process.
    pub fn is_closed(self) -> bool {
        self.seccomp
    }
}

/// For people: what there is, and what there is not.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let landlock = self.landlock.map(|abi| format!("landlock {abi}"));
        let parts = [
            (self.rlimits.then(|| "rlimits".to_owned()), "rlimits"),
            (self.no_new_privs.then(|| "no_new_privs".to_owned()), "no_new_privs"),
            (landlock, "landlock"),
            (self.seccomp.then(|| "seccomp".to_owned()), "seccomp"),
        ];
        let there: Vec<&str> = parts.iter().filter_map(|(there, _)| there.as_deref()).collect();
        let missing: Vec<&str> =
            parts.iter().filter(|(there, _)| there.is_none()).map(|(_, name)| *name).collect();
        match (there.is_empty(), missing.is_empty()) {
            (true, _) => f.write_str("nothing but the process itself"),
            (false, true) => f.write_str(&there.join(", ")),
            (false, false) => write!(f, "{}; without {}", there.join(", "), missing.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_process_is_told_with_what_is_missing() {
        let whole = Confinement { rlimits: true, no_new_privs: true, landlock: Some(7), seccomp: true };
        assert_eq!(whole.to_string(), "rlimits, no_new_privs, landlock 7, seccomp");
        let old = Confinement { landlock: None, ..whole };
        assert_eq!(old.to_string(), "rlimits, no_new_privs, seccomp; without landlock");
        assert!(old.is_closed() && !Confinement::default().is_closed());
        assert_eq!(Confinement::default().to_string(), "nothing but the process itself");
    }
}
