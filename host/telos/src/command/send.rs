//! `telos send`: one message to one object.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use telos_bridge::{CallError, Effect};

use crate::argument::read_json;
use crate::connection::{Connection, Piece};
use crate::error::CommandError;
use crate::output::{Output, Paint, show};

/// With `--at-least-once`, how often a message whose fate is unknown is sent in all.
const TRIES_MAX: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Name or id of the receiver.
    object: String,
    /// What to do.
    selector: String,
    /// The arguments: JSON, @FILE, or - for standard input.
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    arguments: Option<String>,
    /// Print the pieces of the answer as they come. With --json, lines `{"chunk", "attempt"}` and `{"reset"}`, then
    /// `{"result": ANSWER}`; without --stream, ANSWER alone.
    #[arg(long)]
    stream: bool,
    /// Give up after so many milliseconds.
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: u64,
    /// Send anew, up to three times, while nobody can tell whether it took effect; it may then happen twice.
    #[arg(long)]
    at_least_once: bool,
}

pub(crate) async fn run(send: Send, host: &Connection, output: &Output) -> Result<(), CommandError> {
    let arguments = send.arguments.as_deref().map(read_json).transpose()?.unwrap_or(Value::Null);
    let params = json!({"object": send.object, "selector": send.selector, "arguments": arguments});
    let deadline = Duration::from_millis(send.deadline_ms);
    let tries = if send.at_least_once { TRIES_MAX } else { 1 };
    for _ in 1..tries {
        match send_once(host, &params, deadline, send.stream, output).await {
            Err(CommandError::Call(error)) if is_worth_another_try(&error) => {
                output.note("no answer, and its effect is not known; sending it once more");
            }
            outcome => return outcome,
        }
    }
    send_once(host, &params, deadline, send.stream, output).await
}

/// A host that is gone was waited for long enough.
fn is_worth_another_try(error: &CallError) -> bool {
    error.effect() == Effect::Unknown && !matches!(error, CallError::Silent { .. })
}

async fn send_once(
    host: &Connection,
    params: &Value,
    deadline: Duration,
    is_stream: bool,
    output: &Output,
) -> Result<(), CommandError> {
    let mut pieces = host.stream("object.send", params.clone(), deadline).await;
    while let Some(piece) = pieces.next().await? {
        match piece {
            Piece::Result(value) if is_stream && output.is_json() => {
                output.json(&json!({"result": value}))?
            }
            Piece::Result(value) => output.result(&value, render)?,
            piece if is_stream => print_piece(&piece, output)?,
            piece => show_progress(&piece, output),
        }
    }
    Ok(())
}

/// The answer's value: text as it is, the rest as JSON.
fn render(answer: &Value, _: Paint) -> String {
    match &answer["value"] {
        Value::Null => "null".to_owned(),
        Value::String(text) => show(&Value::from(text.as_str())),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

/// One chunk or reset, a line each.
fn print_piece(piece: &Piece, output: &Output) -> Result<(), CommandError> {
    match piece {
        Piece::Chunk { attempt, value } if output.is_json() => {
            output.json(&json!({"chunk": value, "attempt": attempt}))
        }
        Piece::Reset { attempt } if output.is_json() => output.json(&json!({"reset": attempt})),
        Piece::Chunk { value, .. } => output.line(&show(value)),
        Piece::Reset { .. } => {
            output.note("(starting again; what came so far is void)");
            Ok(())
        }
        Piece::Result(_) => Ok(()),
    }
}

/// What a mind that is being loaded says of itself.
pub(super) fn show_progress(piece: &Piece, output: &Output) {
    if let Piece::Chunk { value, .. } = piece
        && let Some(text) = progress_text(value)
    {
        output.progress(&text);
    }
}

/// `{"progress": {"mind", "fraction"}}` as a line; an empty one when loading is over.
pub(super) fn progress_text(chunk: &Value) -> Option<String> {
    let progress = chunk.get("progress")?;
    let fraction = progress["fraction"].as_f64().unwrap_or(0.0);
    let mind = progress["mind"].as_str().unwrap_or("a mind");
    Some(if fraction >= 1.0 { String::new() } else { format!("loading {mind} {:3.0} %", fraction * 100.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_value() {
        assert_eq!(
            render(&json!({"value": "hi\u{1b}[2J", "position": 3}), Paint::default()),
            "hi\u{fffd}[2J"
        );
        assert_eq!(render(&json!({"value": null}), Paint::default()), "null");
        assert_eq!(render(&json!({"value": {"count": 2}}), Paint::default()), "{\n  \"count\": 2\n}");
    }

    #[test]
    fn loading_is_told_until_it_is_over() {
        let text =
            |fraction: f64| progress_text(&json!({"progress": {"mind": "small", "fraction": fraction}}));
        assert_eq!(text(0.5).unwrap(), "loading small  50 %");
        assert_eq!(text(1.0).unwrap(), "");
        assert_eq!(progress_text(&json!({"token": "a"})), None);
    }
}
