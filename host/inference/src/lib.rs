//! Minds: text generation and embeddings behind one trait.
//!
//! ```text
//! minds      the facade: default minds, loading on first use, deadlines        async
//!   residency   which minds stay in memory, which leave                        pure
//!   worker      one OS thread per mind, a bounded mailbox, one job at a time
//!     stream    bytes of tokens to whole UTF-8 pieces; stop texts never leak   pure
//!     engine    the seam: llama (in process, feature `llama`) or scripted (tests only)
//! catalogue  what minds there are, and where they come from                    pure
//! fetch      download, convert, verify                                         blocking
//! ```
//!
//! Invariants: a mind answers one request at a time, so a request never waits for memory in the middle; what a guest
//! asked is checked in full before an engine sees it ([`request`]), since an assertion in C++ would end the host; the
//! same request gives the same answer on the same machine, whatever was asked before.
//!
//! Never here: prompts, memory policy, plugins.

pub mod catalogue;
pub mod engine;
pub mod fetch;
pub mod request;
pub mod scripted;

mod error;
#[cfg(feature = "llama")]
mod llama;
#[cfg(not(feature = "llama"))]
#[path = "llama_absent.rs"]
mod llama;
mod minds;
mod residency;
mod schema;
mod stream;
mod worker;

pub use catalogue::{Catalogue, Kind, Mind};
pub use error::{Fault, MindError};
pub use llama::LlamaEngine;
pub use minds::{Generation, MindInfo, Minds, MindsConfig};
pub use request::{Finish, GenerateRequest, Role, Turn, Usage};
pub use worker::{LoadPhase, LoadProgress};
