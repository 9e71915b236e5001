//! `cargo xtask test`: every check, in the order of what they cost; the first failure ends the run.
//!
//! A whole-workspace build unites features and hides gaps, so a feature is checked with `--package`.

use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::engine::{self, Beside};
use crate::guests::{self, WASM_TARGET};
use crate::phase::{self, Phases, ask, execute, is_ci};
use crate::setup::{self, Compiler, Tools, WINDOWS_TARGET};
use crate::up;
use crate::wine;
use crate::workspace::Workspace;

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run one phase, with what it needs.
    #[arg(long, value_name = "PHASE")]
    only: Option<Phase>,
    /// Let slow tests run as long as they like to (`TELOS_LONG=1`), an hour at most each.
    ///
    /// The store then survives more than 10,000 images of power cuts, 200 deaths at each named point and at each
    /// kind of disk call, a fault at every single call of the disk, long histories of concurrent units, and starts
    /// with 100,000 objects after `kill -9`. What was tried is printed and counted.
    #[arg(long)]
    long: bool,
    /// Ask for known vulnerabilities too, which needs the network.
    #[arg(long)]
    advisories: bool,
}

/// One check. Order is the order of a whole run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// `cargo fmt --check` of every crate.
    Fmt,
    /// Clippy of every host crate and its tests, warnings denied.
    Clippy,
    /// Clippy of every guest and of the JavaScript engine as they are built for wasm, warnings denied.
    ClippyGuests,
    /// Every guest component and the bundle.
    Guests,
    /// The JavaScript engine, and whether it is the one on record.
    Engine,
    /// Unit and integration tests.
    Nextest,
    /// Clippy of the bridge with its second wire, and the tests that use it.
    Omq,
    /// Clippy and tests of llama.cpp, on the default models.
    Llama,
    /// Examples in the documentation.
    Doctest,
    /// The documentation itself, warnings denied.
    Doc,
    /// Type-check of the host for Windows, and the bridge's echo run under Wine.
    Windows,
    /// Licences, bans and sources of dependencies, when cargo-deny is there.
    Deny,
}

/// What the phases share.
struct Run<'a> {
    workspace: &'a Workspace,
    tools: Tools,
    compiler: Compiler,
    options: &'a Options,
}

/// Sets up and runs every phase, or the one that was asked for.
///
/// # Errors
/// The first phase that fails, with the command that runs it alone.
pub(crate) fn run(workspace: &Workspace, phases: &mut Phases, options: &Options) -> Result<()> {
    let tools = setup::for_tests(workspace, phases)?;
    let compiler = phases.run("engine tools", || setup::prepare_engine_tools(workspace))?;
    let run = Run { workspace, tools, compiler, options };
    for phase in wanted(options.only) {
        let name = name_of(phase);
        if let Some(reason) = run.reason_to_skip(phase) {
            phases.skip(&name, &reason);
            continue;
        }
        phases.run(&name, || run.check(phase)).with_context(|| {
            format!("the phase `{name}` failed; run it alone with `cargo xtask test --only {name}`")
        })?;
    }
    eprintln!("{} every phase passed", phases.total());
    Ok(())
}

fn wanted(only: Option<Phase>) -> Vec<Phase> {
    match only {
        None => Phase::value_variants().to_vec(),
        Some(phase @ Phase::Nextest) => vec![Phase::Guests, Phase::Engine, phase],
        Some(phase) => vec![phase],
    }
}

fn name_of(phase: Phase) -> String {
    phase.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Run<'_> {
    /// Why a phase cannot run here, or `None`. In CI nothing but cargo-deny may be missing.
    fn reason_to_skip(&self, phase: Phase) -> Option<String> {
        match phase {
            Phase::Windows if !is_ci() => setup::windows_gap(),
            Phase::Llama if !has_feature(self.workspace, "telos-inference", "llama") => {
                Some("no crate has the feature `llama`".into())
            }
            Phase::ClippyGuests if guests::packages(self.workspace).is_empty() => {
                Some("no crate builds a component".into())
            }
            Phase::Deny if ask("cargo", &["deny", "--version"]).is_none() => {
                Some("cargo-deny is not installed".into())
            }
            _ => None,
        }
    }

    fn check(&self, phase: Phase) -> Result<()> {
        match phase {
            Phase::Fmt => execute(&mut phase::cargo(["fmt", "--all", "--check"])),
            Phase::Clippy => self.clippy(&[]),
            Phase::ClippyGuests => self.clippy_guests(),
            Phase::Guests => guests::build(self.workspace).map(drop),
            Phase::Engine => engine::build(self.workspace, &self.tools, &self.compiler, Beside::Tests),
            Phase::Nextest => self.nextest(&[]),
            Phase::Omq => self.omq(),
            Phase::Llama => self.llama(),
            Phase::Doctest => execute(&mut self.tools.cargo(["test", "--doc"])),
            Phase::Doc => execute(self.tools.cargo(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")),
            Phase::Windows => self.windows(),
            Phase::Deny => self.deny(),
        }
    }

    fn clippy(&self, selection: &[&str]) -> Result<()> {
        let mut command = self.tools.cargo(["clippy", "--all-targets"]);
        execute(command.args(selection).args(["--", "-D", "warnings"]))
    }

    fn clippy_guests(&self) -> Result<()> {
        let mut command = phase::cargo(["clippy", "--target", WASM_TARGET, "--profile", "guest"]);
        for package in guests::packages(self.workspace) {
            command.args(["--package", &package.name]);
        }
        execute(command.args(["--", "-D", "warnings"]))?;
        engine::clippy(self.workspace, &self.tools, &self.compiler)
    }

    fn nextest(&self, selection: &[&str]) -> Result<()> {
        let profile = if self.options.long { "long" } else { "ci" };
        let mut command = self.tools.cargo(["nextest", "run", "--profile", profile]);
        execute(self.surround(command.args(selection)))
    }

    /// Whatever has the first wire at both ends ran before, and so did what has none: only names of modules that tell
    /// of the second one are run.
    fn omq(&self) -> Result<()> {
        let selection = ["--package", "telos-bridge", "--features", "omq"];
        self.clippy(&selection)?;
        self.nextest(&[&selection[..], &["-E", "test(/[:_]omq/)"]].concat())
    }

    fn llama(&self) -> Result<()> {
        if up::has_minds(self.workspace) {
            self.pull_models()?;
        }
        // The whole workspace with the feature on, so that everything below is built as it was; only what needs
        // a mind is run again.
        let features = ["--features", "telos/llama,telos-inference/llama"];
        self.clippy(&features)?;
        self.nextest(&[
            features[0],
            features[1],
            "-E",
            "package(telos-inference) | (package(telos) & test(minds::))",
        ])
    }

    fn pull_models(&self) -> Result<()> {
        // Built by the tests before; `cargo run` would choose other features and build everything anew.
        let telos =
            self.workspace.target.join("debug").join(format!("telos{}", std::env::consts::EXE_SUFFIX));
        execute(self.surround(Command::new(telos).args(["model", "pull", "--default"])))
    }

    fn windows(&self) -> Result<()> {
        let host = ["check", "--package", "telos", "--no-default-features", "--target", WINDOWS_TARGET];
        execute(&mut self.tools.cargo(host))?;
        let gap = setup::wine_gap();
        if let Some(gap) = &gap {
            eprintln!("  {gap}: the bridge is built for Windows and not run");
        }
        wine::check_bridge(self.workspace, &self.tools, gap.is_none())
    }

    fn deny(&self) -> Result<()> {
        let mut command = phase::cargo(["deny", "check", "bans", "licenses", "sources"]);
        if self.options.advisories {
            command.arg("advisories");
        }
        execute(&mut command)
    }

    /// Tells a child where guests and models lie.
    fn surround<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        if self.options.long {
            command.env("TELOS_LONG", "1");
        }
        command.env("TELOS_GUESTS", self.workspace.guests()).env("TELOS_MODELS_DIR", self.workspace.models())
    }
}

fn has_feature(workspace: &Workspace, package: &str, feature: &str) -> bool {
    workspace.package(package).is_some_and(|package| package.has_feature(feature))
}
