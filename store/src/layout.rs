//! The store's own layout is a generation too: a database of any published layout is raised to today's when it is
//! opened, one step after another, in one commit of its own.
//!
//! ```text
//! open      layout N < today's     a newer one was refused before
//! steps     N → N + 1 → ...        in one write transaction      crash or failure: still layout N, whole
//! audit     one row for each step  in the same commit            `telos audit` shows it
//! ```
//! A step reads the tables as its layout left them and never calls code that later layouts may change.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use serde_json::json;

use crate::audit::{self, Fact};
use crate::error::Failure;
use crate::id::{ObjectId, Position};
use crate::scan::Scan as _;
use crate::store_id;
use crate::stored;
use crate::tables::{self, LAYOUT, META_LAYOUT, META_OBJECT_ROWS, META_POSITION, Tables};

/// What opening a store does with a database that an older host wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayoutMode {
    /// Raises it, in one transaction: it has the old layout, whole, or the new one.
    #[default]
    Raise,
    /// Refuses it with [`OpenError::OlderLayout`](crate::OpenError::OlderLayout) and leaves it as it is.
    Check,
}

/// The same for every way of opening.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnOlder {
    Raise,
    Refuse,
    /// For reading that knows older layouts.
    Leave,
}

impl From<LayoutMode> for OnOlder {
    fn from(mode: LayoutMode) -> OnOlder {
        match mode {
            LayoutMode::Raise => OnOlder::Raise,
            LayoutMode::Check => OnOlder::Refuse,
        }
    }
}

/// Raises one layout to the next.
type Step = fn(&mut Tables<'_>) -> Result<(), Failure>;

/// The step from layout N is at index N - 1.
const STEPS: [Step; 3] = [count_and_own, know_forms, sum_stored];

/// Raises a database from an older layout to today's within `txn`, which the caller commits.
///
/// # Errors
/// [`Failure`]; the transaction is then dropped and the database is as it was.
pub(crate) fn raise(txn: &WriteTransaction, found: u64, at_ms: u64) -> Result<(), Failure> {
    let mut tables = Tables::make(txn)?;
    let steps = (found..LAYOUT).zip(STEPS.iter().skip(usize::try_from(found - 1).unwrap_or(usize::MAX)));
    for (from, step) in steps {
        step(&mut tables)?;
        let position = Position::new(tables::add_to_meta(&mut tables, META_POSITION, 1)?);
        let detail = json!({ "from": from, "to": from + 1 });
        let fact = Fact { kind: "store.layout-raised".into(), subject: "store".into(), detail };
        audit::write(&mut tables, &fact, position, at_ms)?;
    }
    tables.meta.open()?.insert(META_LAYOUT, LAYOUT)?;
    Ok(())
}

/// 1 → 2: object rows are counted, owners know their objects, what ended is listed in order, blobs know the releases
/// that name them, and the store has an identity.
fn count_and_own(tables: &mut Tables<'_>) -> Result<(), Failure> {
    let (mut rows, mut newest) = (0, None);
    for row in tables.objects.open()?.rows()? {
        let (key, value) = row?;
        let (id, position) = key.value();
        let object = tables::decode_object(ObjectId::from_bits(id), Position::new(position), value.value())?;
        rows += 1;
        let replaced = newest.as_ref().filter(|(before, _, _)| *before == id).map_or(0, |(_, at, _)| *at);
        tables.changes.open()?.insert((position, id), replaced)?;
        // Rows are sorted by object and position: the last one of each object is its newest.
        if let Some((before, _, owner)) = newest.replace((id, position, object.owner))
            && before != id
        {
            tables.owned.open()?.insert((owner.as_str(), before), ())?;
        }
    }
    if let Some((id, _, owner)) = newest {
        tables.owned.open()?.insert((owner.as_str(), id), ())?;
    }
    tables.meta.open()?.insert(META_OBJECT_ROWS, rows)?;
    list_renames(tables)?;
    count_references(tables)?;
    store_id::make(tables)
}

/// 2 → 3: collections may have a form of their own. Those that are there have none, which means what it meant before.
fn know_forms(_: &mut Tables<'_>) -> Result<(), Failure> {
    Ok(())
}

/// 3 → 4: what each component stores is summed up.
fn sum_stored(tables: &mut Tables<'_>) -> Result<(), Failure> {
    let mut sums = BTreeMap::new();
    for row in tables.objects.open()?.rows()? {
        stored::count_state(&mut sums, row?.1.value())?;
    }
    for row in tables.names.open()?.rows()? {
        stored::count_name(&mut sums, row?.0.value().0);
    }
    stored::write_sums(tables, &sums)
}

fn list_renames(tables: &mut Tables<'_>) -> Result<(), Failure> {
    let mut before: Option<(String, u64)> = None;
    for row in tables.names.open()?.rows()? {
        let (key, _) = row?;
        let (name, position) = key.value();
        if let Some((same, replaced)) = &before
            && same == name
        {
            tables.renames.open()?.insert((position, name), replaced)?;
        }
        before = Some((name.to_owned(), position));
    }
    Ok(())
}

/// A release's digest is the second half of its key.
fn count_references(tables: &mut Tables<'_>) -> Result<(), Failure> {
    for row in tables.releases.open()?.rows()? {
        let key = row?.0;
        let digest = key.value().1;
        let before = tables.blobs.open()?.get(digest)?.map_or(0, |count| count.value());
        tables.blobs.open()?.insert(digest, before + 1)?;
    }
    Ok(())
}
