//! `plugin.*`: what serves, and how that changes.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::RpcError;
use telos_kernel::inbox::{self, Candidate};
use telos_kernel::{Granting, InstallRequest, Swapped};

use super::audit::newest;
use super::{Methods, invalid, swap_error};

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
pub(super) struct Install {
    path: PathBuf,
    grant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Swap {
    id: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grants {
    id: String,
    interfaces: Vec<String>,
}

/// Audit rows read for one history.
const HISTORY_ROWS: usize = 1_000;

impl Methods {
    pub(super) fn plugin_list(&self) -> Result<Value, RpcError> {
        let plugins = self.kernel.plugins().map_err(|error| swap_error(&error))?;
        Ok(json!({ "plugins": plugins, "inbox": self.arrivals.entries() }))
    }

    pub(super) fn plugin_info(&self, named: Named) -> Result<Value, RpcError> {
        self.kernel.plugin(&named.id).map_err(|error| swap_error(&error))
    }

    pub(super) async fn plugin_check(&self, at: At) -> Result<Value, RpcError> {
        let candidate = read(at.path.clone()).await?;
        let limits = candidate.manifest.as_ref().map(|manifest| manifest.limits).unwrap_or_default();
        let source = at.path.display().to_string();
        let checked =
            self.kernel.check(candidate.bytes, source, limits).await.map_err(|error| swap_error(&error))?;
        Ok(json!(checked))
    }

    pub(super) async fn plugin_install(&self, install: Install) -> Result<Value, RpcError> {
        let grants = match install.grant.as_deref() {
            None => Granting::Nothing,
            Some("all") => Granting::All,
            Some(other) => return Err(invalid(format!("grant is `all` or nothing, not `{other}`"))),
        };
        let candidate = read(install.path.clone()).await?;
        let request = InstallRequest {
            source: install.path.display().to_string(),
            manifest_id: candidate.manifest.as_ref().map(|manifest| manifest.id.clone()),
            limits: candidate.manifest.as_ref().map(|manifest| manifest.limits).unwrap_or_default(),
            grants,
            ..InstallRequest::default()
        };
        let installed = self.kernel.install(candidate.bytes, request).await;
        installed.map(|swapped| json!(swapped)).map_err(|error| swap_error(&error))
    }

    pub(super) async fn plugin_swap(&self, swap: Swap) -> Result<Value, RpcError> {
        let swapped = self.kernel.swap(&swap.id, swap.to).await;
        swapped.map(|swapped| json!(swapped)).map_err(|error| swap_error(&error))
    }

    pub(super) async fn plugin_rollback(&self, named: Named) -> Result<Value, RpcError> {
        let swapped = self.kernel.rollback(&named.id).await;
        swapped.map(|swapped| json!(swapped)).map_err(|error| swap_error(&error))
    }

    pub(super) async fn plugin_remove(&self, named: Named) -> Result<Value, RpcError> {
        let position = self.kernel.remove(&named.id).await.map_err(|error| swap_error(&error))?;
        Ok(json!({ "id": named.id, "position": position }))
    }

    pub(super) fn plugin_history(&self, named: Named) -> Result<Value, RpcError> {
        self.kernel.plugin(&named.id).map_err(|error| swap_error(&error))?;
        let events = newest(&self.store, 0, u64::MAX, HISTORY_ROWS, Some(&named.id))?;
        Ok(json!({ "events": events }))
    }

    pub(super) async fn plugin_grant(&self, asked: Grants) -> Result<Value, RpcError> {
        let granted =
            self.kernel.grant(&asked.id, asked.interfaces).await.map_err(|error| swap_error(&error))?;
        self.granted(&asked.id, granted)
    }

    pub(super) async fn plugin_revoke(&self, asked: Grants) -> Result<Value, RpcError> {
        let position =
            self.kernel.revoke(&asked.id, asked.interfaces).await.map_err(|error| swap_error(&error))?;
        let mut answer = self.granted(&asked.id, None)?;
        answer["position"] = position.into();
        Ok(answer)
    }

    fn granted(&self, id: &str, activated: Option<Swapped>) -> Result<Value, RpcError> {
        let row = self.kernel.plugin(id).map_err(|error| swap_error(&error))?;
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

async fn read(path: PathBuf) -> Result<Candidate, RpcError> {
    let reading = tokio::task::spawn_blocking(move || inbox::read_path(&path)).await;
    reading.unwrap_or_else(|error| Err(error.to_string())).map_err(invalid)
}
