//! One worker as the pool sees it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{JobId, ServiceName};

/// How a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Has credit left.
    Ready,
    /// Has as many jobs as it can.
    Busy,
    /// Takes no more.
    Draining,
    /// Cannot be reached, or has a job that gets nowhere.
    Suspect,
}

/// What a worker has in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The present attempt of a job.
    Held,
    /// An attempt that is void; the worker has until then to say that it has stopped.
    Fenced { until: Instant },
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) services: Vec<ServiceName>,
    pub(super) credit: u16,
    /// When it was last given something, in turns.
    pub(super) turn: u64,
    /// By job and attempt: it may have two attempts at one job, of which the earlier is void.
    pub(super) slots: BTreeMap<(JobId, u32), Slot>,
    pub(super) is_draining: bool,
    pub(super) is_suspect: bool,
    pub(super) is_dismissed: bool,
}

impl Worker {
    pub(super) fn new(turn: u64) -> Self {
        Self {
            services: Vec::new(),
            credit: 0,
            turn,
            slots: BTreeMap::new(),
            is_draining: false,
            is_suspect: false,
            is_dismissed: false,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.credit > 0 && !self.is_draining && !self.is_suspect
    }

    pub(super) fn has_room(&self) -> bool {
        self.is_serving() && self.slots.len() < usize::from(self.credit)
    }

    pub(super) fn offers(&self, service: &str) -> bool {
        self.services.iter().any(|offered| **offered == *service)
    }

    pub(super) fn state(&self) -> WorkerState {
        let is_fenced = |slot: &Slot| matches!(slot, Slot::Fenced { .. });
        if self.is_suspect || self.slots.values().any(is_fenced) {
            WorkerState::Suspect
        } else if self.is_draining {
            WorkerState::Draining
        } else if self.has_room() {
            WorkerState::Ready
        } else {
            WorkerState::Busy
        }
    }
}
