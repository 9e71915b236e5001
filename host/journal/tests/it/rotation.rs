//! Rotation: one file per local day and per size, five backups, nobody else's files.

use telos_journal::{Journal, JournalConfig, Rate};
use tempfile::tempdir;

use crate::fixture::{TestClock, backups, check_sound, info, lines};

const UTC: &str = "UTC0";
/// Newfoundland until 2011: summer time ended at 00:01, so that the date went back by a day and came again.
const NEWFOUNDLAND: &str = "NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01";
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";

/// Says a line at each moment and expects so many rotations in all.
#[track_caller]
fn check(zone: &str, moments: &[&str], rotations: u64) {
    let dir = tempdir().unwrap();
    let clock = TestClock::new(moments[0], zone);
    let journal = Journal::open_in(dir.path(), JournalConfig::default(), clock.surroundings()).unwrap();
    let producer = journal.producer("test", Rate::HOST);
    for moment in moments {
        clock.set(moment);
        producer.record(&info(*moment));
        journal.flush().unwrap();
    }
    assert_eq!(journal.stats().rotations, rotations);
    journal.close();
    check_sound(dir.path());
    let said: Vec<String> =
        lines(dir.path(), "test.").iter().map(|line| line["body"].as_str().unwrap().into()).collect();
    assert_eq!(said, moments);
}

#[test]
fn a_file_ends_at_local_midnight() {
    check(UTC, &["2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z"], 1);
    check(UTC, &["2026-03-01T00:00:00Z", "2026-03-01T23:59:59Z"], 0);
    check(NEW_YORK, &["2026-03-02T04:59:59Z", "2026-03-02T05:00:00Z", "2026-03-03T04:59:59Z"], 1);
}

#[test]
fn a_day_of_25_or_23_hours_has_one_file() {
    check(
        NEW_YORK,
        &[
            "2026-11-01T04:00:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:30:00Z",
            "2026-11-02T04:59:00Z",
            "2026-11-02T05:00:00Z",
        ],
        1,
    );
    check(NEW_YORK, &["2026-03-08T05:00:00Z", "2026-03-09T03:59:00Z", "2026-03-09T04:00:00Z"], 1);
}

#[test]
fn a_midnight_that_happens_twice_rotates_once() {
    // 00:00:30 on the 7th, then 23:01:30 on the 6th, then the 7th again.
    check(
        NEWFOUNDLAND,
        &["2010-11-07T02:20:00Z", "2010-11-07T02:30:30Z", "2010-11-07T02:31:30Z", "2010-11-07T04:00:00Z"],
        1,
    );
}

#[test]
fn a_clock_that_jumps_rotates_at_most_once() {
    check(UTC, &["2026-03-02T00:10:00Z", "2026-03-01T23:50:00Z", "2026-03-02T00:01:00Z"], 0);
    check(
        UTC,
        &["2026-03-02T12:00:00Z", "2026-03-09T12:00:00Z", "2026-03-02T12:00:01Z", "2026-03-03T12:00:00Z"],
        1,
    );
    check(UTC, &["2026-03-02T12:00:00Z", "1999-01-01T00:00:00Z", "2026-03-02T12:00:01Z"], 0);
}

#[test]
fn ten_days_leave_exactly_five_backups_and_everyone_else_s_files() {
    let dir = tempdir().unwrap();
    let strangers = [
        "journal.000001.jsonl.gz",
        "journal.old.jsonl",
        "journal.1.jsonl",
        "journal.000002.jsonl",
        "notes.torn",
    ];
    for name in strangers {
        std::fs::write(dir.path().join(name), "not ours\n").unwrap();
    }
    let clock = TestClock::new("2026-03-01T12:00:00Z", UTC);
    let journal = Journal::open_in(dir.path(), JournalConfig::default(), clock.surroundings()).unwrap();
    let producer = journal.producer("test", Rate::HOST);
    for day in 1..=10 {
        clock.set(&format!("2026-03-{day:02}T12:00:00Z"));
        producer.record(&info(format!("day {day}")));
        journal.flush().unwrap();
    }
    assert_eq!(journal.stats().rotations, 9);
    let names = backups(dir.path());
    assert!(strangers.iter().all(|name| names.iter().any(|left| left == name)), "{names:?}");
    assert_eq!(names.len() - strangers.len(), 5, "{names:?}");
    assert_eq!(lines(dir.path(), "test.").first().unwrap()["body"], "day 5");
}

#[test]
fn a_full_file_becomes_a_backup_and_numbers_go_on() {
    let dir = tempdir().unwrap();
    let config = JournalConfig { file_bytes_max: 512 << 10, ..JournalConfig::default() };
    let journal = Journal::open(dir.path(), config).unwrap();
    let producer = journal.producer("test", Rate::HOST);
    for number in 0..3_000 {
        while !producer.record(&info(format!("{number} {}", "x".repeat(1_000)))) {
            journal.flush().unwrap();
        }
    }
    journal.close();
    let report = check_sound(dir.path());
    assert_eq!(report.files, 6, "five backups and the current file");
    for name in backups(dir.path()) {
        assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() <= 512 << 10);
    }
    assert!(report.runs[0].first_sequence > 1, "the oldest files are gone");
}

#[test]
fn a_day_that_ended_while_no_host_ran_gets_its_backup_at_the_start() {
    let dir = tempdir().unwrap();
    for (moment, rotations) in
        [("2026-03-01T12:00:00Z", 0), ("2026-03-01T13:00:00Z", 0), ("2026-03-02T01:00:00Z", 1)]
    {
        let clock = TestClock::new(moment, UTC);
        let journal = Journal::open_in(dir.path(), JournalConfig::default(), clock.surroundings()).unwrap();
        journal.producer("test", Rate::HOST).record(&info(moment));
        journal.flush().unwrap();
        assert_eq!(journal.stats().rotations, rotations, "{moment}");
    }
    assert_eq!(backups(dir.path()), ["journal.000001.jsonl"]);
    assert_eq!(check_sound(dir.path()).runs.len(), 3);
}
