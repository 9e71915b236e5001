//! Whole stores: filling one with something in every table, and dumping all that the public interface tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use telos_store::{
    CollectionForm, ComponentId, DedupeKey, Digest, Json, Metric, Object, ObjectId, Position, Post,
    Precision, ReleaseRecord, ReleaseState, SeatRecord, SessionId, Slot, Store, Unit, Vote,
};

use crate::fixture::{name, number, operator, within};
use crate::random::Random;

pub(crate) const COLLECTIONS: [&str; 2] = ["notes", "faces"];
const QUERIES: [[f32; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [-1.0, 0.25, 1.0]];

pub(crate) fn post(source: ObjectId, target: ObjectId, selector: &str) -> Post {
    let arguments = Json::parse("{\"n\": 1}").unwrap();
    Post { source, target, selector: selector.into(), arguments, hops: 1, trace: "trace".into() }
}

pub(crate) fn component(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

pub(crate) fn release(component: &ComponentId, digest: Digest) -> ReleaseRecord {
    ReleaseRecord {
        component: component.clone(),
        digest,
        version: "0.1.0".into(),
        descriptor: Json::null(),
        contract: "0.1.0".into(),
        imports: vec![],
        limits: Json::null(),
        source: "a test".into(),
        state: ReleaseState::Permanent,
        installed_at_ms: 1,
        verdict: None,
    }
}

/// The session that [`fill`] asks in; fresh whatever the clock says.
pub(crate) fn session(incarnation: u64) -> SessionId {
    SessionId { client: 7, incarnation }
}

/// Something in every table, with a past.
pub(crate) fn fill(store: &Store, now_ms: u64) {
    let objects: Vec<ObjectId> = within(store, |unit| {
        let form = CollectionForm { dim: 3, metric: Metric::Euclidean, precision: Precision::Half };
        unit.declare_collection(&operator(), COLLECTIONS[1], form).unwrap();
        (0..20_u8).map(|index| named_object(unit, &format!("object/{index:02}"), index)).collect()
    });
    for round in 0..4_i64 {
        within(store, |unit| {
            for (index, id) in objects.iter().enumerate().step_by(2) {
                unit.set_slot(*id, "count", number(round * 100 + i64::try_from(index).unwrap())).unwrap();
            }
            unit.post(post(objects[0], objects[1], &format!("say{round}"))).unwrap();
            unit.audit("round", &round.to_string(), json!({ "round": round })).unwrap();
        });
    }
    within(store, |unit| {
        unit.unbind(&name("object/19")).unwrap();
        unit.remove_vector(&operator(), "notes", objects[3]).unwrap();
        unit.set_parents(objects[1], vec![objects[0], objects[1]]).unwrap();
    });
    for number in 1..=3 {
        let dedupe = Some(DedupeKey { session: session(now_ms), number, acked_through: 1.min(number - 1) });
        let mut unit = store.begin();
        unit.set_slot(objects[2], "asked", self::number(number.cast_signed())).unwrap();
        store.decide(unit, Vote { dedupe, outcome: vec![7; 9], ..Vote::default() }).wait().unwrap();
    }
    let due = store.outbox_due(u64::MAX, 10).unwrap();
    for _ in 0..3 {
        store.fail_post(due[0].id, "nobody answered", 0).unwrap();
    }
    install(store);
}

/// More of everything, and something else for every seed; nothing for seed 0.
pub(crate) fn vary(store: &Store, seed: u64) {
    if seed == 0 {
        return;
    }
    let mut random = Random::new(seed);
    let varied = component("varied");
    for round in 0..=random.below(6) {
        let blob = vec![seed.to_le_bytes()[0]; random.index(60_000) + 1];
        let digest = store.put_blob(&[&round.to_le_bytes()[..], &blob].concat()).unwrap();
        within(store, |unit| {
            let text = "v".repeat(random.index(30_000));
            let id = named_object(unit, &format!("varied/{round}"), 100);
            unit.set_slot(id, "text", Slot::Value(Json::parse(&format!("\"{text}\"")).unwrap())).unwrap();
            unit.post(post(id, id, "vary")).unwrap();
            unit.audit("varied", &seed.to_string(), json!({ "round": round })).unwrap();
            if random.once_in(2) {
                unit.put_release(release(&varied, digest)).unwrap();
            }
            if random.once_in(4) {
                unit.unbind(&name(&format!("object/{:02}", random.below(19)))).unwrap();
            }
        });
    }
}

fn named_object(unit: &mut Unit, text: &str, index: u8) -> ObjectId {
    let id = unit.create(operator(), 1, vec![]).unwrap();
    unit.set_slot(id, "count", number(i64::from(index))).unwrap();
    unit.bind(&name(text), id).unwrap();
    let vector = vec![f32::from(index), 1.0, 0.5];
    let metadata = Json::parse(&format!("{{\"index\": {index}}}")).unwrap();
    unit.upsert_vector(&operator(), COLLECTIONS[usize::from(index % 2)], id, vector, metadata).unwrap();
    id
}

fn install(store: &Store) {
    let digests = [b"first component".as_slice(), b"second component", &[42; 20_000]]
        .map(|bytes| store.put_blob(bytes).unwrap());
    let babs = component("babs");
    within(store, |unit| {
        digests.iter().for_each(|digest| unit.put_release(release(&babs, *digest)).unwrap());
        unit.put_release(release(&component("other"), digests[0])).unwrap();
        let (component, digest) = (babs.clone(), digests[1]);
        unit.set_seat(SeatRecord {
            component,
            digest,
            previous: None,
            returns_to: None,
            swaps: 1,
            since_ms: 1,
        })
        .unwrap();
        unit.put_grant(&babs, "storage", "operator").unwrap();
        unit.mark_consumed("plugins/babs.wasm", digests[0]).unwrap();
    });
}

/// Everything that may be asked, but for what a restore adds: one commit with one audit row.
pub(crate) fn dump(store: &Store, now_ms: u64) -> Value {
    let mut unit = store.begin();
    let names = all_names(&mut unit);
    let hits: Vec<Value> = COLLECTIONS.iter().flat_map(|name| hits(&mut unit, name)).collect();
    let mut ids: BTreeSet<ObjectId> = names.iter().map(|(_, id)| *id).collect();
    ids.extend(hits.iter().map(|hit| hit[0].as_str().unwrap().parse::<ObjectId>().unwrap()));
    let due = store.outbox_due(u64::MAX, 1_000).unwrap();
    let letters = store.dead_letters(1_000).unwrap();
    ids.extend(due.iter().flat_map(|row| [row.post.source, row.post.target]));
    ids.extend(letters.iter().flat_map(|row| [row.post.source, row.post.target]));
    let objects: Vec<Value> = ids.iter().map(|id| object(&mut unit, *id)).collect();
    let mut audit = serde_json::to_value(store.audit_after(0, 100_000).unwrap()).unwrap();
    let rows = audit.as_array_mut().unwrap();
    let all = rows.len();
    rows.retain(|row| row["kind"] != "store.restored");
    let restores = (all - rows.len()) as u64;
    let requests: Vec<String> = (1..=64)
        .map(|number| DedupeKey { session: session(now_ms), number, acked_through: 0 })
        .map(|key| format!("{:?}", store.dedupe_lookup(&key).unwrap()))
        .collect();
    let releases = store.releases(None).unwrap();
    let blobs: Vec<Value> = releases
        .iter()
        .map(|row| json!([row.digest, store.blob(&row.digest).unwrap().map(|bytes| Digest::of(&bytes))]))
        .collect();
    let counts = store.counts().unwrap();
    json!({
        "id": store.id().unwrap(),
        "position": store.position().get() - restores,
        "names": names.iter().map(|(name, id)| json!([name, id])).collect::<Vec<_>>(),
        "objects": objects,
        "hits": hits,
        "due": due,
        "next_due_ms": store.outbox_next_due_ms(),
        "dead_letters": letters,
        "requests": requests,
        "audit": audit,
        "releases": releases,
        "seats": store.seats().unwrap(),
        "grants": store.all_grants().unwrap(),
        "blobs": blobs,
        "counts": [counts.objects, counts.object_rows, counts.name_rows, counts.vectors, counts.redo_rows,
            counts.posts_pending, counts.dead_letters, counts.sessions, counts.audit_rows - restores, counts.blobs],
    })
}

/// The states of an object as of a position, newest first, however many there are.
pub(crate) fn states(store: &Store, id: ObjectId, at: Position) -> Vec<Value> {
    let mut states = Vec::new();
    let mut next = at;
    while let Some(state) = store.object_at(id, next).unwrap() {
        next = Position::new(state.position.get() - 1);
        states.push(one_state(&state));
    }
    states
}

pub(crate) fn all_names(unit: &mut Unit) -> Vec<(String, ObjectId)> {
    let mut all: Vec<(String, ObjectId)> = Vec::new();
    loop {
        let after = all.last().map_or(String::new(), |(name, _)| name.clone());
        let page = unit.names("", &after, 500).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|(name, id)| (name.to_string(), id)));
    }
}

fn hits(unit: &mut Unit, collection: &str) -> Vec<Value> {
    let mut search = |query: &[f32; 3]| unit.search_vectors(&operator(), collection, query, 1_000, &[]);
    let found = QUERIES.iter().filter_map(|query| search(query).ok()).flatten();
    found.map(|hit| json!([hit.object, hit.metadata.as_str(), hit.distance])).collect()
}

fn object(unit: &mut Unit, id: ObjectId) -> Value {
    let names: Vec<String> = unit.names_of(id).unwrap().iter().map(ToString::to_string).collect();
    let states: Vec<Value> = unit.history(id, 100).unwrap().iter().map(|state| one_state(state)).collect();
    json!({ "id": id, "names": names, "states": states })
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

/// Says that it is over when it is dropped, by a failing test too: who waits for that must not wait for ever.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
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

/// Every file below a directory, sorted.
pub(crate) fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
