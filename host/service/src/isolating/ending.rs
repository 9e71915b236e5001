//! How a child ended that did not answer, and whose fault that is. Pure.

use std::process::ExitStatus;

use telos_kernel::Tryout;

use super::{TRIAL_CPU_S_MAX, TRIAL_MEMORY_BYTES_MAX, TRIAL_TIME};

/// How a child ended without an answer.
pub(super) enum Ending {
    /// Its time was over; the host ended it.
    TooLong,
    /// Somebody ended it.
    FromOutside(String),
    /// It ended by itself, or by one of its bounds.
    ByItself(String),
    /// Nothing is known of it.
    Lost(String),
}

impl Ending {
    pub(super) fn of(status: ExitStatus, complaint: &str) -> Self {
        let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let how = match last.is_empty() {
            true => status.to_string(),
            false => format!("{status} and said {last:?}"),
        };
        if is_from_outside(status) { Self::FromOutside(how) } else { Self::ByItself(how) }
    }

    /// `has_begun`: it was confined, and so may have met the candidate. Processor time is bounded by itself, so a trial
    /// that takes too long is a matter of the machine.
    pub(super) fn told(self, has_begun: bool) -> Tryout {
        let bounds = format!(
            "{TRIAL_CPU_S_MAX} s of processor time and {} MiB of memory",
            TRIAL_MEMORY_BYTES_MAX >> 20
        );
        match self {
            Self::ByItself(how) if has_begun => {
                Tryout::Exceeded(format!("the process of its trial ended with {how}; it may use {bounds}"))
            }
            Self::ByItself(how) => Tryout::Hindered(format!(
                "the process for its trial could not begin: {how}; is the program on disk the one that runs?"
            )),
            Self::FromOutside(how) => Tryout::Hindered(format!(
                "the process of its trial was ended from outside: {how}; try again, with more memory free if it was for that"
            )),
            Self::TooLong => Tryout::Hindered(format!(
                "its trial took longer than {} s on this machine; try again when it has less to do",
                TRIAL_TIME.as_secs()
            )),
            Self::Lost(cause) => {
                Tryout::Hindered(format!("the process of its trial was lost: {cause}; try again"))
            }
        }
    }
}

/// Nobody sends itself these: a person does, a shutdown, or a kernel that is out of memory.
#[cfg(unix)]
fn is_from_outside(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    use tokio::signal::unix::SignalKind;
    const KILL: i32 = 9;
    let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
    status.signal().is_some_and(|signal| signal == KILL || kinds.contains(&SignalKind::from_raw(signal)))
}

#[cfg(not(unix))]
fn is_from_outside(_status: ExitStatus) -> bool {
    false
}
