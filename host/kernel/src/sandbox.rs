//! Trials elsewhere: a candidate is compiled, asked and tried in another process before this one touches it.
//!
//! Who tries is known only through [`Sandbox`]; [`TrialRoom`] is what it does there.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::code::{Code, CompilerSeat, EngineKind};
use crate::core_module::CoreModulesSeat;
use crate::descriptor::Descriptor;
use crate::engine::{EngineError, Engines};
use crate::examine::{ExamineError, Examiner};
use crate::limits::Limits;
use crate::seams::JournalSink;
use crate::trial::{ExampleResult, run_examples};

/// Tries candidates in another process.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// What came of it; none when there is nobody to ask, or the candidate is too large to be sent: then it is tried
    /// here.
    async fn try_out(&self, bytes: &[u8], limits: Limits) -> Option<TrialEnd>;
}

/// A host's sandbox, if it has one.
#[derive(Clone, Default)]
pub struct SandboxSeat(pub Option<Arc<dyn Sandbox>>);

impl fmt::Debug for SandboxSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SandboxSeat").field(&self.0.is_some()).finish()
    }
}

/// How a trial elsewhere ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialEnd {
    /// It is a release: what it says of itself, and how its examples went.
    Tried {
        /// Its account of itself.
        descriptor: Box<Descriptor>,
        /// One result an example.
        results: Vec<ExampleResult>,
    },
    /// It is none.
    Refused {
        /// Why.
        cause: String,
        /// Every host refuses these bytes, always.
        is_of_the_bytes: bool,
        /// The same bytes may pass in a moment.
        is_of_the_moment: bool,
    },
    /// The process that tried it did not come to an end with it; says how.
    Lost(String),
}

/// Where candidates are tried: engines without a store, a journal or minds.
pub struct TrialRoom {
    examiner: Examiner,
    journal: Arc<dyn JournalSink>,
}

impl TrialRoom {
    /// A room. What guests log goes to `journal`.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(modules: CoreModulesSeat, journal: Arc<dyn JournalSink>) -> Result<Self, EngineError> {
        let engines = Arc::new(Engines::new()?);
        // A process of its own compiles for itself, and keeps nothing.
        let code = Code::new(engines, None, CompilerSeat::default(), modules, Arc::clone(&journal));
        let examiner = Examiner::new(code).map_err(EngineError::from)?;
        Ok(Self { examiner, journal })
    }

    /// Compiles bytes that nobody has vouched for, asks them what they are, and runs their examples.
    pub async fn try_out(&self, bytes: &[u8], limits: Limits) -> TrialEnd {
        let examined = match self.examiner.examine(bytes, limits, EngineKind::Metered).await {
            Ok(examined) => examined,
            Err(error) => return refused(&error),
        };
        match run_examples(self.examiner.engines(), &examined.on_trial, &self.journal).await {
            Ok(results) => {
                TrialEnd::Tried { descriptor: Box::new(examined.release.descriptor.clone()), results }
            }
            Err(cause) => TrialEnd::Refused { cause, is_of_the_bytes: false, is_of_the_moment: true },
        }
    }
}

fn refused(error: &ExamineError) -> TrialEnd {
    TrialEnd::Refused {
        cause: error.to_string(),
        is_of_the_bytes: error.is_of_the_bytes(),
        is_of_the_moment: error.is_of_the_moment(),
    }
}
