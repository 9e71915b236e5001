//! A draft and the generations of components: what it raises, and what it begins in.

use super::*;

/// A release of a component, with a descriptor that only the test can read.
fn release(store: &Store, of: &ComponentId, descriptor: &str) {
    let digest = store.put_blob(format!("{of} {descriptor}").as_bytes()).unwrap();
    let record = ReleaseRecord {
        component: of.clone(),
        digest,
        version: "1.0.0".into(),
        descriptor: json_of(descriptor),
        contract: String::new(),
        imports: vec![],
        limits: Json::null(),
        source: String::new(),
        state: ReleaseState::Staged,
        installed_at_ms: 0,
        verdict: None,
    };
    within(store, |unit| unit.put_release(record).unwrap());
}

#[test]
fn no_object_is_put_in_a_generation_that_no_release_knows() {
    let (_home, dir) = home();
    let store = open(&dir);
    let (ours, others) = (component("ours"), component("others"));
    let make = |owner: &ComponentId| within(&store, |unit| unit.create(owner.clone(), 1, vec![]).unwrap());
    let (one, other, ahead) = (make(&ours), make(&ours), make(&others));
    within(&store, |unit| unit.set_owner_generation(ahead, others.clone(), 7).unwrap());
    ["2", "4", "\"unreadable\""].iter().for_each(|descriptor| release(&store, &ours, descriptor));
    drop(store);
    let generation_of: Option<fn(&ReleaseRecord) -> Option<u32>> =
        Some(|record| record.descriptor.as_str().parse().ok());
    for is_rehearsal in [true, false] {
        let options = DraftOptions { is_rehearsal, generation_of, ..DraftOptions::default() };
        let mut draft = Draft::begin(&dir, &options, &mut |_| ()).unwrap();
        draft.set_generation(one, 4).unwrap();
        let newer = draft.set_generation(other, 5);
        assert!(
            matches!(newer, Err(WriteError::GenerationUnknown { found: 5, known: Some(4), .. })),
            "{newer:?}"
        );
        // What it is in already changes nothing, though no release knows it.
        draft.set_generation(ahead, 7).unwrap();
        let newer = draft.set_generation(ahead, 8);
        assert!(matches!(newer, Err(WriteError::GenerationUnknown { known: None, .. })), "{newer:?}");
        assert_eq!(draft.changed(None, 10).unwrap().len(), 1);
    }
}

/// What serves knows one generation of its objects.
#[test]
fn a_component_goes_to_another_generation_as_a_whole() {
    let (_home, dir) = home();
    let store = open(&dir);
    let ours = component("ours");
    let ids: Vec<ObjectId> =
        within(&store, |unit| (0..3).map(|_| unit.create(ours.clone(), 1, vec![]).unwrap()).collect());
    drop(store);
    let before = bytes(&dir);
    for is_rehearsal in [true, false] {
        let options = DraftOptions { is_rehearsal, ..DraftOptions::default() };
        let mut draft = Draft::begin(&dir, &options, &mut |_| ()).unwrap();
        draft.set_generation(ids[1], 3).unwrap();
        draft.set_generation(ids[2], 2).unwrap();
        let refused = draft.seal(fact(), &mut |_| ()).unwrap_err();
        let DraftError::LeftBehind { behind, objects, wanted, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!((*behind, *objects, *wanted), (2, 3, 3));
    }
    assert_eq!(bytes(&dir), before);

    let mut draft = begin(&dir);
    ids.iter().for_each(|id| draft.set_generation(*id, 3).unwrap());
    let made = draft.create(ours.clone()).unwrap();
    assert_eq!(draft.object(made).unwrap().unwrap().generation, 3);
    seal(draft);
    let store = open(&dir);
    assert_clean(&store);
    assert_eq!(in_force(&store, "ours"), Some(3));
    // As after any raise: what is written in an earlier one is refused.
    let mut unit = store.begin();
    let earlier = unit.create(ours.clone(), 2, vec![]);
    assert!(matches!(earlier, Err(WriteError::Generation { found: 2, in_force: 3, .. })), "{earlier:?}");
    drop((unit, store));
    let mut draft = begin(&dir);
    ids.iter().chain([&made]).for_each(|id| draft.set_generation(*id, 4).unwrap());
    assert_eq!(seal(draft).raised, [DraftRaise { component: ours, from: 3, to: 4, objects: 4 }]);
}

#[test]
fn what_is_made_begins_in_the_generation_that_serves() {
    let (_home, dir) = home();
    let store = open(&dir);
    let ours = component("ours");
    ["2", "4"].iter().for_each(|descriptor| release(&store, &ours, descriptor));
    within(&store, |unit| {
        let digest = Digest::of(b"ours 2");
        unit.set_seat(SeatRecord {
            component: ours.clone(),
            digest,
            previous: None,
            returns_to: None,
            swaps: 1,
            since_ms: 0,
        })
        .unwrap();
    });
    drop(store);
    let generation_of: Option<fn(&ReleaseRecord) -> Option<u32>> =
        Some(|record| record.descriptor.as_str().parse().ok());
    let options = DraftOptions { is_rehearsal: true, generation_of, ..DraftOptions::default() };
    let mut draft = Draft::begin(&dir, &options, &mut |_| ()).unwrap();
    let made = draft.create(ours.clone()).unwrap();
    assert_eq!(draft.object(made).unwrap().unwrap().generation, 2);
}

/// A descriptor may be long, and a script makes many objects.
#[test]
fn what_serves_is_read_once_however_much_is_made() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    let (_home, dir) = home();
    let store = open(&dir);
    let ours = component("ours");
    release(&store, &ours, "2");
    within(&store, |unit| {
        let digest = Digest::of(b"ours 2");
        unit.set_seat(SeatRecord {
            component: ours.clone(),
            digest,
            previous: None,
            returns_to: None,
            swaps: 1,
            since_ms: 0,
        })
        .unwrap();
    });
    drop(store);
    let generation_of: Option<fn(&ReleaseRecord) -> Option<u32>> = Some(|record| {
        READ.fetch_add(1, Ordering::AcqRel);
        record.descriptor.as_str().parse().ok()
    });
    let options = DraftOptions { is_rehearsal: true, generation_of, ..DraftOptions::default() };
    let mut draft = Draft::begin(&dir, &options, &mut |_| ()).unwrap();
    for _ in 0..50 {
        let made = draft.create(ours.clone()).unwrap();
        assert_eq!(draft.object(made).unwrap().unwrap().generation, 2);
    }
    assert_eq!(READ.load(Ordering::Acquire), 1);
}

#[test]
fn a_draft_sees_states_that_a_raise_put_in_force() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let store = open(&dir);
    let ours = component("ours");
    let ids: Vec<ObjectId> =
        within(&store, |unit| (0..3).map(|_| unit.create(ours.clone(), 1, vec![]).unwrap()).collect());
    within(&store, |unit| {
        for id in &ids {
            let base = unit.object(*id).unwrap().unwrap().position;
            let slots = BTreeMap::from([("evolved".to_owned(), json_of("1"))]);
            unit.put_shadow(*id, base, 2, slots).unwrap();
        }
    });
    within(&store, |unit| unit.raise_generation(&ours, 1, 2, Digest::of(b"evolver")).unwrap());
    drop(store);
    let mut draft = begin(&dir);
    let state = draft.object(ids[0]).unwrap().unwrap();
    assert_eq!((state.generation, state.value("evolved").is_some()), (2, true));
    draft.set_value(ids[0], "evolved", json_of("2")).unwrap();
    let lowered = draft.set_generation(ids[2], 1);
    assert!(matches!(lowered, Err(WriteError::Generation { .. })), "{lowered:?}");
    let made = draft.create(ours.clone()).unwrap();
    draft.set_value(ids[1], "evolved", json_of("3")).unwrap();
    let changed = draft.changed(None, 10).unwrap();
    let evolved = |changed: &Changed| changed.before.as_ref().is_none_or(|before| before.generation == 2);
    assert!(changed.len() == 3 && changed.iter().all(evolved), "{changed:?}");
    seal(draft);
    let store = open(&dir);
    assert_clean(&store);
    let mut unit = store.begin();
    assert_eq!(read(&mut unit, ids[0], "evolved"), Some(2));
    let revisions: Vec<u64> =
        unit.history(ids[0], 9).unwrap().iter().map(|state| state.revision.get()).collect();
    assert_eq!((revisions, unit.object(made).unwrap().unwrap().generation), (vec![3, 2, 1], 2));
    assert_eq!(store.settle_generation(10).unwrap(), 1);
    assert_clean(&store);
    assert_eq!(store.unevolved(&ours, telos_store::Toward::Up(3), None, 10).unwrap().len(), 4);
}
