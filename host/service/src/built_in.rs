//! The core modules that components may import: the engine that this host was built with.

use telos_kernel::CoreModules;

/// What was built in.
pub(crate) struct BuiltIn;

impl CoreModules for BuiltIn {
    fn module(&self, name: &str) -> Option<Vec<u8>> {
        let engine = telos_forge::engine().filter(|engine| engine.name == name)?;
        Some(engine.module.to_vec())
    }

    fn is_assembled(&self, component: &[u8]) -> bool {
        telos_forge::engine().is_some_and(|engine| telos_forge::taken_apart(engine, component).is_some())
    }
}
