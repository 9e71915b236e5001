//! The JavaScript engine of generated behaviours: built from source, and the same bytes from the same compilers.
//!
//! ```text
//! core module   telos-engine-js for wasm32-unknown-unknown, by rustc and clang     target/wasm32-unknown-unknown/guest
//! engine        pre-initialised, with templates, by telos-engine-build             target/js-engine
//! comparison    with the engine on record, where the compilers are those on record host/forge/engine-js/engine.toml
//! ```
//! Bytes say nothing of where they were built: paths are taken out of what the compilers put in. Other compilers make
//! another engine, which works as well under a name of its own; the phase says so and what to do about it. What was
//! made of the same sources is not made again, and a file is rewritten only when its bytes change.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::guests::write_if_changed;
use crate::phase::{Phases, ask, execute, is_ci};
use crate::setup::{self, Compiler, Tools};
use crate::workspace::Workspace;

/// The target that the engine's core module is built for.
pub(crate) const ENGINE_TARGET: &str = "wasm32-unknown-unknown";

const CORE: &str = "telos-engine-js";
const BUILDER: &str = "telos-engine-build";
/// A small one, of any package.
const AN_EXAMPLE: &str = "throughput";
const ON_RECORD: &str = "host/forge/engine-js/engine.toml";
const RECORD_HEAD: &str = "\
# The engine that `cargo xtask engine` builds with these compilers. Others build another one, under another name.
# After a change of the engine: `cargo xtask engine --record`.
";
/// What the builder reads besides the core module.
const INPUTS: [&str; 4] = ["Cargo.lock", "host/forge/engine-build", "host/forge/engine-js/wit", "wit"];

/// Options of `engine`.
#[derive(Default, clap::Args)]
pub(crate) struct Options {
    /// Write down that this engine is the one to be built from now on.
    #[arg(long)]
    record: bool,
}

/// For which build of a host the engine is made: its builder then shares what was or will be compiled for that host.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// Whatever a plain cargo command means.
    Tests,
    /// A release, with this package and its features.
    Release(&'static str, Option<&'static str>),
}

/// The engine on record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnRecord {
    pub(crate) clang: String,
    rustc: String,
    engine: String,
    templates: String,
}

/// How an engine is not the one on record.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    says: String,
    /// Whether the compilers are those on record.
    is_unexplained: bool,
}

/// What the builder says of what it built.
#[derive(Deserialize)]
struct Built {
    name: String,
    blake3: String,
    bytes: u64,
    templates_blake3: String,
}

/// Two phases, tools and engine, before a release of a host is built. A host without an engine does everything else, so
/// a missing compiler is an error only in CI.
///
/// # Errors
/// As [`build`].
pub(crate) fn for_release(
    workspace: &Workspace,
    phases: &mut Phases,
    tools: &Tools,
    package: &'static str,
    feature: Option<&'static str>,
) -> Result<()> {
    let prepared = phases.run("engine tools", || match setup::prepare_engine_tools(workspace) {
        Err(error) if is_ci() => Err(error),
        prepared => Ok(prepared),
    })?;
    match prepared {
        Ok(compiler) => {
            let beside = Beside::Release(package, feature);
            phases.run("engine", || build(workspace, tools, &compiler, beside))
        }
        Err(error) => {
            phases.skip("engine", &format!("{error:#}; this host makes no behaviours in JavaScript"));
            Ok(())
        }
    }
}

/// Builds the engine beside this build of a host, and says when it is not the one on record.
///
/// # Errors
/// When it does not build; in CI also when the compilers on record made another engine.
pub(crate) fn build(workspace: &Workspace, tools: &Tools, compiler: &Compiler, beside: Beside) -> Result<()> {
    let found = built(workspace, tools, compiler, beside)?;
    match OnRecord::read(&workspace.root)?.difference(&found) {
        Some(Difference { says, is_unexplained: true }) if is_ci() => bail!(says),
        Some(Difference { says, .. }) => eprintln!("  {says}"),
        None => {}
    }
    Ok(())
}

/// As [`build`], and does what the options say.
///
/// # Errors
/// As [`build`], and when the record cannot be written.
pub(crate) fn run(
    workspace: &Workspace,
    tools: &Tools,
    compiler: &Compiler,
    options: &Options,
) -> Result<()> {
    if !options.record {
        return build(workspace, tools, compiler, Beside::Tests);
    }
    let found = built(workspace, tools, compiler, Beside::Tests)?;
    let text = toml::to_string(&found).context("cannot write the record as TOML")?;
    write_if_changed(&workspace.root.join(ON_RECORD), format!("{RECORD_HEAD}{text}").as_bytes())
}

/// Clippy of the engine as it is built for wasm, and of what builds it; warnings denied.
///
/// # Errors
/// When there is a warning.
pub(crate) fn clippy(workspace: &Workspace, tools: &Tools, compiler: &Compiler) -> Result<()> {
    let mut core =
        tools.cargo(["clippy", "--profile", "guest", "--target", ENGINE_TARGET, "--package", CORE]);
    compiler.tell(&mut core);
    // As it is built, so that its dependencies are compiled once.
    core.env("CARGO_ENCODED_RUSTFLAGS", without_paths(&workspace.root, &Rustc::ask()?)?);
    execute(core.args(["--", "-D", "warnings"]))?;
    let mut builder = tools.cargo(["clippy", "--bin", BUILDER, "--package", BUILDER]);
    beside_tests(workspace, &mut builder);
    execute(builder.args(["--", "-D", "warnings"]))
}

fn built(workspace: &Workspace, tools: &Tools, compiler: &Compiler, beside: Beside) -> Result<OnRecord> {
    let rustc = Rustc::ask()?;
    let core = build_core(workspace, tools, compiler, &rustc)?;
    let out = workspace.engine();
    let made_of = made_of(&workspace.root, &core, &[&compiler.version, &rustc.version])?;
    if !is_made_of(&out, &made_of) {
        let builder = build_builder(workspace, tools, beside)?;
        let mut command = Command::new(builder);
        command.arg(&core).arg(workspace.root.join("wit")).arg(&out);
        execute(command.args([&compiler.version, &rustc.version]))?;
        write_if_changed(&out.join("made-of"), made_of.as_bytes())?;
    }
    let built = Built::read(&out)?;
    eprintln!(
        "  {:.23}, {} KiB, by {} and rustc {}",
        built.name,
        built.bytes >> 10,
        compiler.version,
        rustc.version
    );
    Ok(OnRecord {
        clang: compiler.number().to_owned(),
        rustc: rustc.version,
        engine: built.blake3,
        templates: built.templates_blake3,
    })
}

fn build_core(workspace: &Workspace, tools: &Tools, compiler: &Compiler, rustc: &Rustc) -> Result<PathBuf> {
    let mut command =
        tools.cargo(["build", "--profile", "guest", "--target", ENGINE_TARGET, "--package", CORE]);
    compiler.tell(&mut command);
    command.env("CARGO_ENCODED_RUSTFLAGS", without_paths(&workspace.root, rustc)?);
    execute(&mut command)?;
    let file = CORE.replace('-', "_");
    Ok(workspace.target.join(ENGINE_TARGET).join("guest").join(file).with_extension("wasm"))
}

/// The builder is selected with the packages that the host is built of, so that both have the same features of what
/// they share, and wasmtime is compiled once.
fn build_builder(workspace: &Workspace, tools: &Tools, beside: Beside) -> Result<PathBuf> {
    let mut command = tools.cargo(["build", "--bin", BUILDER, "--package", BUILDER]);
    let profile = match beside {
        Beside::Tests => {
            beside_tests(workspace, &mut command);
            "debug"
        }
        Beside::Release(package, feature) => {
            command.args(["--release", "--package", package]);
            command.args(feature.map(|feature| format!("--features={package}/{feature}")));
            "release"
        }
    };
    execute(&mut command)?;
    Ok(workspace.target.join(profile).join(format!("{BUILDER}{}", std::env::consts::EXE_SUFFIX)))
}

/// Selects what tests are built of. Only where an example is asked for too does cargo count the features that tests need.
fn beside_tests(workspace: &Workspace, command: &mut Command) {
    for package in workspace.default_packages() {
        command.args(["--package", &package.name]);
    }
    command.args(["--example", AN_EXAMPLE]);
}

/// Flags by which rustc writes down no path of this machine, separated as cargo wants them.
fn without_paths(root: &Path, rustc: &Rustc) -> Result<OsString> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("cannot tell where cargo keeps sources: set CARGO_HOME")?;
    let library = rustc.sysroot.join("lib/rustlib/src/rust");
    let mut flags = OsString::new();
    for (from, to) in [
        (root, "/telos".to_owned()),
        (home.as_path(), "/cargo".to_owned()),
        (library.as_path(), format!("/rustc/{}", rustc.commit)),
    ] {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// A digest of everything that the engine is made of.
fn made_of(root: &Path, core: &Path, versions: &[&str]) -> Result<String> {
    let mut files = vec![core.to_owned()];
    for input in INPUTS {
        collect(&root.join(input), &mut files)?;
    }
    files[1..].sort();
    let mut digest = blake3::Hasher::new();
    for file in &files {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(Path::new("core"));
        digest.update(format!("{}\n{}\n", name.display(), bytes.len()).as_bytes()).update(&bytes);
    }
    digest.update(versions.join("\n").as_bytes());
    Ok(digest.finalize().to_hex().to_string())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        collect(&entry.with_context(|| format!("cannot read {}", path.display()))?.path(), files)?;
    }
    Ok(())
}

fn is_made_of(out: &Path, made_of: &str) -> bool {
    fs::read_to_string(out.join("made-of")).is_ok_and(|found| found == made_of) && Built::read(out).is_ok()
}

/// The compiler of the engine's Rust.
struct Rustc {
    version: String,
    commit: String,
    sysroot: PathBuf,
}

impl Rustc {
    fn ask() -> Result<Self> {
        let told = ask("rustc", &["--version", "--verbose"]).context("rustc does not say its version")?;
        let line = |key: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            line.map(str::to_owned).with_context(|| format!("rustc does not say its {key}"))
        };
        let sysroot = ask("rustc", &["--print", "sysroot"]).context("rustc does not say where it is")?;
        Ok(Self { version: line("release")?, commit: line("commit-hash")?, sysroot: sysroot.into() })
    }
}

impl Built {
    fn read(out: &Path) -> Result<Self> {
        let path = out.join("engine.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of an engine", path.display()))
    }
}

impl OnRecord {
    /// # Errors
    /// When there is no record, or it cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(ON_RECORD);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no record of an engine", path.display()))
    }

    fn difference(&self, found: &Self) -> Option<Difference> {
        if (&found.clang, &found.rustc) != (&self.clang, &self.rustc) {
            return Some(Difference { says: self.other_compilers(found), is_unexplained: false });
        }
        (self != found).then(|| Difference {
            says: format!(
                "this is not the engine on record, though the compilers are; if the engine was changed on purpose: \
                 `cargo xtask engine --record`, and commit {ON_RECORD}"
            ),
            is_unexplained: true,
        })
    }

    fn other_compilers(&self, found: &Self) -> String {
        let Self { clang, rustc, .. } = self;
        format!(
            "this engine is of clang {} and rustc {}, and the one on record of clang {clang} and rustc {rustc}: it works \
             as well, under a name of its own, and a host with the other one does not take behaviours that were made for \
             it; for the one on record: `apt-get install clang-{major} llvm-{major}` and `rustup toolchain install \
             {rustc}`, then `RUSTUP_TOOLCHAIN={rustc} cargo xtask engine`",
            found.clang,
            found.rustc,
            major = clang.split('.').next().unwrap_or(clang),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_record() -> OnRecord {
        let [clang, rustc, engine, templates] = ["14.0.6", "1.95.0", "aa", "bb"].map(str::to_owned);
        OnRecord { clang, rustc, engine, templates }
    }

    #[test]
    fn an_engine_of_other_compilers_is_told_with_the_way_to_the_one_on_record() {
        assert_eq!(on_record().difference(&on_record()), None);
        let other = OnRecord { clang: "19.1.7".into(), engine: "cc".into(), ..on_record() };
        let Difference { says: said, is_unexplained } = on_record().difference(&other).unwrap();
        assert!(
            !is_unexplained
                && said.contains("of clang 19.1.7")
                && said.contains("`apt-get install clang-14 llvm-14`"),
            "{said}"
        );
        let other = OnRecord { rustc: "1.96.0".into(), ..on_record() };
        assert!(on_record().difference(&other).unwrap().says.contains("RUSTUP_TOOLCHAIN=1.95.0"));
    }

    #[test]
    fn another_engine_or_other_templates_of_the_same_compilers_are_told() {
        for other in [
            OnRecord { engine: "cc".into(), ..on_record() },
            OnRecord { templates: "cc".into(), ..on_record() },
        ] {
            let said = on_record().difference(&other).unwrap();
            assert!(said.is_unexplained && said.says.contains("cargo xtask engine --record"), "{said:?}");
        }
    }

    #[test]
    fn the_record_of_this_checkout_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found = OnRecord::read(&root).unwrap();
        assert!(found.engine.len() == 64 && found.templates.len() == 64, "{found:?}");
    }

    #[test]
    fn whatever_changes_among_the_inputs_makes_the_engine_anew() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for input in INPUTS {
            fs::create_dir_all(root.join(input)).unwrap();
            fs::write(root.join(input).join("file"), input).unwrap();
        }
        let core = root.join("core.wasm");
        fs::write(&core, "core").unwrap();
        let mut seen = vec![made_of(root, &core, &["a", "b"]).unwrap()];
        assert_eq!(made_of(root, &core, &["a", "b"]).unwrap(), seen[0]);
        seen.push(made_of(root, &core, &["a", "c"]).unwrap());
        for file in INPUTS.iter().map(|input| root.join(input).join("file")).chain([core.clone()]) {
            fs::write(file, "changed").unwrap();
            seen.push(made_of(root, &core, &["a", "b"]).unwrap());
        }
        let mut distinct = seen.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), seen.len());
    }
}
