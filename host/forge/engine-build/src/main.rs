//! `telos-engine-build ENGINE.wasm WIT OUT`: from the engine as cargo builds it to what the host carries.
//!
//! ```text
//! pre-initialise   run `wizer-initialize`, keep the memory it leaves       OUT/engine.wasm
//! encode           a component over it, for each set of interfaces
//! thin             the module inside becomes an import                     OUT/template-<set>.wasm
//! record           hashes and versions                                     OUT/engine.json
//! ```
//! A behaviour's component is a template with its source behind it; making one needs none of this.

mod encode;
mod sets;
mod thin;
mod wizen;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [core, wit, out, compiler] = &arguments[..] else {
        bail!("usage: telos-engine-build ENGINE.wasm WIT-DIRECTORY OUT-DIRECTORY C-COMPILER-VERSION");
    };
    build(Path::new(core), Path::new(wit), Path::new(out), compiler)
}

fn build(core: &Path, wit: &Path, out: &Path, compiler: &str) -> Result<()> {
    let raw = std::fs::read(core).with_context(|| format!("cannot read {}", core.display()))?;
    let engine = encode::without_metadata(&wizen::pre_initialised(&raw)?)?;
    let hash = blake3::hash(&engine).to_hex().to_string();
    let name = format!("js-engine-h{hash}");
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let write = |file: &str, bytes: &[u8]| {
        let path = out.join(file);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut templates = Vec::new();
    for set in sets::all() {
        let whole = encode::component(&engine, wit, &set)?;
        let thin = thin::importing(&whole, &engine, &name)?;
        let file = format!("template-{}.wasm", sets::name(&set));
        templates.push(json!({ "file": file, "uses": set, "modules": thin.modules, "engine": thin.engine }));
        write(&file, &thin.bytes)?;
    }
    write("engine.wasm", &engine)?;
    let record = json!({
        "name": name, "blake3": hash, "bytes": engine.len(), "c_compiler": compiler, "templates": templates,
    });
    write("engine.json", serde_json::to_string_pretty(&record)?.as_bytes())
}
