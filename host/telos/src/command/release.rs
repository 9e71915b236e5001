//! `telos release`: several seats at once, as a file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::told_path;
use crate::connection::Connection;
use crate::error::{CommandError, refused};
use crate::output::{Output, Paint, field, rows, show};

#[derive(Debug, Subcommand)]
pub(crate) enum Release {
    /// Install, swap and remove several plugins at once, or none of them.
    Apply {
        /// The set: a TOML file.
        set: PathBuf,
        /// Only say what it would do.
        #[arg(long)]
        plan: bool,
    },
}

/// A set as its file says it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Set {
    /// New builds: components, or directories with plugin.toml, from where the file is.
    install: Vec<PathBuf>,
    /// Grant what the new builds import.
    grant: Option<Grant>,
    /// Kept releases: a version, or eight or more characters of a digest's beginning, by plugin.
    swap: BTreeMap<String, String>,
    /// Plugins whose seats are taken away; their objects stay.
    remove: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Grant {
    All,
}

const HOW_A_SET_LOOKS: &str = "a set has `install = [PATH, ...]`, `grant = \"all\"`, `remove = [ID, ...]`, and a table `[swap]` of `ID = VERSION`";

/// The largest file that is read as a set.
const SET_BYTES_MAX: u64 = 1 << 20;

pub(crate) async fn run(
    release: Release,
    host: &Connection,
    output: &Output,
) -> Result<ExitCode, CommandError> {
    let Release::Apply { set, plan } = release;
    let params = set_params(&read(&set)?, &set)?;
    if plan {
        let answer = host.call("release.plan", params).await?;
        output.result(&answer, render_plan)?;
        return Ok(if answer["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let answer = host.call("release.apply", params).await?;
    output.result(&answer, render_applied)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Set, CommandError> {
    let told = |cause: String| refused(format!("{}: {cause}", path.display()), HOW_A_SET_LOOKS);
    let size = std::fs::metadata(path).map_err(|error| told(error.to_string()))?;
    if !size.is_file() || size.len() > SET_BYTES_MAX {
        return Err(told(format!("a set is a file of at most {SET_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    toml::from_str(&text).map_err(|error| told(error.to_string().trim().to_owned()))
}

fn set_params(set: &Set, path: &Path) -> Result<Value, CommandError> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let install = set.install.iter().map(|build| told_path(&directory.join(build)));
    Ok(json!({
        "install": install.collect::<Result<Vec<_>, _>>()?,
        "grant": set.grant.map(|Grant::All| "all"),
        "swap": set.swap,
        "remove": set.remove,
    }))
}

fn render_plan(plan: &Value, paint: Paint) -> String {
    let verdict = match plan["ok"] == true {
        true => paint.word("ok", "would be applied"),
        false => paint.word("failed", "would be refused"),
    };
    let row = |member: &Value| {
        vec![
            field(member, "id"),
            field(member, "action"),
            versions(member),
            imports(member),
            field(member, "missing_grants"),
            field(member, "contract"),
            state(member),
            examples(member),
        ]
    };
    let headers = ["id", "action", "version", "imports", "needs grant", "contract", "state", "examples"];
    let mut text = format!("the set {verdict}\n");
    text.push_str(&paint.table(&headers, rows(plan, "members").map(row).collect()));
    for member in rows(plan, "members").filter(|member| member["cause"].is_string()) {
        text.push_str(&format!("\n{}: {}", field(member, "id"), field(member, "cause")));
        let next = field(member, "next");
        if !next.is_empty() {
            text.push_str(&format!("\n  next: {next}"));
        }
    }
    match plan["pause_estimate_us"].as_u64() {
        Some(pause) => {
            text.push_str(&format!("\npause: at most {pause} µs for 99 of 100 changes so far; no restart"))
        }
        None => text.push_str("\npause: not measured yet, since no seat has changed; no restart"),
    }
    text
}

fn versions(member: &Value) -> String {
    match (field(member, "from"), field(member, "to")) {
        (from, to) if from == to => from,
        (from, to) if from.is_empty() => to,
        (from, to) if to.is_empty() => format!("{from} → none"),
        (from, to) => format!("{from} → {to}"),
    }
}

fn imports(member: &Value) -> String {
    let signed = |name: &str, sign: char| {
        let names: Vec<String> = rows(member, name).map(|import| format!("{sign}{}", show(import))).collect();
        names
    };
    [signed("imports_added", '+'), signed("imports_removed", '-')].concat().join(" ")
}

fn state(member: &Value) -> String {
    if member["to"].is_null() {
        return "stays".into();
    }
    match member["generation"].as_array().map(Vec::as_slice) {
        Some([from, to]) => format!("generation {from} → {to}"),
        _ => "as it is".into(),
    }
}

fn examples(member: &Value) -> String {
    let (all, passed) = (
        rows(member, "examples").count(),
        rows(member, "examples").filter(|one| one["passed"] == true).count(),
    );
    if member["to"].is_null() {
        return String::new();
    }
    if all == 0 { "passed before".into() } else { format!("{passed} of {all} pass") }
}

fn render_applied(applied: &Value, paint: Paint) -> String {
    let mut lines: Vec<String> = rows(applied, "serving")
        .map(|release| {
            let (id, version) = (field(release, "id"), field(release, "version"));
            match (release["is_unchanged"] == true, field(release, "previous")) {
                (true, _) => format!("{id} {version} {} already", paint.word("serving", "serves")),
                (false, previous) if previous.is_empty() => {
                    format!("{id} {version} {}", paint.word("serving", "serving"))
                }
                (false, previous) => {
                    format!("{id} {version} {}, after {previous}", paint.word("serving", "serving"))
                }
            }
        })
        .collect();
    lines.extend(rows(applied, "removed").map(|id| format!("{} removed; its objects stay", show(id))));
    lines.push(format!(
        "all at once at position {}; paused {} µs",
        field(applied, "position"),
        field(applied, "pause_us")
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_found_from_where_the_file_is() {
        let set: Set = toml::from_str("install = [\"a.wasm\", \"/b.wasm\"]\ngrant = \"all\"\nremove = [\"old\"]\n[swap]\nbabs = \"0.2.0\"").unwrap();
        let params = set_params(&set, Path::new("/sets/one.toml")).unwrap();
        assert_eq!(
            params,
            json!({"install": ["/sets/a.wasm", "/b.wasm"], "grant": "all", "swap": {"babs": "0.2.0"}, "remove": ["old"]})
        );
        for wrong in ["instal = []", "grant = \"some\"", "swap = [\"babs\"]"] {
            assert!(toml::from_str::<Set>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plan_says_what_changes_and_what_stands_in_the_way() {
        let plan = json!({"ok": false, "pause_estimate_us": 310, "members": [
            {"id": "babs", "action": "install", "from": "0.1.0", "to": "0.2.0", "imports_added": ["inference"],
             "imports_removed": ["vectors"], "missing_grants": ["inference"], "contract": "0.1.0", "generation": null,
             "examples": [{"passed": true}, {"passed": true}], "cause": "it needs a grant: inference",
             "next": "`telos plugin grant babs inference`"},
            {"id": "old", "action": "remove", "from": "0.1.0", "to": null, "imports_added": [], "imports_removed": [],
             "missing_grants": [], "contract": null, "generation": null, "examples": [], "cause": null, "next": null},
        ]});
        let text = render_plan(&plan, Paint::default());
        for told in [
            "would be refused",
            "0.1.0 → 0.2.0",
            "+inference -vectors",
            "2 of 2 pass",
            "0.1.0 → none",
            "babs: it needs a grant: inference\n  next: `telos plugin grant babs inference`",
            "310 µs",
        ] {
            assert!(text.contains(told), "{told} is not in\n{text}");
        }
    }
}
