//! Grants of a component, and the release that waits for one.

use std::collections::BTreeSet;

use serde_json::json;
use telos_store::{ComponentId, DedupeKey, ReleaseRecord, ReleaseState};

use super::request::Granting;
use super::{SwapError, Swapped, Swapper};
use crate::change::Settled;
use crate::decision::Reason;
use crate::grant::{DEFAULT_GRANTS, INTERFACES};
use crate::publication::Change;
use crate::seat::Release;

impl Swapper {
    /// Grants interfaces, and lets a release serve that waited for them.
    ///
    /// Two commits, so that a grant never waits for a busy object. The request's number belongs to the first; the
    /// second says where things shall stand, so doing it again changes nothing.
    pub(crate) async fn grant(
        &self,
        component: &ComponentId,
        interfaces: &[String],
        request: Option<DedupeKey>,
    ) -> Result<Option<Swapped>, SwapError> {
        if self.remembered::<Settled>(request)?.is_none() {
            self.give(component, interfaces, request).await?;
        }
        let Some(staged) = self.staged(component)? else {
            return Ok(None);
        };
        if !self.grants.missing(component, &staged.imports).is_empty() {
            return Ok(None);
        }
        let decide_activation = || {
            let waits = self.staged(component)?.ok_or_else(|| SwapError::NothingWaits(component.clone()))?;
            self.decision(waits, Reason::Awaited, None)
        };
        let activated = self.change_seat(decide_activation).await;
        activated.map(Some).map_err(|cause| SwapError::GrantedOnly {
            component: component.clone(),
            version: staged.version.clone(),
            cause: Box::new(cause),
        })
    }

    async fn give(
        &self,
        component: &ComponentId,
        interfaces: &[String],
        request: Option<DedupeKey>,
    ) -> Result<(), SwapError> {
        let _turn = self.turn.lock().await;
        let staged = self.staged(component)?;
        let wanted: BTreeSet<String> = match interfaces {
            [all] if all == "all" => self.wanted_by(component, staged.as_ref())?.into_iter().collect(),
            listed => listed.iter().cloned().collect(),
        };
        known_interfaces(&wanted)?;
        self.change(request, |unit| {
            for interface in &wanted {
                unit.put_grant(component, interface, "operator")?;
            }
            unit.audit("grant.given", component.as_str(), json!({ "interfaces": wanted }))?;
            let change = Change::Grant(component.clone(), wanted.clone());
            Ok((Settled::default(), Some(self.publication(change, Vec::new()))))
        })
        .await?;
        Ok(())
    }

    /// Takes grants away; from the next host call on, that interface answers `denied`.
    pub(crate) async fn revoke(
        &self,
        component: &ComponentId,
        interfaces: &[String],
        request: Option<DedupeKey>,
    ) -> Result<u64, SwapError> {
        if let Some(Settled { position }) = self.remembered(request)? {
            return Ok(position);
        }
        let _turn = self.turn.lock().await;
        self.known(component)?;
        let all: BTreeSet<String> = match interfaces {
            [all] if all == "all" => self.grants.of(component),
            listed => listed.iter().cloned().collect(),
        };
        known_interfaces(&all)?;
        let (Settled { position }, _) = self
            .change(request, |unit| {
                for interface in &all {
                    unit.remove_grant(component, interface)?;
                }
                unit.audit("grant.revoked", component.as_str(), json!({ "interfaces": all }))?;
                let change = Change::Revoke(component.clone(), all.clone());
                Ok((Settled::default(), Some(self.publication(change, Vec::new()))))
            })
            .await?;
        Ok(position)
    }

    /// The newest release that waits for a grant.
    pub(crate) fn staged(&self, component: &ComponentId) -> Result<Option<ReleaseRecord>, SwapError> {
        self.known(component)?;
        let seated = self.seat(component).ok().map(|seat| seat.digest);
        let records = self.store.releases(Some(component))?;
        let newest = records.into_iter().max_by_key(|record| record.installed_at_ms);
        let waits = |record: &ReleaseRecord| {
            record.state == ReleaseState::NeedsGrant && Some(record.digest) != seated
        };
        Ok(newest.filter(waits))
    }

    pub(super) fn granting(
        &self,
        release: &Release,
        asked: &Granting,
    ) -> Result<BTreeSet<String>, SwapError> {
        let mut granting = BTreeSet::new();
        if self.store.releases(Some(&release.component))?.is_empty() {
            granting.extend(DEFAULT_GRANTS.iter().map(ToString::to_string));
        }
        match asked {
            Granting::Nothing => {}
            Granting::All => granting.extend(release.imports.iter().cloned()),
            Granting::These(interfaces) => granting.extend(interfaces.iter().cloned()),
        }
        known_interfaces(&granting)?;
        Ok(granting)
    }

    pub(super) fn missing(
        &self,
        release: &Release,
        granting: &BTreeSet<String>,
    ) -> Result<Vec<String>, SwapError> {
        let is_new = self.store.releases(Some(&release.component))?.is_empty();
        let granted = |interface: &String| {
            granting.contains(interface) || (is_new && DEFAULT_GRANTS.contains(&interface.as_str()))
        };
        let missing = self.grants.missing(&release.component, &release.imports);
        Ok(missing.into_iter().filter(|interface| !granted(interface)).collect())
    }

    fn wanted_by(
        &self,
        component: &ComponentId,
        staged: Option<&ReleaseRecord>,
    ) -> Result<Vec<String>, SwapError> {
        let waiting = self.waiting_for_start(component)?;
        if let Some(record) = staged.or(waiting.as_ref()) {
            return Ok(record.imports.clone());
        }
        let table = self.seats.current();
        Ok(table.releases.get(component).map(|release| release.imports.clone()).unwrap_or_default())
    }
}

fn known_interfaces<'a>(interfaces: impl IntoIterator<Item = &'a String>) -> Result<(), SwapError> {
    let unknown = interfaces.into_iter().find(|interface| !INTERFACES.contains(&interface.as_str()));
    unknown.map_or(Ok(()), |interface| Err(SwapError::NoSuchInterface(interface.clone())))
}
