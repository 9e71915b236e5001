//! Candidates: bytes that were examined and tried, here or in a sandbox, and could become a release that serves.

use std::sync::Arc;

use super::{SwapError, Swapper};
use crate::examine::{ExamineError, Examined};
use crate::lesson::engine_for;
use crate::limits::Limits;
use crate::sandbox::TrialEnd;
use crate::seat::Release;
use crate::trial::{ExampleResult, run_examples};
use crate::tryout::{self, TrialOrder, Tryout};

/// What could become a release that serves.
pub(super) struct Candidate {
    pub(super) release: Arc<Release>,
    trial: Trial,
}

/// Its examples.
enum Trial {
    /// To be run by this process, on the metered engine.
    Here(Arc<Release>),
    /// Run elsewhere.
    Done(Vec<ExampleResult>),
}

impl From<Examined> for Candidate {
    fn from(examined: Examined) -> Self {
        Self { release: examined.release, trial: Trial::Here(examined.on_trial) }
    }
}

impl Swapper {
    /// In the sandbox, where there is one; then this process only compiles what passed there.
    pub(super) async fn examine(
        &self,
        bytes: &[u8],
        source: &str,
        limits: Limits,
    ) -> Result<Candidate, SwapError> {
        let refused = |error| SwapError::Examine { source_name: source.to_owned(), error };
        let elsewhere = match &self.sandbox.0 {
            Some(sandbox) => sandbox.try_out(bytes, limits).await,
            None => None,
        };
        match elsewhere {
            None => {
                let examined = self.examiner.examine(bytes, limits, engine_for(source)).await;
                examined.map(Candidate::from).map_err(refused)
            }
            Some(TrialEnd::Tried { descriptor, results }) => {
                let release =
                    self.examiner.load(bytes, *descriptor, limits, engine_for(source)).map_err(refused)?;
                Ok(Candidate { release: Arc::new(release), trial: Trial::Done(results) })
            }
            Some(TrialEnd::Refused { cause, is_of_the_bytes, is_of_the_moment }) => {
                Err(refused(ExamineError::Elsewhere { cause, is_of_the_bytes, is_of_the_moment }))
            }
            Some(TrialEnd::Lost(how)) => Err(refused(ExamineError::SandboxLost(how))),
        }
    }

    /// Tries a candidate that nobody installs, in this process.
    pub(crate) async fn try_order(&self, order: &TrialOrder) -> Tryout {
        match tryout::scratch() {
            Ok(scratch) => tryout::try_out(&self.examiner, scratch, order).await,
            Err(cause) => Tryout::Hindered(cause),
        }
    }

    /// See [`Examiner::module_code`].
    pub(crate) fn module_code(&self, name: &str) -> Result<Vec<u8>, ExamineError> {
        self.examiner.module_code(name)
    }

    pub(super) async fn try_out(&self, examined: &Candidate) -> Result<Vec<ExampleResult>, SwapError> {
        let on_trial = match &examined.trial {
            Trial::Done(results) => return Ok(results.clone()),
            Trial::Here(on_trial) => on_trial,
        };
        let tried = run_examples(self.examiner.engines(), on_trial, &self.journal).await;
        tried.map_err(|cause| SwapError::Untried {
            component: examined.release.component.clone(),
            version: examined.release.version().to_string(),
            cause,
        })
    }

    pub(super) async fn demand_examples(&self, examined: &Candidate) -> Result<(), SwapError> {
        let results = self.try_out(examined).await?;
        match results.into_iter().find(|result| !result.passed) {
            None => Ok(()),
            Some(failed) => Err(SwapError::Example {
                component: examined.release.component.clone(),
                version: examined.release.version().to_string(),
                selector: failed.selector,
                name: failed.name,
                detail: failed.detail,
            }),
        }
    }
}
