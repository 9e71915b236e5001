//! Which version new bytes may have: one that names no other build, and none before the permanent one.

use semver::Version;
use telos_store::ReleaseState;

use super::kept::DIGEST_DIGITS_MIN;
use super::{SwapError, Swapper};
use crate::seat::Release;

impl Swapper {
    /// Refuses bytes whose version another build has, or that are older than the permanent release that serves, or to
    /// which the seat returns. Bytes that are kept already may come again.
    pub(super) fn demand_later(&self, release: &Release, source: &str) -> Result<(), SwapError> {
        let (component, version) = (&release.component, release.version().to_string());
        let records = self.store.releases(Some(component))?;
        if records.iter().any(|record| record.digest == release.digest) {
            return Ok(());
        }
        if let Some(same) = records.iter().find(|record| record.version == version) {
            return Err(SwapError::SameVersion {
                source_name: source.to_owned(),
                component: component.clone(),
                version,
                digest: same.digest.to_string().chars().take(DIGEST_DIGITS_MIN).collect(),
            });
        }
        let seat = self.store.seat(component)?;
        let is_permanent = |record: &&telos_store::ReleaseRecord| {
            let is_of_the_seat = seat
                .as_ref()
                .is_some_and(|seat| seat.digest == record.digest || seat.returns_to == Some(record.digest));
            is_of_the_seat && record.state == ReleaseState::Permanent
        };
        let permanent = records.iter().find(is_permanent);
        let later = |record: &&telos_store::ReleaseRecord| {
            Version::parse(&record.version).is_ok_and(|permanent| permanent > *release.version())
        };
        match permanent.filter(later) {
            None => Ok(()),
            Some(permanent) => Err(SwapError::Older {
                source_name: source.to_owned(),
                component: component.clone(),
                version,
                permanent: permanent.version.clone(),
            }),
        }
    }
}
