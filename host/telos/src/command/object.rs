//! `telos object`: objects as they are stored.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::argument::read_json;
use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows, show};

#[derive(Debug, Subcommand)]
pub(crate) enum Object {
    /// List named objects.
    List(List),
    /// Show an object: slots, parents, what it understands.
    Show {
        /// Name or id.
        object: String,
    },
    /// Make an object.
    New(New),
    /// Set or remove a value slot.
    Set(Set),
    /// Take a name away; its object stays.
    Unname {
        /// The name.
        name: String,
    },
    /// Show earlier states of an object.
    History(History),
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
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

pub(crate) async fn run(object: Object, host: &Connection, output: &Output) -> Result<(), CommandError> {
    match object {
        Object::List(List { prefix, after, limit }) => {
            let params = json!({"prefix": prefix, "after": after, "limit": limit});
            output.result(&host.call("object.list", params).await?, render_list)
        }
        Object::Show { object } => {
            output.result(&host.call("object.show", json!({"object": object})).await?, render_object)
        }
        Object::New(New { name, parents }) => {
            let params = json!({"name": name, "parents": parents});
            output.result(&host.call("object.new", params).await?, render_new)
        }
        Object::Set(set) => output.result(&host.call("object.set", set_params(&set)?).await?, render_set),
        Object::Unname { name } => {
            output.result(&host.call("object.unname", json!({"name": name})).await?, render_unnamed)
        }
        Object::History(History { object, limit }) => {
            let params = json!({"object": object, "limit": limit});
            output.result(&host.call("object.history", params).await?, render_history)
        }
    }
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
    paint.table(&["revision", "position", "owner", "slots"], rows(answer, "revisions").map(row).collect())
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
