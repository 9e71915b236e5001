//! How far a long piece of work is: told to whoever asked for it, on its own thread.

use std::fmt;

use serde::Serialize;

/// Steps between two tellings of one phase, so that telling never dominates the work.
const STEPS_PER_TELLING: u64 = 1_024;

/// How far a long piece of work is. Told when a phase begins, every 1,024 steps, and when it ends, all done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Steps done: rows, blobs or bytes, as the phase says.
    pub done: u64,
    /// Steps in all, as far as known when the phase began.
    pub total: u64,
}

/// One part of a long piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// redb checks its own pages; one step.
    Pages,
    /// Rows are checked.
    Rows,
    /// Blobs are read and compared with their digests.
    Blobs,
    /// Rows are copied.
    CopyRows,
    /// Blobs are copied.
    CopyBlobs,
    /// Bytes are read and compared with their checksum.
    Checksum,
    /// Objects of a draft are read and changed.
    Objects,
    /// A script computes and comes to no object; seconds of those that it may take.
    Script,
    /// The new state takes the place of the old one; one step.
    Switch,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Pages => "checking pages",
            Phase::Rows => "checking rows",
            Phase::Blobs => "checking blobs",
            Phase::CopyRows => "copying rows",
            Phase::CopyBlobs => "copying blobs",
            Phase::Checksum => "checking bytes",
            Phase::Objects => "changing objects",
            Phase::Script => "script, seconds",
            Phase::Switch => "switching",
        })
    }
}

/// Counts steps and tells about them.
pub(crate) struct Meter<'a> {
    tell: &'a mut dyn FnMut(Progress),
    now: Progress,
    told: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut(Progress)) -> Meter<'a> {
        Meter { tell, now: Progress { phase: Phase::Pages, done: 0, total: 0 }, told: 0 }
    }

    /// Begins a phase.
    pub(crate) fn begin(&mut self, phase: Phase, total: u64) {
        self.now = Progress { phase, done: 0, total };
        self.tell();
    }

    /// Counts steps.
    pub(crate) fn step(&mut self, steps: u64) {
        self.now.done += steps;
        if self.now.done - self.told >= STEPS_PER_TELLING {
            self.tell();
        }
    }

    /// Ends a phase: what was counted beforehand and turned out not to need a step is done too.
    pub(crate) fn end(&mut self) {
        let all = self.now.total.max(self.now.done);
        (self.now.done, self.now.total) = (all, all);
        self.tell();
    }

    fn tell(&mut self) {
        self.told = self.now.done;
        (self.tell)(self.now);
    }
}
