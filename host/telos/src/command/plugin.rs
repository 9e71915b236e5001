//! `telos plugin`: what serves, what may serve, and how that changes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::audit::render_rows;
use super::told_path;
use super::top::{self, Top};
use crate::connection::Connection;
use crate::error::CommandError;
use crate::output::{Output, Paint, field, rows, short, show, time};

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// List plugins, and what waits in the plugin directories.
    List,
    /// Show everything about a plugin.
    Info(Id),
    /// Try a candidate without changing anything.
    Check {
        /// A component, or a directory with plugin.toml.
        path: PathBuf,
    },
    /// Install a release and let it serve.
    Install(Install),
    /// Let another installed release serve.
    Swap {
        /// The plugin.
        id: String,
        /// A version, or eight or more characters of a digest's beginning.
        to: String,
        /// Where its state is carried over: end messages that do not end by themselves within 5 s.
        #[arg(long)]
        force: bool,
        /// Where its state is carried over: also when it cannot be carried back.
        #[arg(long)]
        no_return: bool,
    },
    /// Return to the release that served before.
    Rollback(Id),
    /// Remove a plugin; its objects stay.
    Remove(Id),
    /// List the newest decisions about a plugin.
    History(Id),
    /// Write a component that any host of the contract can install, engine included.
    Export(Export),
    /// Allow interfaces.
    Grant(Interfaces),
    /// Take back interfaces; the next message is without them.
    Revoke(Interfaces),
    /// What each plugin uses: processor, memory, messages, errors, times.
    Top(Top),
    /// Builds that broke what the release before them did not.
    #[command(subcommand)]
    Quarantine(Quarantine),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List them, with the reasons.
    List,
    /// Let one serve again, when somebody swaps to it.
    Lift {
        /// The plugin.
        id: String,
        /// A version, or eight or more characters of a digest's beginning.
        release: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// The plugin.
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// A component, or a directory with plugin.toml.
    path: PathBuf,
    /// Grant what it asks for.
    #[arg(long)]
    grant: Option<Grant>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The plugin.
    id: String,
    /// The file to write, which must not be there yet [default: ID.wasm].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Grant {
    /// Every interface that it imports.
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Interfaces {
    /// The plugin.
    id: String,
    /// Names of interfaces, such as inference.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    interfaces: Vec<String>,
    /// All that it imports.
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(
    plugin: Plugin,
    host: &Connection,
    output: &Output,
) -> Result<ExitCode, CommandError> {
    let (method, params, render): (_, _, fn(&Value, Paint) -> String) = match plugin {
        Plugin::List => ("plugin.list", json!({}), render_list),
        Plugin::Info(Id { id }) => ("plugin.info", json!({"id": id}), render_info),
        Plugin::Check { path } => return check(&path, host, output).await,
        Plugin::Install(install) => ("plugin.install", install_params(&install)?, render_swapped),
        Plugin::Swap { id, to, force, no_return } => {
            let asked = json!({"id": id, "to": to, "force": force, "no_return": no_return});
            ("plugin.swap", asked, render_swapped)
        }
        Plugin::Rollback(Id { id }) => ("plugin.rollback", json!({"id": id}), render_swapped),
        Plugin::Remove(Id { id }) => ("plugin.remove", json!({"id": id}), render_removed),
        Plugin::History(Id { id }) => ("plugin.history", json!({"id": id}), render_history),
        Plugin::Export(export) => ("plugin.export", export_params(&export)?, render_exported),
        Plugin::Grant(asked) => ("plugin.grant", interfaces_params(asked), render_grants),
        Plugin::Revoke(asked) => ("plugin.revoke", interfaces_params(asked), render_grants),
        Plugin::Top(top) => return top::run(top, host, output).await.map(|()| ExitCode::SUCCESS),
        Plugin::Quarantine(Quarantine::List) => ("plugin.quarantine", json!({}), render_quarantine),
        Plugin::Quarantine(Quarantine::Lift { id, release }) => {
            ("plugin.lift", json!({"id": id, "release": release}), render_lifted)
        }
    };
    let answer = host.call(method, params).await?;
    output.result(&answer, render)?;
    Ok(ExitCode::SUCCESS)
}

/// A candidate that would not pass ends with 1: scripts ask this before they install.
async fn check(path: &Path, host: &Connection, output: &Output) -> Result<ExitCode, CommandError> {
    let answer = host.call("plugin.check", json!({"path": told_path(path)?})).await?;
    output.result(&answer, render_check)?;
    Ok(if answer["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn install_params(install: &Install) -> Result<Value, CommandError> {
    let grant = install.grant.map(|Grant::All| "all");
    Ok(json!({"path": told_path(&install.path)?, "grant": grant}))
}

fn export_params(export: &Export) -> Result<Value, CommandError> {
    let by_name = || PathBuf::from(format!("{}.wasm", export.id.replace('/', "-")));
    let path = export.output.clone().unwrap_or_else(by_name);
    Ok(json!({"id": export.id, "path": told_path(&path)?}))
}

fn interfaces_params(asked: Interfaces) -> Value {
    let interfaces = if asked.all { vec!["all".to_owned()] } else { asked.interfaces };
    json!({"id": asked.id, "interfaces": interfaces})
}

fn render_list(answer: &Value, paint: Paint) -> String {
    let row = |plugin: &Value| {
        vec![
            field(plugin, "id"),
            field(plugin, "version"),
            field(plugin, "state"),
            field(plugin, "kind"),
            time(&plugin["since_ms"]),
            note(plugin),
        ]
    };
    let headers = ["id", "version", "state", "kind", "since", ""];
    let mut text = paint.table(&headers, rows(answer, "plugins").map(row).collect());
    let inbox: Vec<Vec<String>> =
        rows(answer, "inbox").filter(|entry| entry["state"] != "consumed").map(inbox_row).collect();
    if !inbox.is_empty() {
        text.push('\n');
        text.push_str(&paint.table(&["inbox", "state", "cause"], inbox));
    }
    text
}

/// What a row says besides: what is missing, what waits or failed, else what the plugin is.
fn note(plugin: &Value) -> String {
    let (missing, cause) = (field(plugin, "missing_grants"), field(plugin, "cause"));
    match (missing.is_empty(), cause.is_empty()) {
        (false, _) => format!("needs grant: {missing}"),
        (true, false) if plugin["is_trouble"] == true => format!("✗ {cause}"),
        (true, false) => cause,
        (true, true) => field(plugin, "summary"),
    }
}

fn inbox_row(entry: &Value) -> Vec<String> {
    ["path", "state", "cause"].map(|name| field(entry, name)).to_vec()
}

fn render_info(plugin: &Value, paint: Paint) -> String {
    let mut text = paint.pairs(&[
        ("id", field(plugin, "id")),
        ("version", field(plugin, "version")),
        ("digest", field(plugin, "digest")),
        ("state", field(plugin, "state")),
        ("kind", field(plugin, "kind")),
        ("summary", field(plugin, "summary")),
        ("generation", field(plugin, "generation")),
        ("contract", field(plugin, "contract")),
        ("imports", field(plugin, "imports")),
        ("grants", field(plugin, "grants")),
        ("missing grants", field(plugin, "missing_grants")),
        ("limits", field(plugin, "limits")),
        ("budgets", budgets(&plugin["budgets"])),
        ("probation", probation(&plugin["probation"])),
        ("note", field(plugin, "cause")),
        ("next", field(plugin, "next")),
    ]);
    let selector = |selector: &Value| {
        let kind = if selector["read_only"] == true { "reads" } else { "writes" };
        vec![
            field(selector, "name"),
            kind.to_owned(),
            field(selector, "examples"),
            field(selector, "summary"),
        ]
    };
    let release = |release: &Value| {
        let digest = short(&field(release, "digest"));
        vec![field(release, "version"), field(release, "state"), digest, time(&release["installed_at_ms"])]
    };
    text.push('\n');
    text.push_str(
        &paint.table(
            &["selector", "", "examples", "summary"],
            rows(plugin, "selectors").map(selector).collect(),
        ),
    );
    text.push('\n');
    text.push_str(&paint.table(
        &["release", "state", "digest", "installed"],
        rows(plugin, "releases").map(release).collect(),
    ));
    text
}

/// What it has of the store and of minds, and the most that it may have.
fn budgets(told: &Value) -> String {
    let count = |name: &str| told[name].as_u64().unwrap_or_default();
    let mib = |name: &str| {
        format!(
            "{:.1} of {} MiB",
            count(name) as f64 / f64::from(1 << 20),
            count(&format!("{name}_max")) >> 20
        )
    };
    let of = |name: &str| format!("{} of {}", count(name), count(&format!("{name}_max")));
    match told.is_object() {
        true => format!(
            "stored {}; vectors {}; posts {}; tokens a minute {}; requests to minds {}",
            mib("stored_bytes"),
            mib("vector_bytes"),
            of("posts_pending"),
            of("inference_tokens"),
            of("inference_requests"),
        ),
        false => String::new(),
    }
}

fn probation(told: &Value) -> String {
    let returns_to = match field(told, "returns_to") {
        earlier if earlier.is_empty() => "there is nothing to return to".to_owned(),
        earlier => format!("returns to {earlier}"),
    };
    match told.is_object() {
        true => {
            format!("{} answered, {} broken; {returns_to}", field(told, "answered"), field(told, "broken"))
        }
        false => String::new(),
    }
}

fn render_quarantine(answer: &Value, paint: Paint) -> String {
    let row = |build: &Value| {
        let state = if build["is_parked"] == true { "parked" } else { "returned" };
        let digest = short(&field(build, "digest"));
        vec![
            field(build, "id"),
            field(build, "version"),
            digest,
            state.to_owned(),
            time(&build["since_ms"]),
            field(build, "cause"),
        ]
    };
    let builds: Vec<Vec<String>> = rows(answer, "builds").map(row).collect();
    match builds.is_empty() {
        true => "no build is in quarantine".into(),
        false => paint.table(&["id", "version", "digest", "state", "since", "cause"], builds),
    }
}

fn render_lifted(answer: &Value, _: Paint) -> String {
    let (id, version) = (field(answer, "id"), field(answer, "version"));
    format!("{id} {version} may serve again\n  next: `telos plugin swap {id} {version}`")
}

fn render_check(checked: &Value, paint: Paint) -> String {
    let (word, verdict) =
        if checked["ok"] == true { ("ok", "would be installed") } else { ("failed", "would be refused") };
    let mut text =
        format!("{} {} {}\n", field(checked, "id"), field(checked, "version"), paint.word(word, verdict));
    text.push_str(&paint.pairs(&[
        ("cause", field(checked, "cause")),
        ("digest", field(checked, "digest")),
        ("contract", field(checked, "contract")),
        ("imports", field(checked, "imports")),
        ("missing grants", field(checked, "missing_grants")),
        ("selectors", selector_names(checked)),
    ]));
    let example = |example: &Value| {
        let outcome = if example["passed"] == true { "passed" } else { "failed" };
        vec![field(example, "selector"), field(example, "name"), outcome.to_owned(), field(example, "detail")]
    };
    let examples: Vec<Vec<String>> = rows(checked, "examples").map(example).collect();
    if !examples.is_empty() {
        text.push('\n');
        text.push_str(&paint.table(&["selector", "example", "outcome", "detail"], examples));
    }
    text
}

/// Selectors come as names or as objects with a name.
fn selector_names(checked: &Value) -> String {
    let name = |selector: &Value| {
        if selector.is_string() { show(selector) } else { field(selector, "name") }
    };
    rows(checked, "selectors").map(name).collect::<Vec<_>>().join(", ")
}

fn render_swapped(swapped: &Value, paint: Paint) -> String {
    let state = field(swapped, "state");
    let (id, version) = (field(swapped, "id"), field(swapped, "version"));
    let state = if state.is_empty() { "serving".to_owned() } else { state };
    if swapped["is_unchanged"] == true {
        return format!("{id} {version} {} already", paint.word(&state, "serves"));
    }
    let mut text = format!("{id} {version} {}", paint.word(&state, &state));
    let previous = field(swapped, "previous");
    if !previous.is_empty() {
        text.push_str(&format!(", after {previous}"));
    }
    if let Some(pause) = swapped["pause_us"].as_u64().filter(|_| state == "serving") {
        text.push_str(&format!("; paused {pause} µs"));
    }
    let missing = field(swapped, "missing_grants");
    if !missing.is_empty() {
        text.push_str(&format!("\n  it asks for {missing}\n  next: `telos plugin grant {id} --all`"));
    }
    let cause = field(swapped, "cause");
    if !cause.is_empty() {
        text.push_str(&format!("\n  {cause}\n  next: {}", field(swapped, "next")));
    }
    text
}

fn render_removed(answer: &Value, _: Paint) -> String {
    format!("{} removed; its objects stay", field(answer, "id"))
}

fn render_exported(answer: &Value, _: Paint) -> String {
    let (id, version, path) = (field(answer, "id"), field(answer, "version"), field(answer, "path"));
    let kib = answer["bytes"].as_u64().unwrap_or_default().div_ceil(1024);
    let engine = if answer["has_engine"] == true { "with the engine in it" } else { "as it was installed" };
    format!(
        "{id} {version} is in {path}, {kib} KiB, {engine}\n  next: `telos plugin install {path}`, on any host"
    )
}

fn render_history(answer: &Value, paint: Paint) -> String {
    render_rows(rows(answer, "events"), paint)
}

fn render_grants(answer: &Value, paint: Paint) -> String {
    let state = field(answer, "state");
    let grants = field(answer, "grants");
    let grants = if grants.is_empty() { "nothing".to_owned() } else { grants };
    format!("{} may use {grants}; {}", field(answer, "id"), paint.word(&state, &state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_is_missing_and_what_waits() {
        let text = render_list(
            &json!({
                "plugins": [
                    {"id": "counter", "version": "0.1.0", "state": "serving", "kind": "behaviour", "summary": "Counts.", "missing_grants": []},
                    {"id": "babs", "version": "0.2.0", "state": "staged", "kind": "persona", "summary": "x", "missing_grants": ["inference"]},
                ],
                "inbox": [{"path": "a.wasm", "state": "refused", "cause": "not a component"}, {"path": "b.wasm", "state": "consumed"}],
            }),
            Paint::default(),
        );
        for part in
            ["counter  0.1.0", "Counts.", "needs grant: inference", "a.wasm  refused  not a component"]
        {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("b.wasm"), "{text}");
    }

    #[test]
    fn a_staged_install_says_what_next() {
        let swapped = json!({"id": "babs", "version": "0.2.0", "state": "staged", "missing_grants": ["inference"], "pause_us": 0});
        let text = render_swapped(&swapped, Paint::default());
        assert_eq!(
            text,
            "babs 0.2.0 staged\n  it asks for inference\n  next: `telos plugin grant babs --all`"
        );
        let same = json!({"id": "babs", "version": "0.2.0", "state": "serving", "is_unchanged": true});
        assert_eq!(render_swapped(&same, Paint::default()), "babs 0.2.0 serves already");
        let swapped = json!({"id": "babs", "version": "0.2.0", "state": "serving", "previous": "0.1.0", "missing_grants": [], "pause_us": 41});
        assert_eq!(
            render_swapped(&swapped, Paint::default()),
            "babs 0.2.0 serving, after 0.1.0; paused 41 µs"
        );
    }

    #[test]
    fn what_waits_for_a_start_or_failed_at_one_is_said_with_what_next() {
        let swapped = json!({"id": "a", "version": "0.2.0", "state": "staged", "cause": "its state is older", "next": "start again", "missing_grants": [], "previous": "0.1.0", "pause_us": 0});
        assert_eq!(
            render_swapped(&swapped, Paint::default()),
            "a 0.2.0 staged, after 0.1.0\n  its state is older\n  next: start again"
        );
        let row = |is_trouble: bool| {
            let plugin = json!({"id": "a", "version": "0.1.0", "state": "serving", "summary": "Does.", "missing_grants": [], "cause": "0.2.0 waits", "is_trouble": is_trouble});
            render_list(&json!({"plugins": [plugin], "inbox": []}), Paint::default())
        };
        assert!(row(false).contains("  0.2.0 waits") && !row(false).contains("Does."), "{}", row(false));
        assert!(row(true).contains("✗ 0.2.0 waits"), "{}", row(true));
    }

    #[test]
    fn a_failed_check_shows_the_example() {
        let checked = json!({
            "ok": false, "id": "counter", "version": "0.1.0", "selectors": ["get", {"name": "increment"}],
            "examples": [{"selector": "get", "name": "empty", "passed": false, "detail": "expected 0, got 1"}],
        });
        let text = render_check(&checked, Paint::default());
        for part in ["would be refused", "get, increment", "get       empty    failed   expected 0, got 1"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn paths_are_absolute_for_a_host_elsewhere() {
        let params = install_params(&Install { path: "x.wasm".into(), grant: Some(Grant::All) }).unwrap();
        assert!(Path::new(params["path"].as_str().unwrap()).is_absolute());
        assert_eq!(params["grant"], "all");
        let all = Interfaces { id: "a".into(), interfaces: vec![], all: true };
        assert_eq!(interfaces_params(all), json!({"id": "a", "interfaces": ["all"]}));
    }
}
