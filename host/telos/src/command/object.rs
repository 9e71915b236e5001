//! `telos object`: objects as they are stored, now and in the past.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::argument::read_json;
use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, counted, field, rows, show, size};
use crate::progress;

#[derive(Debug, Subcommand)]
pub(crate) enum Object {
    /// List named objects.
    List(List),
    /// Show an object: slots, parents, what it understands.
    Show(Show),
    /// Make an object.
    New(New),
    /// Set or remove a value slot.
    Set(Set),
    /// Take a name away; its object stays.
    Unname {
        /// The name.
        name: String,
    },
    /// Show every state of an object that is kept.
    History(History),
    /// Remove objects for good, their past included.
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name or id.
    object: String,
    /// As it was at this position or time, such as 12 or 2026-11-22T23:01:51Z; a time may be up to a minute early.
    #[arg(long, value_name = "POSITION|TIME")]
    as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Names or ids.
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
    /// Do it; without this it is only said what would go.
    #[arg(long)]
    yes: bool,
    /// Let objects that delegate to one of them go on without it.
    #[arg(long)]
    detach: bool,
    /// Leave the file as it is; its free pages keep the bytes until `telos store rewrite`.
    #[arg(long)]
    no_rewrite: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only names that begin so.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only names after this one: the next page.
    #[arg(long, value_name = "NAME", default_value = "")]
    after: String,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Its name, such as babs/alice.
    name: String,
    /// Where messages go that it does not understand; several are asked in order.
    #[arg(long = "parent", value_name = "OBJECT")]
    parents: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Name or id.
    object: String,
    /// The slot's name.
    slot: String,
    /// The value: JSON, @FILE, or - for standard input.
    #[arg(
        value_name = "JSON",
        required_unless_present = "remove",
        conflicts_with = "remove",
        allow_hyphen_values = true
    )]
    value: Option<String>,
    /// Remove the slot.
    #[arg(long)]
    remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Name or id.
    object: String,
    /// At most so many revisions, newest first.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Only smaller revisions: the next page.
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,
}

/// Revisions that the host answers at once.
const PAGE: u32 = 100;

/// Ends with 1 when nothing was forgotten for want of `--yes`.
pub(crate) async fn run(
    object: Object,
    host: &Connection,
    output: &Output,
) -> Result<ExitCode, CommandError> {
    match object {
        Object::Forget(asked) => return forget(asked, host, output).await,
        Object::List(List { prefix, after, limit }) => {
            let params = json!({"prefix": prefix, "after": after, "limit": limit});
            output.result(&host.call("object.list", params).await?, render_list)
        }
        Object::Show(Show { object, as_of }) => {
            let params = json!({"object": object, "as_of": as_of});
            output.result(&host.call("object.show", params).await?, render_object)
        }
        Object::New(New { name, parents }) => {
            let params = json!({"name": name, "parents": parents});
            output.result(&host.call("object.new", params).await?, render_new)
        }
        Object::Set(set) => output.result(&host.call("object.set", set_params(&set)?).await?, render_set),
        Object::Unname { name } => {
            output.result(&host.call("object.unname", json!({"name": name})).await?, render_unnamed)
        }
        Object::History(asked) => output.result(&history(asked, host).await?, render_history),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// As many pages as are asked for, as one answer.
async fn history(asked: History, host: &Connection) -> Result<Value, CommandError> {
    let History { object, mut limit, before } = asked;
    let (mut revisions, mut next_before) = (Vec::new(), before.map(Value::from));
    loop {
        let page = limit.min(PAGE);
        let params = json!({"object": object, "limit": page, "before": next_before});
        let mut answer = host.call("object.history", params).await?;
        if let Value::Array(page) = answer["revisions"].take() {
            revisions.extend(page);
        }
        next_before = Some(answer["next_before"].take()).filter(|next| !next.is_null());
        limit -= page;
        if limit == 0 || next_before.is_none() {
            return Ok(json!({"object": object, "revisions": revisions, "next_before": next_before}));
        }
    }
}

async fn forget(asked: Forget, host: &Connection, output: &Output) -> Result<ExitCode, CommandError> {
    let Forget { objects, yes, detach, no_rewrite } = asked;
    let params = json!({"objects": objects, "yes": yes, "detach": detach, "no_rewrite": no_rewrite});
    let answer = progress::call(host, "object.forget", params, output).await?;
    output.result(&answer, if yes { render_forgotten } else { render_would_forget })?;
    Ok(if yes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn set_params(set: &Set) -> Result<Value, CommandError> {
    let mut params = json!({"object": set.object, "slot": set.slot});
    match &set.value {
        Some(value) => params["value"] = read_json(value)?,
        None => params["remove"] = true.into(),
    }
    Ok(params)
}

fn render_list(answer: &Value, paint: Paint) -> String {
    let row = |object: &Value| ["name", "id", "owner", "revision"].map(|name| field(object, name)).to_vec();
    paint.table(&["name", "id", "owner", "revision"], rows(answer, "objects").map(row).collect())
}

fn render_object(object: &Value, paint: Paint) -> String {
    let parents: Vec<String> = rows(object, "parents").map(parent).collect();
    let mut text = paint.pairs(&[
        ("as of", field(object, "as_of")),
        ("names", field(object, "names")),
        ("id", field(object, "id")),
        ("owner", field(object, "owner")),
        ("generation", field(object, "generation")),
        ("revision", field(object, "revision")),
        ("position", field(object, "position")),
        ("parents", parents.join(", ")),
    ]);
    let slot = |slot: &Value| vec![field(slot, "name"), slot_text(slot)];
    text.push('\n');
    text.push_str(&paint.table(&["slot", "value"], rows(object, "slots").map(slot).collect()));
    if !object["as_of"].is_null() {
        return text;
    }
    let selector = |understood: &Value| {
        let kind = if understood["read_only"] == true { "reads" } else { "writes" };
        vec![
            field(understood, "selector"),
            kind.to_owned(),
            field(understood, "holder"),
            field(understood, "summary"),
        ]
    };
    text.push('\n');
    let headers = ["understands", "", "from", "summary"];
    text.push_str(&paint.table(&headers, rows(object, "understands").map(selector).collect()));
    text
}

/// A parent by its first name, else by its id.
fn parent(parent: &Value) -> String {
    parent["names"][0].as_str().map(|name| show(&Value::from(name))).unwrap_or_else(|| field(parent, "id"))
}

fn slot_text(slot: &Value) -> String {
    match slot.get("method") {
        Some(method) if !method.is_null() => format!("method {}", show(method)),
        _ => crate::output::plain(&slot["value"].to_string()),
    }
}

fn render_new(answer: &Value, _: Paint) -> String {
    format!("made {} ({})", field(answer, "name"), field(answer, "id"))
}

fn render_unnamed(answer: &Value, _: Paint) -> String {
    format!("{} is free; its object stays as {}", field(answer, "name"), field(answer, "id"))
}

fn render_set(answer: &Value, _: Paint) -> String {
    format!("done; {} at position {}", field(answer, "id"), field(answer, "position"))
}

fn render_history(answer: &Value, paint: Paint) -> String {
    let row = |revision: &Value| {
        ["revision", "position", "owner", "slots"].map(|name| field(revision, name)).to_vec()
    };
    let headers = ["revision", "position", "owner", "slots"];
    let mut text = paint.table(&headers, rows(answer, "revisions").map(row).collect());
    if let Some(before) = answer["next_before"].as_u64() {
        let object = field(answer, "object");
        text.push_str(&format!("\nnext: `telos object history {object} --before {before}`\n"));
    }
    text
}

fn render_would_forget(answer: &Value, paint: Paint) -> String {
    let columns = ["names", "id", "owner", "revisions"];
    let row = |object: &Value| columns.map(|name| field(object, name)).to_vec();
    let mut text = paint.table(&columns, rows(answer, "would_forget").map(row).collect());
    text.push_str(
        "\nnothing was forgotten; this, and every name, vector and post of it, goes for good with --yes\n",
    );
    text
}

fn render_forgotten(answer: &Value, _: Paint) -> String {
    let done = &answer["forgotten"];
    let counts: Vec<String> =
        ["objects", "states", "names", "vectors", "posts", "dead_letters", "answers", "detached"]
            .into_iter()
            .filter(|name| done[name].as_u64().unwrap_or(0) > 0)
            .map(|name| counted(done, name))
            .collect();
    let mut text = format!("forgotten at position {}: {}\n", field(done, "position"), counts.join(", "));
    text.push_str(&match answer["rewritten"]["bytes_after"].as_u64() {
        Some(bytes) => format!("the file was rewritten: {}\n", size(bytes)),
        None => "the file still has the bytes in free pages; next: `telos store rewrite`\n".to_owned(),
    });
    text.push_str(&format!("traces left: {}\n", field(answer, "traces_left")));
    text.push_str(
        "the audit and the journal keep the names it had; backups and copies of the store keep all of it\n",
    );
    for trace in rows(answer, "traces") {
        let [table, row, by] = ["table", "row", "by"].map(|name| field(trace, name));
        text.push_str(&format!("  {table} {row}, by {by}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_shows_its_slots_parents_and_selectors() {
        let text = render_object(
            &json!({
                "id": "ab12", "names": ["counter"], "owner": "counter", "generation": 1, "revision": 3, "position": 9,
                "parents": [{"id": "cd34", "names": []}, {"id": "ef56", "names": ["root"]}],
                "slots": [{"name": "count", "value": "3"}, {"name": "get", "method": "counter@^0.1#get"}],
                "understands": [{"selector": "get", "summary": "The count.", "read_only": true, "holder": "counter"}],
            }),
            Paint::default(),
        );
        for part in [
            "parents     cd34, root",
            "count  \"3\"",
            "method counter@^0.1#get",
            "reads  counter  The count.",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn set_gives_a_value_or_removes() {
        let set = |value: Option<&str>| Set {
            object: "a".into(),
            slot: "s".into(),
            value: value.map(Into::into),
            remove: value.is_none(),
        };
        assert_eq!(
            set_params(&set(Some("null"))).unwrap(),
            json!({"object": "a", "slot": "s", "value": null})
        );
        assert_eq!(set_params(&set(None)).unwrap(), json!({"object": "a", "slot": "s", "remove": true}));
        assert_eq!(set_params(&set(Some("{"))).unwrap_err().exit_code(), 2);
    }
}
