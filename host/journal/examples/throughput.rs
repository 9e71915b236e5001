//! How long a producer is kept, and how many lines a second reach the file.
//!
//! Run: `cargo run --release -p telos-journal --example throughput`
//! Expected output: one JSON object a line, for 1 and 4 producers: lines written and dropped, lines a second, and the
//! caller's p50, p99 and maximum in nanoseconds.

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::time::Instant;

use telos_journal::{Journal, JournalConfig, Line, Rate, Severity};

const LINES: usize = 400_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for producers in [1, 4] {
        let dir = std::env::temp_dir().join(format!("journal-throughput-{}-{producers}", std::process::id()));
        measure(&dir, producers)?;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

fn measure(dir: &std::path::Path, producers: usize) -> Result<(), Box<dyn std::error::Error>> {
    let config = JournalConfig { file_bytes_max: 1 << 30, ..JournalConfig::default() };
    let journal = Journal::open(dir, config)?;
    let start = Instant::now();
    let mut waits: Vec<u128> = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|n| {
                scope.spawn({
                    let producer = journal.producer(&format!("producer-{n}"), Rate::HOST);
                    move || speak(&producer, LINES / producers)
                })
            })
            .collect();
        waits = threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect();
    });
    journal.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    waits.sort_unstable();
    let (stats, at) = (journal.stats(), |share: usize| waits[(waits.len() - 1) * share / 100]);
    println!(
        r#"{{"producers":{producers},"written":{},"dropped":{},"lines_per_second":{:.0},"p50_ns":{},"p99_ns":{},"max_ns":{}}}"#,
        stats.written,
        stats.dropped.iter().sum::<u64>(),
        stats.written as f64 / seconds,
        at(50),
        at(99),
        at(100),
    );
    Ok(())
}

fn speak(producer: &telos_journal::Producer, lines: usize) -> Vec<u128> {
    let line = Line::new(Severity::Info, "example.line", "a message of ordinary length").with("number", 42);
    let say = |_| {
        let start = Instant::now();
        producer.record(&line);
        start.elapsed().as_nanos()
    };
    (0..lines).map(say).collect()
}
