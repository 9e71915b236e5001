//! What the tests share: minds over the fetched files, and requests with everything defaulted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use telos_inference::{
    Catalogue, GenerateRequest, Generation, Kind, LlamaEngine, Mind, MindError, Minds, MindsConfig, Role,
    Turn, fetch,
};

/// The default minds; fails with what to do when their files are missing.
pub(crate) fn minds() -> Minds {
    minds_of(Catalogue::bundled().defaults().cloned().collect())
}

/// The default minds, the one for text with a context of so many tokens.
pub(crate) fn minds_with_context(tokens: u32) -> Minds {
    let context = |mind: &Mind| if mind.kind == Kind::Text { tokens } else { mind.context };
    minds_of(
        Catalogue::bundled().defaults().map(|mind| Mind { context: context(mind), ..mind.clone() }).collect(),
    )
}

fn minds_of(minds: Vec<Mind>) -> Minds {
    let catalogue = Catalogue::new(minds).expect("well formed");
    let dir = std::env::var_os("TELOS_MODELS_DIR").map(PathBuf::from);
    let dir = dir
        .expect("TELOS_MODELS_DIR is not set: name the directory that `telos model pull --default` filled");
    for mind in catalogue.minds() {
        assert!(
            fetch::is_present(mind, &dir),
            "{} is not in {}: run `telos model pull --default`",
            mind.file,
            dir.display()
        );
    }
    let engine = LlamaEngine::new(None).expect("this processor runs llama.cpp");
    Minds::open(&dir, catalogue, Arc::new(engine), MindsConfig::default())
}

pub(crate) fn ask(text: &str) -> GenerateRequest {
    GenerateRequest { max_tokens: 40, ..GenerateRequest::new(vec![user(text)]) }
}

pub(crate) fn user(text: &str) -> Turn {
    Turn { role: Role::User, text: text.into() }
}

/// Long enough for a busy machine; a hang still ends.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

pub(crate) async fn start(minds: &Minds, request: GenerateRequest) -> Result<Generation, MindError> {
    minds.generate(request, soon(), |_| ()).await
}

/// All pieces of the answer.
pub(crate) async fn answer(minds: &Minds, request: GenerateRequest) -> Vec<String> {
    let mut generation = start(minds, request).await.expect("accepted");
    let mut pieces = Vec::new();
    while let Some(piece) = generation.next().await.expect("answered") {
        pieces.push(piece);
    }
    pieces
}
