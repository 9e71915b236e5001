//! Every invariant of a stored database, checked offline or over one snapshot of an open store.
//!
//! ```text
//! pages     each is as it was written, by its checksum, and no look found otherwise since the last restore
//! objects   revisions n, n+1, ... (n = 1 above the history floor), positions decided, bounds hold, parents exist, count
//! owned     each owner's list is what its objects say
//! raised    generations rise with their positions, no object is below its owner's, each copy is of the newest
//!           state or was when it came into force; in memory as on disk
//! names     each stands for an object that exists, and the table by object says the same
//! stored    the bytes of each component are summed up, in memory as on disk
//! history   what replaced what is listed for all above the floor and all not yet pruned
//! vectors   dimension, finite, object exists; each row is the newest redo of its key, in memory as on disk
//! outbox    posts are decided, have attempts left; dead letters have none
//! sessions  rows only above the watermark, as many as counted, within the bound
//! audit     numbers without gaps, positions never falling
//! records   every seat names a release
//! blobs     counted as often as rows name them, each there and whole
//! ```

mod check;
mod generation;
mod past;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::blob::Blobs;
use crate::copy;
use crate::damage;
use crate::database::Database;
use crate::error::Failure;
use crate::generation::Generations;
use crate::id::{ObjectId, Position};
use crate::pages;
use crate::progress::{Meter, Phase, Progress};
use crate::scan::Scan as _;
use crate::shared::{Shared, read_collections};
use crate::stored::StoredBytes;
use crate::tables::{GENERATIONS, META, META_HISTORY_FLOOR, META_LAYOUT, META_POSITION, VECTORS, read_meta};
use crate::vectors::{self, CollectionKey, Room};

use check::Check;

/// Problems listed in one report; more are only counted by the last line.
const PROBLEMS_MAX: usize = 1_000;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The layout that the database has; what an older one did not have is not checked.
    pub layout: u64,
    /// The newest decided position in the database.
    pub position: Position,
    /// Rows that were looked at.
    pub rows: u64,
    /// What is wrong, one sentence each; at most 1,000.
    pub problems: Vec<String>,
    /// The first of them that is in the bytes of the store, and not in memory or on the way to them.
    #[serde(skip)]
    damage: Option<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Something in the bytes is not as it was written.
    fn problem(&mut self, problem: String) {
        self.damage.get_or_insert_with(|| problem.clone());
        self.trouble(problem);
    }

    /// Something else is wrong.
    fn trouble(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// Checks a database that nobody else has open, redb's own pages first. `marked`: whether a look found damage before.
pub(crate) fn verify_offline(
    database: &Database,
    blobs: &Blobs,
    marked: Result<(), Failure>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Failure> {
    let mut meter = Meter::new(progress);
    meter.begin(Phase::Pages, 1);
    let pages_were_whole = database.check_integrity()?;
    meter.step(1);
    meter.end();
    let mut report = damage::guard(|| verify_rows(database, blobs, progress))?;
    if !pages_were_whole {
        report.problem("redb: damaged pages were found, which opening repairs".into());
    }
    if let Err(damage) = marked {
        report.problem(format!("pages: {damage}"));
    }
    Ok(report)
}

/// Checks an open store: its pages, its rows, and that memory follows them.
pub(crate) fn verify_open(shared: &Shared, progress: &mut dyn FnMut(Progress)) -> Result<Report, Failure> {
    let notes = shared.stand.damage_notes();
    let report = verify_open_file(shared, progress);
    match &report {
        Ok(Report { damage: Some(damage), .. }) => {
            shared.stand.note_damage(&format!("a verification found: {damage}"));
        }
        Ok(report) if report.is_clean() => shared.stand.note_whole(notes),
        Ok(_) => (),
        Err(failure) => shared.report(failure),
    }
    report
}

fn verify_open_file(shared: &Shared, progress: &mut dyn FnMut(Progress)) -> Result<Report, Failure> {
    let _whole = shared.whole.read();
    let pages = pages::check(shared, progress);
    if let Err(failure) = &pages
        && !failure.is_damage()
    {
        return Err(failure.clone());
    }
    let mut report = damage::guard(|| verify_open_rows(shared, progress))?;
    if let Err(damage) = pages {
        report.problem(format!("pages: {damage}"));
    }
    Ok(report)
}

/// Nobody replaces the file meanwhile.
fn verify_open_rows(shared: &Shared, progress: &mut dyn FnMut(Progress)) -> Result<Report, Failure> {
    let mut report = verify_rows(&shared.database, &shared.blobs, progress)?;
    let before = shared.position();
    let (position, stored) = live_vectors(&shared.database)?;
    let indexed = shared.index.read().live();
    let counted = quiet_room(shared, position);
    let (generations, sums) = {
        let txn = shared.database.read()?;
        (
            Generations::read(&txn.open_table(GENERATIONS)?)?,
            StoredBytes::read(&txn.open_table(META)?)?.durable(),
        )
    };
    let summed = shared.order.read().stored.durable();
    let known = Arc::clone(&shared.generations.read());
    // Between a vote and the commit's finish memory is ahead or behind; then another verification tells.
    let is_quiet = before == position && shared.position() == position && counted.is_some();
    if is_quiet && stored != indexed {
        report.trouble("vectors: the indexes in memory do not hold what the rows say".into());
    }
    if let Some(counted) = counted.filter(|counted| is_quiet && *counted != room_of(&stored)) {
        report.trouble(format!("vectors: {} bytes are counted, and the rows say otherwise", counted.total()));
    }
    if is_quiet && summed != sums {
        report.trouble("stored: memory does not count what the rows say".into());
    }
    if is_quiet && generations != *known {
        report.trouble("generations: memory does not hold what the rows say".into());
    }
    Ok(report)
}

fn verify_rows(
    database: &Database,
    blobs: &Blobs,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Failure> {
    let txn = database.read()?;
    let position = Position::new(read_meta(&txn.open_table(META)?, META_POSITION)?);
    let meta = txn.open_table(META)?;
    let floor = Position::new(read_meta(&meta, META_HISTORY_FLOOR)?);
    let layout = read_meta(&meta, META_LAYOUT)?;
    let mut check = Check::new(&txn, position, floor, layout, Meter::new(progress));
    check.begin_rows(copy::count(&txn)?);
    if layout >= 2 {
        check.generations()?;
    }
    check.objects()?;
    if layout >= 2 {
        check.shadows()?;
        check.owned()?;
    }
    check.names()?;
    if layout >= 4 {
        check.stored()?;
    }
    if layout >= 2 {
        check.past()?;
    }
    check.vectors()?;
    check.outbox()?;
    check.sessions()?;
    check.audit()?;
    check.records()?;
    if layout >= 2 {
        check.blobs(blobs)?;
    }
    Ok(check.into_report())
}

/// Each vector's object and bytes.
type Live = HashMap<CollectionKey, BTreeMap<ObjectId, u64>>;

/// The bytes that are counted, when nothing is pending beside what is durable.
fn quiet_room(shared: &Shared, durable: Position) -> Option<Room> {
    let order = shared.order.read();
    (order.position() == durable).then(|| order.room().clone())
}

fn room_of(live: &Live) -> Room {
    let mut room = Room::default();
    for (collection, objects) in live.iter().filter(|(_, objects)| !objects.is_empty()) {
        room.add(&collection.owner, objects.values().sum());
    }
    room
}

fn live_vectors(database: &Database) -> Result<(Position, Live), Failure> {
    let txn = database.read()?;
    let position = Position::new(read_meta(&txn.open_table(META)?, META_POSITION)?);
    let vectors = txn.open_table(VECTORS)?;
    let mut live = Live::new();
    for collection in read_collections(&txn)? {
        let rows = vectors.rows_in((collection.number, 0)..=(collection.number, u128::MAX))?;
        let objects = rows.map(|row| {
            let (key, row) = row?;
            let (_, metadata, _) = row.value();
            let bytes = vectors::bytes(collection.form.dim, metadata);
            Ok((ObjectId::from_bits(key.value().1), bytes))
        });
        live.insert(collection.key, objects.collect::<Result<_, Failure>>()?);
    }
    Ok((position, live))
}
