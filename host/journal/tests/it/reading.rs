//! Reading: the last lines, following across rotations, and a checker that finds what is wrong.

use serde_json::Value;
use telos_journal::{Filter, From, follow, tail, verify};
use telos_journal::{Journal, JournalConfig, Line, Rate, Severity};
use tempfile::tempdir;

use crate::fixture::{TestClock, info, open};

fn bodies(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["body"].as_str().unwrap()).collect()
}

fn test_lines() -> Filter {
    Filter { event_prefix: Some("test.".into()), ..Filter::default() }
}

#[test]
fn tail_gives_the_last_lines_that_pass_oldest_first() {
    let dir = tempdir().unwrap();
    assert!(tail(dir.path(), 10, &Filter::default()).unwrap().is_empty(), "an absent journal is empty");
    let journal = open(dir.path());
    let producer = journal.producer("test", Rate::HOST);
    for number in 0..1_000 {
        let severity = if number % 100 == 0 { Severity::Warn } else { Severity::Info };
        producer.record(&Line::new(severity, "test.line", number.to_string()));
    }
    journal.flush().unwrap();
    assert_eq!(bodies(&tail(dir.path(), 3, &test_lines()).unwrap()), ["997", "998", "999"]);
    let warnings = Filter { severity_min: Some(Severity::Warn), ..test_lines() };
    assert_eq!(bodies(&tail(dir.path(), 3, &warnings).unwrap()), ["700", "800", "900"]);
    let nobody = Filter { producer: Some("nobody".into()), ..Filter::default() };
    assert!(tail(dir.path(), 3, &nobody).unwrap().is_empty());
}

#[test]
fn following_survives_rotations_and_gives_each_line_once() {
    let dir = tempdir().unwrap();
    let clock = TestClock::new("2026-03-01T12:00:00Z", "UTC0");
    let journal = Journal::open_in(dir.path(), JournalConfig::default(), clock.surroundings()).unwrap();
    let producer = journal.producer("test", Rate::HOST);
    let say = |body: &str| {
        producer.record(&info(body));
        journal.flush().unwrap();
    };
    say("a");
    say("b");
    let mut last = follow(dir.path(), From::Last(1), test_lines()).unwrap();
    let mut all = follow(dir.path(), From::Start, test_lines()).unwrap();
    assert_eq!(bodies(&last.poll().unwrap()), ["b"]);
    assert_eq!(bodies(&all.poll().unwrap()), ["a", "b"]);
    assert!(last.poll().unwrap().is_empty());
    say("c");
    for day in ["02", "03", "04"] {
        clock.set(&format!("2026-03-{day}T12:00:00Z"));
        say(day);
    }
    for follower in [&mut last, &mut all] {
        assert_eq!(bodies(&follower.poll().unwrap()), ["c", "02", "03", "04"]);
        assert!(follower.poll().unwrap().is_empty());
    }
    assert_eq!(
        bodies(&follow(dir.path(), From::Last(3), test_lines()).unwrap().poll().unwrap()),
        ["02", "03", "04"]
    );
}

#[test]
fn a_follower_beside_a_busy_writer_sees_every_line_once() {
    let dir = tempdir().unwrap();
    let config = JournalConfig { file_bytes_max: 512 << 10, backups: 100, ..JournalConfig::default() };
    let journal = Journal::open(dir.path(), config).unwrap();
    let producer = journal.producer("test", Rate::HOST);
    let mut follower = follow(dir.path(), From::Start, test_lines()).unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0..20_000 {
            let line = info("x".repeat(200)).with("number", number);
            while !producer.record(&line) {
                std::thread::yield_now();
            }
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 20_000 {
        let lines = follower.poll().unwrap();
        seen.extend(lines.iter().map(|line| line["attributes"]["number"].as_u64().unwrap()));
    }
    writer.join().unwrap();
    assert_eq!(seen, (0..20_000).collect::<Vec<u64>>());
    assert!(journal.stats().rotations > 3);
}

#[test]
fn a_line_being_written_is_not_a_line_yet() {
    let dir = tempdir().unwrap();
    open(dir.path()).close();
    let path = dir.path().join("journal.jsonl");
    let mut content = std::fs::read(&path).unwrap();
    let mut follower = {
        content.extend_from_slice(b"{\"event_name\":\"test.x\",\"bo");
        std::fs::write(&path, &content).unwrap();
        follow(dir.path(), From::Last(0), test_lines()).unwrap()
    };
    assert!(follower.poll().unwrap().is_empty());
    content.extend_from_slice(b"dy\":\"whole\"}\n");
    std::fs::write(&path, &content).unwrap();
    assert_eq!(bodies(&follower.poll().unwrap()), ["whole"]);
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let dir = tempdir().unwrap();
    let journal = open(dir.path());
    let producer = journal.producer("test", Rate::HOST);
    for number in 0..5 {
        producer.record(&info(number.to_string()));
    }
    journal.close();
    let text = std::fs::read_to_string(dir.path().join("journal.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    check_fault(&lines, |lines| _ = lines.remove(3), "sequence");
    check_fault(&lines, |lines| lines.insert(3, lines[2]), "sequence");
    check_fault(&lines, |lines| lines[2] = "{\"torn\":", "line 3");
    check_fault(&lines, |lines| lines.swap(2, 3), "sequence");
}

#[track_caller]
fn check_fault<'a>(lines: &[&'a str], spoil: impl FnOnce(&mut Vec<&'a str>), expected: &str) {
    let dir = tempdir().unwrap();
    let mut lines = lines.to_vec();
    spoil(&mut lines);
    std::fs::write(dir.path().join("journal.jsonl"), lines.join("\n") + "\n").unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(!report.is_sound());
    assert!(report.fault_list[0].contains(expected), "{:?}", report.fault_list);
}
