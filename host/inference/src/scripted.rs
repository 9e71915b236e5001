//! An engine for tests only: it answers what a script says and knows nothing of language.
//!
//! Same seam, same threads, same bounds as a real engine, and no model. Its embeddings count words, so texts that
//! share words are near each other; it never understands that two different words mean the same.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine::{Ending, Engine, Loaded, OnLoading, Spent};
use crate::{GenerateRequest, LoadPhase, Mind, MindError};

/// Decides the tokens of an answer, as bytes.
type Script = dyn Fn(&GenerateRequest) -> Vec<Vec<u8>> + Send + Sync;

/// An engine for tests only. Every mind of the catalogue counts as fetched.
#[derive(Clone)]
pub struct ScriptedEngine {
    script: Arc<Script>,
    loads: Arc<AtomicU32>,
}

impl ScriptedEngine {
    /// Answers every request with this text, a word (with the space before it) per token.
    #[must_use]
    pub fn saying(text: &str) -> Self {
        let tokens = words(text);
        Self::with_tokens(move |_| tokens.clone())
    }

    /// Answers with the text that `script` makes of the request, a word per token.
    pub fn with_text(script: impl Fn(&GenerateRequest) -> String + Send + Sync + 'static) -> Self {
        Self::with_tokens(move |request| words(&script(request)))
    }

    /// Answers with the tokens that `script` makes of the request; they need not be whole characters.
    pub fn with_tokens(script: impl Fn(&GenerateRequest) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), loads: Arc::default() }
    }

    /// How often a mind was loaded, over all clones of this engine.
    #[must_use]
    pub fn loads(&self) -> u32 {
        self.loads.load(Ordering::SeqCst)
    }
}

impl Engine for ScriptedEngine {
    fn is_fetched(&self, _: &Mind, _: &Path) -> bool {
        true
    }

    fn with_loaded(
        &self,
        mind: &Mind,
        _: &Path,
        progress: &OnLoading,
        serve: &mut dyn FnMut(&mut dyn Loaded),
    ) -> Result<(), MindError> {
        progress(LoadPhase::Loading, 0.0);
        self.loads.fetch_add(1, Ordering::SeqCst);
        serve(&mut ScriptedMind { mind: mind.clone(), script: Arc::clone(&self.script) });
        Ok(())
    }
}

struct ScriptedMind {
    mind: Mind,
    script: Arc<Script>,
}

impl Loaded for ScriptedMind {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        listener: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Spent, MindError> {
        let prompt_tokens = self.count_prompt(request)?;
        let spent = |generated_tokens, ending| Ok(Spent { prompt_tokens, generated_tokens, ending });
        if listener(&[]).is_break() {
            return spent(0, Ending::Broken);
        }
        let mut generated_tokens = 0;
        for token in (self.script)(request) {
            if generated_tokens == request.max_tokens {
                return spent(generated_tokens, Ending::Length);
            }
            generated_tokens += 1;
            if listener(&token).is_break() {
                return spent(generated_tokens, Ending::Broken);
            }
        }
        spent(generated_tokens, Ending::Done)
    }

    fn embed(&mut self, text: &str) -> Result<Vec<f32>, MindError> {
        Ok(word_counts(text, self.mind.dimension as usize))
    }
}

impl ScriptedMind {
    /// A word is a token.
    fn count_prompt(&self, request: &GenerateRequest) -> Result<u32, MindError> {
        let context = self.mind.context;
        let words: usize = request.turns.iter().map(|turn| turn.text.split_whitespace().count()).sum();
        let prompt_tokens = u32::try_from(words).unwrap_or(u32::MAX);
        let fits = context.saturating_sub(prompt_tokens);
        if request.max_tokens > fits {
            let max_tokens = request.max_tokens;
            return Err(MindError::ContextExceeded { context, prompt_tokens, max_tokens, fits });
        }
        Ok(prompt_tokens)
    }
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split_inclusive(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Words hashed to places and counted, brought to length 1.0; the first place has a little for every text.
fn word_counts(text: &str, dimension: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimension];
    vector[0] = 0.01;
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        vector[place(&word.to_lowercase(), dimension)] += 1.0;
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

/// FNV-1a: equal on every machine and release.
fn place(word: &str, dimension: usize) -> usize {
    let hash =
        word.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % dimension
}
