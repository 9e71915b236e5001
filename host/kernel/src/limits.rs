//! What one message may use, and the accounts that hold it to that.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

use crate::engine::MEMORY_BYTES_CEILING;

/// Bytes that guests may pass through host calls in one call, both ways.
pub(crate) const HOSTCALL_BYTES_MAX: usize = 4 << 20;

/// What one component may be made of: core instances, memories and tables. Toolchains link a component of a few
/// instances, one memory and two tables; a composition of two has twice that.
pub(crate) const CORE_INSTANCES_MAX: u32 = 16;
pub(crate) const MEMORIES_MAX: u32 = 2;
pub(crate) const TABLES_MAX: u32 = 8;
/// Entries of one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;

/// What one message of a component may use. A manifest may lower these; only an operator, by installing it, or the
/// bundle raises them, up to 256 MiB and 60,000 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory and tables of the instance, MiB. Default 64: ten times what an ordinary guest touches.
    pub memory_mib: u32,
    /// Guest CPU, milliseconds, host waits excluded, and as much again of the host's for the guest's calls. Default
    /// 1,000.
    pub cpu_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 64, cpu_ms: 1_000 }
    }
}

/// A limit that no component can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {found}; from 1 to {max} can be asked for")]
pub struct LimitsError {
    name: &'static str,
    found: u32,
    max: u32,
}

/// Guest CPU of one message, at most.
const CPU_MS_MAX: u32 = 60_000;

fn memory_mib_max() -> u32 {
    u32::try_from(MEMORY_BYTES_CEILING >> 20).unwrap_or(u32::MAX)
}

impl Limits {
    /// Whether the engine can hold to them.
    pub(crate) fn check(self) -> Result<(), LimitsError> {
        let limits = [("memory_mib", self.memory_mib, memory_mib_max()), ("cpu_ms", self.cpu_ms, CPU_MS_MAX)];
        match limits.into_iter().find(|(_, asked, max)| !(1..=*max).contains(asked)) {
            None => Ok(()),
            Some((name, found, max)) => Err(LimitsError { name, found, max }),
        }
    }

    /// These limits where they are lower than the defaults, else the defaults: what a manifest gets by itself.
    #[must_use]
    pub fn only_lowered(self) -> Self {
        let default = Self::default();
        Self { memory_mib: self.memory_mib.min(default.memory_mib), cpu_ms: self.cpu_ms.min(default.cpu_ms) }
    }

    /// These limits, cut to what the engine can hold.
    pub(crate) fn capped(self) -> Self {
        Self {
            memory_mib: self.memory_mib.clamp(1, memory_mib_max()),
            cpu_ms: self.cpu_ms.clamp(1, CPU_MS_MAX),
        }
    }

    pub(crate) fn memory_bytes(self) -> usize {
        (self.memory_mib as usize) << 20
    }

    pub(crate) fn cpu(self) -> Duration {
        Duration::from_millis(u64::from(self.cpu_ms))
    }
}

/// Holds an instance to its memory and remembers that it hit the wall, which a guest's abort would hide.
pub(crate) struct MemoryAccount {
    bytes_max: usize,
    bytes: usize,
    is_exceeded: bool,
}

impl MemoryAccount {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, is_exceeded: false }
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }

    /// Linear memory at its largest, in bytes: it never shrinks.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl ResourceLimiter for MemoryAccount {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_sub(current).saturating_add(desired);
        if bytes > self.bytes_max {
            self.is_exceeded = true;
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= TABLE_ELEMENTS_MAX;
        self.is_exceeded |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_by_itself_lowers_limits_and_raises_none() {
        let default = Limits::default();
        let asked = Limits { memory_mib: default.memory_mib * 4, cpu_ms: default.cpu_ms / 2 };
        assert_eq!(
            asked.only_lowered(),
            Limits { memory_mib: default.memory_mib, cpu_ms: default.cpu_ms / 2 }
        );
        assert_eq!(default.only_lowered(), default);
    }
}
