//! What a long run shows: a table of what was done, what must show, and what was seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use telos_bridge::Client;

use crate::fixture::echo;

/// One line of the table.
pub(super) struct Row {
    /// In the list of faults that the whole system is tried with.
    pub(super) number: u8,
    pub(super) fault: &'static str,
    /// Asserted, but for times, which are only told.
    pub(super) must_show: &'static str,
    pub(super) seen: String,
}

/// Printed when it is dropped, so that a scenario that fails does not take the figures of the others with it.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut text = format!("{}\n| # | Fault | Must show | Seen |\n|---|---|---|---|\n", self.title);
        for Row { number, fault, must_show, seen } in &self.rows {
            text.push_str(&format!("| {number} | {fault} | {must_show} | {seen} |\n"));
        }
        eprint!("{text}");
    }
}

/// Runs `trouble`, and tells how long an honest client's calls took meanwhile.
pub(super) async fn pulse<T>(client: &Client, trouble: impl Future<Output = T>) -> (T, Pulse) {
    let is_over = Arc::new(AtomicBool::new(false));
    let (client, seen) = (client.clone(), Arc::clone(&is_over));
    let echoes = tokio::spawn(async move {
        let mut took = Vec::new();
        while !seen.load(Ordering::SeqCst) {
            took.push(time_echo(&client).await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took
    });
    let result = trouble.await;
    is_over.store(true, Ordering::SeqCst);
    (result, Pulse::new(echoes.await.unwrap()))
}

/// The same where all is well.
pub(super) async fn resting_pulse(client: &Client) -> Pulse {
    let mut took = Vec::new();
    for _ in 0..200 {
        took.push(time_echo(client).await);
    }
    Pulse::new(took)
}

async fn time_echo(client: &Client) -> Duration {
    let since = Instant::now();
    assert_eq!(echo(client, json!(1)).await, json!(1));
    since.elapsed()
}

/// Times of calls, in order.
pub(super) struct Pulse(Vec<Duration>);

impl Pulse {
    fn new(mut took: Vec<Duration>) -> Self {
        took.sort();
        Self(took)
    }
}

impl std::fmt::Display for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |percent: usize| self.0.get(self.0.len() * percent / 100).copied().unwrap_or_default();
        let (half, most) = (at(50).as_secs_f64() * 1e3, at(99).as_secs_f64() * 1e3);
        write!(f, "p50 {half:.2} ms, p99 {most:.2} ms of {}", self.0.len())
    }
}

pub(super) fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

pub(super) fn most(durations: &[Duration]) -> String {
    ms(durations.iter().max().copied().unwrap_or_default())
}
