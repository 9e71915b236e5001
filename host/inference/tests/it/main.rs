//! Real minds through the facade, and how their files are fetched.
//!
//! Minds run with the feature `llama`; `TELOS_MODELS_DIR` names the directory of their files.

#[cfg(feature = "llama")]
mod embedding;
mod fetching;
#[cfg(feature = "llama")]
mod generation;
#[cfg(feature = "llama")]
mod hostile;
#[cfg(feature = "llama")]
mod set;
