//! The checks of history: what ended is listed, and nothing is missing above the floor.

use redb::ReadableTableMetadata;

use crate::error::Failure;
use crate::id::Position;
use crate::scan::Scan as _;
use crate::tables::{self, META, META_OBJECT_ROWS, read_meta};

use super::check::Check;

impl Check<'_> {
    pub(super) fn past(&mut self) -> Result<(), Failure> {
        if self.floor > self.position {
            self.report.problem(format!("history: floor {} of {}", self.floor, self.position));
        }
        self.changes()?;
        self.renames()?;
        self.names_by_object()?;
        self.moments()
    }

    /// Every state above the floor is listed with the one that it replaced; below, as long as that is still there.
    fn changes(&mut self) -> Result<(), Failure> {
        let changes = self.txn.open_table(tables::CHANGES)?;
        let (mut before, mut listed) = (None, 0);
        for row in self.txn.open_table(tables::OBJECTS)?.rows()? {
            let (id, position) = row?.0.value();
            let replaced = before.filter(|(same, _)| *same == id).map_or(0, |(_, position)| position);
            before = Some((id, position));
            let entry = changes.get((position, id))?.map(|row| row.value());
            listed += u64::from(entry.is_some());
            let may_be_pruned = position <= self.floor.get();
            if entry != Some(replaced) && !(entry.is_none() && may_be_pruned) {
                self.report.problem(format!(
                    "changes: object {id:032x} at {position} replaced {replaced}, listed as {entry:?}"
                ));
            }
        }
        self.report.rows += changes.len()?;
        self.expect("changes: entries with a state", listed, changes.len()?);
        Ok(())
    }

    fn renames(&mut self) -> Result<(), Failure> {
        let renames = self.txn.open_table(tables::RENAMES)?;
        let (mut before, mut listed) = (None::<(String, u64)>, 0);
        for row in self.txn.open_table(tables::NAMES)?.rows()? {
            let (key, id) = row?;
            let (name, position) = key.value();
            let replaced = before.as_ref().filter(|(same, _)| same == name).map(|(_, position)| *position);
            before = Some((name.to_owned(), position));
            let entry = renames.get((position, name))?.map(|row| row.value());
            listed += u64::from(entry.is_some());
            // An unbinding below the floor goes before the entry of the binding that follows it.
            let is_pruned = |entry: Option<u64>| {
                replaced.is_none() && entry.is_some_and(|replaced| replaced <= self.floor.get())
            };
            let may_be_pruned = entry.is_none() && position <= self.floor.get();
            if entry != replaced && !is_pruned(entry) && !may_be_pruned {
                let problem =
                    format!("renames: {name} at {position} replaced {replaced:?}, listed as {entry:?}");
                self.report.problem(problem);
            }
            if replaced.is_none() && id.value().is_none() {
                self.report.problem(format!("names: {name} begins with an unbinding at {position}"));
            }
        }
        self.report.rows += renames.len()?;
        self.expect("renames: entries with a name", listed, renames.len()?);
        Ok(())
    }

    /// Every row by object has its row by name.
    fn names_by_object(&mut self) -> Result<(), Failure> {
        let names = self.txn.open_table(tables::NAMES)?;
        for row in self.txn.open_table(tables::NAMES_OF)?.rows()? {
            let (key, is_bound) = row?;
            let (id, name, position) = key.value();
            let by_name = names.get((name, position))?.map(|row| row.value());
            let is_so = by_name.is_some_and(|of| (of == Some(id)) == is_bound.value());
            if !is_so {
                self.report
                    .problem(format!("names_of: {name} of {id:032x} at {position} is {by_name:?} by name"));
            }
        }
        Ok(())
    }

    fn moments(&mut self) -> Result<(), Failure> {
        for row in self.txn.open_table(tables::MOMENTS)?.rows()? {
            self.report.rows += 1;
            self.decided("moments", Position::new(row?.0.value()));
        }
        let written = read_meta(&self.txn.open_table(META)?, META_OBJECT_ROWS)?;
        let kept = self.txn.open_table(tables::OBJECTS)?.len()?;
        if kept > written {
            self.report.problem(format!("objects: {kept} states, {written} were written"));
        }
        Ok(())
    }
}
