//! Quarantine: builds that were burnt do not serve again until somebody lifts it, by component and digest.

use serde::Serialize;
use serde_json::json;
use telos_store::{ComponentId, DedupeKey, Digest, ReleaseRecord, ReleaseState};

use super::{SwapError, Swapper};
use crate::change::Settled;
use crate::seat::Release;

/// The audit row of a quarantine that was lifted.
pub(crate) const QUARANTINE_LIFTED: &str = "plugin.quarantine-lifted";

/// One build that does not serve again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// The component.
    pub id: ComponentId,
    /// The release's version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// Whether its seat had nothing to return to, so that nobody serves.
    pub is_parked: bool,
    /// Why, in a sentence.
    pub cause: String,
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
}

impl Swapper {
    /// Refuses a release that is in quarantine.
    pub(crate) fn demand_lifted(&self, release: &Release) -> Result<(), SwapError> {
        let record = self.store.release(&release.component, &release.digest)?;
        match record.filter(is_quarantined) {
            None => Ok(()),
            Some(record) => Err(SwapError::Quarantined {
                cause: record.verdict.map(|verdict| verdict.cause).unwrap_or_default(),
                component: record.component,
                version: record.version,
                digest: record.digest.to_string().chars().take(super::kept::DIGEST_DIGITS_MIN).collect(),
            }),
        }
    }

    /// Every build in quarantine, by component.
    pub(crate) fn quarantine(&self) -> Result<Vec<Quarantined>, SwapError> {
        let records = self.store.releases(None)?.into_iter().filter(is_quarantined);
        Ok(records.map(told).collect())
    }

    /// Lifts the quarantine of a build; it serves again when somebody swaps to it, on probation.
    pub(crate) async fn lift(
        &self,
        component: &ComponentId,
        wanted: &str,
        request: Option<DedupeKey>,
    ) -> Result<(Quarantined, u64), SwapError> {
        let _turn = self.turn.lock().await;
        let record = self.find_release(component, wanted)?;
        if let Some(Settled { position }) = self.remembered(request)? {
            return Ok((told(record), position));
        }
        if !is_quarantined(&record) {
            return Err(SwapError::NotQuarantined { component: component.clone(), version: record.version });
        }
        let (Settled { position }, _) = self
            .change(request, |unit| {
                unit.put_release(ReleaseRecord { state: ReleaseState::Returned, ..record.clone() })?;
                let detail = json!({ "version": record.version, "digest": record.digest });
                unit.audit(QUARANTINE_LIFTED, component.as_str(), detail)?;
                Ok((Settled::default(), None))
            })
            .await?;
        self.notices.forget(component);
        Ok((told(record), position))
    }
}

fn is_quarantined(record: &ReleaseRecord) -> bool {
    matches!(record.state, ReleaseState::Quarantined | ReleaseState::Parked)
}

fn told(record: ReleaseRecord) -> Quarantined {
    let verdict = record.verdict;
    Quarantined {
        id: record.component,
        version: record.version,
        digest: record.digest,
        is_parked: record.state == ReleaseState::Parked,
        cause: verdict.as_ref().map(|verdict| verdict.cause.clone()).unwrap_or_default(),
        since_ms: verdict.map_or(0, |verdict| verdict.at_ms),
    }
}
