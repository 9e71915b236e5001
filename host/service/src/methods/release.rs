//! `release.*`: several seats at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Call, RpcError};
use telos_kernel::{Granting, InstallRequest, SetRequest};

use super::plugin::{read, request};
use super::{Methods, invalid, params, swap_error};

/// A set, as a client asks for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    /// Paths of new builds.
    #[serde(default)]
    install: Vec<PathBuf>,
    /// `all`: what the new builds import is granted along with them.
    grant: Option<String>,
    /// Kept releases by component: a version, or the start of a digest.
    #[serde(default)]
    swap: BTreeMap<String, String>,
    /// Components whose seats are taken away.
    #[serde(default)]
    remove: Vec<String>,
}

impl Methods {
    pub(super) async fn release_plan(&self, set: Set) -> Result<Value, RpcError> {
        let plan = self.kernel.plan_set(set_request(set).await?).await.map_err(swap_error)?;
        Ok(json!(plan))
    }

    pub(super) async fn release_apply(&self, call: &Call) -> Result<Value, RpcError> {
        let kernel = self.deciding(call);
        // Before files are read: they need not be there any more.
        if let Some(applied) = kernel.applied_before().map_err(swap_error)? {
            return Ok(json!(applied));
        }
        let applied = kernel.apply_set(set_request(params(call)?).await?).await.map_err(swap_error)?;
        Ok(json!(applied))
    }
}

async fn set_request(set: Set) -> Result<SetRequest, RpcError> {
    let grants = match set.grant.as_deref() {
        None => Granting::Nothing,
        Some("all") => Granting::All,
        Some(other) => return Err(invalid(format!("grant is `all` or nothing, not `{other}`"))),
    };
    let mut install = Vec::new();
    for path in set.install {
        let candidate = read(path.clone()).await?;
        let request = InstallRequest { grants: grants.clone(), ..request(&path, &candidate) };
        install.push((candidate.bytes, request));
    }
    Ok(SetRequest { install, swap: set.swap.into_iter().collect(), remove: set.remove })
}
