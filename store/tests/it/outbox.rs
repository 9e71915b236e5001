//! Posts: made by a unit, delivered in order, taken with the effects of their delivery, given up after three.

use telos_store::{
    CommitError, Contested, Json, MemoryBackend, ObjectId, OutboxRow, Post, Store, WriteError, limit,
};

use crate::fixture::{assert_clean, commit, number, object_with, over, scratch, scratch_at, within};

fn object(number: u64) -> ObjectId {
    ObjectId::from_parts(0, number)
}

fn post(source: u64, target: u64, selector: &str) -> Post {
    Post {
        source: object(source),
        target: object(target),
        selector: selector.into(),
        arguments: Json::parse("[1]").unwrap(),
        hops: 0,
        trace: "t".into(),
    }
}

fn send(store: &Store, posts: &[Post]) {
    within(store, |unit| posts.iter().for_each(|post| unit.post(post.clone()).unwrap()));
}

fn due(store: &Store, now_ms: u64) -> Vec<OutboxRow> {
    store.outbox_due(now_ms, 100).unwrap()
}

fn selectors(rows: &[OutboxRow]) -> Vec<&str> {
    rows.iter().map(|row| row.post.selector.as_str()).collect()
}

#[test]
fn posts_of_one_pair_are_due_one_after_another() {
    let store = scratch();
    send(&store, &[post(1, 2, "a"), post(1, 2, "b"), post(1, 3, "c")]);
    let rows = due(&store, 0);
    assert_eq!(selectors(&rows), ["a", "c"]);
    within(&store, |unit| unit.take_post(rows[0].id));
    assert_eq!(selectors(&due(&store, 0)), ["c", "b"].map(|s| s).iter().rev().copied().collect::<Vec<_>>());
    assert_clean(&store);
}

#[test]
fn a_post_is_taken_once_with_the_effects_of_its_delivery() {
    let store = scratch();
    let counter = object_with(&store, "count", 0);
    send(&store, &[post(1, 2, "a")]);
    let id = due(&store, 0)[0].id;
    let deliver = || {
        let mut unit = store.begin();
        unit.take_post(id);
        unit.set_slot(counter, "count", number(1)).unwrap();
        unit
    };
    let (first, second) = (deliver(), deliver());
    commit(&store, first).unwrap();
    assert!(matches!(commit(&store, second), Err(CommitError::Conflict(_))));
    let mut third = store.begin();
    third.take_post(id);
    assert!(
        matches!(commit(&store, third), Err(CommitError::Conflict(Contested::Post(found))) if found == id)
    );
    assert!(due(&store, 0).is_empty() && store.outbox_next_due_ms().is_none());
}

#[test]
fn a_post_of_a_discarded_savepoint_is_never_sent() {
    let store = scratch();
    let mut unit = store.begin();
    unit.post(post(1, 2, "kept")).unwrap();
    let savepoint = unit.savepoint();
    unit.post(post(1, 3, "gone")).unwrap();
    unit.discard(savepoint);
    commit(&store, unit).unwrap();
    assert_eq!(selectors(&due(&store, 0)), ["kept"]);
}

#[test]
fn three_failures_make_a_dead_letter_with_an_audit_row() {
    let (store, _) = scratch_at(5_000);
    send(&store, &[post(1, 2, "a"), post(1, 2, "b")]);
    let id = due(&store, 0)[0].id;
    store.fail_post(id, "no answer", 100).unwrap();
    assert!(due(&store, 99).is_empty(), "the pair waits with its oldest post");
    assert_eq!(store.outbox_next_due_ms(), Some(100));
    assert_eq!(due(&store, 100)[0].attempts, 1);
    store.fail_post(id, "no answer", 200).unwrap();
    store.fail_post(id, "gave up", 300).unwrap();
    assert_eq!(selectors(&due(&store, 0)), ["b"]);
    let letters = store.dead_letters(10).unwrap();
    assert_eq!((letters.len(), letters[0].id, letters[0].cause.as_str()), (1, id, "gave up"));
    assert_eq!((letters[0].attempts, letters[0].at_ms), (3, 5_000));
    let audit = store.audit_after(0, 10).unwrap();
    assert_eq!((audit.len(), audit[0].kind.as_str()), (1, "dead-letter"));
    assert_eq!(audit[0].detail["cause"], "gave up");
    store.fail_post(id, "late", 0).unwrap();
    assert_eq!(store.dead_letters(10).unwrap().len(), 1, "a post that is gone cannot fail again");
    assert_clean(&store);
}

#[test]
fn the_outbox_survives_reopening() {
    let (dir, backend) = (tempfile::tempdir().unwrap(), MemoryBackend::new());
    let store = over(&dir, &backend);
    send(&store, &[post(1, 2, "a"), post(1, 2, "b"), post(1, 3, "c")]);
    let id = due(&store, 0)[0].id;
    store.fail_post(id, "later", 50).unwrap();
    let before = (due(&store, 0), due(&store, 50), store.outbox_next_due_ms());
    drop(store);
    let store = over(&dir, &backend);
    assert_eq!((due(&store, 0), due(&store, 50), store.outbox_next_due_ms()), before);
}

#[test]
fn posts_are_bounded_per_unit_per_chain_and_in_the_store() {
    let store = scratch();
    let mut unit = store.begin();
    let far = Post { hops: limit::POST_HOPS_MAX + 1, ..post(1, 2, "far") };
    assert!(matches!(unit.post(far), Err(WriteError::TooLarge(_))));
    assert!(matches!(unit.post(post(1, 2, "")), Err(WriteError::Invalid(_))));
    (0..limit::POSTS_PER_UNIT_MAX).for_each(|_| unit.post(post(1, 2, "a")).unwrap());
    assert!(matches!(unit.post(post(1, 2, "a")), Err(WriteError::TooLarge(_))));
    commit(&store, unit).unwrap();

    let full_units = limit::POSTS_PENDING_MAX / limit::POSTS_PER_UNIT_MAX;
    for number in 1..full_units {
        let posts = vec![post(u64::try_from(number).unwrap(), 2, "a"); limit::POSTS_PER_UNIT_MAX];
        send(&store, &posts);
    }
    let mut unit = store.begin();
    unit.post(post(1, 2, "one more")).unwrap();
    let error = commit(&store, unit).unwrap_err();
    assert!(matches!(error, CommitError::OutboxFull { pending, .. } if pending == limit::POSTS_PENDING_MAX));
    let oldest = store.outbox_due(0, 1).unwrap()[0].id;
    within(&store, |unit| unit.take_post(oldest));
    send(&store, &[post(1, 2, "one more")]);
}
