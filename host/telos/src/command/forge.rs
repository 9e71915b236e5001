//! `telos forge`: behaviour that is made for messages which nobody understands.

mod proposal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use telos_service::Layer;

use crate::connection::Connection;
use crate::error::{CommandError, refused};
use crate::output::{Output, Paint, field, rows, show, time};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
const HOW_EXAMPLES_LOOK: &str = "examples are an object with `summary`, `arguments` and `returns` (JSON Schemas), \
                                 `slots` and `examples`: [{\"name\", \"before\", \"arguments\", \"expect\": {\"value\": ...} or \
                                 {\"schema\": ...} or \"refusal\", \"after\"}]";

#[derive(Debug, Subcommand)]
pub(crate) enum Forge {
    /// Try a behaviour as the forge would; nothing is kept.
    #[command(after_help = HOW_EXAMPLES_LOOK)]
    Try {
        /// One ES module that exports `handle(self, args, telos)`.
        source: PathBuf,
        /// What it is to do: a JSON file.
        #[arg(long)]
        examples: PathBuf,
        /// The message that it is for.
        #[arg(long, default_value = "run")]
        selector: String,
        /// What it uses besides storage and logging.
        #[arg(long)]
        uses: Vec<Interface>,
    },
    /// List tickets, newest first.
    History,
    /// Show everything about a ticket: what was asked, written and found.
    Show(Numbered),
    /// Let what is proposed serve, with the grants that it needs, and show what that is.
    Approve(Numbered),
    /// Decline what is proposed.
    Reject {
        /// The ticket.
        ticket: u64,
        /// Why, for the record.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Take behaviour away that serves; its record stays.
    Retire(Numbered),
    /// Have a ticket tried again that failed, was rejected or was retired.
    Reopen(Numbered),
    /// Say what is done about messages that nobody understands, or show it.
    Policy {
        /// Of this object and what delegates to it; else of the whole home.
        #[arg(long)]
        object: Option<String>,
        /// off: nothing; propose: behaviour waits for somebody's word; auto: what passes its trial serves.
        policy: Option<Policy>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Numbered {
    /// The ticket.
    ticket: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Interface {
    Inference,
    Messaging,
    Vectors,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Policy {
    Off,
    Propose,
    Auto,
}

pub(crate) async fn run(forge: Forge, host: &Connection, output: &Output) -> Result<ExitCode, CommandError> {
    match forge {
        Forge::Try { source, examples, selector, uses } => {
            let params = json!({
                "source": text(&source)?,
                "spec": spec(&examples)?,
                "selector": selector,
                "uses": uses.iter().map(|interface| spelled(*interface)).collect::<Vec<_>>(),
            });
            let tried = host.call("forge.try", params).await?;
            output.result(&tried, render_attempt)?;
            return Ok(if tried["passed"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Forge::History => output.result(&host.call("forge.history", json!({})).await?, render_history)?,
        Forge::Show(Numbered { ticket }) => {
            output.result(&host.call("forge.show", json!({ "ticket": ticket })).await?, render_ticket)?;
        }
        Forge::Approve(Numbered { ticket }) => {
            let shown = host.call("forge.show", json!({ "ticket": ticket })).await?;
            let params = json!({ "ticket": ticket, "digest": proposal::digest(&shown) });
            let mut approved = host.call("forge.approve", params).await?;
            approved["proposal"] = proposal::of(&shown);
            output.result(&approved, render_approved)?;
        }
        Forge::Reject { ticket, why } => {
            let params = json!({ "ticket": ticket, "why": why });
            output.result(&host.call("forge.reject", params).await?, render_turned)?;
        }
        Forge::Retire(Numbered { ticket }) => {
            output.result(&host.call("forge.retire", json!({ "ticket": ticket })).await?, render_turned)?;
        }
        Forge::Reopen(Numbered { ticket }) => {
            output.result(&host.call("forge.reopen", json!({ "ticket": ticket })).await?, render_turned)?;
        }
        Forge::Policy { object, policy } => {
            let params = json!({ "object": object, "policy": policy.map(spelled) });
            output.result(&host.call("forge.policy", params).await?, render_policy)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As the host spells it.
fn spelled(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn text(path: &Path) -> Result<String, CommandError> {
    let told =
        |cause: String| refused(format!("{}: {cause}", path.display()), "name a file that can be read");
    let about = std::fs::metadata(path).map_err(|error| told(error.to_string()))?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(told(format!("it must be a file of at most {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| told(error.to_string()))
}

fn spec(path: &Path) -> Result<Value, CommandError> {
    let told = |error: serde_json::Error| refused(format!("{}: {error}", path.display()), HOW_EXAMPLES_LOOK);
    serde_json::from_str(&text(path)?).map_err(told)
}

fn render_history(history: &Value, paint: Paint) -> String {
    let row = |ticket: &Value| {
        vec![
            field(ticket, "ticket"),
            field(ticket, "prototype"),
            field(ticket, "selector"),
            paint.word(&field(ticket, "state"), &field(ticket, "state")),
            field(ticket, "attempts"),
            time(&ticket["since_ms"]),
            field(ticket, "cause"),
        ]
    };
    let rows: Vec<Vec<String>> = rows(history, "tickets").map(row).collect();
    if rows.is_empty() {
        return "no message was ever missed that the forge took".into();
    }
    paint.table(&["ticket", "object", "selector", "state", "attempts", "since", "cause"], rows)
}

fn render_ticket(ticket: &Value, paint: Paint) -> String {
    let mut text = format!(
        "ticket {}: `{}` of {} is {}\n{}\nopened {} by {}",
        field(ticket, "number"),
        field(ticket, "selector"),
        field(ticket, "prototype_name"),
        paint.word(&field(ticket, "state"), &field(ticket, "state")),
        field(ticket, "cause"),
        time(&ticket["opened_at_ms"]),
        show(&ticket["trigger"]["arguments"]),
    );
    if ticket["spec"].is_object() {
        text.push_str(&format!("\nasked: {}", field(&ticket["spec"], "summary")));
        for example in rows(&ticket["spec"], "examples") {
            let expected = show(&example["expect"]);
            text.push_str(&format!("\n  {} → {expected}", show(&example["arguments"])));
        }
    }
    for (number, attempt) in (1..).zip(rows(ticket, "attempts")) {
        let chosen = if ticket["chosen"] == json!(number - 1) { ", chosen" } else { "" };
        text.push_str(&format!("\n\nattempt {number}{chosen}\n{}", render_attempt(attempt, paint)));
    }
    match ticket["state"].as_str() {
        Some("proposed") => {
            let number = field(ticket, "number");
            let proposal = proposal::render(&proposal::of(ticket), paint);
            text.push_str(&format!(
                "\n\nproposed\n{proposal}\n\nnext: `telos forge approve {number}` or `telos forge reject {number}`"
            ));
        }
        Some("failed" | "rejected" | "retired") => {
            text.push_str(&format!(
                "\n\nnext: `telos forge reopen {}` tries it again",
                field(ticket, "number")
            ));
        }
        _ => {}
    }
    text
}

fn render_attempt(attempt: &Value, paint: Paint) -> String {
    let mut text = field(attempt, "source").trim_end().to_owned();
    let uses = field(attempt, "uses");
    if !uses.is_empty() {
        text.push_str(&format!("\nuses: {uses}"));
    }
    if let Some(layer) = layer(&attempt["layer"]) {
        text.push_str(&format!("\ntried: {layer}"));
    }
    for check in rows(attempt, "checks") {
        let mark =
            if check["passed"] == true { paint.word("ok", "✓") } else { paint.word("failed", "✗") };
        let detail = field(check, "detail");
        let colon = if detail.is_empty() { "" } else { ": " };
        let fuel = check["fuel"].as_u64().map_or_else(String::new, |fuel| format!(" ({fuel} fuel)"));
        text.push_str(&format!("\n{mark} {}{fuel}{colon}{detail}", field(check, "name")));
    }
    text
}

/// Where an attempt was tried, and what held it there; none where that is not known.
fn layer(layer: &Value) -> Option<String> {
    let layer: Layer = serde_json::from_value(layer.clone()).ok()?;
    Some(match layer {
        Layer::Restricted => "restricted, in the host's process, where it could reach nothing".into(),
        Layer::Isolated { confinement: Some(held) } => {
            format!("isolated, in a process of its own, held by {held}")
        }
        Layer::Isolated { confinement: None } => {
            "isolated, in a process of its own that did not say what held it".into()
        }
        Layer::Shared => "not isolated, in the host's process, although it asks for more".into(),
    })
}

fn render_approved(swapped: &Value, paint: Paint) -> String {
    format!(
        "{}\n{} {} is {}",
        proposal::render(&swapped["proposal"], paint),
        field(swapped, "id"),
        field(swapped, "version"),
        paint.word(&field(swapped, "state"), &field(swapped, "state"))
    )
}

fn render_turned(ticket: &Value, paint: Paint) -> String {
    let state = paint.word(&field(ticket, "state"), &field(ticket, "state"));
    format!("ticket {} is {state}; {}", field(ticket, "number"), field(ticket, "cause"))
}

fn render_policy(policy: &Value, paint: Paint) -> String {
    let mut text = format!("home: {}", paint.word("ok", &field(policy, "home")));
    for (object, policy) in policy["objects"].as_object().into_iter().flatten() {
        text.push_str(&format!("\n{object}: {}", show(policy)));
    }
    text
}
