//! `moment`: the time and the chance of the message, which need no grant.

use crate::contract::moment;
use crate::instance::MessageState;

impl moment::Host for MessageState {
    async fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.tree()?.root.clock.wall_ms())
    }

    async fn seed(&mut self) -> wasmtime::Result<u64> {
        Ok(self.seed)
    }
}
