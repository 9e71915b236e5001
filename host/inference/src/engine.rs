//! The seam between minds and what computes them.
//!
//! An engine loads a mind on the thread it is called on and lends it out there; a loaded mind never leaves that thread
//! and serves one request at a time. Requests reach an engine only after [`crate::request`]'s checks.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::{GenerateRequest, LoadPhase, Mind, MindError};

/// Hears the phase of loading and how much of it is done, 0.0 to 1.0, as often as it gets on; must neither block nor
/// panic, since C++ may call it.
pub type OnLoading = Arc<dyn Fn(LoadPhase, f32) + Send + Sync>;

/// Computes minds.
pub trait Engine: Send + Sync + 'static {
    /// Whether the mind's file is in `models_dir`, as far as a look at the directory tells.
    fn is_fetched(&self, mind: &Mind, models_dir: &Path) -> bool;

    /// Why it answers nothing at all; none where it does.
    fn absence(&self) -> Option<&'static str> {
        None
    }

    /// Loads the mind, lends it to `serve` until that returns, and frees it. Blocks for all of it.
    ///
    /// `progress` is not called again once `serve` runs.
    ///
    /// # Errors
    /// [`MindError::NotFetched`], [`MindError::Load`]; `serve` was not called then.
    fn with_loaded(
        &self,
        mind: &Mind,
        models_dir: &Path,
        progress: &OnLoading,
        serve: &mut dyn FnMut(&mut dyn Loaded),
    ) -> Result<(), MindError>;
}

/// A mind in memory.
pub trait Loaded {
    /// Generates until the mind is done, `max_tokens` are reached, or `listener` says to break.
    ///
    /// `listener` gets the bytes of each token, which need not be whole characters. With no bytes it is only asked
    /// whether to go on: once when the request is accepted, and between the steps of a long prompt.
    ///
    /// # Errors
    /// [`MindError::ContextExceeded`] and [`MindError::Invalid`] before the first call of `listener`;
    /// [`MindError::Engine`] at any time.
    fn generate(
        &mut self,
        request: &GenerateRequest,
        listener: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Spent, MindError>;

    /// The text's vector: the mind's dimension, length 1.0. Text beyond the mind's context is cut off.
    ///
    /// # Errors
    /// [`MindError::Engine`].
    fn embed(&mut self, text: &str) -> Result<Vec<f32>, MindError>;
}

/// What a generation took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens given to the listener.
    pub generated_tokens: u32,
    /// Why it ended.
    pub ending: Ending,
}

/// Why an engine ended a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The mind said it was done.
    Done,
    /// `max_tokens` was reached.
    Length,
    /// The listener said to break.
    Broken,
}
