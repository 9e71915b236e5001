//! Minds that follow a script: every text is the same, and what happens on the way to it is the test's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use telos_kernel::seams::{GenerateRequest, LoadProgress, MindError, MindInfo, Minds, TokenSource, Usage};

/// What happens before a text begins.
type Scene = Pin<Box<dyn Future<Output = Result<(), MindError>> + Send>>;

/// One mind for texts and embeddings. Every text is `one two three`, every embedding the same direction.
pub struct ScriptedMinds {
    scene: Box<dyn Fn(GenerateRequest) -> Scene + Send + Sync>,
    texts: AtomicU64,
    embeddings: AtomicU64,
}

/// What every text is made of.
pub const PIECES: [&str; 3] = ["one ", "two ", "three"];

impl ScriptedMinds {
    /// `scene` happens before each text begins.
    pub fn new<F>(scene: impl Fn(GenerateRequest) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<(), MindError>> + Send + 'static,
    {
        let scene = Box::new(move |request| -> Scene { Box::pin(scene(request)) });
        Arc::new(Self { scene, texts: AtomicU64::new(0), embeddings: AtomicU64::new(0) })
    }

    /// Texts begun so far.
    pub fn texts(&self) -> u64 {
        self.texts.load(Ordering::SeqCst)
    }

    /// Calls for embeddings so far.
    pub fn embeddings(&self) -> u64 {
        self.embeddings.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Minds for ScriptedMinds {
    fn list(&self) -> Vec<MindInfo> {
        Vec::new()
    }

    async fn generate(
        &self,
        request: GenerateRequest,
        _deadline: Instant,
        _progress: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError> {
        self.texts.fetch_add(1, Ordering::SeqCst);
        (self.scene)(request).await?;
        Ok(Box::new(Text(PIECES.iter())))
    }

    async fn embed(
        &self,
        _mind: Option<String>,
        texts: Vec<String>,
        _deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, MindError> {
        self.embeddings.fetch_add(1, Ordering::SeqCst);
        Ok(texts.iter().map(|_| vec![1.0, 0.0, 0.0]).collect())
    }
}

struct Text(std::slice::Iter<'static, &'static str>);

#[async_trait]
impl TokenSource for Text {
    async fn next(&mut self) -> Result<Option<String>, MindError> {
        Ok(self.0.next().map(ToString::to_string))
    }

    fn usage(&self) -> Option<Usage> {
        self.0.as_slice().is_empty().then_some(Usage { prompt_tokens: 1, generated_tokens: 3, is_cut: false })
    }
}
