//! Many producers at once: what is lost is counted and written, and the quiet ones lose nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use telos_journal::{Journal, JournalConfig, Line, Rate, Severity};
use tempfile::tempdir;

use crate::fixture::{check_sound, info, lines};

#[test]
fn a_flooder_loses_exactly_what_is_declared_and_the_quiet_lose_nothing() {
    let dir = tempdir().unwrap();
    let config = JournalConfig { queue_lines_max: 4_096, ..JournalConfig::default() };
    let journal = Journal::open(dir.path(), config).unwrap();
    let (mut accepted, mut said) = (0_u64, 0_u64);
    let is_quiet_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooder = scope.spawn(|| {
            let producer = journal.producer("flooder", Rate { per_second: 10_000, burst: 100 });
            let (mut accepted, mut said) = (0, 0);
            // Goes on until it is a flood, however slow the machine is.
            while !is_quiet_done.load(Ordering::Relaxed) || said == accepted {
                said += 1;
                accepted += u64::from(producer.record(&info("flood")));
            }
            (accepted, said)
        });
        let quiet: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn({
                    let journal = &journal;
                    move || speak_quietly(journal, n)
                })
            })
            .collect();
        let spoken: Vec<u64> = quiet.into_iter().map(|handle| handle.join().unwrap()).collect();
        is_quiet_done.store(true, Ordering::Relaxed);
        (accepted, said) = flooder.join().unwrap();
        assert_eq!(spoken, [500; 4], "a quiet producer lost lines");
    });
    journal.close();
    let report = check_sound(dir.path());
    let flooder = &report.runs[0].producers["flooder"];
    assert!(said > accepted, "the flood was no flood");
    assert_eq!(flooder.written, accepted);
    assert_eq!(flooder.declared, said - accepted);
    assert_eq!(flooder.missing, flooder.declared);
    for name in ["quiet-0", "quiet-1", "quiet-2", "quiet-3"] {
        assert_eq!(
            (report.runs[0].producers[name].written, report.runs[0].producers[name].missing),
            (500, 0)
        );
    }
}

fn speak_quietly(journal: &Journal, number: usize) -> u64 {
    let producer = journal.producer(&format!("quiet-{number}"), Rate::GUEST);
    let mut accepted = 0;
    for line in 0..500 {
        accepted += u64::from(producer.record(&info(format!("line {line}"))));
    }
    accepted
}

#[test]
fn eight_threads_interleave_nothing_and_keep_their_order() {
    let dir = tempdir().unwrap();
    let journal = Journal::open(dir.path(), JournalConfig::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let producer = journal.producer(&format!("thread-{thread}"), Rate::HOST);
            scope.spawn(move || {
                for number in 0..10_000 {
                    let line = info("x".repeat(number % 300)).with("number", number);
                    while !producer.record(&line) {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    journal.close();
    let report = check_sound(dir.path());
    for thread in 0..8 {
        let producer = &report.runs[0].producers[&format!("thread-{thread}")];
        assert_eq!(producer.written, 10_000);
        assert_eq!(producer.missing, producer.declared);
    }
    for thread in 0..8 {
        let name = format!("thread-{thread}");
        let all = lines(dir.path(), "test.");
        let numbers = all.iter().filter(|line| line["producer"] == name.as_str());
        let numbers: Vec<u64> = numbers.map(|line| line["attributes"]["number"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted(), "{name}");
    }
}

#[test]
fn an_error_is_on_the_disk_at_once_and_a_loss_within_its_second() {
    let dir = tempdir().unwrap();
    let journal = Journal::open(dir.path(), JournalConfig::default()).unwrap();
    let producer = journal.producer("test", Rate { per_second: 0, burst: 1 });
    assert!(
        producer.record(
            &Line::new(Severity::Error, "test.failed", "x").with("incident", journal.next_incident())
        )
    );
    assert!(!producer.record(&info("one too many")));
    let is_there = |event: &str| !lines(dir.path(), event).is_empty();
    wait_for(|| is_there("test.failed"));
    wait_for(|| is_there("journal.loss"));
    let loss = &lines(dir.path(), "journal.loss")[0];
    assert_eq!(loss["attributes"]["dropped"], serde_json::json!({"INFO": 1}));
    assert_eq!(loss["attributes"]["producer"], "test");
}

#[track_caller]
fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen");
        std::thread::yield_now();
    }
}
