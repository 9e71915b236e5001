//! `telos memory`: search by meaning, and the archive of vectors on disk.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::send::show_progress;
use crate::argument::read_json;
use crate::connection::{Connection, DEADLINE, Piece};
use crate::error::{CommandError, usage};
use crate::output::{Output, Paint, field, rows, size};
use crate::progress;

#[derive(Debug, Subcommand)]
pub(crate) enum Memory {
    /// Find what is nearest to a text or a vector.
    Search(Search),
    /// Show each collection: how many vectors, how they are searched, what they take in memory.
    Stats,
    /// Move a collection's vectors to disk: searches go on, find the same, and take about a tenth of the memory.
    Archive {
        /// The plugin whose memory it is.
        owner: String,
        /// The collection.
        collection: String,
    },
    /// Read every byte of every edition of the archive, and say which are damaged; ends with 1 when one is.
    Verify,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The plugin whose memory it is.
    owner: String,
    /// The collection.
    collection: String,
    /// What to look for.
    #[arg(required_unless_present = "vector", conflicts_with = "vector")]
    text: Option<String>,
    /// Look for this vector: a JSON list of numbers, @FILE, or -.
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    vector: Option<String>,
    /// At most so many.
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    k: u32,
}

/// Ends with 1 when an edition is damaged.
pub(crate) async fn run(
    memory: Memory,
    host: &Connection,
    output: &Output,
) -> Result<ExitCode, CommandError> {
    match memory {
        Memory::Search(search) => self::search(&search, host, output).await?,
        Memory::Archive { owner, collection } => {
            let params = json!({ "owner": owner, "collection": collection });
            let report = progress::call(host, "memory.archive", params, output).await?;
            output.result(&report, render_archived)?;
        }
        Memory::Verify => return verify(host, output).await,
        Memory::Stats => output.result(&host.call("memory.stats", json!({})).await?, render_stats)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(host: &Connection, output: &Output) -> Result<ExitCode, CommandError> {
    let answer = progress::call(host, "memory.verify", json!({}), output).await?;
    output.result(&answer, render_editions)?;
    Ok(if answer["clean"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn search(search: &Search, host: &Connection, output: &Output) -> Result<(), CommandError> {
    let mut pieces = host.stream("memory.search", params(search)?, DEADLINE).await;
    while let Some(piece) = pieces.next().await? {
        match piece {
            Piece::Result(answer) => output.result(&answer, render)?,
            piece => show_progress(&piece, output),
        }
    }
    Ok(())
}

fn params(search: &Search) -> Result<Value, CommandError> {
    let mut params = json!({"owner": search.owner, "collection": search.collection, "k": search.k});
    match &search.vector {
        Some(vector) => params["vector"] = read_vector(vector)?,
        None => params["text"] = json!(search.text),
    }
    Ok(params)
}

fn read_vector(argument: &str) -> Result<Value, CommandError> {
    let refused = |message: String| usage(message, "give a list of numbers: --vector '[0.1, 0.2]', or @FILE");
    let vector = read_json(argument).map_err(|error| match error {
        CommandError::Usage { message, .. } => refused(message),
        other => other,
    })?;
    let is_vector = vector.as_array().is_some_and(|numbers| numbers.iter().all(Value::is_number));
    if is_vector { Ok(vector) } else { Err(refused("the vector is not a list of numbers".into())) }
}

fn render(answer: &Value, paint: Paint) -> String {
    let row = |neighbor: &Value| {
        let names = field(neighbor, "names");
        let name = if names.is_empty() { field(neighbor, "object") } else { names };
        let distance =
            neighbor["distance"].as_f64().map(|distance| format!("{distance:.4}")).unwrap_or_default();
        vec![distance, name, field(neighbor, "metadata")]
    };
    paint.table(&["distance", "object", "metadata"], rows(answer, "neighbors").map(row).collect())
}

fn render_archived(report: &Value, _: Paint) -> String {
    let recall = report["recall"].as_f64().unwrap_or_default();
    format!(
        "{} vectors are in edition {}, in {} of memory; of the ten nearest {recall:.3} are found\n",
        field(report, "rows"),
        field(report, "edition"),
        size(report["bytes"].as_u64().unwrap_or_default()),
    )
}

fn render_editions(answer: &Value, paint: Paint) -> String {
    let row = |check: &Value| {
        let problem = field(check, "problem");
        let state = if problem.is_empty() { "sound".to_owned() } else { problem };
        vec![field(check, "owner"), field(check, "collection"), field(check, "edition"), state]
    };
    paint.table(&["owner", "collection", "edition", "state"], rows(answer, "editions").map(row).collect())
}

fn render_stats(answer: &Value, paint: Paint) -> String {
    let row = |collection: &Value| {
        let number = |name: &str| collection[name].as_u64().unwrap_or(0);
        let segments = collection["segments"].as_array().map_or(0, Vec::len);
        let each = number("bytes").checked_div(number("vectors")).map(|bytes| bytes.to_string());
        vec![
            field(collection, "owner"),
            field(collection, "collection"),
            field(collection, "vectors"),
            field(collection, "dim"),
            format!("{}, {}", field(collection, "metric"), field(collection, "precision")),
            field(collection, "tail"),
            field(collection, "archived"),
            segments.to_string(),
            collection["recall"].as_f64().map(|recall| format!("{recall:.3}")).unwrap_or_default(),
            field(collection, "dead"),
            size(number("bytes")),
            each.unwrap_or_default(),
        ]
    };
    let headers = [
        "owner",
        "collection",
        "vectors",
        "dim",
        "form",
        "tail",
        "archived",
        "graphs",
        "recall",
        "dead",
        "memory",
        "bytes each",
    ];
    let mut text = paint.table(&headers, rows(answer, "collections").map(row).collect());
    let degraded: u64 = rows(answer, "collections").map(|row| row["degraded"].as_u64().unwrap_or(0)).sum();
    if degraded > 0 {
        text.push_str(&format!(
            "\n{degraded} graphs failed: their vectors are read one by one until the host starts again\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_a_list_of_numbers() {
        assert_eq!(read_vector("[1, -0.5]").unwrap(), json!([1, -0.5]));
        for wrong in ["x", "{\"a\": 1}", "[\"a\"]"] {
            let refusal = read_vector(wrong).unwrap_err();
            assert_eq!(refusal.exit_code(), 2, "{wrong}");
            assert!(refusal.to_text().contains("next: give a list of numbers"), "{}", refusal.to_text());
        }
    }

    #[test]
    fn stats_say_what_each_vector_takes() {
        let collection = json!({"owner": "babs", "collection": "turns", "dim": 384,
            "metric": "cosine", "precision": "half", "vectors": 10, "tail": 4, "archived": 3,
            "segments": [7], "dead": 1, "degraded": 1, "recall": 0.98765, "bytes": 20_480});
        let text = render_stats(&json!({ "collections": [collection] }), Paint::default());
        let words: Vec<&str> = text.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "babs", "turns", "10", "384", "cosine,", "half", "4", "3", "1", "0.988", "1", "20", "KiB",
                "2048"
            ]
        );
        assert!(text.contains("1 graphs failed"), "{text}");
    }

    #[test]
    fn neighbours_come_by_name_or_id() {
        let answer = json!({"neighbors": [
            {"object": "ab", "names": ["babs/1"], "distance": 0.12345, "metadata": {"day": 1}},
            {"object": "cd", "names": [], "distance": 1.0, "metadata": null},
        ]});
        let text = render(&answer, Paint::default());
        assert!(
            text.contains("0.1235    babs/1  {\"day\":1}") || text.contains("0.1234    babs/1  {\"day\":1}"),
            "{text}"
        );
        assert!(text.contains("1.0000    cd"), "{text}");
    }
}
