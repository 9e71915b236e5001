//! Guests: every component of `plugins/` and `tests/guests/`, and the bundle of default plugins.
//!
//! ```text
//! target/guests/<package>.wasm                        one per guest
//! target/guests/bundle/<package>.wasm, bundle.toml    what `telos up` installs, pinned by digest
//! ```
//! A file is rewritten only when its bytes change, so a second run leaves every time stamp as it was.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::phase;
use crate::workspace::{Package, Workspace};

/// The target that guests are built for.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// Packages of the default bundle, in order of installation.
const BUNDLED: [&str; 2] = ["counter", "babs"];

/// The bundle's index: each file pinned by its digest, with the grants it gets without being asked.
#[derive(Debug, Default, Serialize)]
struct Bundle {
    plugin: Vec<BundledPlugin>,
}

#[derive(Debug, Serialize)]
struct BundledPlugin {
    file: String,
    digest: String,
    grants: Vec<String>,
}

/// The part of `plugin.toml` that the bundle copies; the host checks the rest.
#[derive(Debug, Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    grants: Vec<String>,
}

/// The guests of the workspace: members below the two guest folders that build a component.
pub(crate) fn packages(workspace: &Workspace) -> Vec<&Package> {
    ["plugins", "tests/guests"]
        .into_iter()
        .flat_map(|folder| workspace.packages_below(folder))
        .filter(|package| package.component().is_some())
        .collect()
}

/// Builds every guest, copies each under its package name and writes the bundle.
///
/// # Errors
/// When a guest does not build, or a file cannot be read or written; the message names it.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let packages = packages(workspace);
    if !packages.is_empty() {
        phase::execute(&mut cargo_build(&packages))?;
    }
    for package in &packages {
        copy_component(workspace, package)?;
    }
    write_bundle(workspace, &packages)?;
    Ok(workspace.guests())
}

/// Folder of the default bundle.
pub(crate) fn bundle(workspace: &Workspace) -> PathBuf {
    workspace.guests().join("bundle")
}

/// Copies a file, by way of a temporary name, unless the same bytes are there.
///
/// # Errors
/// When either side cannot be read or written; the message names it.
pub(crate) fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write_if_changed(to, &bytes)
}

/// Writes a file, by way of a temporary name, unless it has these bytes.
///
/// # Errors
/// When it cannot be written; the message names it.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    fs::write(&beside, bytes).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("cannot move a new file to {}", path.display()))
}

fn cargo_build(packages: &[&Package]) -> std::process::Command {
    let mut command = phase::cargo(["build", "--target", WASM_TARGET, "--profile", "guest"]);
    for package in packages {
        command.args(["--package", &package.name]);
    }
    command
}

fn copy_component(workspace: &Workspace, package: &Package) -> Result<()> {
    let Some(component) = package.component() else {
        return Ok(());
    };
    let built = workspace.target.join(WASM_TARGET).join("guest").join(component).with_extension("wasm");
    copy_if_changed(&built, &workspace.guests().join(file_name(package)))
}

fn write_bundle(workspace: &Workspace, packages: &[&Package]) -> Result<()> {
    let mut bundle_index = Bundle::default();
    for name in BUNDLED {
        match packages.iter().find(|package| package.name == name) {
            Some(package) => bundle_index.plugin.push(bundle_plugin(workspace, package)?),
            None => eprintln!("  {name}: builds no component yet, so it is not in the bundle"),
        }
    }
    let text = toml::to_string(&bundle_index).context("cannot write the bundle's index as TOML")?;
    write_if_changed(&bundle(workspace).join("bundle.toml"), text.as_bytes())
}

fn bundle_plugin(workspace: &Workspace, package: &Package) -> Result<BundledPlugin> {
    let file = file_name(package);
    let component = workspace.guests().join(&file);
    let bytes = fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
    write_if_changed(&bundle(workspace).join(&file), &bytes)?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    Ok(BundledPlugin { file, digest, grants: read_grants(package)? })
}

fn read_grants(package: &Package) -> Result<Vec<String>> {
    let path = package.folder().join("plugin.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("{} is not a plugin manifest", path.display()))?;
    Ok(manifest.grants)
}

fn file_name(package: &Package) -> String {
    format!("{}.wasm", package.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_leave_the_file_alone_and_new_bytes_replace_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/counter.wasm");
        write_if_changed(&path, b"one").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        write_if_changed(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        write_if_changed(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no partial file stays");
    }

    #[test]
    fn the_index_lists_each_plugin_as_a_table() {
        let plugin =
            BundledPlugin { file: "a.wasm".into(), digest: "00".into(), grants: vec!["vectors".into()] };
        let text = toml::to_string(&Bundle { plugin: vec![plugin] }).unwrap();
        assert_eq!(text, "[[plugin]]\nfile = \"a.wasm\"\ndigest = \"00\"\ngrants = [\"vectors\"]\n");
    }
}
