//! What a pool keeps to.

use std::time::Duration;

/// What a pool keeps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolRules {
    /// A job that went wrong so often is a dead letter.
    pub(crate) attempts_max: u32,
    /// So is one that so many workers in turn gave back without beginning it.
    pub(crate) untaken_max: u32,
    /// Jobs that wait, all services together; beyond it [`End::Busy`](super::End::Busy).
    pub(crate) waiting_max: usize,
    /// What they weigh together.
    pub(crate) waiting_bytes_max: usize,
    /// Jobs that one worker may have at once, whatever it asks for.
    pub(crate) credit_max: u16,
    /// Services that one worker may offer.
    pub(crate) services_max: usize,
    /// Dead letters remembered, the newest.
    pub(crate) dead_letters_max: usize,
    /// No lease is shorter, whatever is ordered: a worker is not taken for stuck sooner than it can be heard.
    pub(crate) lease_min: Duration,
    /// How long a fenced worker has to say that it has stopped; whoever orders has no say in that.
    pub(crate) fence_patience: Duration,
}

impl Default for PoolRules {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            untaken_max: 16,
            waiting_max: 1_024,
            waiting_bytes_max: 64 * 1024 * 1024,
            credit_max: 64,
            services_max: 16,
            dead_letters_max: 64,
            lease_min: Duration::ZERO,
            fence_patience: Duration::from_secs(30),
        }
    }
}
