//! `telos model`: the minds of this machine; works without a host.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};
use telos_inference::fetch::{self, FetchPhase, FetchProgress};
use telos_inference::{Catalogue, Mind};

use crate::command::models_dir;
use crate::error::{CommandError, refused};
use crate::output::{Output, Paint, field, rows};

/// Commands about minds.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// List the catalogue.
    List,
    /// Fetch minds, verify them and keep them.
    Pull {
        /// The mind's catalogue name; several may be given.
        #[arg(value_name = "NAME", required_unless_present = "default")]
        names: Vec<String>,
        /// Fetch the default minds.
        #[arg(long)]
        default: bool,
    },
}

/// Lists or fetches.
pub(crate) fn run(model: &Model, home: &Path, output: &Output) -> Result<(), CommandError> {
    let (catalogue, directory) = (Catalogue::bundled(), models_dir(home));
    match model {
        Model::List => output.result(&listing(&catalogue, &directory), render),
        Model::Pull { names, default } => pull(&catalogue, &directory, names, *default, output),
    }
}

fn pull(
    catalogue: &Catalogue,
    directory: &Path,
    names: &[String],
    default: bool,
    output: &Output,
) -> Result<(), CommandError> {
    let mut wanted = names.iter().map(|name| known(catalogue, name)).collect::<Result<Vec<_>, _>>()?;
    if default {
        wanted.extend(catalogue.defaults());
    }
    for mind in wanted {
        pull_one(mind, directory, output)?;
    }
    output.result(&listing(catalogue, directory), render)
}

fn known<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Mind, CommandError> {
    catalogue
        .find(name)
        .ok_or_else(|| refused(format!("no mind is called `{name}`"), "`telos model list` names them"))
}

fn pull_one(mind: &Mind, directory: &Path, output: &Output) -> Result<(), CommandError> {
    let mut last_phase = None;
    let mut tell = |progress: FetchProgress| {
        if last_phase != Some(progress.phase) {
            last_phase = Some(progress.phase);
            output.note(&format!("{}: {}", mind.name, verb(progress.phase)));
        }
        let (done, whole) = (progress.bytes >> 20, progress.bytes_total >> 20);
        output.progress(&format!("{}: {} {done} of {whole} MiB", mind.name, verb(progress.phase)));
    };
    let fetched = fetch::fetch(mind, directory, &mut tell);
    output.progress("");
    let fetched =
        fetched.map_err(|error| refused(error.to_string(), "try again; what was verified is kept"))?;
    let how = if fetched.was_present { "is here" } else { "was fetched" };
    output.note(&format!("{} {how}: {} MiB", mind.name, fetched.bytes >> 20));
    Ok(())
}

fn verb(phase: FetchPhase) -> &'static str {
    match phase {
        FetchPhase::Downloading => "downloading",
        FetchPhase::Unpacking => "unpacking",
        FetchPhase::Converting => "converting",
        FetchPhase::Verifying => "verifying",
    }
}

fn listing(catalogue: &Catalogue, directory: &Path) -> Value {
    let row = |mind: &Mind| {
        json!({
            "name": mind.name,
            "kind": mind.kind.as_str(),
            "mib": mind.file_bytes >> 20,
            "licence": mind.licence,
            "context": mind.context,
            "default": catalogue.defaults().any(|default| default.name == mind.name),
            "fetched": fetch::is_present(mind, directory),
            "damaged": fetch::is_damaged(mind, directory),
        })
    };
    json!({ "directory": directory.display().to_string(), "models": catalogue.minds().iter().map(row).collect::<Vec<_>>() })
}

fn render(listing: &Value, paint: Paint) -> String {
    const COLUMNS: [&str; 7] = ["name", "kind", "mib", "licence", "context", "default", "fetched"];
    let row = |model: &Value| {
        let is_damaged = model["damaged"] == true;
        let cell =
            |column| if is_damaged && column == "fetched" { "damaged".into() } else { field(model, column) };
        COLUMNS.map(cell).to_vec()
    };
    paint.table(&COLUMNS, rows(listing, "models").map(row).collect())
}
