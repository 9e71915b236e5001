//! What a migration did, or would do: read from the draft, not from what the script asked for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use telos_store::{
    Changed, ComponentId, Draft, DraftRaise, Failure, Json, Object, ObjectId, ObjectName, Position,
};

/// Changed objects read at a time.
const PAGE: usize = 256;
/// Bytes of a value that is shown; of a larger one its size is.
const SHOWN_BYTES_MAX: usize = 256;
/// Bytes kept of a line that a script prints, and of whatever it says when it fails.
pub(crate) const LINE_BYTES_MAX: usize = 1_024;

/// What a migration did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evolved {
    /// Nothing was changed: it only showed what would be.
    pub dry_run: bool,
    /// SHA-256 of the script.
    pub script_sha256: String,
    /// The commit that made it so; none when nothing was to be changed.
    pub position: Option<Position>,
    /// Objects made or changed.
    pub objects: u64,
    /// What changed, by component, for those where something did.
    pub components: Vec<ComponentChanges>,
    /// Generations that came into force, by component: releases of an earlier one do not serve any more.
    pub raised: Vec<DraftRaise>,
    /// Names that stand for another object, or none.
    pub names: NameChanges,
    /// The first differences, names last.
    pub differences: Vec<Difference>,
    /// Differences that are not among them.
    pub differences_left_off: u64,
    /// What the script printed.
    pub printed: Printed,
    /// The store as it was; none of a dry run.
    pub backup: Option<std::path::PathBuf>,
}

/// What changed in one component's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ComponentChanges {
    /// The component.
    pub component: String,
    /// Its objects made or changed.
    pub objects: u64,
    /// Those of them that were made.
    pub created: u64,
    /// Value slots that were not there before.
    pub slots_added: u64,
    /// Value slots with another value.
    pub slots_changed: u64,
    /// Value slots that are gone.
    pub slots_removed: u64,
    /// Objects with other parents.
    pub parents: u64,
    /// Objects in a later generation.
    pub generations: u64,
}

/// How many names changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameChanges {
    /// Names that stand for an object that they did not stand for.
    pub bound: u64,
    /// Names that stand for none any more.
    pub unbound: u64,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The object; that which has the name, or had it.
    pub object: ObjectId,
    /// A name of it, as the migration leaves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ObjectName>,
    /// What of it.
    #[serde(flatten)]
    pub of: Subject,
    /// As it was, in JSON, or its size when it is long; none when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// As it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "of", content = "which")]
pub enum Subject {
    /// A value slot.
    Slot(String),
    /// The parents.
    Parents,
    /// The generation.
    Generation,
    /// A name: the object that it stands for.
    Name(ObjectName),
}

/// Lines that a script printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Printed {
    /// The first ones.
    pub lines: Vec<String>,
    /// How many came after.
    pub left_off: u64,
}

/// What differs between a draft and its base.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    pub(crate) objects: u64,
    pub(crate) components: BTreeMap<ComponentId, ComponentChanges>,
    pub(crate) names: NameChanges,
    pub(crate) shown: Vec<Difference>,
    pub(crate) left_off: u64,
    shown_max: usize,
}

impl Differences {
    /// Everything that differs. Cost: reads each changed object twice.
    pub(crate) fn of(draft: &mut Draft, shown_max: usize) -> Result<Differences, Failure> {
        let mut differences = Differences { shown_max, ..Differences::default() };
        let mut after = None;
        loop {
            let changed = draft.changed(after, PAGE)?;
            let Some(last) = changed.last() else { break };
            after = Some(last.after.id);
            for changed in &changed {
                differences.count(draft, changed)?;
            }
        }
        for (name, before, after) in draft.renamed()? {
            differences.count_name(name, before, after);
        }
        Ok(differences)
    }

    pub(crate) fn is_none(&self) -> bool {
        self.objects == 0 && self.names == NameChanges::default()
    }

    fn count(&mut self, draft: &Draft, Changed { before, after }: &Changed) -> Result<(), Failure> {
        let name = match self.shown.len() < self.shown_max {
            true => draft.names_of(after.id)?.into_iter().next(),
            false => None,
        };
        let found = differences(before.as_deref(), after);
        let owner = after.owner.clone();
        let entry = self.components.entry(owner.clone()).or_default();
        entry.component = owner.to_string();
        entry.objects += 1;
        entry.created += u64::from(before.is_none());
        self.objects += 1;
        for (of, before, after_text) in found {
            entry.count(&of, before.is_some(), after_text.is_some());
            let difference =
                Difference { object: after.id, name: name.clone(), of, before, after: after_text };
            show(&mut self.shown, &mut self.left_off, self.shown_max, difference);
        }
        Ok(())
    }

    fn count_name(&mut self, name: ObjectName, before: Option<ObjectId>, after: Option<ObjectId>) {
        match after {
            Some(_) => self.names.bound += 1,
            None => self.names.unbound += 1,
        }
        let Some(object) = after.or(before) else { return };
        let text = |id: ObjectId| id.to_string();
        let (before, after) = (before.map(text), after.map(text));
        let difference = Difference { object, name: None, of: Subject::Name(name), before, after };
        show(&mut self.shown, &mut self.left_off, self.shown_max, difference);
    }
}

impl ComponentChanges {
    fn count(&mut self, of: &Subject, was_there: bool, is_there: bool) {
        let counter = match (of, was_there, is_there) {
            (Subject::Slot(_), false, _) => &mut self.slots_added,
            (Subject::Slot(_), true, true) => &mut self.slots_changed,
            (Subject::Slot(_), true, false) => &mut self.slots_removed,
            (Subject::Parents, ..) => &mut self.parents,
            (Subject::Generation, ..) => &mut self.generations,
            (Subject::Name(_), ..) => return,
        };
        *counter += 1;
    }
}

fn show(shown: &mut Vec<Difference>, left_off: &mut u64, shown_max: usize, difference: Difference) {
    if shown.len() < shown_max {
        shown.push(difference);
    } else {
        *left_off += 1;
    }
}

/// The beginning of what a script said, with a mark where there was more.
pub(crate) fn cut(text: &str) -> String {
    match text.len() <= LINE_BYTES_MAX {
        true => text.to_owned(),
        false => text[..text.floor_char_boundary(LINE_BYTES_MAX)].to_owned() + "…",
    }
}

/// What differs between two states, slots in order: before and after as texts.
fn differences(before: Option<&Object>, after: &Object) -> Vec<(Subject, Option<String>, Option<String>)> {
    let mut found = Vec::new();
    if let Some(before) = before.filter(|before| before.generation != after.generation) {
        let texts = (Some(before.generation.to_string()), Some(after.generation.to_string()));
        found.push((Subject::Generation, texts.0, texts.1));
    }
    let parents_before = before.map_or(&[][..], |before| &before.parents);
    if parents_before != after.parents {
        let text = |parents: &[ObjectId]| shown_text(&serde_json::json!(parents).to_string());
        found.push((Subject::Parents, before.map(|_| text(parents_before)), Some(text(&after.parents))));
    }
    let names_before = before.into_iter().flat_map(|before| before.slots.keys());
    let names: std::collections::BTreeSet<&String> = names_before.chain(after.slots.keys()).collect();
    for slot in names {
        let (was, is) = (before.and_then(|before| before.value(slot)), after.value(slot));
        if !is_same(was, is) {
            let text = |value: &Json| shown_text(value.as_str());
            found.push((Subject::Slot(slot.clone()), was.map(text), is.map(text)));
        }
    }
    found
}

fn is_same(one: Option<&Json>, other: Option<&Json>) -> bool {
    let value = |json: &Json| -> Value { json.to_value() };
    one == other || one.map(value) == other.map(value)
}

fn shown_text(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX { text.to_owned() } else { format!("({} bytes)", text.len()) }
}
