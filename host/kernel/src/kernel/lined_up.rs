//! A message that was taken in and is answered later.

use std::sync::Arc;

use super::Kernel;
use crate::dispatch::Arrived;
use crate::failure::Failure;
use crate::root::Answer;

/// A message that was taken in. Dropping it gives its place up.
#[must_use = "a message that was taken in is answered"]
pub struct LinedUp {
    pub(super) kernel: Kernel,
    pub(super) arrived: Result<Arrived, Failure>,
}

impl LinedUp {
    /// Runs the message and waits for its authoritative answer; see [`Kernel::send`].
    ///
    /// # Cancel safety
    /// As [`Kernel::send`].
    ///
    /// # Errors
    /// As [`Kernel::send`].
    pub async fn answer(self) -> Result<Answer, Failure> {
        let Self { kernel, arrived } = self;
        let dispatcher = Arc::clone(&kernel.0.dispatcher);
        kernel
            .on_guest_runtime(async move { dispatcher.answer(arrived).await })
            .await
            .unwrap_or_else(|cause| Err(kernel.host_failure(cause)))
    }
}
