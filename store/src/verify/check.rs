//! The checks, table by table, over one read transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use redb::{ReadTransaction, ReadableTableMetadata};

use crate::audit::AuditRow;
use crate::blob::Blobs;
use crate::error::{BlobError, Failure};
use crate::id::{Digest, ObjectId, Position};
use crate::limit;
use crate::object::{Object, check_bounds};
use crate::outbox::{DeadLetter, OutboxRow};
use crate::progress::{Meter, Phase};
use crate::record::{GrantRecord, ReleaseRecord, SeatRecord};
use crate::scan::Scan as _;
use crate::shared::{Collection, read_collections};
use crate::stored::{self, StoredBytes};
use crate::tables::{self, META, META_AUDIT, META_OBJECTS, META_REDO_FLOOR, read_meta};

use super::Report;
use super::generation::States;

/// A verification under way.
pub(super) struct Check<'a> {
    pub(super) txn: &'a ReadTransaction,
    pub(super) position: Position,
    /// The history floor.
    pub(super) floor: Position,
    objects: HashSet<u128>,
    owners: BTreeSet<(String, u128)>,
    /// What each component stores, as the rows say.
    stored: BTreeMap<String, u64>,
    /// How many rows name each blob.
    named: BTreeMap<Digest, u64>,
    pub(super) states: States,
    pub(super) report: Report,
    meter: Meter<'a>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        txn: &'a ReadTransaction,
        position: Position,
        floor: Position,
        layout: u64,
        meter: Meter<'a>,
    ) -> Check<'a> {
        let report = Report { layout, position, ..Report::default() };
        Check {
            txn,
            position,
            floor,
            objects: HashSet::new(),
            owners: BTreeSet::new(),
            stored: BTreeMap::new(),
            named: BTreeMap::new(),
            states: States::default(),
            report,
            meter,
        }
    }

    /// Begins the phase that reads every row.
    pub(super) fn begin_rows(&mut self, total: u64) {
        self.meter.begin(Phase::Rows, total);
    }

    pub(super) fn into_report(self) -> Report {
        self.report
    }

    pub(super) fn objects(&mut self) -> Result<(), Failure> {
        let mut parents = HashSet::new();
        let mut before: Option<Object> = None;
        for row in self.txn.open_table(tables::OBJECTS)?.rows()? {
            let (key, value) = row?;
            let (id, position) = key.value();
            let decoded =
                tables::decode_object(ObjectId::from_bits(id), Position::new(position), value.value());
            self.row();
            self.objects.insert(id);
            match decoded {
                Ok(object) => {
                    stored::count_state(&mut self.stored, value.value())?;
                    self.states_between(before.as_ref(), Some(&object));
                    self.object(&object);
                    parents.extend(object.parents.iter().copied());
                    if let Some(before) = before.replace(object) {
                        self.owned_by(&before, id);
                    }
                }
                Err(failure) => self.report.problem(format!("object {id:032x} at {position}: {failure}")),
            }
        }
        self.states_between(before.as_ref(), None);
        if let Some(last) = &before {
            self.owners.insert((last.owner.to_string(), last.id.to_bits()));
        }
        for parent in parents.iter().filter(|parent| !self.objects.contains(&parent.to_bits())) {
            self.report.problem(format!("objects: parent {parent} does not exist"));
        }
        let counted = read_meta(&self.txn.open_table(META)?, META_OBJECTS)?;
        self.expect("objects: counted in meta", counted, self.objects.len() as u64);
        Ok(())
    }

    /// The row before the first one of another object was its object's newest.
    fn owned_by(&mut self, before: &Object, next: u128) {
        if before.id.to_bits() != next {
            self.owners.insert((before.owner.to_string(), before.id.to_bits()));
        }
    }

    /// Owners know exactly their objects.
    pub(super) fn owned(&mut self) -> Result<(), Failure> {
        let mut listed = BTreeSet::new();
        for row in self.txn.open_table(tables::OWNED)?.rows()? {
            let (key, ()) = row.map(|(key, _)| (key, ()))?;
            let (owner, object) = key.value();
            self.row();
            listed.insert((owner.to_owned(), object));
        }
        if listed != self.owners {
            self.report.problem("owned: the table does not list what the objects say of their owners".into());
        }
        Ok(())
    }

    /// One state, in the order of an object's states.
    pub(super) fn object(&mut self, object: &Object) {
        let revision = self.states.revision_after(object, self.floor);
        let what = format!("object {} at {}: revision", object.id, object.position);
        self.expect(&what, object.revision.get(), revision);
        self.decided(&format!("object {}", object.id), object.position);
        if let Err(overflow) = check_bounds(object, object.bytes()) {
            self.report.problem(format!("object {}: {overflow}", object.id));
        }
    }

    pub(super) fn names(&mut self) -> Result<(), Failure> {
        let mut by_name = BTreeMap::new();
        for row in self.txn.open_table(tables::NAMES)?.rows()? {
            let (key, value) = row?;
            let (name, position) = key.value();
            self.row();
            self.decided(&format!("name {name}"), Position::new(position));
            stored::count_name(&mut self.stored, name);
            by_name.insert(name.to_owned(), value.value());
        }
        let bound: BTreeSet<_> = by_name.into_iter().filter_map(|(name, id)| Some((id?, name))).collect();
        for (id, name) in bound.iter().filter(|(id, _)| !self.objects.contains(id)) {
            self.report.problem(format!("name {name}: object {id:032x} does not exist"));
        }
        if bound != self.bound_by_object()? {
            self.report.problem("names: the tables by name and by object differ".into());
        }
        Ok(())
    }

    /// What each component stores is summed up as its rows say, once these were read.
    pub(super) fn stored(&mut self) -> Result<(), Failure> {
        let counted = StoredBytes::read(&self.txn.open_table(META)?)?.durable();
        let components: BTreeSet<_> = counted.keys().chain(self.stored.keys()).cloned().collect();
        for component in components {
            let of = |sums: &BTreeMap<String, u64>| sums.get(&component).copied().unwrap_or_default();
            let (counted, stored) = (of(&counted), of(&self.stored));
            self.expect(&format!("meta: bytes stored by {component}"), counted, stored);
        }
        Ok(())
    }

    fn bound_by_object(&mut self) -> Result<BTreeSet<(u128, String)>, Failure> {
        let mut bound = BTreeSet::new();
        for row in self.txn.open_table(tables::NAMES_OF)?.rows()? {
            let (key, is_bound) = row?;
            let (id, name, _) = key.value();
            self.row();
            let entry = (id, name.to_owned());
            if is_bound.value() {
                bound.insert(entry)
            } else {
                bound.remove(&entry)
            };
        }
        Ok(bound)
    }

    pub(super) fn vectors(&mut self) -> Result<(), Failure> {
        let collections = read_collections(self.txn)?;
        let by_number: HashMap<u32, &Collection> =
            collections.iter().map(|collection| (collection.number, collection)).collect();
        self.expect("collections: distinct numbers", by_number.len() as u64, collections.len() as u64);
        let mut stored = HashMap::new();
        for row in self.txn.open_table(tables::VECTORS)?.rows()? {
            let (key, value) = row?;
            let (position, _, bytes) = value.value();
            self.row();
            self.vector(key.value(), bytes, &by_number);
            self.decided("vectors", Position::new(position));
            stored.insert(key.value(), position);
        }
        self.editions(&by_number)?;
        self.redo(&stored)
    }

    /// Each edition of the archive is of a collection, and its base was decided.
    fn editions(&mut self, collections: &HashMap<u32, &Collection>) -> Result<(), Failure> {
        let editions = match self.txn.open_table(tables::EDITIONS) {
            // An older layout has none.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            opened => opened?,
        };
        for row in editions.rows()? {
            let (collection, row) = row?;
            let (collection, (number, base)) = (collection.value(), row.value());
            self.row();
            if !collections.contains_key(&collection) {
                self.report.problem(format!("edition {number}: no collection {collection}"));
            }
            if base != tables::GIVEN_UP {
                self.decided(&format!("edition {number} of collection {collection}"), Position::new(base));
            }
        }
        Ok(())
    }

    fn vector(
        &mut self,
        (number, object): (u32, u128),
        bytes: &[u8],
        collections: &HashMap<u32, &Collection>,
    ) {
        let Some(collection) = collections.get(&number) else {
            return self.report.problem(format!("vector of {object:032x}: no collection {number}"));
        };
        let what = format!("vector of {object:032x} in {}: bytes", collection.key.name);
        self.expect(&what, bytes.len() as u64, collection.form.bytes() as u64);
        let components = collection.form.precision.decode(bytes);
        if components.iter().any(|component| !component.is_finite()) {
            self.report.problem(format!("vector of {object:032x} in {}: not finite", collection.key.name));
        }
        if !self.objects.contains(&object) {
            self.report.problem(format!("vector of {object:032x}: the object does not exist"));
        }
    }

    /// The newest redo row of a key says where its vector is; every vector newer than the floor has one.
    fn redo(&mut self, stored: &HashMap<(u32, u128), u64>) -> Result<(), Failure> {
        let mut newest = HashMap::new();
        for row in self.txn.open_table(tables::REDO)?.rows()? {
            let (key, value) = row?;
            let (number, object, is_added) = value.value();
            self.row();
            self.decided("redo", Position::new(key.value().0));
            newest.insert((number, object), is_added.then_some(key.value().0));
        }
        for (key, expected) in &newest {
            if stored.get(key) != expected.as_ref() {
                let (number, object) = key;
                self.report.problem(format!(
                    "vector of {object:032x} in collection {number}: row {:?}, redo {expected:?}",
                    stored.get(key)
                ));
            }
        }
        let floor = read_meta(&self.txn.open_table(META)?, META_REDO_FLOOR)?;
        for ((number, object), position) in stored {
            if *position > floor && !newest.contains_key(&(*number, *object)) {
                self.report.problem(format!("vector of {object:032x} in collection {number}: no redo row"));
            }
        }
        Ok(())
    }

    pub(super) fn outbox(&mut self) -> Result<(), Failure> {
        for row in self.txn.open_table(tables::OUTBOX)?.rows()? {
            let (key, value) = row?;
            self.row();
            match tables::decode::<OutboxRow>("outbox", value.value()) {
                Ok(row) => self.post(key.value(), tables::post_key(row.id), row.attempts, false),
                Err(failure) => self.report.problem(failure.to_string()),
            }
        }
        for row in self.txn.open_table(tables::DEAD_LETTERS)?.rows()? {
            let (key, value) = row?;
            self.row();
            match tables::decode::<DeadLetter>("dead_letters", value.value()) {
                Ok(row) => self.post(key.value(), tables::post_key(row.id), row.attempts, true),
                Err(failure) => self.report.problem(failure.to_string()),
            }
        }
        Ok(())
    }

    fn post(&mut self, key: (u64, u32), own: (u64, u32), attempts: u32, is_dead: bool) {
        self.decided("posts", Position::new(key.0));
        if key != own || is_dead != (attempts >= limit::POST_ATTEMPTS_MAX) {
            self.report.problem(format!("post {}.{}: key {own:?}, {attempts} attempts", key.0, key.1));
        }
    }

    pub(super) fn sessions(&mut self) -> Result<(), Failure> {
        let mut rows: BTreeMap<(u128, u64), Vec<u64>> = BTreeMap::new();
        for row in self.txn.open_table(tables::DEDUPE)?.rows()? {
            let (key, value) = row?;
            let (client, incarnation, number) = key.value();
            self.row();
            self.decided("dedupe", Position::new(value.value().0));
            rows.entry((client, incarnation)).or_default().push(number);
        }
        for row in self.txn.open_table(tables::SESSIONS)?.rows()? {
            let (key, value) = row?;
            let (acked_through, _, counted) = value.value();
            self.row();
            let numbers = rows.remove(&key.value()).unwrap_or_default();
            let what = format!("session {:032x}: dedupe rows", key.value().0);
            self.expect(&what, numbers.len() as u64, u64::from(counted));
            let is_too_long = counted > limit::DEDUPE_ROWS_PER_SESSION_MAX;
            if is_too_long || numbers.first().is_some_and(|first| *first <= acked_through) {
                self.report.problem(format!("{what}: {counted} above {acked_through}"));
            }
        }
        for (client, _) in rows.keys() {
            self.report.problem(format!("session {client:032x}: dedupe rows without a session"));
        }
        Ok(())
    }

    pub(super) fn audit(&mut self) -> Result<(), Failure> {
        let table = self.txn.open_table(tables::AUDIT)?;
        let counted = read_meta(&self.txn.open_table(META)?, META_AUDIT)?;
        self.expect("audit: rows", table.len()?, counted);
        let mut before = (0, Position::NONE);
        for row in table.rows()? {
            let (key, value) = row?;
            self.row();
            match tables::decode_json::<AuditRow>("audit", value.value()) {
                Ok(row)
                    if row.number == key.value()
                        && row.number == before.0 + 1
                        && row.position >= before.1 =>
                {
                    self.decided("audit", row.position);
                    before = (row.number, row.position);
                }
                Ok(row) => {
                    self.report
                        .problem(format!("audit {}: follows {} at {}", row.number, before.0, before.1));
                }
                Err(failure) => self.report.problem(failure.to_string()),
            }
        }
        Ok(())
    }

    pub(super) fn records(&mut self) -> Result<(), Failure> {
        let mut releases: HashSet<(String, Digest)> = HashSet::new();
        for row in self.txn.open_table(tables::RELEASES)?.rows()? {
            self.row();
            match tables::decode_json::<ReleaseRecord>("releases", row?.1.value()) {
                Ok(release) => {
                    *self.named.entry(release.digest).or_default() += 1;
                    releases.insert((release.component.to_string(), release.digest));
                }
                Err(failure) => self.report.problem(failure.to_string()),
            }
        }
        for row in self.txn.open_table(tables::SEATS)?.rows()? {
            self.row();
            match tables::decode_json::<SeatRecord>("seats", row?.1.value()) {
                Ok(seat) if releases.contains(&(seat.component.to_string(), seat.digest)) => {}
                Ok(seat) => {
                    self.report.problem(format!("seat {}: no release {}", seat.component, seat.digest));
                }
                Err(failure) => self.report.problem(failure.to_string()),
            }
        }
        for row in self.txn.open_table(tables::GRANTS)?.rows()? {
            self.row();
            if let Err(failure) = tables::decode_json::<GrantRecord>("grants", row?.1.value()) {
                self.report.problem(failure.to_string());
            }
        }
        for row in self.txn.open_table(tables::CONSUMED)?.rows()? {
            self.row();
            row?;
        }
        Ok(())
    }

    /// Each blob is counted as often as rows name it, and is there and whole.
    pub(super) fn blobs(&mut self, blobs: &Blobs) -> Result<(), Failure> {
        let mut counted = BTreeMap::new();
        for row in self.txn.open_table(tables::BLOBS)?.rows()? {
            let (key, value) = row?;
            self.row();
            counted.insert(Digest::from_bytes(*key.value()), value.value());
        }
        let named = std::mem::take(&mut self.named);
        for digest in counted.keys().filter(|digest| !named.contains_key(digest)) {
            self.report.problem(format!("blob {digest}: counted, but no row names it"));
        }
        self.meter.end();
        self.meter.begin(Phase::Blobs, named.len() as u64);
        for (digest, rows) in named {
            self.expect(
                &format!("blob {digest}: references"),
                counted.get(&digest).copied().unwrap_or(0),
                rows,
            );
            self.blob(&digest, blobs);
            self.meter.step(1);
        }
        self.meter.end();
        Ok(())
    }

    fn blob(&mut self, digest: &Digest, blobs: &Blobs) {
        match blobs.get(digest) {
            Ok(Some(_)) => {}
            Ok(None) => self.report.problem(format!("blob {digest}: named, but missing")),
            Err(error @ BlobError::File { .. }) => self.report.trouble(format!("blob {digest}: {error}")),
            Err(error) => self.report.problem(format!("blob {digest}: {error}")),
        }
    }

    fn row(&mut self) {
        self.report.rows += 1;
        self.meter.step(1);
    }

    pub(super) fn decided(&mut self, what: &str, position: Position) {
        if position == Position::NONE || position > self.position {
            self.report.problem(format!("{what}: position {position} of {}", self.position));
        }
    }

    pub(super) fn expect(&mut self, what: &str, found: u64, expected: u64) {
        if found != expected {
            self.report.problem(format!("{what}: {found}, expected {expected}"));
        }
    }
}
