//! What the workspace holds, as `cargo metadata` tells it: paths and packages, never guesses.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::phase;

/// The workspace of this checkout.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// Where the root `Cargo.toml` is.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where cargo builds: `target`, unless `CARGO_TARGET_DIR` says otherwise.
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    /// The members, in cargo's order.
    pub(crate) packages: Vec<Package>,
    #[serde(rename = "workspace_default_members")]
    default_members: Vec<String>,
}

/// One member of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Name as cargo knows it.
    pub(crate) name: String,
    id: String,
    manifest_path: PathBuf,
    features: serde_json::Map<String, serde_json::Value>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    /// Reads the workspace that holds this crate; no network.
    ///
    /// # Errors
    /// When cargo cannot read the manifests; cargo's own words are on stderr by then.
    pub(crate) fn read() -> Result<Workspace> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let output = phase::cargo(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` cannot read {}", manifest.display());
        }
        let workspace: Workspace =
            serde_json::from_slice(&output.stdout).context("`cargo metadata` answered no workspace")?;
        std::env::set_current_dir(&workspace.root)
            .with_context(|| format!("cannot enter {}", workspace.root.display()))?;
        Ok(workspace)
    }

    /// The member of that name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The members that a plain cargo command means.
    pub(crate) fn default_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.default_members.contains(&package.id))
    }

    /// Members below `folder` (a path inside the root).
    pub(crate) fn packages_below(&self, folder: &str) -> impl Iterator<Item = &Package> {
        let folder = self.root.join(folder);
        self.packages.iter().filter(move |package| package.folder().starts_with(&folder))
    }

    /// Where finished guest components lie.
    pub(crate) fn guests(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// Where the JavaScript engine lies once it is built.
    pub(crate) fn engine(&self) -> PathBuf {
        self.target.join("js-engine")
    }

    /// Where models lie: `TELOS_MODELS_DIR`, else `models` in the checkout, which git ignores.
    pub(crate) fn models(&self) -> PathBuf {
        std::env::var_os("TELOS_MODELS_DIR").map_or_else(|| self.root.join("models"), PathBuf::from)
    }
}

impl Package {
    /// The folder of its `Cargo.toml`.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// Whether it declares the cargo feature.
    pub(crate) fn has_feature(&self, feature: &str) -> bool {
        self.features.contains_key(feature)
    }

    /// Name of its `cdylib` target with dashes as underscores, as in the built file; `None` without one.
    pub(crate) fn component(&self) -> Option<String> {
        self.targets_of("cdylib").next().map(|name| name.replace('-', "_"))
    }

    /// Names of its binaries.
    pub(crate) fn binaries(&self) -> impl Iterator<Item = &str> {
        self.targets_of("bin")
    }

    fn targets_of(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.targets
            .iter()
            .filter(move |target| target.kind.iter().any(|found| found == kind))
            .map(|target| target.name.as_str())
    }
}
