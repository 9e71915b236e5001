//! What benchmarks share: samples, their percentiles, and rows that people and programs read.

pub mod bare;
pub mod clusters;

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Durations, to be asked for percentiles.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Adds all of another's.
    pub fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The sample that `percent` of all do not exceed, in microseconds; 0 when there is none.
    pub fn percentile_us(&mut self, percent: f64) -> f64 {
        self.0.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        let index = ((self.0.len() as f64 * percent / 100.0) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(index).map_or(0.0, |sample| sample.as_secs_f64() * 1e6)
    }
}

/// Two runs beside each other, turn by turn, so that what else the machine does meets both: what each took.
pub async fn side_by_side<O, P>(
    (warm_up, runs): (usize, usize),
    mut ours: impl FnMut() -> O,
    mut peer: impl FnMut() -> P,
) -> (Samples, Samples)
where
    O: Future<Output = Duration>,
    P: Future<Output = Duration>,
{
    let (mut mine, mut others) = (Samples::default(), Samples::default());
    for round in 0..warm_up + runs {
        // Whoever is second finds caches as the first left them, so they take turns.
        let (one, other) = if round % 2 == 0 {
            let one = ours().await;
            (one, peer().await)
        } else {
            let other = peer().await;
            (ours().await, other)
        };
        if round >= warm_up {
            mine.add(one);
            others.add(other);
        }
    }
    (mine, others)
}

/// Which way a figure is better.
#[derive(Clone, Copy)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One row: ours beside the peer's.
pub struct Row {
    /// The benchmark.
    pub bench: &'static str,
    /// What was measured, and which phases that includes.
    pub case: &'static str,
    /// The unit of both figures.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Our figure.
    pub ours: f64,
    /// The peer's, and who that is.
    pub peer: Option<(f64, &'static str)>,
    /// Runs, interleaved.
    pub runs: usize,
    /// Further figures.
    pub more: Map<String, Value>,
}

impl Row {
    /// Prints the row: JSON with `--json`, else a line for people.
    pub fn print(self) {
        let is_json = std::env::args().any(|argument| argument == "--json");
        let row = self.json();
        if is_json { say(&row.to_string()) } else { say(&people(&row)) }
    }

    fn json(self) -> Value {
        let (peer, name) =
            self.peer.map_or((Value::Null, Value::Null), |(peer, name)| (json!(peer), json!(name)));
        let ratio = self.peer.map_or(Value::Null, |(peer, _)| json!(self.ours / peer));
        let mut row = json!({
            "bench": self.bench,
            "case": self.case,
            "unit": self.unit,
            "better": match self.better { Better::Higher => "higher", Better::Lower => "lower" },
            "ours": self.ours,
            "peer": peer,
            "peer_name": name,
            "ratio": ratio,
            "runs": self.runs,
            "machine": machine(),
        });
        if let Value::Object(row) = &mut row {
            row.extend(self.more);
        }
        row
    }
}

fn people(row: &Value) -> String {
    let number = |name: &str| row[name].as_f64().map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    let mut text = format!(
        "{} {}: {} {} (peer {} {}, ratio {})",
        row["bench"].as_str().unwrap_or_default(),
        row["case"].as_str().unwrap_or_default(),
        number("ours"),
        row["unit"].as_str().unwrap_or_default(),
        row["peer_name"].as_str().unwrap_or("none"),
        number("peer"),
        number("ratio"),
    );
    let known = ["bench", "case", "unit", "better", "ours", "peer", "peer_name", "ratio", "machine"];
    for (name, value) in
        row.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str()))
    {
        text.push_str(&format!("  {name}={value}"));
    }
    text
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} {}, {cores} cores", std::env::consts::OS, std::env::consts::ARCH)
}

#[expect(clippy::print_stdout, reason = "rows are what a benchmark is for")]
fn say(line: &str) {
    println!("{line}");
}

/// Resident memory of this process in MiB; none where the system does not say.
pub fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
