//! `telos vitals`: who is connected, what workers do, and what the bridge has seen.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows};

/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Vitals {
    /// Go on, once a second, until it is told to stop.
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(vitals: Vitals, host: &Connection, output: &Output) -> Result<(), CommandError> {
    loop {
        let now = host.call("host.vitals", json!({})).await?;
        output.result(&now, render)?;
        if !vitals.watch {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn render(vitals: &Value, paint: Paint) -> String {
    let headers =
        ["session", "role", "silent ms", "calls", "unread", "services", "jobs", "lease ms", "state"];
    let peers = paint.table(&headers, rows(vitals, "peers").map(peer).collect());
    let counters = |part: &str, prefix: &str| {
        let counters = vitals[part].as_object().into_iter().flatten();
        counters
            .map(|(name, value)| (format!("{prefix}{}", name.replace('_', " ")), value.to_string()))
            .collect::<Vec<_>>()
    };
    let told = [counters("bridge", ""), counters("ppp", "bare ")].concat();
    let pairs: Vec<(&str, String)> =
        told.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    format!("{peers}{}", paint.pairs(&pairs))
}

fn peer(peer: &Value) -> Vec<String> {
    let unread = count(peer, "unacked_messages") + count(peer, "waiting_messages");
    let worker = &peer["worker"];
    let services: Vec<&str> =
        worker["services"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let jobs = match worker.is_null() {
        true => String::new(),
        false => format!("{}/{}", count(worker, "in_hand"), count(worker, "credit")),
    };
    vec![
        field(peer, "session"),
        field(peer, "role"),
        field(peer, "silent_ms"),
        field(peer, "calls"),
        unread.to_string(),
        services.join(", "),
        jobs,
        soonest_lease(worker),
        worker["state"].as_str().unwrap_or_default().to_owned(),
    ]
}

/// What is left of the lease that runs out first.
fn soonest_lease(worker: &Value) -> String {
    let remaining = rows(worker, "leases").filter_map(|lease| lease["remaining_ms"].as_u64());
    remaining.min().map_or_else(String::new, |remaining| remaining.to_string())
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_shows_its_services_jobs_and_state() {
        let vitals = json!({
            "peers": [{"session": "ab12", "role": "worker", "silent_ms": 3, "calls": 0, "unacked_messages": 1,
                "waiting_messages": 2, "worker": {"services": ["inference", "sandbox"], "credit": 4, "in_hand": 2,
                "leases": [{"remaining_ms": 59_321}, {"remaining_ms": 41_007}],
                "state": "ready"}}],
            "bridge": {"dead_letters": 7},
            "ppp": {"fenced": 8},
        });
        let text = render(&vitals, Paint::default());
        for told in
            ["ab12", "inference, sandbox", "2/4", "41007", "ready", "dead letters", "7", "bare fenced", "8"]
        {
            assert!(text.contains(told), "{told} is not in {text}");
        }
    }
}
