//! System records and audit rows: what commits with a decision about components.

use telos_store::{ComponentId, Digest, Json, ReleaseRecord, ReleaseState, SeatRecord, Store, StoreOptions};

use crate::fixture::{assert_clean, commit, operator, scratch, within};

fn component(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn release(id: &str, digest: Digest) -> ReleaseRecord {
    ReleaseRecord {
        component: component(id),
        digest,
        version: "1.0.0".into(),
        descriptor: Json::parse("{\"generation\": 1}").unwrap(),
        contract: "0.1.0".into(),
        imports: vec!["storage".into()],
        limits: Json::parse("{}").unwrap(),
        source: "inbox".into(),
        state: ReleaseState::Staged,
        installed_at_ms: 1,
        verdict: None,
    }
}

fn seat(id: &str, digest: Digest) -> SeatRecord {
    SeatRecord { component: component(id), digest, previous: None, returns_to: None, swaps: 0, since_ms: 2 }
}

#[test]
fn a_release_a_seat_and_its_audit_row_commit_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let digest = store.put_blob(b"component bytes").unwrap();
    let position = {
        let mut unit = store.begin();
        unit.put_release(release("babs", digest)).unwrap();
        unit.set_seat(seat("babs", digest)).unwrap();
        unit.audit("activate", "babs", serde_json::json!({"digest": digest})).unwrap();
        commit(&store, unit).unwrap().position
    };
    drop(store);
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.seats().unwrap(), [seat("babs", digest)]);
    assert_eq!(store.releases(None).unwrap(), [release("babs", digest)]);
    assert_eq!(store.release(&component("babs"), &digest).unwrap(), Some(release("babs", digest)));
    assert_eq!(store.blob(&digest).unwrap().as_deref(), Some(&b"component bytes"[..]));
    let audit = store.audit_after(0, 10).unwrap();
    assert_eq!((audit[0].number, audit[0].position, audit[0].subject.as_str()), (1, position, "babs"));
    assert!(store.audit_after(1, 10).unwrap().is_empty());
    assert_clean(&store);
}

#[test]
fn releases_are_listed_per_component() {
    let store = scratch();
    let digests = [store.put_blob(b"one").unwrap(), store.put_blob(b"two").unwrap()];
    within(&store, |unit| {
        unit.put_release(release("babs", digests[0])).unwrap();
        unit.put_release(release("babs", digests[1])).unwrap();
        unit.put_release(release("babs-two", digests[1])).unwrap();
    });
    assert_eq!(store.releases(Some(&component("babs"))).unwrap().len(), 2);
    assert_eq!(store.releases(Some(&component("bab"))).unwrap().len(), 0);
    assert_eq!(store.releases(None).unwrap().len(), 3);
    let burnt = ReleaseRecord { state: ReleaseState::Quarantined, ..release("babs", digests[0]) };
    within(&store, |unit| unit.put_release(burnt.clone()).unwrap());
    assert_eq!(store.release(&component("babs"), &digests[0]).unwrap(), Some(burnt));
}

#[test]
fn grants_are_given_and_taken() {
    let store = scratch();
    within(&store, |unit| {
        unit.put_grant(&component("babs"), "storage", "operator").unwrap();
        unit.put_grant(&component("babs"), "inference", "operator").unwrap();
        unit.put_grant(&component("babs-two"), "storage", "operator").unwrap();
    });
    let granted = |id: &str| -> Vec<String> {
        store.grants(&component(id)).unwrap().into_iter().map(|grant| grant.interface).collect()
    };
    assert_eq!(
        (granted("babs"), granted("babs-two")),
        (vec!["inference".into(), "storage".into()], vec!["storage".into()])
    );
    within(&store, |unit| unit.remove_grant(&component("babs"), "storage").unwrap());
    assert_eq!(granted("babs"), ["inference"]);
}

#[test]
fn a_consumed_file_is_known_by_path_and_bytes() {
    let store = scratch();
    within(&store, |unit| unit.mark_consumed("plugins/a.wasm", Digest::of(b"a")).unwrap());
    assert!(store.is_consumed("plugins/a.wasm", &Digest::of(b"a")).unwrap());
    assert!(!store.is_consumed("plugins/a.wasm", &Digest::of(b"b")).unwrap());
    assert!(!store.is_consumed("plugins/b.wasm", &Digest::of(b"a")).unwrap());
    within(&store, |unit| unit.mark_consumed("plugins/b.wasm", Digest::of(b"a")).unwrap());
    within(&store, |unit| unit.mark_consumed("plugins/a.wasm", Digest::of(b"b")).unwrap());
    assert!(store.is_consumed("plugins/a.wasm", &Digest::of(b"b")).unwrap());
    assert!(
        !store.is_consumed("plugins/a.wasm", &Digest::of(b"a")).unwrap(),
        "copied there again, it is news"
    );
    assert!(
        store.is_consumed("plugins/b.wasm", &Digest::of(b"a")).unwrap(),
        "another path is none of its business"
    );
}

#[test]
fn audit_numbers_have_no_gaps_when_units_fail_or_discard() {
    let store = scratch();
    let shared = within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
    let mut loser = store.begin();
    loser.set_owner_generation(shared, operator(), 2).unwrap();
    loser.audit("lost", "x", serde_json::Value::Null).unwrap();
    within(&store, |unit| {
        unit.set_owner_generation(shared, operator(), 3).unwrap();
        unit.audit("first", "x", serde_json::Value::Null).unwrap();
        let savepoint = unit.savepoint();
        unit.audit("discarded", "x", serde_json::Value::Null).unwrap();
        unit.discard(savepoint);
        unit.audit("second", "x", serde_json::Value::Null).unwrap();
    });
    commit(&store, loser).unwrap_err();
    within(&store, |unit| unit.audit("third", "x", serde_json::Value::Null).unwrap());
    let rows = store.audit_after(0, 10).unwrap();
    let listed: Vec<_> = rows.iter().map(|row| (row.number, row.kind.as_str())).collect();
    assert_eq!(listed, [(1, "first"), (2, "second"), (3, "third")]);
    assert_eq!(store.audit_after(1, 1).unwrap()[0].number, 2);
}

#[test]
fn collections_are_listed_by_owner() {
    let store = scratch();
    let add = |owner: &str, collection: &str| {
        let owner = ComponentId::new(owner).unwrap();
        within(&store, |unit| {
            let id = unit.create(owner.clone(), 1, vec![]).unwrap();
            unit.upsert_vector(&owner, collection, id, vec![1.0], Json::parse("{}").unwrap()).unwrap();
        });
    };
    for (owner, collection) in [("babs", "turns"), ("babs", "notes"), ("babs-two", "other"), ("a", "mine")] {
        add(owner, collection);
    }
    let listed = |owner: &str| store.collections(&ComponentId::new(owner).unwrap()).unwrap();
    assert_eq!(listed("babs"), ["notes", "turns"]);
    assert_eq!(listed("nobody"), [""; 0]);
}

#[test]
fn verification_names_what_is_missing() {
    let store = scratch();
    let digest = Digest::of(b"never stored");
    within(&store, |unit| unit.set_seat(seat("other", digest)).unwrap());
    let problems = store.verify_open().unwrap().problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains("seat other"), "{problems:#?}");
}

#[test]
fn the_newest_audit_rows_come_first_and_are_filtered_before_they_are_counted() {
    let store = scratch();
    for number in 1..=6_u64 {
        let subject = if number % 2 == 0 { "even" } else { "odd" };
        within(&store, |unit| unit.audit("counted", subject, serde_json::json!(number)).unwrap());
    }
    let numbers = |after, before, limit, subject: &str| -> Vec<u64> {
        let rows =
            store.audit_between(after, before, limit, |row| subject.is_empty() || row.subject == subject);
        rows.unwrap().iter().map(|row| row.number).collect()
    };
    assert_eq!(numbers(0, u64::MAX, 2, ""), [6, 5]);
    assert_eq!(numbers(0, u64::MAX, 2, "odd"), [5, 3]);
    assert_eq!(numbers(0, 3, 10, "odd"), [1]);
    assert_eq!(numbers(3, u64::MAX, 10, "odd"), [5]);
    for (after, before) in [(6, u64::MAX), (u64::MAX, u64::MAX), (5, 3), (0, 0)] {
        assert_eq!(numbers(after, before, 10, ""), [0_u64; 0], "between {after} and {before}");
    }
}

#[test]
fn a_listing_of_large_audit_rows_ends_at_its_bytes() {
    let store = scratch();
    let large = "x".repeat(telos_store::limit::AUDIT_BYTES_MAX / 2);
    for _ in 0..40 {
        within(&store, |unit| {
            for _ in 0..4 {
                unit.audit("large", "x", serde_json::json!(large)).unwrap();
            }
        });
    }
    let rows = store.audit_between(0, u64::MAX, 10_000, |_| true).unwrap();
    let bytes = rows.len() * large.len();
    assert!(
        (1..160).contains(&rows.len()) && bytes <= telos_store::limit::AUDIT_READ_BYTES_MAX + large.len()
    );
}
