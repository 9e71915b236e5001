//! A store with people in it, and scripts run over it.

use std::path::{Path, PathBuf};

use telos_migration::{EvolveError, Evolved, Limits, Script, evolve};
use telos_store::{
    ComponentId, DraftOptions, Json, MethodSlot, ObjectId, ObjectName, Progress, ReleaseRecord, ReleaseState,
    SeatRecord, Slot, Store, StoreOptions, Unit, Vote,
};

pub(crate) struct Home {
    root: tempfile::TempDir,
}

pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub(crate) fn component(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn value(text: &str) -> Slot {
    Slot::Value(Json::parse(text).unwrap())
}

impl Home {
    /// Four people of `people`, and a team of the operator's that they are members of.
    pub(crate) fn with_people() -> Home {
        let home = Home { root: tempfile::tempdir().unwrap() };
        let store = home.open();
        let mut unit = store.begin();
        let team = unit.create(ComponentId::operator(), 1, vec![]).unwrap();
        unit.bind(&name("team"), team).unwrap();
        for (who, born) in [("ada", 1815), ("grace", 1906), ("alan", 1912), ("barbara", 1939)] {
            let id = person(&mut unit, team, &format!("\"{who} x\""), born);
            unit.bind(&name(&format!("people/{who}")), id).unwrap();
        }
        store.decide(unit, Vote::default()).wait().unwrap();
        home
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&self.store(), StoreOptions::default()).unwrap()
    }

    /// What is beside the store.
    pub(crate) fn beside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| *path != self.store()).collect()
    }

    pub(crate) fn run(&self, text: &str) -> Result<Evolved, EvolveError> {
        self.run_within(text, false, Limits::default())
    }

    pub(crate) fn rehearse(&self, text: &str) -> Result<Evolved, EvolveError> {
        self.run_within(text, true, Limits::default())
    }

    pub(crate) fn run_within(
        &self,
        text: &str,
        is_rehearsal: bool,
        limits: Limits,
    ) -> Result<Evolved, EvolveError> {
        self.run_telling(text, is_rehearsal, limits, &mut |_| ())
    }

    pub(crate) fn run_telling(
        &self,
        text: &str,
        is_rehearsal: bool,
        limits: Limits,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Evolved, EvolveError> {
        let script = Script::parse(Path::new("evolve.lua"), text.as_bytes().to_vec())?;
        let options = DraftOptions { is_rehearsal, ..DraftOptions::default() };
        evolve(&self.store(), &script, &options, limits, tell)
    }

    /// Lets a release of a component serve, which only a kernel could load, with a root object.
    pub(crate) fn seat(&self, of: &str) {
        let store = self.open();
        let (component, digest) = (component(of), store.put_blob(of.as_bytes()).unwrap());
        let release = ReleaseRecord {
            component: component.clone(),
            digest,
            version: "1.0.0".into(),
            descriptor: Json::null(),
            contract: String::new(),
            imports: Vec::new(),
            limits: Json::null(),
            source: String::new(),
            state: ReleaseState::Permanent,
            installed_at_ms: 0,
            verdict: None,
        };
        let mut unit = store.begin();
        unit.put_release(release).unwrap();
        let root = unit.create(component.clone(), 1, Vec::new()).unwrap();
        unit.bind(&name(of), root).unwrap();
        unit.set_seat(SeatRecord {
            component,
            digest,
            previous: None,
            returns_to: None,
            swaps: 1,
            since_ms: 0,
        })
        .unwrap();
        store.decide(unit, Vote::default()).wait().unwrap();
    }

    /// A slot's JSON text, as it is stored.
    pub(crate) fn slot(&self, of: &str, slot: &str) -> Option<String> {
        let store = self.open();
        let mut unit = store.begin();
        let id = unit.find(&name(of)).unwrap()?;
        let object = unit.object(id).unwrap().unwrap();
        object.value(slot).map(ToString::to_string)
    }
}

fn person(unit: &mut Unit, team: ObjectId, full: &str, born: i64) -> ObjectId {
    let id = unit.create(component("people"), 1, vec![team]).unwrap();
    unit.set_slot(id, "name", value(full)).unwrap();
    unit.set_slot(id, "born", value(&born.to_string())).unwrap();
    unit.set_slot(id, "tags", value("[]")).unwrap();
    let (component, requirement, selector) = (component("people"), "^1".into(), "greet".into());
    unit.set_slot(id, "greet", Slot::Method(MethodSlot { component, requirement, selector })).unwrap();
    id
}
