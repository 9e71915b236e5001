//! The core modules that components may import: the engine that this host was built with.

use telos_kernel::CoreModules;

/// What was built in.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn;

impl CoreModules for BuiltIn {
    fn module(&self, name: &str) -> Option<Vec<u8>> {
        let engine = crate::engine().filter(|engine| engine.name == name)?;
        Some(engine.module.to_vec())
    }

    fn is_assembled(&self, component: &[u8]) -> bool {
        crate::engine().is_some_and(|engine| crate::taken_apart(engine, component).is_some())
    }
}
