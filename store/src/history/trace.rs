//! The search for what still names an object: every table but the audit, row by row, so that forgetting is proved
//! and not believed.

use redb::{Key, ReadTransaction, TableDefinition, Value};
use serde::Serialize;

use crate::damage;
use crate::error::Failure;
use crate::id::ObjectId;
use crate::limit;
use crate::scan::Scan as _;
use crate::store::Store;
use crate::tables::{
    self, BLOBS, CHANGES, COLLECTIONS, CONSUMED, DEAD_LETTERS, DEDUPE, EDITIONS, FORMS, GENERATIONS, GRANTS,
    META, MOMENTS, NAMES, NAMES_OF, OBJECTS, OUTBOX, OWNED, REDO, RELEASES, RENAMES, SEATS, SESSIONS,
    SHADOWS, VECTORS,
};

/// One row that names an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The table; `segments` are the files of graphs, with the one that is being written; `archive` are those of
    /// editions, with the one that is being built; `index` is the one in memory, with what is being built for it.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
    /// What names it: `key`, `parent`, `value` or `text`. Text is its id written out, as in a value of another object.
    pub by: &'static str,
}

impl Store {
    /// Every row that still names an object, table by table, audit rows excepted; at most 1,000. Empty after
    /// [`Store::forget`], unless others wrote its id down as text, or a request that is not yet acknowledged did. A graph
    /// that was being built over its vector, or written down, is given up then, and is a trace for some milliseconds more;
    /// an edition of the archive that is being built, as long as its build takes to end.
    ///
    /// Cost: reads everything, looking at every byte of it.
    ///
    /// # Errors
    /// [`Failure`] when something cannot be read.
    pub fn traces_of(&self, id: ObjectId) -> Result<Vec<Trace>, Failure> {
        let shared = self.shared();
        let read = || -> Result<Vec<Trace>, Failure> {
            let txn = shared.database.read()?;
            let mut search = Search { txn: &txn, id: id.to_bits(), hex: id.to_string(), found: Vec::new() };
            search.objects()?;
            search.vectors()?;
            search.posts_and_answers()?;
            search.records()?;
            Ok(search.found)
        };
        let mut found = damage::guard(read).inspect_err(|failure| shared.report(failure))?;
        if shared.index.read().holds(id) {
            found.push(Trace { table: "index", row: id.to_string(), by: "key" });
        }
        if shared.segments.names(id)? {
            found.push(Trace { table: "segments", row: id.to_string(), by: "key" });
        }
        if shared.shelves.names(id)? {
            found.push(Trace { table: "archive", row: id.to_string(), by: "key" });
        }
        found.truncate(limit::TRACES_MAX);
        Ok(found)
    }
}

/// A search under way.
struct Search<'a> {
    txn: &'a ReadTransaction,
    id: u128,
    hex: String,
    found: Vec<Trace>,
}

impl Search<'_> {
    fn objects(&mut self) -> Result<(), Failure> {
        let (id, hex) = (self.id, self.hex.clone());
        let state = |of: u128, row: &[u8]| {
            if of == id {
                return Some("key");
            }
            // What cannot be read is looked at as text, and told by verification.
            let is_parent = tables::decode_head(row).is_ok_and(|head| head.parents.contains(&id));
            if is_parent { Some("parent") } else { text(row, &hex) }
        };
        self.look(OBJECTS, |(of, _), row| state(of, row))?;
        self.look(SHADOWS, |(of, _), (_, row)| state(of, row))?;
        self.look(OWNED, |(_, of), ()| key(of == id))?;
        self.look(CHANGES, |(_, of), _| key(of == id))?;
        self.look(
            NAMES,
            |(name, _), of| {
                if of == Some(id) { Some("value") } else { text(name.as_bytes(), &hex) }
            },
        )?;
        self.look(NAMES_OF, |(of, name, _), _| key(of == id).or_else(|| text(name.as_bytes(), &hex)))?;
        self.look(RENAMES, |(_, name), _| text(name.as_bytes(), &hex))
    }

    fn vectors(&mut self) -> Result<(), Failure> {
        let (id, hex) = (self.id, self.hex.clone());
        self.look(VECTORS, |(_, of), (_, metadata, _)| {
            key(of == id).or_else(|| text(metadata.as_bytes(), &hex))
        })?;
        self.look(COLLECTIONS, |(_, name), _| text(name.as_bytes(), &hex))?;
        self.look(REDO, |_, (_, of, _)| (of == id).then_some("value"))
    }

    /// Posts hold ids as text.
    fn posts_and_answers(&mut self) -> Result<(), Failure> {
        let hex = self.hex.clone();
        self.look(OUTBOX, |_, row| text(row, &hex))?;
        self.look(DEAD_LETTERS, |_, row| text(row, &hex))?;
        self.look(DEDUPE, |_, (_, outcome)| text(outcome, &hex))
    }

    fn records(&mut self) -> Result<(), Failure> {
        let hex = self.hex.clone();
        self.look(RELEASES, |_, row| text(row, &hex))?;
        self.look(SEATS, |_, row| text(row, &hex))?;
        self.look(GRANTS, |_, row| text(row, &hex))?;
        self.look(GENERATIONS, |_, row| text(row, &hex))?;
        self.look(CONSUMED, |(path, _), _| text(path.as_bytes(), &hex))?;
        // Numbers, times, digests and fixed words: nothing here could name an object.
        self.look(META, |_, _| None)?;
        self.look(FORMS, |_, _| None)?;
        self.look(EDITIONS, |_, _| None)?;
        self.look(MOMENTS, |_, _| None)?;
        self.look(SESSIONS, |_, _| None)?;
        self.look(BLOBS, |_, _| None)
    }

    fn look<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
        names_it: impl for<'r> Fn(K::SelfType<'r>, V::SelfType<'r>) -> Option<&'static str>,
    ) -> Result<(), Failure> {
        let table = redb::TableHandle::name(&definition).to_owned();
        let table = TABLES.into_iter().find(|known| *known == table).unwrap_or("another table");
        for row in self.txn.open_table(definition)?.rows()? {
            let (key, value) = row?;
            if let Some(by) = names_it(key.value(), value.value())
                && self.found.len() < limit::TRACES_MAX
            {
                self.found.push(Trace { table, row: format!("{:?}", key.value()), by });
            }
        }
        Ok(())
    }
}

/// Every table that is searched. The audit is not: it says that an object was forgotten.
pub(super) const TABLES: [&str; 24] = [
    "objects",
    "shadows",
    "owned",
    "changes",
    "names",
    "names_of",
    "renames",
    "vectors",
    "collections",
    "forms",
    "editions",
    "redo",
    "outbox",
    "dead_letters",
    "dedupe",
    "releases",
    "seats",
    "grants",
    "generations",
    "consumed",
    "meta",
    "moments",
    "sessions",
    "blobs",
];

fn key(is_it: bool) -> Option<&'static str> {
    is_it.then_some("key")
}

/// Whether an id is written out in some bytes, in either case.
fn text(bytes: &[u8], hex: &str) -> Option<&'static str> {
    let is_there = bytes.windows(hex.len()).any(|window| window.eq_ignore_ascii_case(hex.as_bytes()));
    is_there.then_some("text")
}
