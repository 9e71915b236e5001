//! One behaviour tried before it is anybody's release: does it start, and what comes of messages to it?
//!
//! ```text
//! here     Kernel::try_out       in this process
//! apart    TrialCell::try_out    in a process that exists for this one candidate
//! ```
//! Both do the same with the same order, on storage that is thrown away. [`TrialCell`] has everything that it needs
//! when it is made: no file is opened, no thread begun and no process started for the candidate.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use telos_store::{Store, StoreOptions};

use crate::code::{Code, CompilerSeat};
use crate::core_module::{BootError, CoreModulesSeat};
use crate::engine::{EngineError, Engines};
use crate::examine::Examiner;
use crate::limits::Limits;
use crate::seams::{JournalSink, Unheard};
use crate::trial::{self, TrialMessage, Tried};

/// A candidate, and what it is tried with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialOrder {
    /// The core module that it runs on.
    pub module: String,
    /// What that module is handed first: whether it starts.
    pub text: String,
    /// The component, with this text in it. Travels beside the order.
    #[serde(skip)]
    pub component: Vec<u8>,
    /// The message that it is sent.
    pub selector: String,
    /// With what, each time on storage of its own.
    pub messages: Vec<TrialMessage>,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tryout {
    /// It starts, and this came of the messages, in their order.
    Tried(Vec<Tried>),
    /// Its module does not take it, and says why.
    NotStarting(String),
    /// It is no component that could be tried.
    NoComponent(String),
    /// It went past what the process that tried it may use, or broke it.
    Exceeded(String),
    /// It was not tried: a want of this machine, now, that says nothing of it.
    Hindered(String),
}

/// Where one candidate is tried: one engine, one module, one store in memory.
pub struct TrialCell {
    examiner: Examiner,
    scratch: Store,
}

impl TrialCell {
    /// A cell for candidates that run on one module. `code`: what [`crate::Kernel::module_code`] of this version made.
    ///
    /// # Errors
    /// [`EngineError`] when there is no engine, or the code is not for it.
    pub fn new(module: &str, code: &[u8]) -> Result<Self, EngineError> {
        let journal: Arc<dyn JournalSink> = Arc::new(Unheard);
        let engines = Arc::new(Engines::for_one_trial()?);
        let modules = CoreModulesSeat::default();
        let scratch = scratch().map_err(wasmtime::Error::msg)?;
        let code_of = Code::new(engines, None, CompilerSeat::default(), modules, journal);
        code_of.take_in(module, code)?;
        Ok(Self { examiner: Examiner::new(code_of)?, scratch })
    }

    /// Tries one candidate.
    pub async fn try_out(&self, order: &TrialOrder) -> Tryout {
        try_out(&self.examiner, self.scratch.clone(), order).await
    }
}

/// Tries a candidate on a store whose every unit is thrown away.
pub(crate) async fn try_out(examiner: &Examiner, scratch: Store, order: &TrialOrder) -> Tryout {
    match examiner.boot(&order.module, &order.text).await {
        Ok(()) => {}
        Err(BootError::Hindered(cause)) => return Tryout::Hindered(cause),
        Err(error) => return Tryout::NotStarting(error.to_string()),
    }
    let release = match examiner.on_trial(&order.component, Limits::default()).await {
        Ok(release) => release,
        Err(error) if error.is_of_the_moment() => return Tryout::Hindered(error.to_string()),
        Err(error) => return Tryout::NoComponent(error.to_string()),
    };
    let tried =
        trial::try_messages(examiner.engines(), scratch, &release, &order.selector, &order.messages).await;
    tried.map_or_else(Tryout::Hindered, Tryout::Tried)
}

/// A store in memory.
pub(crate) fn scratch() -> Result<Store, String> {
    Store::scratch(StoreOptions::default()).map_err(|error| error.to_string())
}
