//! Resent requests: answered from their first decision, however often they come.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use telos_store::{CommitError, Dedupe, DedupeKey, Effect, SessionId, Store, StoreOptions, Vote, limit};

use crate::fixture::{assert_clean, await_until, number, object_with, operator, read, scratch, scratch_at};

const NOW_MS: u64 = 1_000_000;

fn key(number: u64, acked_through: u64) -> DedupeKey {
    DedupeKey { session: SessionId { client: 7, incarnation: NOW_MS }, number, acked_through }
}

fn vote(key: DedupeKey, outcome: &str) -> Vote {
    Vote { dedupe: Some(key), outcome: outcome.into(), ..Vote::default() }
}

/// Answers a request with nothing but its outcome.
fn answer(store: &Store, key: DedupeKey, outcome: &str) -> Result<telos_store::Commit, CommitError> {
    store.decide(store.begin(), vote(key, outcome)).wait()
}

#[test]
fn a_resent_request_is_answered_and_not_repeated() {
    let (store, _) = scratch_at(NOW_MS);
    let counter = object_with(&store, "count", 0);
    let increment = || {
        let mut unit = store.begin();
        let count = read(&mut unit, counter, "count").unwrap();
        unit.set_slot(counter, "count", number(count + 1)).unwrap();
        store.decide(unit, vote(key(1, 0), &format!("was {count}"))).wait()
    };
    let first = increment().unwrap();
    let error = increment().unwrap_err();
    let CommitError::DuplicateRequest { outcome, position } = &error else { panic!("{error}") };
    assert_eq!(
        (outcome.as_slice(), *position, error.effect()),
        (&b"was 0"[..], first.position, Effect::Committed)
    );
    assert_eq!(read(&mut store.begin(), counter, "count"), Some(1));
    let replay = Dedupe::Replay { outcome: b"was 0".to_vec(), position: first.position };
    assert_eq!(store.dedupe_lookup(&key(1, 0)).unwrap(), replay);
    assert_clean(&store);
}

#[test]
fn two_resends_in_one_group_have_one_effect() {
    let (store, _) = scratch_at(NOW_MS);
    let decided: Vec<_> = (0..20)
        .map(|_| {
            let mut unit = store.begin();
            unit.create(operator(), 1, vec![]).unwrap();
            store.decide(unit, vote(key(1, 0), "made"))
        })
        .collect();
    let results: Vec<_> = decided.into_iter().map(telos_store::Decided::wait).collect();
    assert!(results[0].is_ok());
    assert!(results[1..].iter().all(|result| matches!(result, Err(CommitError::DuplicateRequest { .. }))));
    assert_eq!(store.counts().unwrap().objects, 1);
}

#[test]
fn a_replay_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let clock = || StoreOptions { clock: std::sync::Arc::new(|| NOW_MS), ..StoreOptions::default() };
    let store = Store::open(dir.path(), clock()).unwrap();
    let first = answer(&store, key(1, 0), "done").unwrap();
    drop(store);
    let store = Store::open(dir.path(), clock()).unwrap();
    let error = answer(&store, key(1, 0), "again").unwrap_err();
    assert!(
        matches!(&error, CommitError::DuplicateRequest { outcome, position } if outcome == b"done" && *position == first.position),
        "{error}"
    );
}

#[test]
fn what_was_acknowledged_is_forgotten_and_never_run_again() {
    let (store, _) = scratch_at(NOW_MS);
    for number in 1..=5 {
        answer(&store, key(number, 0), "x").unwrap();
    }
    answer(&store, key(6, 4), "x").unwrap();
    for number in 1..=4 {
        let error = answer(&store, key(number, 0), "y").unwrap_err();
        assert!(matches!(error, CommitError::TooOld { acked_through: 4, .. }), "{error}");
    }
    assert!(matches!(answer(&store, key(5, 0), "y"), Err(CommitError::DuplicateRequest { .. })));
    assert_clean(&store);
}

#[test]
fn a_session_holds_1024_unacknowledged_requests() {
    let (store, _) = scratch_at(NOW_MS);
    let full = u64::from(limit::DEDUPE_ROWS_PER_SESSION_MAX);
    let decided: Vec<_> =
        (1..=full).map(|number| store.decide(store.begin(), vote(key(number, 0), "x"))).collect();
    let refused = decided.into_iter().map(telos_store::Decided::wait).filter(Result::is_err);
    // The queue holds as many as the session, so none is refused as busy.
    assert_eq!(refused.count(), 0);
    assert!(matches!(answer(&store, key(full + 1, 0), "x"), Err(CommitError::SessionFull { .. })));
    assert_eq!(store.dedupe_lookup(&key(full + 1, 0)).unwrap(), Dedupe::SessionFull);
    assert!(matches!(answer(&store, key(full, 0), "x"), Err(CommitError::DuplicateRequest { .. })));
    answer(&store, key(full + 1, 10), "x").unwrap();
    assert_clean(&store);
}

#[test]
fn a_resend_is_answered_after_more_sessions_than_are_kept_in_mind() {
    let (store, _) = scratch_at(NOW_MS);
    let first = answer(&store, key(1, 0), "one").unwrap();
    for client in 0..=limit::SESSIONS_KNOWN_MAX as u128 {
        let session = SessionId { client: 1_000 + client, incarnation: NOW_MS };
        let dedupe = DedupeKey { session, number: 1, acked_through: 0 };
        answer(&store, dedupe, "x").unwrap();
        let again = answer(&store, dedupe, "x");
        assert!(matches!(again, Err(CommitError::DuplicateRequest { .. })), "{again:?}");
    }
    let again = answer(&store, key(1, 0), "two");
    let Err(CommitError::DuplicateRequest { outcome, position }) = again else { panic!("{again:?}") };
    assert_eq!((outcome.as_slice(), position), (&b"one"[..], first.position));
    answer(&store, key(2, 1), "two").unwrap();
    assert!(matches!(answer(&store, key(1, 0), "y"), Err(CommitError::TooOld { acked_through: 1, .. })));
    assert_clean(&store);
}

#[test]
fn a_session_idle_for_a_day_is_unknown_ever_after() {
    let (store, now) = scratch_at(NOW_MS);
    answer(&store, key(1, 0), "x").unwrap();
    now.store(NOW_MS + limit::SESSION_IDLE_MS_MAX, Ordering::Relaxed);
    store.sweep_sessions(NOW_MS + limit::SESSION_IDLE_MS_MAX).unwrap();
    assert_eq!(store.counts().unwrap().sessions, 1, "not idle for more than a day");
    now.store(NOW_MS + limit::SESSION_IDLE_MS_MAX + 1, Ordering::Relaxed);
    store.sweep_sessions(NOW_MS + limit::SESSION_IDLE_MS_MAX + 1).unwrap();
    assert_eq!(store.counts().unwrap().sessions, 0);
    assert!(matches!(answer(&store, key(1, 0), "x"), Err(CommitError::UnknownSession)));
    assert!(matches!(answer(&store, key(2, 0), "x"), Err(CommitError::UnknownSession)));
    assert_eq!(store.dedupe_lookup(&key(2, 0)).unwrap(), Dedupe::UnknownSession);
    assert_clean(&store);
}

#[test]
fn sweeps_close_a_bounded_number_of_sessions_until_none_is_idle() {
    let (store, now) = scratch_at(NOW_MS);
    let most = limit::SESSIONS_PER_SWEEP_MAX;
    let sessions = 2 * u128::try_from(most).unwrap() + 3;
    let open = |client| {
        let session = SessionId { client, incarnation: NOW_MS };
        store.decide(store.begin(), vote(DedupeKey { session, number: 1, acked_through: 0 }, "x"))
    };
    let opened: Vec<_> = (0..sessions).map(open).collect();
    assert!(opened.into_iter().map(telos_store::Decided::wait).all(|opened| opened.is_ok()));
    let late = NOW_MS + limit::SESSION_IDLE_MS_MAX + 1;
    now.store(late, Ordering::Relaxed);
    let swept = [0; 4].map(|_| {
        let idle = store.idle_sessions(late).unwrap();
        store.sweep_sessions(late).unwrap();
        idle
    });
    assert_eq!(swept, [most, most, 3, 0]);
    assert_eq!(store.counts().unwrap().sessions, 0);
    assert_clean(&store);
}

#[test]
fn an_outcome_counts_against_the_unit() {
    let store = scratch();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let session = SessionId { client: 1, incarnation: u64::try_from(now).unwrap() };
    let dedupe = Some(DedupeKey { session, number: 1, acked_through: 0 });
    let outcome = vec![0; limit::UNIT_BYTES_MAX + 1];
    let vote = Vote { dedupe, outcome, ..Vote::default() };
    let error = store.decide(store.begin(), vote).wait().unwrap_err();
    assert!(matches!(error, CommitError::TooLarge(_)), "{error}");
    assert_eq!(store.counts().unwrap().sessions, 0);
}

/// `ahead_ms`: how far the sweep is ahead of the clock that votes read.
fn vote_while_a_sweep_is_pending(ahead_ms: u64) {
    let (store, now) = scratch_at(NOW_MS);
    answer(&store, key(1, 0), "one").unwrap();
    let late = NOW_MS + limit::SESSION_IDLE_MS_MAX + 1;
    now.store(late - ahead_ms, Ordering::Relaxed);
    // The committer is held in this reply, so that the sweep is voted for and not yet written.
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let mut unit = store.begin();
    unit.create(operator(), 1, vec![]).unwrap();
    let (is_held, held) = mpsc::channel::<()>();
    store.decide_then(unit, Vote::default(), move |_| {
        is_held.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    held.recv().unwrap();
    let before = store.begin_on_voted().snapshot();
    std::thread::scope(|scope| {
        let sweep = scope.spawn(|| store.sweep_sessions(late));
        await_until("the sweep is voted for", || store.begin_on_voted().snapshot() > before);
        let between = store.decide(store.begin(), vote(key(2, 0), "two"));
        go_on.send(()).unwrap();
        sweep.join().unwrap().unwrap();
        let between = between.wait();
        assert!(matches!(between, Err(CommitError::UnknownSession)), "{ahead_ms}: {between:?}");
    });
    assert_eq!(store.counts().unwrap().sessions, 0);
    now.store(late, Ordering::Relaxed);
    let again = answer(&store, key(1, 0), "one, once more");
    assert!(matches!(again, Err(CommitError::UnknownSession)), "{ahead_ms}: {again:?}");
    assert_clean(&store);
}

#[test]
fn a_request_that_comes_in_together_with_a_sweep_does_not_bring_its_session_back() {
    vote_while_a_sweep_is_pending(0);
    vote_while_a_sweep_is_pending(1);
}

#[test]
fn an_idle_session_takes_no_request_before_a_sweep_either() {
    let (store, now) = scratch_at(NOW_MS);
    answer(&store, key(1, 0), "one").unwrap();
    now.store(NOW_MS + limit::SESSION_IDLE_MS_MAX + 1, Ordering::Relaxed);
    assert!(matches!(answer(&store, key(2, 0), "two"), Err(CommitError::UnknownSession)));
    assert_eq!(store.dedupe_lookup(&key(2, 0)).unwrap(), Dedupe::UnknownSession);
    assert!(matches!(answer(&store, key(1, 0), "one"), Err(CommitError::DuplicateRequest { .. })));
}
