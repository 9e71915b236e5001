//! `telos-engine-build ENGINE.wasm WIT OUT C-COMPILER RUSTC`: from the engine as cargo builds it to what the host carries.
//!
//! ```text
//! pre-initialise   run `wizer-initialize`, keep the memory it leaves       OUT/engine.wasm
//! encode           a component over it, for each set of interfaces
//! thin             the module inside becomes an import                     OUT/template-<set>.wasm
//! record           hashes and versions                                     OUT/engine.json
//! ```
//! A behaviour's component is a template with its source behind it; making one needs none of this. Files are written
//! anew only when their bytes change, and the record last: it names nothing that is not there.

mod encode;
mod sets;
mod thin;
mod wizen;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [core, wit, out, c_compiler, rustc] = &arguments[..] else {
        bail!("usage: telos-engine-build ENGINE.wasm WIT-DIRECTORY OUT-DIRECTORY C-COMPILER RUSTC");
    };
    build(Path::new(core), Path::new(wit), Path::new(out), &Compilers { c: c_compiler, rust: rustc })
}

/// What the engine was compiled with, as the compilers call themselves.
struct Compilers<'a> {
    c: &'a str,
    rust: &'a str,
}

fn build(core: &Path, wit: &Path, out: &Path, compilers: &Compilers<'_>) -> Result<()> {
    let raw = std::fs::read(core).with_context(|| format!("cannot read {}", core.display()))?;
    let engine = encode::without_metadata(&wizen::pre_initialised(&raw)?)?;
    let hash = blake3::hash(&engine).to_hex().to_string();
    let name = format!("js-engine-h{hash}");
    let (mut templates, mut all) = (Vec::new(), blake3::Hasher::new());
    for set in sets::all() {
        let whole = encode::component(&engine, wit, &set)?;
        let thin = thin::importing(&whole, &engine, &name)?;
        let file = format!("template-{}.wasm", sets::name(&set));
        templates.push(json!({ "file": file, "uses": set, "modules": thin.modules, "engine": thin.engine }));
        all.update(&thin.bytes);
        write_if_changed(&out.join(file), &thin.bytes)?;
    }
    write_if_changed(&out.join("engine.wasm"), &engine)?;
    let record = json!({
        "name": name, "blake3": hash, "bytes": engine.len(), "c_compiler": compilers.c, "rustc": compilers.rust,
        "templates_blake3": all.finalize().to_hex().to_string(), "templates": templates,
    });
    write_if_changed(&out.join("engine.json"), serde_json::to_string_pretty(&record)?.as_bytes())
}

/// By way of a temporary name, so that nobody reads half a file.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot move a new file to {}", path.display()))
}
