//! The twin of `llama.rs` in a build without the feature `llama`: the same names. Minds are listed and fetched as
//! usual; asking one says what the build lacks.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::engine::{Engine, Loaded, OnLoading};
use crate::{Mind, MindError, fetch};

/// llama.cpp in process; this build is without it.
#[derive(Debug)]
pub struct LlamaEngine;

/// What this build lacks.
const ABSENCE: &str = "this build is without llama.cpp; build with the feature `llama`";

impl LlamaEngine {
    /// Whether it is in this build.
    pub const IS_BUILT_IN: bool = false;

    /// The engine's place.
    ///
    /// # Errors
    /// Never, here.
    pub fn new(_threads: Option<NonZeroUsize>) -> Result<Self, MindError> {
        Ok(Self)
    }
}

impl Engine for LlamaEngine {
    fn is_fetched(&self, mind: &Mind, models_dir: &Path) -> bool {
        fetch::is_present(mind, models_dir)
    }

    fn absence(&self) -> Option<&'static str> {
        Some(ABSENCE)
    }

    fn with_loaded(
        &self,
        mind: &Mind,
        _: &Path,
        _: &OnLoading,
        _: &mut dyn FnMut(&mut dyn Loaded),
    ) -> Result<(), MindError> {
        Err(MindError::load(&mind.name, ABSENCE))
    }
}
