//! Embeds the JavaScript engine that `cargo xtask engine` built: `$TELOS_ENGINE_JS`, or `js-engine` in the target
//! directory. A host that is built without one says so when it is asked to forge.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=TELOS_ENGINE_JS");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let directory = std::env::var_os("TELOS_ENGINE_JS").map(PathBuf::from).or_else(|| built_beside(&out));
    let text = directory.and_then(|directory| embedded(&directory)).unwrap_or_else(|| "None".into());
    if let Err(error) = std::fs::write(out.join("engine.rs"), text) {
        println!("cargo::error=the embedded engine cannot be written: {error}");
    }
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

fn embedded(directory: &Path) -> Option<String> {
    let record = std::fs::read_to_string(directory.join("engine.json")).ok()?;
    let record: serde_json::Value = serde_json::from_str(&record).ok()?;
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
