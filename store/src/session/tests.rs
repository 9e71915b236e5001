use super::*;

const DAY_MS: u64 = limit::SESSION_IDLE_MS_MAX;

fn key(number: u64, acked_through: u64) -> DedupeKey {
    DedupeKey { session: SessionId { client: 1, incarnation: 1_000 }, number, acked_through }
}

fn row(acked_through: u64) -> Option<SessionRow> {
    Some(SessionRow { acked_through, last_ms: 1_000, rows: 0 })
}

#[test]
fn a_young_session_needs_no_row_and_an_old_one_does() {
    assert_eq!(judge(&key(1, 0), None, None, 0, 1_000 + DAY_MS), Dedupe::Fresh);
    assert_eq!(judge(&key(1, 0), None, None, 0, 1_001 + DAY_MS), Dedupe::UnknownSession);
    assert_eq!(judge(&key(1, 0), row(0), None, 0, 1_000 + DAY_MS), Dedupe::Fresh);
}

#[test]
fn a_session_that_a_sweep_would_close_takes_no_request_and_still_answers_those_it_took() {
    let decided = || Some((Position::new(7), b"done".to_vec()));
    assert_eq!(judge(&key(1, 0), row(0), None, 0, 1_001 + DAY_MS), Dedupe::UnknownSession);
    let replay = Dedupe::Replay { outcome: b"done".to_vec(), position: Position::new(7) };
    assert_eq!(judge(&key(1, 0), row(0), decided(), 1, 1_001 + DAY_MS), replay);
}

#[test]
fn the_watermark_never_falls() {
    assert_eq!(judge(&key(5, 0), row(5), None, 0, 1_000), Dedupe::TooOld { acked_through: 5 });
    assert_eq!(judge(&key(6, 0), row(5), None, 0, 1_000), Dedupe::Fresh);
    assert_eq!(judge(&key(6, 6), row(5), None, 0, 1_000), Dedupe::TooOld { acked_through: 6 });
}

#[test]
fn a_decided_request_is_replayed_even_when_the_session_is_full() {
    let decided = Some((Position::new(7), b"done".to_vec()));
    let replay = Dedupe::Replay { outcome: b"done".to_vec(), position: Position::new(7) };
    assert_eq!(judge(&key(6, 0), row(5), decided, 1_024, 1_000), replay);
    assert_eq!(judge(&key(6, 0), row(5), None, 1_024, 1_000), Dedupe::SessionFull);
    assert_eq!(judge(&key(6, 0), row(5), None, 1_023, 1_000), Dedupe::Fresh);
}
