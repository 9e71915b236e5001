//! Forgetting for good: nothing names the object afterwards, and whoever relied on it is told.

use std::sync::atomic::Ordering;

use telos_store::{
    Children, CommitError, Contested, Dedupe, DedupeKey, Fault, ForgetError, Json, MemoryBackend, ObjectId,
    Position, Post, SessionId, Slot, Store, Trace, Unit, Vote, WriteError, limit,
};

use crate::fixture::{
    assert_clean, commit, name, number, object_with, operator, over, read, scratch, scratch_at, within,
};

const NOTES: &str = "notes";

fn forget(store: &Store, ids: &[ObjectId]) -> telos_store::Forgotten {
    store.forget(ids, "ada", Children::Refuse).unwrap()
}

fn upsert(unit: &mut Unit, id: ObjectId, vector: [f32; 2]) {
    unit.upsert_vector(&operator(), NOTES, id, vector.to_vec(), Json::parse("{}").unwrap()).unwrap();
}

fn hits(unit: &mut Unit) -> Vec<ObjectId> {
    let found = unit.search_vectors(&operator(), NOTES, &[1.0, 0.0], 10, &[]).unwrap();
    found.into_iter().map(|hit| hit.object).collect()
}

fn post(source: ObjectId, target: ObjectId) -> Post {
    let arguments = Json::parse("[\"a secret\"]").unwrap();
    Post { source, target, selector: "tell".into(), arguments, hops: 0, trace: String::new() }
}

/// A child of `parent`.
fn child_of(store: &Store, parent: ObjectId) -> ObjectId {
    within(store, |unit| {
        let id = unit.create(operator(), 1, vec![parent]).unwrap();
        unit.set_slot(id, "v", number(1)).unwrap();
        id
    })
}

fn tables(traces: &[Trace]) -> Vec<&'static str> {
    traces.iter().map(|trace| trace.table).collect()
}

/// An object with something in every table that may hold it, and another that must stay.
fn well_known(store: &Store) -> (ObjectId, ObjectId) {
    let (id, other) = (object_with(store, "v", 1), object_with(store, "v", 1));
    within(store, |unit| {
        unit.bind(&name("it/secret-name"), id).unwrap();
        unit.bind(&name("shared"), other).unwrap();
        upsert(unit, id, [1.0, 0.0]);
        upsert(unit, other, [1.0, 0.1]);
    });
    within(store, |unit| {
        unit.unbind(&name("shared")).unwrap();
        unit.bind(&name("shared"), id).unwrap();
        unit.set_slot(id, "v", number(2)).unwrap();
        upsert(unit, id, [1.0, 0.2]);
        unit.post(post(id, other)).unwrap();
        unit.post(post(other, id)).unwrap();
        unit.post(post(other, other)).unwrap();
    });
    let dead = store.outbox_due(u64::MAX, 9).unwrap().iter().find(|row| row.post.source == id).unwrap().id;
    for _ in 0..3 {
        store.fail_post(dead, "no answer", 0).unwrap();
    }
    (id, other)
}

#[test]
fn nothing_is_left_of_a_forgotten_object_but_its_audit_row() {
    let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
    let store = over(&dir, &backend);
    let (id, other) = well_known(&store);
    let mut found = tables(&store.traces_of(id).unwrap());
    found.dedup();
    let everywhere = [
        "objects",
        "owned",
        "changes",
        "names",
        "names_of",
        "vectors",
        "redo",
        "outbox",
        "dead_letters",
        "index",
    ];
    assert_eq!(found, everywhere, "the search finds it wherever it is");
    let before = (store.position(), store.retention().unwrap());
    let done = forget(&store, &[id]);
    assert_eq!((done.objects, done.states, done.names, done.vectors), (1, 2, 2, 1));
    assert_eq!((done.posts, done.dead_letters, done.detached), (1, 1, 0));
    assert_eq!(done.position, before.0.next());
    assert_eq!(before.1.rewrite_due, None);
    assert_eq!(store.retention().unwrap().rewrite_due, Some(done.position));

    let mut store = store;
    for _ in 0..2 {
        assert_eq!(store.traces_of(id).unwrap(), []);
        assert_clean(&store);
        for at in 0..=store.position().get() {
            assert_eq!(store.object_at(id, Position::new(at)).unwrap(), None);
            assert_eq!(store.name_at(&name("it/secret-name"), Position::new(at)).unwrap(), None);
        }
        // What it shared is the other's until it was taken from it, and nobody's afterwards.
        assert_eq!(store.name_at(&name("shared"), Position::new(3)).unwrap(), Some(other));
        assert_eq!(store.name_at(&name("shared"), Position::new(4)).unwrap(), None);
        assert_eq!(store.object_history(id, None, 9).unwrap(), []);
        let mut unit = store.begin();
        assert_eq!((hits(&mut unit), read(&mut unit, other, "v")), (vec![other], Some(1)));
        assert_eq!(unit.names("", "", 9).unwrap(), []);
        assert_eq!(store.outbox_due(u64::MAX, 9).unwrap().len(), 1);
        assert_eq!(store.dead_letters(9).unwrap(), []);
        drop((unit, store));
        store = over(&dir, &backend);
    }
    let rows = store.audit_after(0, 100).unwrap();
    let row = rows.iter().find(|row| row.kind == "object.forgotten").unwrap();
    assert_eq!((row.subject.clone(), row.position), (id.to_string(), done.position));
    let expected = serde_json::json!({
        "by": "ada", "states": 2, "names": 2, "vectors": 1, "shadows": 0, "posts": 1, "dead_letters": 1,
    });
    assert_eq!(row.detail, expected);
}

#[test]
fn a_name_that_went_back_and_forth_is_as_if_only_the_others_had_it() {
    let store = scratch();
    let (id, other) = (object_with(&store, "v", 1), object_with(&store, "v", 1));
    let word = name("n");
    let rebind = |to: Option<ObjectId>| {
        within(&store, |unit| {
            unit.unbind(&word).unwrap();
            to.into_iter().for_each(|to| unit.bind(&word, to).unwrap());
        });
        store.position()
    };
    let places: Vec<_> =
        [Some(id), Some(other), Some(id), None, Some(id), Some(other)].into_iter().map(rebind).collect();
    forget(&store, &[id]);
    let found: Vec<_> = places.iter().map(|at| store.name_at(&word, *at).unwrap()).collect();
    assert_eq!(found, [None, Some(other), None, None, None, Some(other)]);
    assert_eq!(store.begin().names_of(other).unwrap(), std::slice::from_ref(&word));
    assert_clean(&store);
    assert_eq!(store.traces_of(id).unwrap(), []);
}

/// Runs `work` in a unit, forgets the object meanwhile, and answers why the unit did not commit.
fn refused(work: impl FnOnce(&mut Unit, ObjectId, ObjectId)) -> Contested {
    let store = scratch();
    let (id, other) = (object_with(&store, "v", 1), object_with(&store, "v", 1));
    within(&store, |unit| {
        unit.bind(&name("it"), other).unwrap();
        upsert(unit, other, [0.0, 1.0]);
    });
    within(&store, |unit| {
        unit.unbind(&name("it")).unwrap();
        unit.bind(&name("it"), id).unwrap();
    });
    let mut unit = store.begin();
    work(&mut unit, id, other);
    forget(&store, &[id]);
    let error = commit(&store, unit).unwrap_err();
    assert_clean(&store);
    assert_eq!(store.traces_of(id).unwrap(), []);
    let CommitError::Conflict(contested) = error else { panic!("{error}") };
    if let Contested::Object(contested) = contested {
        assert_eq!(contested, id);
    }
    contested
}

#[test]
fn a_unit_that_relied_on_a_forgotten_object_conflicts() {
    let is_object = |contested: Contested| assert!(matches!(contested, Contested::Object(_)), "{contested}");
    is_object(refused(|unit, id, other| {
        assert_eq!(read(unit, id, "v"), Some(1));
        unit.set_slot(other, "v", number(2)).unwrap();
    }));
    is_object(refused(|unit, id, _| unit.set_slot(id, "v", number(2)).unwrap()));
    is_object(refused(|unit, id, _| {
        unit.create(operator(), 1, vec![id]).unwrap();
    }));
    is_object(refused(|unit, id, other| unit.set_parents(other, vec![id]).unwrap()));
    is_object(refused(|unit, id, _| unit.bind(&name("another"), id).unwrap()));
    is_object(refused(|unit, id, _| upsert(unit, id, [1.0, 0.0])));
    // Found by name and not read: the name's row has not moved, but it says something else.
    let contested = refused(|unit, id, other| {
        assert_eq!(unit.find(&name("it")).unwrap(), Some(id));
        unit.set_slot(other, "v", number(2)).unwrap();
    });
    assert_eq!(contested, Contested::Name(name("it")));
}

#[test]
fn a_delivery_under_way_conflicts_when_its_post_is_forgotten() {
    let store = scratch();
    let (id, other) = well_known(&store);
    let due = store.outbox_due(u64::MAX, 9).unwrap();
    let to_it = due.iter().find(|row| row.post.target == id).unwrap().id;
    let mut delivery = store.begin();
    delivery.take_post(to_it);
    delivery.set_slot(other, "v", number(9)).unwrap();
    forget(&store, &[id]);
    assert!(
        matches!(commit(&store, delivery), Err(CommitError::Conflict(Contested::Post(post))) if post == to_it)
    );
    // What is left is due, and when it is taken nothing is.
    let left = store.outbox_due(u64::MAX, 9).unwrap();
    assert_eq!((left.len(), left[0].post.source, left[0].post.target), (1, other, other));
    within(&store, |unit| unit.take_post(left[0].id));
    assert_eq!(store.outbox_next_due_ms(), None);
}

#[test]
fn an_open_snapshot_no_longer_shows_it() {
    let store = scratch();
    let (id, other) = well_known(&store);
    let (mut old, mut searching) = (store.begin(), store.begin());
    forget(&store, &[id]);
    assert_eq!(hits(&mut searching), [other]);
    assert_eq!((old.object(id).unwrap(), old.history(id, 9).unwrap().len()), (None, 0));
    assert_eq!(old.find(&name("it/secret-name")).unwrap(), None);
    assert!(matches!(old.bind(&name("x"), id), Err(WriteError::Read(_))));
}

#[test]
fn parents_are_refused_by_name_or_detached_in_all_states() {
    let store = scratch();
    let (id, stays) = (object_with(&store, "v", 1), object_with(&store, "v", 2));
    let (child, former) = (child_of(&store, id), child_of(&store, id));
    within(&store, |unit| unit.set_parents(child, vec![stays, id]).unwrap());
    within(&store, |unit| unit.set_parents(former, vec![]).unwrap());
    let error = store.forget(&[id], "ada", Children::Refuse).unwrap_err();
    let ForgetError::StillParent { parent, child: named, more } = &error else { panic!("{error}") };
    assert_eq!((*parent, *named, *more, error.fault()), (id, child, 0, Fault::Operator));
    assert!(error.to_string().contains(&child.to_string()), "{error}");
    assert!(!error.to_string().contains("more"), "{error}");
    assert!(store.begin().object(id).unwrap().is_some());

    let mut reader = store.begin();
    reader.set_slot(child, "v", number(5)).unwrap();
    let done = store.forget(&[id], "ada", Children::Detach).unwrap();
    assert_eq!(done.detached, 1);
    assert!(
        matches!(commit(&store, reader), Err(CommitError::Conflict(Contested::Object(found))) if found == child)
    );
    let parents = |id| -> Vec<_> {
        store.object_history(id, None, 9).unwrap().iter().map(|state| state.parents.clone()).collect()
    };
    assert_eq!(parents(child), [vec![stays], vec![stays], vec![]]);
    assert_eq!(parents(former), [vec![], vec![]]);
    assert_eq!(store.begin().object(child).unwrap().unwrap().position, done.position);
    assert_eq!(store.traces_of(id).unwrap(), []);
    assert_clean(&store);
    // Parent and child together need no flag.
    forget(&store, &[stays, child]);
    assert_clean(&store);
}

#[test]
fn forgetting_while_others_write_leaves_nothing_behind() {
    let store = scratch();
    let parents: Vec<ObjectId> = (0..20).map(|_| object_with(&store, "v", 0)).collect();
    let writers: u64 = 3;
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (store, parents) = (&store, &parents);
            scope.spawn(move || {
                for round in 0..200_usize {
                    let parent = parents[(round * 7 + usize::try_from(writer).unwrap()) % parents.len()];
                    let mut unit = store.begin();
                    let Ok(child) = unit.create(operator(), 1, vec![parent]) else { continue };
                    unit.bind(&name(&format!("w{writer}/{round}")), child).unwrap();
                    match commit(store, unit) {
                        Ok(_) => {}
                        Err(CommitError::Conflict(Contested::Object(contested))) => {
                            assert_eq!(contested, parent)
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for parent in &parents {
            store.forget(&[*parent], "ada", Children::Detach).unwrap();
        }
    });
    assert_clean(&store);
    parents.iter().for_each(|parent| assert_eq!(store.traces_of(*parent).unwrap(), []));
}

#[test]
fn forgetting_is_bounded_and_may_be_repeated() {
    let store = scratch();
    let id = object_with(&store, "v", 1);
    let too_many = vec![id; limit::FORGET_OBJECTS_MAX + 1];
    assert!(matches!(store.forget(&too_many, "ada", Children::Refuse), Err(ForgetError::TooLarge(_))));
    let long = "a".repeat(limit::NAME_BYTES_MAX + 1);
    assert!(matches!(store.forget(&[id], &long, Children::Refuse), Err(ForgetError::TooLarge(_))));
    assert_eq!(forget(&store, &[]).position, Position::NONE);
    assert_eq!(store.position(), Position::new(1));
    assert_eq!(forget(&store, &[id, id]).objects, 1);
    let again = forget(&store, &[id]);
    assert_eq!((again.objects, again.states), (0, 0));
    let audits = store.audit_after(0, 9).unwrap();
    assert_eq!(audits.len(), 1, "nothing was there the second time");
    let many: Vec<ObjectId> = within(&store, |unit| {
        (0..limit::FORGET_OBJECTS_MAX).map(|_| unit.create(operator(), 1, vec![]).unwrap()).collect()
    });
    assert_eq!(forget(&store, &many).objects, many.len() as u64);
    assert_eq!((store.counts().unwrap().objects, store.counts().unwrap().object_rows), (0, 0));
    assert_clean(&store);
}

#[test]
fn answers_kept_for_resent_requests_go_with_what_they_are_about() {
    let (store, _) = scratch_at(1_000_000);
    let (id, other) = (object_with(&store, "v", 1), object_with(&store, "v", 1));
    let session = SessionId { client: 7, incarnation: 1_000_000 };
    let key = |number| DedupeKey { session, number, acked_through: 0 };
    let answered = |number, of: Option<ObjectId>, outcome: &str| {
        let mut unit = store.begin();
        of.into_iter().for_each(|of| unit.set_slot(of, "v", number_of(number)).unwrap());
        let vote = Vote { dedupe: Some(key(number)), outcome: outcome.into(), ..Vote::default() };
        store.decide(unit, vote).wait().unwrap();
    };
    answered(1, Some(id), "a secret of it");
    answered(2, None, &format!("{{\"of\": \"{id}\"}}"));
    answered(3, Some(other), "another's");
    assert_eq!(forget(&store, &[id]).answers, 2);
    let kept = |number| match store.dedupe_lookup(&key(number)).unwrap() {
        Dedupe::Replay { outcome, .. } => String::from_utf8(outcome).unwrap(),
        known => panic!("{known:?}"),
    };
    assert_eq!([1, 2, 3].map(kept), ["", "", "another's"], "each is known, and two say nothing");
    let again = store.decide(store.begin(), Vote { dedupe: Some(key(1)), ..Vote::default() }).wait();
    assert!(matches!(again, Err(CommitError::DuplicateRequest { .. })), "{again:?}");
    assert_eq!(store.traces_of(id).unwrap(), []);
    assert_clean(&store);
}

fn number_of(value: u64) -> Slot {
    number(i64::try_from(value).unwrap())
}

#[test]
fn what_others_wrote_down_is_found_and_an_answer_goes_with_its_session() {
    let (store, now) = scratch_at(1_000_000);
    let (id, other) = (object_with(&store, "v", 1), object_with(&store, "v", 1));
    let written = Json::parse(&format!("{{\"friend\": \"{id}\"}}")).unwrap();
    within(&store, |unit| unit.set_slot(other, "knows", Slot::Value(written)).unwrap());
    let session = SessionId { client: 7, incarnation: 1_000_000 };
    let answer = |number, acked_through| {
        let dedupe = Some(DedupeKey { session, number, acked_through });
        let vote = Vote { dedupe, outcome: format!("\"{id}\"").into_bytes(), ..Vote::default() };
        store.decide(store.begin(), vote).wait().unwrap();
    };
    forget(&store, &[id]);
    // One that another's method gave later.
    answer(1, 0);
    let traces = store.traces_of(id).unwrap();
    assert_eq!(tables(&traces), ["objects", "dedupe"]);
    assert!(traces.iter().all(|trace| trace.by == "text"), "{traces:?}");
    now.fetch_add(limit::SESSION_IDLE_MS_MAX + 1, Ordering::Relaxed);
    store.sweep_sessions(now.load(Ordering::Relaxed)).unwrap();
    assert_eq!(tables(&store.traces_of(id).unwrap()), ["objects"]);
    forget(&store, &[other]);
    assert_eq!(store.traces_of(id).unwrap(), []);
}
