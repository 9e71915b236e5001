//! What people and programs are told of plugins: who serves, what waits, what it may use, what went wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use telos_store::{ComponentId, ReleaseRecord, ReleaseState, SeatRecord, Store};

use crate::allowance::Allowances;
use crate::descriptor::Descriptor;
use crate::generation::{next_of_waiting, waits_for_start};
use crate::notice::Notice;
use crate::seat::Release;
use crate::swap::{SwapError, Swapper};

/// Every plugin with a release, in order of their ids.
pub(crate) fn all(swapper: &Swapper) -> Result<Vec<Value>, SwapError> {
    let mut plugins: BTreeMap<ComponentId, Vec<ReleaseRecord>> = BTreeMap::new();
    for record in swapper.store.releases(None)? {
        plugins.entry(record.component.clone()).or_default().push(record);
    }
    let known = plugins.into_values().filter_map(|records| Known::of(swapper, records).transpose());
    known.map(|known| row(&known?)).collect()
}

/// Everything about one plugin.
pub(crate) fn one(swapper: &Swapper, component: &ComponentId) -> Result<Value, SwapError> {
    let known = known(swapper, component)?;
    let mut told = row(&known)?;
    if let (Value::Object(told), Value::Object(more)) = (&mut told, more(&known)?) {
        told.extend(more);
    }
    Ok(told)
}

/// The release that serves; the newest when none does.
pub(crate) fn shown(swapper: &Swapper, component: &ComponentId) -> Result<ReleaseRecord, SwapError> {
    Ok(known(swapper, component)?.shown().clone())
}

fn known<'a>(swapper: &'a Swapper, component: &ComponentId) -> Result<Known<'a>, SwapError> {
    let known = Known::of(swapper, swapper.store.releases(Some(component))?)?;
    known.ok_or_else(|| SwapError::NoSuchPlugin(component.to_string()))
}

/// A component as the store and the seats have it.
struct Known<'a> {
    swapper: &'a Swapper,
    component: ComponentId,
    seat: Option<SeatRecord>,
    records: Vec<ReleaseRecord>,
    newest: ReleaseRecord,
    is_served: bool,
}

impl<'a> Known<'a> {
    /// None without a release.
    fn of(swapper: &'a Swapper, records: Vec<ReleaseRecord>) -> Result<Option<Self>, SwapError> {
        let Some(newest) = records.iter().max_by_key(|record| record.installed_at_ms).cloned() else {
            return Ok(None);
        };
        let component = newest.component.clone();
        let seat = swapper.store.seat(&component)?;
        let is_served = swapper.seats.current().releases.contains_key(&component);
        Ok(Some(Self { swapper, component, seat, records, newest, is_served }))
    }

    /// The release that serves; the newest when none does.
    fn shown(&self) -> &ReleaseRecord {
        let is_seated =
            |record: &&ReleaseRecord| self.seat.as_ref().is_some_and(|seat| seat.digest == record.digest);
        self.records.iter().find(is_seated).unwrap_or(&self.newest)
    }

    fn state(&self) -> &'static str {
        match (&self.seat, self.is_served) {
            (Some(_), true) => "serving",
            (Some(_), false) if self.shown().state == ReleaseState::Parked => "parked",
            (Some(_), false) => "unloadable",
            (None, _) if self.staged().is_some() => "staged",
            (None, _) => "removed",
        }
    }

    /// What is staged: for the next start, or else for a grant.
    fn staged(&self) -> Option<&ReleaseRecord> {
        let waits = self.records.iter().find(|record| record.state == ReleaseState::Staged);
        let is_seated = self.seat.as_ref().is_some_and(|seat| seat.digest == self.newest.digest);
        let needs_grant = self.newest.state == ReleaseState::NeedsGrant && !is_seated;
        waits.or_else(|| needs_grant.then_some(&self.newest))
    }

    /// What to know besides: what was noticed, else that something waits for the next start.
    fn notice(&self) -> Result<Option<Notice>, SwapError> {
        if let Some(notice) = self.swapper.notices.of(&self.component) {
            return Ok(Some(notice));
        }
        let Some(staged) = self.staged().filter(|record| record.state == ReleaseState::Staged) else {
            return Ok(None);
        };
        let to = descriptor(staged)?.generation;
        let from = self.swapper.in_force(&self.component)?.unwrap_or_default();
        let text = format!("{} waits: {}", staged.version, waits_for_start(from, to));
        let next = next_of_waiting(&self.component, &staged.version);
        Ok(Some(Notice { text, next: Some(next), is_trouble: false }))
    }
}

/// What the releases that serve have used since they were loaded, by component.
pub(crate) fn usage(swapper: &Swapper, allowances: &Allowances) -> Vec<Value> {
    let table = swapper.seats.current();
    let told = |release: &Arc<Release>| {
        json!({
            "id": release.component,
            "version": release.version(),
            "usage": release.tally.usage(),
            "cpu_ms_max": release.limits.cpu_ms,
            "memory_mib_max": release.limits.memory_mib,
            "budgets": budgets(&swapper.store, allowances, &release.component),
        })
    };
    table.releases.values().map(told).collect()
}

/// What a component has of storage, vectors, posts and minds, each with the most that it may have.
pub(crate) fn budgets(store: &Store, allowances: &Allowances, component: &ComponentId) -> Value {
    let (bounds, terms, reading) = (store.owner_bounds(), allowances.terms(), allowances.reading(component));
    json!({
        "stored_bytes": store.stored_bytes(component),
        "stored_bytes_max": bounds.stored_bytes,
        "vector_bytes": store.vector_bytes(component),
        "vector_bytes_max": bounds.vector_bytes,
        "posts_pending": store.posts_pending(component),
        "posts_pending_max": bounds.posts_pending,
        "inference_tokens": reading.tokens,
        "inference_tokens_max": terms.tokens_per_minute,
        "inference_requests": reading.requests,
        "inference_requests_max": terms.requests_max,
    })
}

fn row(known: &Known<'_>) -> Result<Value, SwapError> {
    let (shown, descriptor, notice) = (known.shown(), descriptor(known.shown())?, known.notice()?);
    let asking = known.staged().unwrap_or(&known.newest);
    let grants = &known.swapper.grants;
    Ok(json!({
        "id": known.component,
        "version": shown.version,
        "digest": shown.digest,
        "state": known.state(),
        "kind": descriptor.kind,
        "summary": descriptor.summary,
        "grants": grants.of(&known.component),
        "missing_grants": grants.missing(&known.component, &asking.imports),
        "staged_version": known.staged().map(|record| &record.version),
        "since_ms": known.seat.as_ref().map(|seat| seat.since_ms),
        "cause": notice.as_ref().map(|notice| &notice.text),
        "next": notice.as_ref().and_then(|notice| notice.next.as_ref()),
        "is_trouble": notice.as_ref().is_some_and(|notice| notice.is_trouble),
    }))
}

fn more(known: &Known<'_>) -> Result<Value, SwapError> {
    let (shown, descriptor) = (known.shown(), descriptor(known.shown())?);
    Ok(json!({
        "generation": descriptor.generation,
        "contract": shown.contract,
        "imports": shown.imports,
        "limits": shown.limits.to_value(),
        "probation": probation(known),
        "selectors": descriptor.selectors.iter().map(|(name, selector)| json!({
            "name": name,
            "summary": selector.summary,
            "read_only": selector.read_only,
            "examples": selector.examples.len(),
        })).collect::<Vec<_>>(),
        "releases": known.records.iter().map(|record| json!({
            "digest": record.digest,
            "version": record.version,
            "state": record.state,
            "source": record.source,
            "installed_at_ms": record.installed_at_ms,
        })).collect::<Vec<_>>(),
    }))
}

/// What is known of a release on probation that serves; null for any other.
fn probation(known: &Known<'_>) -> Value {
    let table = known.swapper.seats.current();
    let (Some(serving), Some(seat)) = (table.releases.get(&known.component), &known.seat) else {
        return Value::Null;
    };
    if !serving.tally.is_watched() {
        return Value::Null;
    }
    let earlier = known.records.iter().find(|record| Some(record.digest) == seat.returns_to);
    let usage = serving.tally.usage();
    json!({
        "answered": usage.answered,
        "broken": usage.broken,
        "returns_to": earlier.map(|record| &record.version),
    })
}

fn descriptor(record: &ReleaseRecord) -> Result<Descriptor, SwapError> {
    Descriptor::of(record).map_err(|error| SwapError::Store(error.to_string()))
}
