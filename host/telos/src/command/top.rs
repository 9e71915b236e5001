//! `telos plugin top`: what each plugin uses, from two looks a second apart.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Go on, once a second, until it is told to stop.
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(top: Top, host: &Connection, output: &Output) -> Result<(), CommandError> {
    let mut before = host.call("plugin.top", json!({})).await?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = host.call("plugin.top", json!({})).await?;
        output.result(&between(&before, &now), render)?;
        if !top.watch {
            return Ok(());
        }
        before = now;
    }
}

/// Each plugin with its rates: who used most of the processor comes first. A release that came in between counts from
/// its coming.
fn between(before: &Value, now: &Value) -> Value {
    let elapsed_us = count(now, "at_us").saturating_sub(count(before, "at_us")).max(1);
    let per_second = |amount: u64| amount as f64 * 1e6 / elapsed_us as f64;
    let rated = |plugin: &Value| {
        let is_same =
            |earlier: &&Value| earlier["id"] == plugin["id"] && earlier["version"] == plugin["version"];
        let earlier = rows(before, "plugins").find(is_same).map(|earlier| &earlier["usage"]);
        let usage = &plugin["usage"];
        let grown =
            |name: &str| count(usage, name).saturating_sub(earlier.map_or(0, |earlier| count(earlier, name)));
        let mut rated = plugin.clone();
        rated["cpu_percent"] = round(per_second(grown("cpu_us")) / 1e4).into();
        rated["messages_per_s"] = round(per_second(grown("answered") + grown("broken"))).into();
        rated["broken_per_s"] = round(per_second(grown("broken"))).into();
        rated
    };
    let mut plugins: Vec<Value> = rows(now, "plugins").map(rated).collect();
    let cpu = |plugin: &Value| plugin["cpu_percent"].as_f64().unwrap_or_default();
    plugins.sort_by(|one, other| cpu(other).total_cmp(&cpu(one)));
    json!({ "elapsed_us": elapsed_us, "plugins": plugins, "loaded_releases": now["loaded_releases"] })
}

fn render(top: &Value, paint: Paint) -> String {
    let headers = [
        "id",
        "version",
        "cpu %",
        "cpu ms",
        "msg/s",
        "broken/s",
        "answered",
        "broken",
        "p50 ms",
        "p99 ms",
        "MiB max",
        "running",
        "in hand",
        "stored MiB",
        "vectors MiB",
        "posts",
        "tokens/min",
        "minds",
    ];
    paint.table(&headers, rows(top, "plugins").map(row).collect())
}

fn row(plugin: &Value) -> Vec<String> {
    let (usage, budgets) = (&plugin["usage"], &plugin["budgets"]);
    let millis = |name: &str| format!("{:.2}", count(usage, name) as f64 / 1e3);
    vec![
        field(plugin, "id"),
        field(plugin, "version"),
        field(plugin, "cpu_percent"),
        (count(usage, "cpu_us") / 1_000).to_string(),
        field(plugin, "messages_per_s"),
        field(plugin, "broken_per_s"),
        field(usage, "answered"),
        field(usage, "broken"),
        millis("p50_us"),
        millis("p99_us"),
        format!("{:.1}", count(usage, "memory_bytes_max") as f64 / f64::from(1 << 20)),
        field(usage, "running"),
        field(usage, "in_hand"),
        mib_of(budgets, "stored_bytes"),
        mib_of(budgets, "vector_bytes"),
        used_of(budgets, "posts_pending"),
        used_of(budgets, "inference_tokens"),
        used_of(budgets, "inference_requests"),
    ]
}

/// What is used of what may be.
fn used_of(budgets: &Value, name: &str) -> String {
    format!("{}/{}", count(budgets, name), count(budgets, &format!("{name}_max")))
}

fn mib_of(budgets: &Value, name: &str) -> String {
    let mib = count(budgets, name) as f64 / f64::from(1 << 20);
    format!("{mib:.1}/{}", count(budgets, &format!("{name}_max")) >> 20)
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_and_a_new_release_counts_from_its_coming() {
        let plugin = |version: &str, cpu_us: u64, answered: u64| {
            json!({"id": "a", "version": version, "usage": {"cpu_us": cpu_us, "answered": answered, "broken": 1,
                "running": 1, "in_hand": 2, "memory_bytes_max": 1_048_576, "p50_us": 40, "p99_us": 1_500},
                "budgets": {"stored_bytes": 1_572_864, "stored_bytes_max": 1_u64 << 32, "vector_bytes": 0,
                    "vector_bytes_max": 1 << 28, "posts_pending": 7, "posts_pending_max": 10_000, "inference_tokens": 30,
                    "inference_tokens_max": 60_000, "inference_requests": 1, "inference_requests_max": 8}})
        };
        let at = |at_us: u64, plugin: Value| json!({"at_us": at_us, "plugins": [plugin]});
        let before = at(1_000_000, plugin("1.0.0", 500_000, 10));
        let same = between(&before, &at(3_000_000, plugin("1.0.0", 1_500_000, 30)));
        assert_eq!(
            (&same["plugins"][0]["cpu_percent"], &same["plugins"][0]["messages_per_s"]),
            (&json!(50.0), &json!(10.0))
        );
        let other = between(&before, &at(3_000_000, plugin("1.1.0", 200_000, 5)));
        assert_eq!(
            (&other["plugins"][0]["cpu_percent"], &other["plugins"][0]["messages_per_s"]),
            (&json!(10.0), &json!(3.0))
        );
        let text = render(&same, Paint::default());
        for told in [
            "1.0.0", "50", "1500", "0.04", "1.50", "1.0", "1.5/4096", "0.0/256", "7/10000", "30/60000", "1/8",
        ] {
            assert!(text.contains(told), "{told} is not in {text}");
        }
    }
}
