//! Goal: a database that any published layout wrote opens with today's code and says the same.
//! Method: `cases/layout-N/` holds a store that layout N wrote and what it answered then; a copy is opened and asked
//! again. To freeze the layout that today's code writes, before it changes:
//! `TELOS_STORE_FREEZE=store/tests/cases/layout-N cargo test -p telos-store --test it frozen::freeze`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use telos_store::{
    ComponentId, DedupeKey, Digest, Json, MethodSlot, Object, ObjectId, Post, ReleaseRecord, ReleaseState,
    SeatRecord, SessionId, Slot, Store, StoreOptions, Unit, Vote,
};

use crate::fixture::{assert_clean, name, number, operator, within};

const FREEZE: &str = "TELOS_STORE_FREEZE";
const ANSWERS: &str = "answers.json";
const NOW_MS: u64 = 1_767_225_600_000;

#[test]
fn every_published_layout_opens_and_says_the_same() {
    let mut opened = 0;
    for entry in fs::read_dir(cases()).unwrap() {
        let case = entry.unwrap().path();
        if !case.join(ANSWERS).is_file() {
            continue;
        }
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&case, copy.path());
        let expected: Value = serde_json::from_slice(&fs::read(case.join(ANSWERS)).unwrap()).unwrap();
        let store = Store::open(copy.path(), options()).unwrap();
        assert_eq!(before_it_was_raised(answers(&store)), expected, "{}", case.display());
        assert_clean(&store);
        within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
        drop(store);
        let report = Store::verify(copy.path()).unwrap();
        assert!(report.is_clean(), "{}: {:#?}", case.display(), report.problems);
        opened += 1;
    }
    assert!(opened > 0, "no frozen layout in {}", cases().display());
}

/// The answers without what raising the layout added: a commit and an audit row for each step.
fn before_it_was_raised(mut answers: Value) -> Value {
    let audit = answers["audit"].as_array_mut().unwrap();
    let rows = audit.len();
    audit.retain(|row| row["kind"] != "store.layout-raised");
    let steps = rows - audit.len();
    let position = answers["position"].as_u64().unwrap() - steps as u64;
    answers["position"] = position.into();
    answers
}

/// Writes a frozen case; does nothing when it was not asked to.
#[test]
fn freeze() {
    let Some(dir) = std::env::var_os(FREEZE).map(PathBuf::from) else { return };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(dir);
    let store = Store::open(&dir, options()).unwrap();
    fill(&store);
    assert_clean(&store);
    let text = serde_json::to_string_pretty(&answers(&store)).unwrap();
    drop(store);
    fs::write(dir.join(ANSWERS), text + "\n").unwrap();
    ["lock", "pid"].iter().for_each(|file| fs::remove_file(dir.join(file)).unwrap());
}

pub(crate) fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn options() -> StoreOptions {
    StoreOptions { clock: Arc::new(|| NOW_MS), ..StoreOptions::default() }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Something in every table, with a past.
fn fill(store: &Store) {
    let babs = ComponentId::new("babs").unwrap();
    let (parent, child) = within(store, |unit| {
        let parent = unit.create(babs.clone(), 1, vec![]).unwrap();
        let child = unit.create(babs.clone(), 1, vec![parent]).unwrap();
        let method =
            MethodSlot { component: babs.clone(), requirement: "^0.1".into(), selector: "say".into() };
        unit.set_slot(parent, "say", Slot::Method(method)).unwrap();
        unit.set_slot(child, "mood", Slot::Value(Json::parse("{\"calm\": [1, 2.5, null]}").unwrap()))
            .unwrap();
        unit.bind(&name("parent"), parent).unwrap();
        unit.bind(&name("children/one"), child).unwrap();
        unit.bind(&name("gone"), child).unwrap();
        (parent, child)
    });
    within(store, |unit| {
        unit.unbind(&name("gone")).unwrap();
        unit.set_slot(child, "mood", Slot::Value(Json::parse("\"glad\"").unwrap())).unwrap();
        unit.set_slot(child, "age", number(7)).unwrap();
        upsert(unit, child, vec![1.0, 0.5, -0.25], "{\"said\": \"hello\"}");
        upsert(unit, parent, vec![-1.0, 0.5, 0.25], "{}");
    });
    within(store, |unit| {
        unit.remove_slot(child, "age").unwrap();
        unit.set_parents(child, vec![parent, child]).unwrap();
        unit.remove_vector(&operator(), "notes", parent).unwrap();
        ["first", "second", "third"]
            .iter()
            .for_each(|selector| unit.post(post(parent, child, selector)).unwrap());
        unit.post(post(child, parent, "back")).unwrap();
    });
    give_up_the_first_post(store);
    decide_a_request(store, child);
    install(store, &babs);
}

fn upsert(unit: &mut Unit, object: ObjectId, vector: Vec<f32>, metadata: &str) {
    unit.upsert_vector(&operator(), "notes", object, vector, Json::parse(metadata).unwrap()).unwrap();
}

fn post(source: ObjectId, target: ObjectId, selector: &str) -> Post {
    Post {
        source,
        target,
        selector: selector.into(),
        arguments: Json::parse("{\"n\": 1}").unwrap(),
        hops: 2,
        trace: "trace".into(),
    }
}

fn give_up_the_first_post(store: &Store) {
    let due = store.outbox_due(NOW_MS, 10).unwrap();
    let first = due.iter().find(|row| row.post.selector == "first").unwrap().id;
    for _ in 0..3 {
        store.fail_post(first, "nobody answered", NOW_MS).unwrap();
    }
    let back = due.iter().find(|row| row.post.selector == "back").unwrap().id;
    store.fail_post(back, "later", NOW_MS + 500).unwrap();
}

fn decide_a_request(store: &Store, object: ObjectId) {
    for number in 2..=4 {
        let mut unit = store.begin();
        unit.set_slot(object, "asked", self::number(i64::try_from(number).unwrap())).unwrap();
        let dedupe = Some(request(number));
        store.decide(unit, Vote { dedupe, outcome: b"\"done\"".to_vec(), ..Vote::default() }).wait().unwrap();
    }
}

fn request(number: u64) -> DedupeKey {
    let session = SessionId { client: 77, incarnation: NOW_MS };
    DedupeKey { session, number, acked_through: 1 }
}

fn install(store: &Store, component: &ComponentId) {
    let digest = store.put_blob(b"not really a component").unwrap();
    within(store, |unit| {
        unit.put_release(ReleaseRecord {
            component: component.clone(),
            digest,
            version: "0.1.0".into(),
            descriptor: Json::parse("{\"generation\": 1}").unwrap(),
            contract: "0.1.0".into(),
            imports: vec!["storage".into()],
            limits: Json::parse("{}").unwrap(),
            source: "a test".into(),
            state: ReleaseState::Permanent,
            installed_at_ms: NOW_MS,
            verdict: None,
        })
        .unwrap();
        let seat = SeatRecord {
            component: component.clone(),
            digest,
            previous: None,
            returns_to: None,
            swaps: 0,
            since_ms: NOW_MS,
        };
        unit.set_seat(seat).unwrap();
        unit.put_grant(component, "storage", "operator").unwrap();
        unit.mark_consumed("plugins/babs.wasm", digest).unwrap();
        unit.audit("plugin.installed", component.as_str(), json!({"version": "0.1.0"})).unwrap();
    });
}

/// What the store says to everything that may be asked.
fn answers(store: &Store) -> Value {
    let mut unit = store.begin();
    let named = unit.names("", "", 100).unwrap();
    let objects: Vec<Value> = named.iter().map(|(_, id)| object(&mut unit, *id)).collect();
    let hits = unit.search_vectors(&operator(), "notes", &[1.0, 0.0, 0.0], 10, &[]).unwrap();
    let digest = Digest::of(b"not really a component");
    json!({
        "position": store.position(),
        "names": named.iter().map(|(name, id)| json!([name.as_str(), id])).collect::<Vec<_>>(),
        "objects": objects,
        "hits": hits.iter().map(|hit| json!([hit.object, hit.metadata.as_str()])).collect::<Vec<_>>(),
        "due": store.outbox_due(NOW_MS + 1_000, 100).unwrap(),
        "next_due_ms": store.outbox_next_due_ms(),
        "dead_letters": store.dead_letters(100).unwrap(),
        "requests": (1..=5).map(|number| format!("{:?}", store.dedupe_lookup(&request(number)).unwrap())).collect::<Vec<_>>(),
        "audit": store.audit_after(0, 100).unwrap(),
        "releases": store.releases(None).unwrap(),
        "seats": store.seats().unwrap(),
        "grants": store.all_grants().unwrap(),
        "is_consumed": store.is_consumed("plugins/babs.wasm", &digest).unwrap(),
        "blob": store.blob(&digest).unwrap().map(|bytes| String::from_utf8(bytes).unwrap()),
    })
}

fn object(unit: &mut Unit, id: ObjectId) -> Value {
    let names: Vec<String> = unit.names_of(id).unwrap().iter().map(ToString::to_string).collect();
    let found = unit.lookup(id, "say").unwrap().map(|found| format!("{found:?}"));
    let states: Vec<Value> = unit.history(id, 100).unwrap().iter().map(|state| one_state(state)).collect();
    json!({ "id": id, "names": names, "say": found, "states": states })
}

fn one_state(state: &Object) -> Value {
    json!({
        "owner": state.owner,
        "generation": state.generation,
        "revision": state.revision.get(),
        "position": state.position,
        "parents": state.parents,
        "slots": state.slots.iter().map(|(slot, held)| json!([slot, format!("{held:?}")])).collect::<Vec<_>>(),
    })
}
