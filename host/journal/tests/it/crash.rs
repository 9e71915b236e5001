//! Goal: whatever moment the writer dies at, the files are valid and every audit row is there exactly once.
//! Method: cut the file at every byte of its last line and many before; kill a writing child process with signal 9, many times.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use telos_journal::{AuditAtHand, Journal, JournalConfig, JournalError, Rate, SetBack};
use tempfile::tempdir;

use crate::fixture::{check_sound, fact, facts, file_names, info, lines, open, open_without_sync};

const CHILD_DIR: &str = "JOURNAL_TEST_CHILD_DIR";

#[test]
fn a_file_cut_anywhere_reopens_with_every_fact_exactly_once() {
    let origin = tempdir().unwrap();
    let journal = open(origin.path());
    journal.record_facts((1..=3).map(fact).collect()).unwrap();
    journal.producer("test", Rate::HOST).record(&info("between"));
    journal.record_facts((4..=5).map(fact).collect()).unwrap();
    let whole = std::fs::read(origin.path().join("journal.jsonl")).unwrap();
    journal.close();
    let last_line = whole.len() - 600;
    for cut in (0..last_line).step_by(9).chain(last_line..=whole.len()) {
        let dir = tempdir().unwrap();
        std::fs::write(dir.path().join("journal.jsonl"), &whole[..cut]).unwrap();
        let is_torn = cut > 0 && whole[cut - 1] != b'\n';
        check_reopened(dir.path(), cut, is_torn);
    }
}

#[track_caller]
fn check_reopened(dir: &Path, cut: usize, is_torn: bool) {
    let journal = open_without_sync(dir);
    assert_eq!(journal.audit_cursor(), facts(dir).last().copied().unwrap_or(0), "cut at {cut}");
    // The store's rows, from the first on: those that are there are skipped.
    journal.record_facts((1..=6).map(fact).collect()).unwrap();
    journal.close();
    check_sound(dir);
    assert_eq!(facts(dir), [1, 2, 3, 4, 5, 6], "cut at {cut}");
    let torn = file_names(dir).iter().filter(|name| name.ends_with(".torn")).count();
    assert_eq!(torn, usize::from(is_torn), "cut at {cut}");
    assert_eq!(lines(dir, "journal.recovered").len(), torn, "cut at {cut}");
}

#[test]
fn a_tail_of_zeros_or_garbage_is_set_aside_whole() {
    for tail in [&[0_u8; 9_000][..], b"{\"half\": \n", b"[1,2]\n", b"\xff\xfe\n\n\n"] {
        let dir = tempdir().unwrap();
        open(dir.path()).record_fact(fact(1)).unwrap();
        let path = dir.path().join("journal.jsonl");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole, tail].concat()).unwrap();
        let journal = open(dir.path());
        assert_eq!(journal.audit_cursor(), 1);
        journal.close();
        check_sound(dir.path());
        let torn = dir.path().join(format!("journal.000001.{}.torn", whole.len()));
        assert_eq!(std::fs::read(torn).unwrap(), tail);
    }
}

#[test]
fn someone_else_s_file_under_our_name_is_kept_aside() {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("journal.jsonl"), "{\"hello\": 1}\n").unwrap();
    open(dir.path()).close();
    check_sound(dir.path());
    assert_eq!(
        std::fs::read_to_string(dir.path().join("journal.000001.0.torn")).unwrap(),
        "{\"hello\": 1}\n"
    );
}

#[test]
fn incidents_rise_across_ends_and_crashes() {
    let origin = tempdir().unwrap();
    let journal = open(origin.path());
    journal.flush().unwrap();
    let before: Vec<u64> = (0..100).map(|_| journal.next_incident()).collect();
    let crashed = tempdir().unwrap();
    std::fs::copy(origin.path().join("journal.jsonl"), crashed.path().join("journal.jsonl")).unwrap();
    journal.close();
    assert_eq!(open(origin.path()).next_incident(), 101, "a clean end skips none");
    assert!(open(crashed.path()).next_incident() > *before.last().unwrap());
}

#[test]
fn incidents_stay_ahead_of_a_long_run() {
    let dir = tempdir().unwrap();
    let journal = open(dir.path());
    let mut last = 0;
    for _ in 0..20 {
        last = (0..400).map(|_| journal.next_incident()).last().unwrap();
        journal.flush().unwrap();
    }
    let crashed = tempdir().unwrap();
    std::fs::copy(dir.path().join("journal.jsonl"), crashed.path().join("journal.jsonl")).unwrap();
    assert!(open(crashed.path()).next_incident() > last);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempdir().unwrap();
    let first = open(dir.path());
    let second = Journal::open(dir.path(), JournalConfig::default());
    assert!(matches!(second, Err(JournalError::Locked { .. })));
    drop(first);
    open(dir.path());
}

#[test]
fn facts_of_a_restored_store_are_shown_from_the_restore_on() {
    let dir = tempdir().unwrap();
    let at = std::cell::Cell::new(0);
    let beside = |newest, restored_after| {
        let audit = AuditAtHand { newest, restored_after, restored_at_ms: at.get(), position: 10 * newest };
        Journal::open_beside(dir.path(), JournalConfig::default(), audit).unwrap()
    };
    let journal = beside(0, None);
    journal.record_facts((1..=9).map(fact).collect()).unwrap();
    journal.close();
    at.set(now_ms());
    // Whatever is written from here on is written later.
    std::thread::sleep(std::time::Duration::from_millis(2));
    // The store is back at row 4, and row 5 says so.
    let journal = beside(5, Some(4));
    assert_eq!(journal.audit_cursor(), 4);
    journal.record_facts((4..=6).map(fact).collect()).unwrap();
    journal.close();
    let journal = beside(6, Some(4));
    assert_eq!(journal.audit_cursor(), 6, "it is set back once");
    journal.record_fact(fact(7)).unwrap();
    journal.close();
    assert_eq!(facts(dir.path()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 5, 6, 7]);
    check_sound(dir.path());
    assert_eq!(journal.set_back(), None, "a restore is known");
    let journal = beside(0, None);
    let expected = SetBack { missing: 7, known_position: Some(60.max(fact(7).position)), position: 0 };
    assert_eq!(journal.set_back(), Some(expected));
    journal.close();
    assert_eq!(beside(0, None).set_back(), None, "it is told once");
    let lines = std::fs::read_to_string(dir.path().join("journal.jsonl")).unwrap();
    let said = |reason: &str| lines.matches(&format!("\"reason\":\"{reason}\"")).count();
    assert_eq!((said("store-restored"), said("store-replaced")), (1, 1), "{lines}");
    check_sound(dir.path());
}

fn now_ms() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since_1970.as_millis()).unwrap()
}

#[test]
fn a_store_that_lost_commits_without_a_decision_is_noticed_once() {
    let dir = tempdir().unwrap();
    let beside = |position, restored_after| {
        let audit = AuditAtHand { newest: 3, restored_after, restored_at_ms: u64::MAX, position };
        Journal::open_beside(dir.path(), JournalConfig::default(), audit).unwrap()
    };
    let journal = beside(30, None);
    assert_eq!(journal.set_back(), None);
    journal.note_position(35);
    journal.close();
    Journal::open(dir.path(), JournalConfig::default()).unwrap().close();
    assert_eq!(beside(35, None).set_back(), None);
    let expected = SetBack { missing: 0, known_position: Some(35), position: 34 };
    assert_eq!(beside(34, None).set_back(), Some(expected), "also when a command had the journal between");
    assert_eq!(beside(34, None).set_back(), None, "it is told once");
    assert_eq!(beside(20, Some(2)).set_back(), None, "a restore is known");
    check_sound(dir.path());
}

#[test]
fn a_restore_that_the_journal_has_lived_past_explains_nothing() {
    let dir = tempdir().unwrap();
    let beside = |newest, restored_at_ms| {
        let audit = AuditAtHand { newest, restored_after: Some(2), restored_at_ms, position: 10 * newest };
        Journal::open_beside(dir.path(), JournalConfig::default(), audit).unwrap()
    };
    let journal = beside(3, 1_000);
    journal.record_facts((3..=9).map(fact).collect()).unwrap();
    journal.close();
    let set_back = beside(5, 1_000).set_back();
    assert_eq!(set_back.map(|set_back| set_back.missing), Some(4), "an older file was put there since");
}

#[test]
fn killed_writers_leave_a_sound_journal_and_facts_exactly_once() {
    let dir = tempdir().unwrap();
    for round in 0..12_usize {
        let mut child = start_child(dir.path());
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut facts_said = said.filter(|line| line.starts_with("fact "));
        let acknowledged = facts_said.nth(10 + 5 * round).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged: u64 = acknowledged.rsplit(' ').next().unwrap().parse().unwrap();
        check_sound(dir.path());
        assert!(
            facts(dir.path()).last().copied() >= Some(acknowledged),
            "round {round}: an acknowledged fact is lost"
        );
    }
    open(dir.path()).close();
    let report = check_sound(dir.path());
    let all = facts(dir.path());
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(report.runs.len(), 13);
    assert_eq!(report.facts_repeated, 0);
}

/// Runs [`child_writes_until_killed`] in a process of its own.
fn start_child(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::child_writes_until_killed", "--nocapture"]).env(CHILD_DIR, dir);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test unless [`start_child`] asks: then it writes facts and lines and says each fact's number once it is
/// durable, until it is killed.
#[test]
fn child_writes_until_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let journal = open(Path::new(&dir));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let producer =
                journal.producer(&format!("chatter-{thread}"), Rate { per_second: 5_000, burst: 100 });
            scope.spawn(move || {
                loop {
                    producer.record(&info("chatter ".repeat(20)));
                    std::thread::yield_now();
                }
            });
        }
        for number in journal.audit_cursor() + 1.. {
            journal.record_fact(fact(number)).unwrap();
            println!("\nfact {number}");
        }
    });
}
