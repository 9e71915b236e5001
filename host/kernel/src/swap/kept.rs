//! Kept releases: which one somebody means, and what is answered when it serves already.

use std::time::Duration;

use semver::Version;
use telos_store::{AuditRow, ComponentId, Digest, ReleaseRecord};

use super::{SwapError, Swapped, Swapper};
use crate::seat::Release;
use crate::traffic::{Account, Moved, Toll};

/// Digits that name a release by the beginning of its digest: with fewer, two releases of one component may share it.
pub(super) const DIGEST_DIGITS_MIN: usize = 8;

impl Swapper {
    /// The newest release of this version, or whose digest begins so.
    pub(super) fn find_release(
        &self,
        component: &ComponentId,
        wanted: &str,
    ) -> Result<ReleaseRecord, SwapError> {
        let records = self.store.releases(Some(component))?;
        if records.is_empty() {
            return Err(SwapError::NoSuchPlugin(component.to_string()));
        }
        let begins = |record: &ReleaseRecord| record.digest.to_string().starts_with(wanted);
        let is_wanted = |record: &&ReleaseRecord| {
            record.version == wanted || (wanted.len() >= DIGEST_DIGITS_MIN && begins(record))
        };
        let newest = records.iter().filter(is_wanted).max_by_key(|record| record.installed_at_ms);
        newest.cloned().ok_or_else(|| {
            match records.iter().find(|record| !wanted.is_empty() && begins(record)) {
                Some(record) => SwapError::DigestTooShort {
                    component: component.clone(),
                    wanted: wanted.to_owned(),
                    enough: record.digest.to_string().chars().take(DIGEST_DIGITS_MIN).collect(),
                },
                None => SwapError::NoSuchRelease {
                    component: component.clone(),
                    wanted: wanted.to_owned(),
                    known: versions(&records),
                },
            }
        })
    }

    /// The answer to a swap that would change nothing. A release that did not load is not one that serves; and where
    /// another waits for a start, or failed at one, the swap decides against it.
    pub(super) fn serves_already(
        &self,
        component: &ComponentId,
        wanted: &str,
    ) -> Result<Option<Swapped>, SwapError> {
        let digest = self.find_release(component, wanted)?.digest;
        if self.waiting_for_start(component)?.is_some() || self.notices.of(component).is_some() {
            return Ok(None);
        }
        let table = self.seats.current();
        let serving = table.releases.get(component).filter(|release| release.digest == digest);
        Ok(serving.map(|release| self.unchanged(release)))
    }

    /// The answer for a release that serves already.
    pub(super) fn unchanged(&self, release: &Release) -> Swapped {
        Swapped {
            id: release.component.clone(),
            version: release.version().to_string(),
            digest: release.digest,
            state: "serving".into(),
            missing_grants: Vec::new(),
            cause: None,
            next: None,
            previous: None,
            position: self.store.position().get(),
            pause_us: 0,
            is_unchanged: true,
        }
    }

    /// The answer for a release that came to serve by a decision whose own answer was lost, and the decision's account.
    pub(crate) fn served(&self, record: &ReleaseRecord, toll: &Toll) -> Swapped {
        let ReleaseRecord { component, version, digest, .. } = record.clone();
        let decided = |row: &AuditRow| {
            row.subject == component.as_str() && row.detail["digest"] == digest.to_string().as_str()
        };
        let rows = self.store.audit_between(0, u64::MAX, 1, decided).unwrap_or_default();
        let parent = rows.first().and_then(|row| row.detail["previous"].as_str()?.parse::<Digest>().ok());
        let position = rows.first().map_or_else(|| self.store.position(), |row| row.position).get();
        let previous = parent.and_then(|digest| self.store.release(&component, &digest).ok()?);
        let moved = vec![Moved { component: component.clone(), digest: Some(digest), parent }];
        let account = Account { position, moved, pause: Duration::ZERO, toll };
        self.journal.record(account.line(self.traffic.read()));
        self.notices.forget(&component);
        Swapped {
            id: component,
            version,
            digest,
            state: "serving".into(),
            missing_grants: Vec::new(),
            cause: None,
            next: None,
            previous: previous.map(|record| record.version),
            position,
            pause_us: 0,
            is_unchanged: false,
        }
    }
}

/// The versions of releases, in their order.
fn versions(records: &[ReleaseRecord]) -> String {
    let mut versions: Vec<_> = records.iter().map(|record| record.version.as_str()).collect();
    versions.sort_by_key(|version| Version::parse(version).ok());
    versions.join(", ")
}
