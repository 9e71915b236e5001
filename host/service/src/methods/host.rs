//! `host.*`: the host about itself.

use serde_json::{Value, json};
use telos_bridge::RpcError;
use telos_kernel::CONTRACT_VERSION;

use super::Methods;
use crate::checks::{self, CheckState, Parts};

impl Methods {
    pub(super) fn host_info(&self) -> Result<Value, RpcError> {
        let home = self.home.root();
        let Self { store, journal, kernel, minds, arrivals, elsewhere, gate, .. } = self;
        let isolation = self.isolation.as_deref();
        let parts = Parts { home, store, journal, kernel, minds, arrivals, elsewhere, gate, isolation };
        let checks = checks::run(&parts);
        let is_ready = checks.iter().all(|check| check.state != CheckState::Failed);
        Ok(json!({
            "home": home.display().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "contract": CONTRACT_VERSION,
            "pid": std::process::id(),
            "position": self.store.position().get(),
            "ready": is_ready,
            "dispatch": self.kernel.dispatch_stats(),
            "checks": checks,
        }))
    }
}
