//! Embeds the JavaScript engine that `cargo xtask engine` built: `$TELOS_ENGINE_JS`, or `js-engine` in the target
//! directory. A host that is built without one says so when it is asked to forge.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the engine of these sources is, by the compilers that it names.
const ON_RECORD: &str = "engine-js/engine.toml";

fn main() {
    println!("cargo::rerun-if-env-changed=TELOS_ENGINE_JS");
    println!("cargo::rerun-if-changed={ON_RECORD}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let directory = std::env::var_os("TELOS_ENGINE_JS").map(PathBuf::from).or_else(|| built_beside(&out));
    let record = directory.as_deref().and_then(record);
    let embedded = directory.as_deref().zip(record.as_ref());
    let text = embedded.and_then(|(directory, record)| embed(directory, record));
    if let Some(warning) = warning(directory.as_deref(), record.as_ref().filter(|_| text.is_some())) {
        println!("cargo::warning={warning}");
    }
    if let Err(error) = std::fs::write(out.join("engine.rs"), text.unwrap_or_else(|| "None".into())) {
        println!("cargo::error=the embedded engine cannot be written: {error}");
    }
}

/// A host without an engine, or with an earlier one, works; but nobody should have one unawares.
fn warning(directory: Option<&Path>, record: Option<&serde_json::Value>) -> Option<String> {
    let none = "this host will neither make nor run behaviours in JavaScript; run `cargo xtask engine` and build again";
    match (directory, record) {
        (None, _) => Some(format!("there is no JavaScript engine yet: {none}")),
        (Some(directory), None) => Some(format!("there is no JavaScript engine in {}: {none}", directory.display())),
        (Some(directory), Some(record)) => is_outdated(record).then(|| {
            let place = directory.display();
            format!("the JavaScript engine in {place} is of other sources than these; run `cargo xtask engine` and build again")
        }),
    }
}

/// Whether the compilers on record made this engine, and not the engine on record.
fn is_outdated(record: &serde_json::Value) -> bool {
    let on_record = std::fs::read_to_string(ON_RECORD).unwrap_or_default();
    let told = |key: &str| {
        let mut lines = on_record.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        lines.next().map(|value| value.trim_matches('"').to_owned())
    };
    let found = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let is_theirs = told("clang")
        .is_some_and(|clang| found("c_compiler").split(' ').any(|word| word == clang))
        && told("rustc") == Some(found("rustc"));
    is_theirs
        && (told("engine"), told("templates")) != (Some(found("blake3")), Some(found("templates_blake3")))
}

/// The engine in the target directory, of which `out` is part. Where there is none yet, this runs again until there is.
fn built_beside(out: &Path) -> Option<PathBuf> {
    let places: Vec<PathBuf> = out.ancestors().map(|place| place.join("js-engine")).collect();
    let found = places.iter().find(|place| place.join("engine.json").is_file());
    // out is build/<package>/out of a profile of the target directory.
    let watched = found.or(places.get(4))?;
    println!("cargo::rerun-if-changed={}", watched.join("engine.json").display());
    found.cloned()
}

fn record(directory: &Path) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(directory.join("engine.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn embed(directory: &Path, record: &serde_json::Value) -> Option<String> {
    let bytes = |file: &str| format!("include_bytes!({:?})", directory.join(file));
    let mut templates = String::new();
    for template in record["templates"].as_array()? {
        let uses: Vec<&str> = template["uses"].as_array()?.iter().filter_map(|name| name.as_str()).collect();
        write!(
            templates,
            "Template {{ bytes: {}, uses: &{uses:?}, modules: {}, engine: {} }},",
            bytes(template["file"].as_str()?),
            template["modules"],
            template["engine"],
        )
        .ok()?;
    }
    Some(format!(
        "Some(Engine {{ name: {:?}, c_compiler: {:?}, rustc: {:?}, module: {}, templates: &[{templates}] }})",
        record["name"].as_str()?,
        record["c_compiler"].as_str()?,
        record["rustc"].as_str()?,
        bytes("engine.wasm"),
    ))
}
