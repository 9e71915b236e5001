//! `plugin.*`: what serves, and how that changes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Call, Effect, RpcError};
use telos_forge::{Form, WholeError, self_contained};
use telos_kernel::inbox::{self, Candidate};
use telos_kernel::{Granting, InstallRequest, Swapped, Swapping};
use telos_store::Digest;

use super::audit::newest;
use super::{Methods, invalid, params, swap_error};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Install {
    path: PathBuf,
    grant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Swap {
    id: String,
    to: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    no_return: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grants {
    id: String,
    interfaces: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    id: String,
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lift {
    id: String,
    release: String,
}

/// Decisions of one history: the newest.
const HISTORY_ROWS: usize = 1_000;

impl Methods {
    pub(super) fn plugin_list(&self) -> Result<Value, RpcError> {
        let plugins = self.kernel.plugins().map_err(swap_error)?;
        Ok(json!({ "plugins": plugins, "inbox": self.arrivals.entries() }))
    }

    pub(super) fn plugin_info(&self, named: Named) -> Result<Value, RpcError> {
        self.kernel.plugin(&named.id).map_err(swap_error)
    }

    pub(super) async fn plugin_check(&self, at: At) -> Result<Value, RpcError> {
        let candidate = read(at.path.clone()).await?;
        let request = request(&at.path, &candidate);
        let checked = self.kernel.check(candidate.bytes, request).await.map_err(swap_error)?;
        Ok(json!(checked))
    }

    pub(super) async fn plugin_install(&self, call: &Call) -> Result<Value, RpcError> {
        let install: Install = params(call)?;
        let kernel = self.deciding(call);
        // Before the file is read: it need not be there any more.
        if let Some(swapped) = kernel.installed_before().map_err(swap_error)? {
            return Ok(json!(swapped));
        }
        let grants = match install.grant.as_deref() {
            None => Granting::Nothing,
            Some("all") => Granting::All,
            Some(other) => return Err(invalid(format!("grant is `all` or nothing, not `{other}`"))),
        };
        let candidate = read(install.path.clone()).await?;
        let request = InstallRequest { grants, ..request(&install.path, &candidate) };
        let installed = kernel.install(candidate.bytes, request).await;
        installed.map(|swapped| json!(swapped)).map_err(swap_error)
    }

    pub(super) async fn plugin_swap(&self, call: &Call) -> Result<Value, RpcError> {
        let swap: Swap = params(call)?;
        let how = Swapping { force: swap.force, no_return: swap.no_return };
        let swapped = self.deciding(call).swap_so(&swap.id, swap.to, how).await;
        swapped.map(|swapped| json!(swapped)).map_err(swap_error)
    }

    pub(super) async fn plugin_rollback(&self, call: &Call) -> Result<Value, RpcError> {
        let named: Named = params(call)?;
        let swapped = self.deciding(call).rollback(&named.id).await;
        swapped.map(|swapped| json!(swapped)).map_err(swap_error)
    }

    pub(super) async fn plugin_remove(&self, call: &Call) -> Result<Value, RpcError> {
        let named: Named = params(call)?;
        let position = self.deciding(call).remove(&named.id).await.map_err(swap_error)?;
        Ok(json!({ "id": named.id, "position": position }))
    }

    /// The newest decisions about a plugin, in the order in which they were made.
    pub(super) fn plugin_history(&self, named: Named) -> Result<Value, RpcError> {
        self.kernel.plugin(&named.id).map_err(swap_error)?;
        let events = newest(&self.store, 0, u64::MAX, HISTORY_ROWS, Some(&named.id))?;
        Ok(json!({ "events": events }))
    }

    pub(super) async fn plugin_grant(&self, call: &Call) -> Result<Value, RpcError> {
        let asked: Grants = params(call)?;
        let granted = self.deciding(call).grant(&asked.id, asked.interfaces).await.map_err(swap_error)?;
        self.granted(&asked.id, granted)
    }

    pub(super) async fn plugin_revoke(&self, call: &Call) -> Result<Value, RpcError> {
        let asked: Grants = params(call)?;
        let position = self.deciding(call).revoke(&asked.id, asked.interfaces).await.map_err(swap_error)?;
        let mut answer = self.granted(&asked.id, None)?;
        answer["position"] = position.into();
        Ok(answer)
    }

    /// Totals, and when they were read, by a clock that only tells differences.
    pub(super) fn plugin_top(&self) -> Value {
        json!({
            "at_us": self.started.elapsed().as_micros(),
            "plugins": self.kernel.usage(),
            "loaded_releases": self.kernel.loaded_releases(),
        })
    }

    pub(super) fn plugin_quarantine(&self) -> Result<Value, RpcError> {
        let builds = self.kernel.quarantine().map_err(swap_error)?;
        Ok(json!({ "builds": builds }))
    }

    pub(super) async fn plugin_lift(&self, call: &Call) -> Result<Value, RpcError> {
        let lift: Lift = params(call)?;
        let lifted = self.deciding(call).lift_quarantine(&lift.id, lift.release).await;
        let (build, position) = lifted.map_err(swap_error)?;
        Ok(json!({ "id": build.id, "version": build.version, "digest": build.digest, "position": position }))
    }

    /// Writes a file that any host of the contract takes for the release that serves. What is there already stays.
    pub(super) async fn plugin_export(&self, export: Export) -> Result<Value, RpcError> {
        let Export { id, path } = export;
        if !path.is_absolute() {
            return Err(invalid(format!("{} is not an absolute path", path.display())));
        }
        let (version, component) = self.kernel.component(&id).map_err(swap_error)?;
        if path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
        let made = self_contained(&self.kernel, component).await;
        let (form, bytes) = made.map_err(|error| not_exported(&id, &version, &error))?;
        let told = json!({
            "id": id,
            "version": version,
            "path": path,
            "bytes": bytes.len(),
            "digest": Digest::of(&bytes).to_string(),
            "has_engine": form == Form::Whole,
        });
        let written = tokio::task::spawn_blocking(move || write_new(&path, &bytes)).await;
        written.map_err(|error| RpcError::new("host", Effect::Unknown, error.to_string()))??;
        Ok(told)
    }

    fn granted(&self, id: &str, activated: Option<Swapped>) -> Result<Value, RpcError> {
        let row = self.kernel.plugin(id).map_err(swap_error)?;
        Ok(json!({
            "id": id,
            "grants": row["grants"],
            "missing_grants": row["missing_grants"],
            "state": row["state"],
            "version": row["version"],
            "position": activated.map(|swapped| swapped.position),
        }))
    }
}

/// A file that was not there: whole, or absent.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), RpcError> {
    let unwritten = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => RpcError::new("io", Effect::None, format!("{} cannot be written: {error}", path.display()))
            .with_next("name a file in a directory that is there and has room"),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(unwritten)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        unwritten(error)
    })
}

fn exists(path: &Path) -> RpcError {
    let there = format!("{} is there already, and nothing is written over", path.display());
    RpcError::new("exists", Effect::None, there).with_next("name another file with --output FILE")
}

fn not_exported(id: &str, version: &str, error: &WholeError) -> RpcError {
    let kind = match error {
        WholeError::NoEngine(_) => "no-engine",
        _ => "export",
    };
    RpcError::new(kind, Effect::None, format!("{id} {version} cannot be exported: {error}"))
}

/// What an operator asks for who names a path.
pub(super) fn request(path: &Path, candidate: &Candidate) -> InstallRequest {
    InstallRequest::of(path.display().to_string(), candidate.manifest.as_ref())
}

pub(super) async fn read(path: PathBuf) -> Result<Candidate, RpcError> {
    let reading = tokio::task::spawn_blocking(move || inbox::read_path(&path)).await;
    match reading {
        Ok(candidate) => candidate.map_err(|error| invalid(error.to_string())),
        Err(error) => Err(invalid(error.to_string())),
    }
}
