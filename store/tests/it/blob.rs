//! Goal: a blob that a row names is there, one that none names goes, and nothing grows without a bound.
//! Method: counts are compared with rows; collections race with units; children die at every step; quotas are met.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use telos_store::{
    BlobError, CommitError, Digest, Effect, Fault, Json, Post, Store, StoreOptions, Vote, limit,
};

use crate::death;
use crate::fixture::{assert_clean, commit, number, object_with, operator, scratch_at, within};
use crate::random::Random;
use crate::whole::{Over, component, files, post, release};

const LATER: u64 = limit::BLOB_GRACE_MS;

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap()
}

#[test]
fn a_blob_is_collected_when_nothing_names_it_and_its_time_has_passed() {
    let (store, now) = scratch_at(1_000);
    let (kept, dropped) = (store.put_blob(b"kept").unwrap(), store.put_blob(b"dropped").unwrap());
    let (babs, other) = (component("babs"), component("other"));
    within(&store, |unit| {
        unit.put_release(release(&babs, kept)).unwrap();
        unit.put_release(release(&other, kept)).unwrap();
        // The same row again is not another one.
        unit.put_release(release(&babs, kept)).unwrap();
    });
    let collected = store.collect_blobs(1_000 + LATER - 1).unwrap();
    assert_eq!((collected.blobs, collected.too_young), (0, 1));
    let collected = store.collect_blobs(1_000 + LATER).unwrap();
    assert_eq!((collected.blobs, collected.bytes, collected.too_young), (1, 7, 0));
    assert!(store.blob(&dropped).unwrap().is_none());
    for component in [&babs, &other] {
        assert_eq!(store.collect_blobs(u64::MAX).unwrap().blobs, 0);
        assert!(store.blob(&kept).unwrap().is_some());
        within(&store, |unit| unit.remove_release(component, kept).unwrap());
        assert_clean(&store);
    }
    assert_eq!(store.counts().unwrap().blobs, 0);
    now.store(1_000 + LATER, Ordering::Relaxed);
    assert_eq!(store.collect_blobs(1_000 + LATER).unwrap().blobs, 1);
    assert_eq!((store.usage().blob_bytes, store.usage().blobs_collected), (0, 2));
}

#[test]
fn a_blob_is_withdrawn_by_who_put_it_unless_somebody_else_needs_it() {
    let (store, now) = scratch_at(0);
    let mine = store.put_blob(b"mine").unwrap();
    assert!(store.withdraw_blob(&mine).unwrap());
    assert_eq!((store.blob(&mine).unwrap(), store.usage().blob_bytes), (None, 0));
    assert!(!store.withdraw_blob(&mine).unwrap(), "it is gone");

    let named = store.put_blob(b"named").unwrap();
    within(&store, |unit| unit.put_release(release(&component("babs"), named)).unwrap());
    assert!(!store.withdraw_blob(&named).unwrap());
    let shared = store.put_blob(b"shared").unwrap();
    store.put_blob(b"shared").unwrap();
    assert!(!store.withdraw_blob(&shared).unwrap(), "another is about to name it");
    assert!(store.blob(&named).unwrap().is_some() && store.blob(&shared).unwrap().is_some());
    now.store(LATER, Ordering::Relaxed);
    store.put_blob(b"shared").unwrap();
    assert!(store.withdraw_blob(&shared).unwrap(), "the others had ten minutes");
    assert_clean(&store);
}

#[test]
fn putting_a_blob_again_renews_its_time() {
    let (store, now) = scratch_at(0);
    let digest = store.put_blob(b"telos").unwrap();
    now.store(LATER, Ordering::Relaxed);
    store.put_blob(b"telos").unwrap();
    assert_eq!(store.collect_blobs(LATER).unwrap().too_young, 1);
    assert!(store.blob(&digest).unwrap().is_some());
}

#[test]
fn a_unit_that_names_a_collected_blob_is_refused_and_nothing_happens() {
    let (store, _) = scratch_at(0);
    let digest = store.put_blob(b"telos").unwrap();
    let mut unit = store.begin();
    unit.put_release(release(&component("babs"), digest)).unwrap();
    assert_eq!(store.collect_blobs(LATER).unwrap().blobs, 1);
    let refused = commit(&store, unit).unwrap_err();
    assert!(matches!(refused, CommitError::BlobMissing(missing) if missing == digest), "{refused}");
    assert_eq!((refused.effect(), store.releases(None).unwrap()), (Effect::None, vec![]));
    store.put_blob(b"telos").unwrap();
    within(&store, |unit| unit.put_release(release(&component("babs"), digest)).unwrap());
    assert_clean(&store);
}

#[test]
fn what_a_dead_process_left_is_collected_and_what_others_put_there_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = store.put_blob(b"never named").unwrap();
    drop(store);
    let folder = dir.path().join("blobs").join(&digest.to_string()[..2]);
    fs::write(folder.join("half.00000000000000000000000000000000.tmp"), b"half").unwrap();
    fs::write(folder.join("README"), b"somebody's").unwrap();
    let store = open(dir.path());
    assert_eq!(store.usage().blob_bytes, 11 + 4 + 10);
    // No unit of this process can name it: it was put by another.
    let collected = store.collect_blobs(0).unwrap();
    assert_eq!((collected.blobs, collected.temporary, collected.bytes), (1, 1, 15));
    assert_eq!(files(&dir.path().join("blobs")), [folder.join("README")]);
    assert_eq!(store.usage().blob_bytes, 10);
}

#[test]
fn a_backup_postpones_collection() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = scratch_at(0);
    let digest = store.put_blob(b"telos").unwrap();
    let mut postponed = false;
    let mut tell = |_| postponed |= store.collect_blobs(LATER).unwrap().is_postponed;
    store.backup(&dir.path().join("to"), Default::default(), &mut tell).unwrap();
    assert!(postponed && store.blob(&digest).unwrap().is_some());
    let collected = store.collect_blobs(LATER).unwrap();
    assert!(collected.blobs == 1 && !collected.is_postponed);
}

/// Puts, names, forgets and collects at once, with a clock that makes every blob old at once: whatever is named is
/// there, though its unit may be refused.
#[test]
fn collection_never_takes_a_blob_that_a_row_names() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    let reading = Arc::clone(&clock);
    // Every look at the clock is ten minutes after the last.
    let clock = Arc::new(move || reading.fetch_add(LATER, Ordering::Relaxed));
    let store = Store::open(dir.path(), StoreOptions { clock, ..StoreOptions::default() }).unwrap();
    let is_over = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let over = Over(&is_over);
        let writers: Vec<_> = (0..3_u8)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || put_and_name(store, writer))
            })
            .collect();
        let collector = scope.spawn(|| {
            let mut collected = 0;
            while !is_over.load(Ordering::Acquire) {
                collected += store.collect_blobs(u64::MAX).unwrap().blobs;
            }
            collected
        });
        let refused: u32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        drop(over);
        assert!(collector.join().unwrap() > 0, "nothing was ever collected");
        refused
    });
    assert_clean(&store);
    for row in store.releases(None).unwrap() {
        assert!(store.blob(&row.digest).unwrap().is_some(), "{}; refused: {refused}", row.digest);
    }
}

fn put_and_name(store: &Store, writer: u8) -> u32 {
    let mut refused = 0;
    let own = component(["anna", "bert", "carl"][usize::from(writer)]);
    for round in 0..60_u8 {
        // Shared between writers, so that one names what the other just removed.
        let bytes = [round / 3; 100];
        let digest = store.put_blob(&bytes).unwrap();
        let mut unit = store.begin();
        unit.put_release(release(&own, digest)).unwrap();
        match commit(store, unit) {
            Ok(_) => assert!(store.blob(&digest).unwrap().is_some(), "named and gone"),
            Err(CommitError::BlobMissing(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if round % 2 == 0 {
            within(store, |unit| unit.remove_release(&own, digest).unwrap());
        }
    }
    refused
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Name(u8, u8),
    Forget(u8, u8),
    Collect,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..5_u8).prop_map(Act::Put),
        (0..3_u8, 0..5_u8).prop_map(|(of, blob)| Act::Name(of, blob)),
        (0..3_u8, 0..5_u8).prop_map(|(of, blob)| Act::Forget(of, blob)),
        Just(Act::Collect),
        (0..LATER).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if crate::random::is_long() { 2_000 } else { 60 }))]
    #[test]
    fn counting_and_collecting_behave_as_the_model(acts in prop::collection::vec(act(), 1..50)) {
        let (store, now) = scratch_at(0);
        let owners = ["anna", "bert", "carl"].map(component);
        let digest = |blob: u8| Digest::of(&[blob; 9]);
        // Blob → when it was last put; (owner, blob) pairs that name one.
        let (mut stored, mut named) = (BTreeMap::new(), std::collections::BTreeSet::new());
        for act in acts {
            let now_ms = now.load(Ordering::Relaxed);
            match act {
                Act::Put(blob) => {
                    store.put_blob(&[blob; 9]).unwrap();
                    stored.insert(blob, now_ms);
                }
                Act::Name(of, blob) => {
                    let mut unit = store.begin();
                    unit.put_release(release(&owners[usize::from(of)], digest(blob))).unwrap();
                    let is_stored = stored.contains_key(&blob);
                    prop_assert_eq!(store.decide(unit, Vote::default()).wait().is_ok(), is_stored);
                    if is_stored {
                        named.insert((of, blob));
                    }
                }
                Act::Forget(of, blob) => {
                    let owner = &owners[usize::from(of)];
                    within(&store, |unit| unit.remove_release(owner, digest(blob)).unwrap());
                    named.remove(&(of, blob));
                }
                Act::Collect => {
                    let before = stored.len() as u64;
                    stored.retain(|blob, put_ms| {
                        named.iter().any(|(_, of)| of == blob) || now_ms - *put_ms < LATER
                    });
                    prop_assert_eq!(store.collect_blobs(now_ms).unwrap().blobs, before - stored.len() as u64);
                }
                Act::Wait(ms) => drop(now.fetch_add(ms, Ordering::Relaxed)),
            }
            for blob in 0..5 {
                prop_assert_eq!(store.blob(&digest(blob)).unwrap().is_some(), stored.contains_key(&blob));
            }
            let distinct: std::collections::BTreeSet<_> = named.iter().map(|(_, blob)| blob).collect();
            prop_assert_eq!(store.counts().unwrap().blobs, distinct.len() as u64);
            prop_assert_eq!(store.usage().blob_bytes, stored.len() as u64 * 9);
        }
        assert_clean(&store);
    }
}

#[test]
fn verification_finds_wrong_counts_and_missing_or_damaged_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digests = [b"one".as_slice(), b"two", b"three"].map(|bytes| store.put_blob(bytes).unwrap());
    within(&store, |unit| {
        digests.iter().for_each(|digest| unit.put_release(release(&component("babs"), *digest)).unwrap());
    });
    drop(store);
    let path = |digest: &Digest| {
        let text = digest.to_string();
        dir.path().join("blobs").join(&text[..2]).join(&text[2..])
    };
    fs::remove_file(path(&digests[0])).unwrap();
    fs::write(path(&digests[1]), b"tvo").unwrap();
    let database = redb::Database::open(dir.path().join("objects.redb")).unwrap();
    let blobs: redb::TableDefinition<&[u8; 32], u64> = redb::TableDefinition::new("blobs");
    let txn = database.begin_write().unwrap();
    txn.open_table(blobs).unwrap().insert(digests[2].as_bytes(), 2).unwrap();
    txn.open_table(blobs).unwrap().insert(&[7; 32], 1).unwrap();
    txn.commit().unwrap();
    drop(database);
    let problems = Store::verify(dir.path()).unwrap().problems;
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for word in ["missing", "restore the file", "2, expected 1", "no row names it"] {
        assert!(problems.iter().any(|problem| problem.contains(word)), "{word}: {problems:#?}");
    }
}

#[test]
fn blobs_past_their_quota_are_refused_until_some_are_collected() {
    let dir = tempfile::tempdir().unwrap();
    let options = || StoreOptions { blob_bytes_max: 2_500, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options()).unwrap();
    let named = store.put_blob(&[1; 1_000]).unwrap();
    within(&store, |unit| unit.put_release(release(&component("babs"), named)).unwrap());
    store.put_blob(&[2; 1_000]).unwrap();
    let refused = store.put_blob(&[3; 1_000]).unwrap_err();
    assert!(matches!(refused, BlobError::Quota { found: 3_000, allowed: 2_500 }), "{refused}");
    assert_eq!(refused.fault(), Fault::Operator);
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    assert!(matches!(store.put_blob(&[3; 1_000]), Err(BlobError::Quota { .. })));
    assert_eq!(store.collect_blobs(0).unwrap().blobs, 1);
    store.put_blob(&[3; 1_000]).unwrap();
    assert!(store.blob(&named).unwrap().is_some());
    assert_eq!((store.usage().blob_bytes, store.usage().blob_bytes_max), (2_000, 2_500));
}

#[test]
fn a_full_database_refuses_units_that_add_rows_and_serves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { database_bytes_max: 4 * 1024 * 1024, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options).unwrap();
    let id = object_with(&store, "a", 1);
    let arguments = Json::parse(&format!("\"{}\"", "x".repeat(200_000))).unwrap();
    let big = || {
        let mut unit = store.begin();
        unit.post(Post { arguments: arguments.clone(), ..post(id, id, "big") }).unwrap();
        commit(&store, unit)
    };
    let mut posted = 0_u32;
    let refused = loop {
        match big() {
            Ok(_) => posted += 1,
            Err(refused) => break refused,
        }
    };
    assert!(posted > 5, "{posted}");
    let is_full = |error: &CommitError| matches!(error, CommitError::DatabaseFull { .. });
    assert!(is_full(&refused) && refused.effect() == Effect::None, "{refused}");
    assert!(refused.fault() == Fault::Operator && refused.to_string().contains("rewrite"), "{refused}");
    let mut unit = store.begin();
    unit.set_slot(id, "a", number(2)).unwrap();
    assert!(is_full(&commit(&store, unit).unwrap_err()));
    let mut unit = store.begin();
    unit.declare_collection(&operator(), "notes", telos_store::CollectionForm::of_first(3)).unwrap();
    assert!(is_full(&commit(&store, unit).unwrap_err()));
    // What removes goes on, and leads back below the quota.
    while let Some(row) = store.outbox_due(u64::MAX, 1).unwrap().pop() {
        within(&store, |unit| {
            unit.take_post(row.id);
            unit.audit("taken", &row.id.to_string(), serde_json::Value::Null).unwrap();
        });
    }
    store.rewrite(&mut |_| ()).unwrap();
    assert!(store.usage().database_bytes < store.usage().database_bytes_max);
    big().unwrap();
    assert_clean(&store);
}

#[test]
fn a_request_decided_before_is_answered_by_a_full_store() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |store: &Store| {
        let session = crate::whole::session(crate::whole::now_ms() - 1_000);
        let mut unit = store.begin();
        unit.create(operator(), 1, vec![]).unwrap();
        (unit, session)
    };
    let store = open(dir.path());
    let (unit, session) = ask(&store);
    let dedupe = Some(telos_store::DedupeKey { session, number: 1, acked_through: 0 });
    store.decide(unit, Vote { dedupe, ..Vote::default() }).wait().unwrap();
    drop(store);
    let store = Store::open(dir.path(), StoreOptions { database_bytes_max: 1, ..StoreOptions::default() });
    let store = store.unwrap();
    let (unit, _) = ask(&store);
    let answer = store.decide(unit, Vote { dedupe, ..Vote::default() }).wait().unwrap_err();
    assert!(matches!(answer, CommitError::DuplicateRequest { .. }), "{answer}");
    let (unit, _) = ask(&store);
    assert!(matches!(commit(&store, unit), Err(CommitError::DatabaseFull { .. })));
}

#[test]
fn a_process_that_dies_while_collecting_leaves_every_named_blob_and_forgets_no_garbage() {
    let make = |seed: u64| {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let put =
            |index: u64| store.put_blob(&[&[7; 42][..], &(index + 8 * seed).to_le_bytes()].concat()).unwrap();
        let digests: Vec<Digest> = (0..8).map(put).collect();
        within(&store, |unit| {
            let even = digests.iter().step_by(2);
            even.for_each(|digest| unit.put_release(release(&component("babs"), *digest)).unwrap());
        });
        dir
    };
    let prepare = |dir: &tempfile::TempDir| {
        let copy = tempfile::tempdir().unwrap();
        crate::whole::copy_tree(dir.path(), copy.path());
        copy
    };
    let points = ["store::collect-before-delete", "store::collect-after-delete"];
    death::at_every_step("blob::child_collects", &points, make, prepare, |_, place, what| {
        let report = Store::verify(place).unwrap();
        assert!(report.is_clean(), "{what}: {:#?}", report.problems);
        let store = open(place);
        store.collect_blobs(0).unwrap();
        assert_eq!(files(&place.join("blobs")).len(), 4, "{what}");
        assert_eq!(store.usage().blob_bytes, 200, "{what}");
    });
}

#[test]
fn child_collects() {
    let Some(place) = death::place() else { return };
    open(&place).collect_blobs(0).unwrap();
}

#[test]
fn a_process_that_dies_while_putting_leaves_no_blob_or_a_whole_one() {
    let points = ["store::blob-before-write", "store::blob-before-rename", "store::blob-after-rename"];
    let prepare = |bytes: &Vec<u8>| {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("to-put"), bytes).unwrap();
        place
    };
    let make = |seed| match Random::new(seed).index(70_000) {
        _ if seed == 0 => vec![5; 70_000],
        len => vec![seed.to_le_bytes()[0]; len],
    };
    death::at_every_step("blob::child_puts", &points, make, prepare, |bytes, place, what| {
        let store = open(place);
        let found = store.blob(&Digest::of(bytes)).unwrap();
        let is_whole = what.contains("after-rename") || !what.contains("died: true");
        assert_eq!(found.is_some(), is_whole, "{what}");
        store.collect_blobs(0).unwrap();
        assert_eq!((files(&place.join("blobs")).len(), store.usage().blob_bytes), (0, 0), "{what}");
        assert_eq!(store.put_blob(bytes).unwrap(), Digest::of(bytes), "{what}");
    });
}

#[test]
fn child_puts() {
    let Some(place) = death::place() else { return };
    open(&place).put_blob(&std::fs::read(place.join("to-put")).unwrap()).unwrap();
}
