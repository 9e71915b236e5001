//! The restart budget of a component: how often its seat may fall before what arrives by itself has to wait.
//!
//! It belongs to the component and not to a release: one broken build after another, as a directory or a writer of code
//! may bring them, would otherwise take turns in the seat. An operator who asks for a release is never held up.

use std::time::Duration;

use telos_store::{ReleaseRecord, ReleaseState};

use super::{SwapError, Swapper, now_ms};
use crate::seat::Release;

/// Releases of one component that may lose their seat for a fault within [`RESTART_TIME`].
const RESTARTS_MAX: usize = 3;
const RESTART_TIME: Duration = Duration::from_secs(3_600);

impl Swapper {
    /// Refuses a release that arrived by itself while its component's budget is spent; not one that serves.
    pub(super) fn demand_restart(&self, release: &Release) -> Result<(), SwapError> {
        let table = self.seats.current();
        if table.releases.get(&release.component).is_some_and(|serving| serving.digest == release.digest) {
            return Ok(());
        }
        let records = self.store.releases(Some(&release.component))?;
        match wait(records.iter().filter_map(fell_at), now_ms()) {
            None => Ok(()),
            Some(wait) => Err(SwapError::RestartsSpent {
                component: release.component.clone(),
                version: release.version().to_string(),
                fallen: RESTARTS_MAX,
                minutes: wait.as_secs().div_ceil(60),
            }),
        }
    }
}

/// How long the next release has to wait, after seats fell at these moments; none: it need not. Moments that are to come
/// are of a clock that was set back since, and do not count.
fn wait(fell: impl Iterator<Item = u64>, now: u64) -> Option<Duration> {
    let window = u64::try_from(RESTART_TIME.as_millis()).unwrap_or(u64::MAX);
    let past = fell.filter(|at| *at <= now);
    let mut ends: Vec<u64> = past.map(|at| at.saturating_add(window)).filter(|end| *end > now).collect();
    ends.sort_unstable_by(|one, other| other.cmp(one));
    ends.get(RESTARTS_MAX - 1).map(|end| Duration::from_millis(end - now))
}

/// When a release lost its seat for a fault of its own; none when it did not, or somebody lifted that.
fn fell_at(record: &ReleaseRecord) -> Option<u64> {
    let is_fallen = matches!(record.state, ReleaseState::Quarantined | ReleaseState::Parked);
    record.verdict.as_ref().filter(|_| is_fallen).map(|verdict| verdict.at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn the_next_release_waits_until_fewer_have_fallen_within_the_hour() {
        let waits = |fell: &[u64], now| wait(fell.iter().copied(), now).map(|wait| wait.as_millis());
        assert_eq!(waits(&[], HOUR), None);
        assert_eq!(waits(&[10, 20], 30), None);
        assert_eq!(waits(&[10, 20, 30], 30), Some(u128::from(HOUR - 20)));
        assert_eq!(waits(&[30, 10, 20], HOUR + 9), Some(1));
        assert_eq!(waits(&[30, 10, 20], HOUR + 10), None, "the first is an hour ago");
        assert_eq!(waits(&[10, 20, 30, 40], HOUR + 10), Some(10));
        assert_eq!(waits(&[10, 20, 3 * HOUR], 30), None, "the clock was set back");
    }
}
