//! Which mind is asked, and asking it.

use telos_sdk::inference::{self, InferenceError, Prompt};

use crate::prompt::{Asked, Speaker};

/// The mind that writes code best of those in the catalogue.
const CODE: &str = "qwen2.5-coder-0.5b";
/// Warm enough to leave the likeliest text, not the subject.
const WARM: f32 = 0.7;

/// The mind for code where it is fetched, else the default one for text.
pub(crate) struct Mind {
    /// None for the default one of a host that does not say which that is.
    name: Option<String>,
}

impl Mind {
    /// Chooses.
    pub(crate) fn chosen() -> Result<Self, InferenceError> {
        let minds = inference::minds()?;
        let code = minds.iter().find(|mind| mind.name == CODE && mind.is_fetched);
        let default = || minds.iter().find(|mind| mind.kind == "text" && mind.is_default);
        Ok(Self { name: code.or_else(default).map(|mind| mind.name.clone()) })
    }

    /// Its catalogue name.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("default")
    }

    /// What it says, whole.
    pub(crate) fn say(&self, asked: &Asked, seed: u64) -> Result<String, InferenceError> {
        let temperature = if asked.is_warm { WARM } else { 0.0 };
        let mut prompt = Prompt::new().max_tokens(asked.max_tokens).temperature(temperature).seed(seed);
        if let Some(name) = &self.name {
            prompt = prompt.mind(name);
        }
        if let Some(schema) = &asked.schema {
            prompt = prompt.schema(schema);
        }
        for (speaker, text) in &asked.turns {
            prompt = match speaker {
                Speaker::System => prompt.system(text),
                Speaker::User => prompt.user(text),
                Speaker::Mind => prompt.assistant(text),
            };
        }
        prompt.generate()?.text()
    }
}
