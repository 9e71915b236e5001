//! llama.cpp in process: the only file that names it.
//!
//! A failed assertion in C++ ends the host, and so does a C++ exception that reaches Rust. So nothing is passed on
//! that was not bounded here or in [`crate::request`]: text goes in as bytes with a length and never as a C string;
//! prompt, position and batch are checked against the context; token ids come only from llama.cpp itself; grammars
//! come only from schemas that [`crate::schema`] let through, and are advanced through the guarded call.
//!
//! What a person said can never become a control token: the chat template is filled with placeholders, and only the
//! text around them is read for control tokens.
//!
//! The same request gives the same tokens: the state of an earlier prompt is reused in whole batches only, so that
//! every batch is computed exactly as it would have been without it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaChatMessage, LlamaChatTemplate, LlamaModel};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::catalogue::Template;
use crate::engine::{Ending, Engine, Loaded, OnLoading, Spent};
use crate::{GenerateRequest, Kind, LoadPhase, Mind, MindError, Turn, fetch};

/// Tokens of a prompt computed at once: also how often a cancelled request is noticed, and the grain of reuse.
const PROMPT_BATCH: usize = 128;
const SEQUENCE: i32 = 0;
/// ggml's own bound is 512.
const THREADS_MAX: usize = 256;
/// Instructions that llama.cpp is compiled with on x86-64.
#[cfg(target_arch = "x86_64")]
const CPU_FEATURES: &str = "AVX2, FMA, F16C and BMI2";

/// llama.cpp in process.
#[derive(Debug)]
pub struct LlamaEngine {
    backend: &'static LlamaBackend,
    threads: i32,
}

impl LlamaEngine {
    /// Whether it is in this build.
    pub const IS_BUILT_IN: bool = true;

    /// `threads`: how many compute one answer; none for half of what the processor has, at least one. More gain
    /// little, and lose much when others want the processor: llama.cpp's threads wait for each other by spinning.
    ///
    /// # Errors
    /// [`MindError::Load`] when this processor lacks instructions that the build uses.
    pub fn new(threads: Option<NonZeroUsize>) -> Result<Self, MindError> {
        check_cpu()?;
        let threads = threads.map_or_else(half_of_processors, NonZeroUsize::get).min(THREADS_MAX);
        Ok(Self { backend: backend()?, threads: i32::try_from(threads).unwrap_or(1) })
    }

    fn load(&self, mind: &Mind, file: &Path, progress: &OnLoading) -> Result<LlamaModel, MindError> {
        let told = OnLoading::clone(progress);
        let params = LlamaModelParams::default().with_progress_callback(move |fraction| {
            told(LoadPhase::Loading, fraction);
            true
        });
        let model = LlamaModel::load_from_file(self.backend, file, &params)
            .map_err(|error| MindError::load(&mind.name, error))?;
        let dimension = u32::try_from(model.n_embd()).unwrap_or(0);
        if mind.kind == Kind::Embedding && dimension != mind.dimension {
            let cause = format!("its vectors have {dimension} places, the catalogue says {}", mind.dimension);
            return Err(MindError::load(&mind.name, cause));
        }
        Ok(model)
    }

    fn context<'a>(
        &self,
        mind: &Mind,
        model: &'a LlamaModel,
    ) -> Result<(LlamaContext<'a>, usize), MindError> {
        let tokens = mind.context.min(model.n_ctx_train()).max(1);
        // An encoder takes a text in one batch.
        let batch =
            if mind.kind == Kind::Embedding { tokens } else { tokens.min(saturating_u32(PROMPT_BATCH)) };
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(tokens))
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(self.threads)
            .with_n_threads_batch(self.threads)
            .with_embeddings(mind.kind == Kind::Embedding)
            .with_no_perf(true);
        let context =
            model.new_context(self.backend, params).map_err(|error| MindError::load(&mind.name, error))?;
        // llama.cpp rounds up; what the catalogue promises is the bound.
        let held = context.n_ctx().min(tokens);
        Ok((context, held as usize))
    }
}

impl Engine for LlamaEngine {
    fn is_fetched(&self, mind: &Mind, models_dir: &Path) -> bool {
        fetch::is_present(mind, models_dir)
    }

    fn with_loaded(
        &self,
        mind: &Mind,
        models_dir: &Path,
        progress: &OnLoading,
        serve: &mut dyn FnMut(&mut dyn Loaded),
    ) -> Result<(), MindError> {
        progress(LoadPhase::Verifying, 0.0);
        let file =
            fetch::check(mind, models_dir, &mut |read| progress(LoadPhase::Verifying, read.fraction()));
        let file = file.map_err(|error| MindError::load(&mind.name, error))?;
        progress(LoadPhase::Loading, 0.0);
        let model =
            self.load(mind, &file, progress).map_err(|error| blame_file(mind, models_dir, &file, error))?;
        let (context, context_tokens) = self.context(mind, &model)?;
        match mind.kind {
            Kind::Text => serve(&mut TextMind::new(mind, &model, context, context_tokens)?),
            Kind::Embedding => serve(&mut EmbeddingMind { mind, model: &model, context, context_tokens }),
        }
        Ok(())
    }
}

/// A file that does not load is read whole, whatever its stamp says: it may have been damaged without a trace.
fn blame_file(mind: &Mind, models_dir: &Path, file: &Path, error: MindError) -> MindError {
    match fetch::verify(mind, models_dir, &mut |_| ()) {
        Err(damage @ fetch::FetchError::Digest { .. }) => MindError::load(&mind.name, damage),
        _ => MindError::load(&mind.name, format!("{}: {error}", file.display())),
    }
}

struct TextMind<'a> {
    mind: &'a Mind,
    model: &'a LlamaModel,
    context: LlamaContext<'a>,
    context_tokens: usize,
    template: LlamaChatTemplate,
    batch: LlamaBatch<'static>,
    /// The prompt whose state the context holds from its first place on, in batches of [`PROMPT_BATCH`].
    held: Vec<LlamaToken>,
}

impl<'a> TextMind<'a> {
    fn new(
        mind: &'a Mind,
        model: &'a LlamaModel,
        context: LlamaContext<'a>,
        context_tokens: usize,
    ) -> Result<Self, MindError> {
        let template = chat_template(mind, model)?;
        let batch = LlamaBatch::new(PROMPT_BATCH, 1);
        let this = Self { mind, model, context, context_tokens, template, batch, held: Vec::new() };
        // A template that llama.cpp does not know shows now, not at the first request.
        let trial = [Turn { role: crate::Role::User, text: "x".into() }];
        this.tokenize(&trial).map_err(|error| MindError::load(&mind.name, error))?;
        Ok(this)
    }

    /// The conversation in the mind's template. Control tokens come from the template only.
    fn tokenize(&self, turns: &[Turn]) -> Result<Vec<LlamaToken>, MindError> {
        let layout = self.layout(turns)?;
        let vocabulary = self.model.vocab();
        let mut tokens = Vec::new();
        if vocabulary.should_add_bos() {
            tokens.push(vocabulary.bos());
        }
        for part in split_placeholders(&layout) {
            match part {
                Part::Template("") => {}
                Part::Template(text) => vocabulary.tokenize_into(text.as_bytes(), &mut tokens, false, true),
                Part::Turn(index) => {
                    let text = turns.get(index).map_or("", |turn| turn.text.as_str());
                    if !text.is_empty() {
                        vocabulary.tokenize_into(text.as_bytes(), &mut tokens, false, false);
                    }
                }
            }
        }
        Ok(tokens)
    }

    fn layout(&self, turns: &[Turn]) -> Result<String, MindError> {
        let messages = turns.iter().enumerate().map(|(index, turn)| {
            LlamaChatMessage::new(turn.role.as_str().to_owned(), placeholder(index))
                .map_err(|e| self.failed(e))
        });
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        self.model.apply_chat_template(&self.template, &messages, true).map_err(|error| self.failed(error))
    }

    fn check_fit(&self, prompt: usize, max_tokens: u32) -> Result<u32, MindError> {
        let fits = self.context_tokens.saturating_sub(prompt);
        if prompt > 0 && max_tokens as usize <= fits {
            return Ok(saturating_u32(prompt));
        }
        Err(MindError::ContextExceeded {
            context: saturating_u32(self.context_tokens),
            prompt_tokens: saturating_u32(prompt),
            max_tokens,
            fits: saturating_u32(fits),
        })
    }

    /// Computes the prompt, batch by batch; breaks off when `go_on` says so.
    fn read(&mut self, prompt: &[LlamaToken], go_on: &mut dyn FnMut() -> bool) -> Result<bool, MindError> {
        let reused = self.rewind(prompt)?;
        for batch in prompt[reused..].chunks(PROMPT_BATCH) {
            if !go_on() {
                return Ok(false);
            }
            let first = self.held.len();
            self.decode(batch, first)?;
            self.held.extend_from_slice(batch);
        }
        Ok(true)
    }

    /// Drops the state that this prompt does not share, in whole batches; answers how many tokens remain computed.
    fn rewind(&mut self, prompt: &[LlamaToken]) -> Result<usize, MindError> {
        let mut reused = reusable(&self.held, prompt);
        let kept = self.context.clear_kv_cache_seq(Some(SEQUENCE as u32), Some(saturating_u32(reused)), None);
        if !kept.map_err(|error| self.failed(error))? {
            self.context.clear_kv_cache();
            reused = 0;
        }
        self.held.truncate(reused);
        Ok(reused)
    }

    /// `tokens`: at most [`PROMPT_BATCH`], the first at place `first`, all within the context.
    fn decode(&mut self, tokens: &[LlamaToken], first: usize) -> Result<(), MindError> {
        let name = &self.mind.name;
        if first + tokens.len() > self.context_tokens {
            return Err(MindError::engine(name, "a batch would leave the context"));
        }
        self.batch.clear();
        for (index, token) in tokens.iter().enumerate() {
            let place = i32::try_from(first + index).map_err(|error| MindError::engine(name, error))?;
            let is_last = index + 1 == tokens.len();
            let added = self.batch.add(*token, place, &[SEQUENCE], is_last);
            added.map_err(|error| MindError::engine(name, error))?;
        }
        self.context.decode(&mut self.batch).map_err(|error| {
            self.context.clear_kv_cache();
            self.held.clear();
            MindError::engine(name, error)
        })
    }

    fn failed(&self, cause: impl std::fmt::Display) -> MindError {
        MindError::engine(&self.mind.name, cause)
    }
}

impl Loaded for TextMind<'_> {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        listener: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Spent, MindError> {
        let prompt = self.tokenize(&request.turns)?;
        let prompt_tokens = self.check_fit(prompt.len(), request.max_tokens)?;
        let mut sampler = Sampler::new(self.mind, self.model, request)?;
        let spent = |generated_tokens, ending| Ok(Spent { prompt_tokens, generated_tokens, ending });
        if !self.read(&prompt, &mut || listener(&[]).is_continue())? {
            return spent(0, Ending::Broken);
        }
        for generated in 1..=request.max_tokens {
            let token = sampler.sample(&self.context, self.batch.n_tokens() - 1)?;
            if self.model.vocab().is_eog(token) {
                return spent(generated - 1, Ending::Done);
            }
            if listener(&self.model.vocab().token_to_piece(token, false, None)).is_break() {
                return spent(generated, Ending::Broken);
            }
            sampler.accept(token)?;
            if generated < request.max_tokens {
                self.decode(&[token], prompt.len() + generated as usize - 1)?;
            }
        }
        spent(request.max_tokens, Ending::Length)
    }

    fn embed(&mut self, _: &str) -> Result<Vec<f32>, MindError> {
        Err(self.failed("it is for text"))
    }
}

/// Chooses tokens: the grammar's first when there is one, then by temperature.
struct Sampler<'a> {
    mind: &'a str,
    grammar: Option<LlamaSampler>,
    chain: LlamaSampler,
}

impl<'a> Sampler<'a> {
    fn new(mind: &'a Mind, model: &LlamaModel, request: &GenerateRequest) -> Result<Self, MindError> {
        let grammar = request.schema.as_deref().map(|schema| grammar(model, schema)).transpose()?;
        Ok(Self { mind: &mind.name, grammar, chain: chain(request.temperature, request.seed) })
    }

    /// `row`: the place in the last batch whose logits were asked for.
    fn sample(&mut self, context: &LlamaContext<'_>, row: i32) -> Result<LlamaToken, MindError> {
        let mut candidates = context.token_data_array_ith(row);
        if let Some(grammar) = &mut self.grammar {
            candidates.apply_sampler(grammar);
            // A token outside the grammar must never be accepted: llama.cpp would abort.
            candidates.data.retain(|candidate| candidate.logit().is_finite());
        }
        if candidates.data.is_empty() {
            return Err(MindError::engine(self.mind, "no token continues the answer within the schema"));
        }
        candidates.apply_sampler(&mut self.chain);
        candidates.selected_token().ok_or_else(|| MindError::engine(self.mind, "no token was selected"))
    }

    /// `token`: one that [`Self::sample`] gave, and not an end.
    fn accept(&mut self, token: LlamaToken) -> Result<(), MindError> {
        self.chain.accept(token);
        match &mut self.grammar {
            Some(grammar) => grammar.try_accept(token).map_err(|error| MindError::engine(self.mind, error)),
            None => Ok(()),
        }
    }
}

struct EmbeddingMind<'a> {
    mind: &'a Mind,
    model: &'a LlamaModel,
    context: LlamaContext<'a>,
    context_tokens: usize,
}

impl EmbeddingMind<'_> {
    /// Cut to the context, with the mark of the end kept.
    fn tokenize(&self, text: &str) -> Vec<LlamaToken> {
        let mut tokens = self.model.vocab().tokenize(text.as_bytes(), true, false);
        if let (true, Some(end)) = (tokens.len() > self.context_tokens, tokens.last().copied()) {
            tokens.truncate(self.context_tokens - 1);
            tokens.push(end);
        }
        tokens
    }

    fn failed(&self, cause: impl std::fmt::Display) -> MindError {
        MindError::engine(&self.mind.name, cause)
    }
}

impl Loaded for EmbeddingMind<'_> {
    fn generate(
        &mut self,
        _: &GenerateRequest,
        _: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Spent, MindError> {
        Err(self.failed("it is for embeddings"))
    }

    /// One text at a time: a text's vector does not depend on its neighbours.
    fn embed(&mut self, text: &str) -> Result<Vec<f32>, MindError> {
        let tokens = self.tokenize(text);
        if tokens.is_empty() {
            return Err(self.failed("the text has no tokens"));
        }
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        batch.add_sequence(&tokens, SEQUENCE, true).map_err(|error| self.failed(error))?;
        self.context.encode(&mut batch).map_err(|error| self.failed(error))?;
        let vector = self.context.embeddings_seq_ith(SEQUENCE).map_err(|error| self.failed(error))?;
        unit_length(vector).ok_or_else(|| self.failed("the vector has no direction"))
    }
}

enum Part<'a> {
    Template(&'a str),
    Turn(usize),
}

/// Characters of private use: no template has them, and what people say is never laid out by the template.
const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

fn placeholder(index: usize) -> String {
    format!("{OPEN}{index}{CLOSE}")
}

fn split_placeholders(layout: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for piece in layout.split_inclusive(CLOSE) {
        let found = piece.strip_suffix(CLOSE).and_then(|piece| piece.rsplit_once(OPEN));
        match found.and_then(|(before, index)| Some((before, index.parse().ok()?))) {
            Some((before, index)) => parts.extend([Part::Template(before), Part::Turn(index)]),
            None => parts.push(Part::Template(piece)),
        }
    }
    parts
}

/// Tokens whose state can stay: whole batches of the common beginning, and never the last token, whose logits are
/// needed.
fn reusable(held: &[LlamaToken], prompt: &[LlamaToken]) -> usize {
    let common = held.iter().zip(prompt).take_while(|(held, wanted)| held == wanted).count();
    common.min(prompt.len().saturating_sub(1)) / PROMPT_BATCH * PROMPT_BATCH
}

fn chat_template(mind: &Mind, model: &LlamaModel) -> Result<LlamaChatTemplate, MindError> {
    match &mind.template {
        Template::Own => model.chat_template(None).map_err(|error| MindError::load(&mind.name, error)),
        Template::Named(name) => {
            LlamaChatTemplate::new(name).map_err(|error| MindError::load(&mind.name, error))
        }
    }
}

fn grammar(model: &LlamaModel, schema: &str) -> Result<LlamaSampler, MindError> {
    let refused = |cause: String| MindError::Invalid(format!("schema: {cause}"));
    let grammar = llama_cpp_2::json_schema_to_grammar(schema).map_err(|error| refused(error.to_string()))?;
    LlamaSampler::grammar(model, &grammar, "root").map_err(|error| refused(error.to_string()))
}

fn chain(temperature: f32, seed: u64) -> LlamaSampler {
    if temperature == 0.0 {
        return LlamaSampler::greedy();
    }
    // llama.cpp's own defaults, in its order.
    let samplers = [
        LlamaSampler::top_k(40),
        LlamaSampler::top_p(0.95, 1),
        LlamaSampler::min_p(0.05, 1),
        LlamaSampler::temp(temperature),
        LlamaSampler::dist(fold_seed(seed)),
    ];
    LlamaSampler::chain(samplers, true)
}

/// Both halves count. All ones would mean a random seed.
fn fold_seed(seed: u64) -> u32 {
    let halves = (seed ^ (seed >> 32)) & u64::from(u32::MAX);
    u32::try_from(halves).unwrap_or(0).min(u32::MAX - 1)
}

fn unit_length(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    (length.is_normal()).then(|| vector.iter().map(|x| x / length).collect())
}

fn saturating_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn half_of_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1))
}

fn backend() -> Result<&'static LlamaBackend, MindError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        send_logs_to_tracing();
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    backend.as_ref().map_err(|error| MindError::load("any", error))
}

#[cfg(target_arch = "x86_64")]
fn check_cpu() -> Result<(), MindError> {
    use std::arch::is_x86_feature_detected as has;
    if has!("avx2") && has!("fma") && has!("f16c") && has!("bmi2") {
        return Ok(());
    }
    Err(MindError::load(
        "any",
        format!("this processor lacks one of {CPU_FEATURES}, which llama.cpp was built with"),
    ))
}

#[cfg(not(target_arch = "x86_64"))]
fn check_cpu() -> Result<(), MindError> {
    Ok(())
}

/// llama.cpp explains itself at length: its errors become warnings (the caller gets a typed error anyway), the rest is
/// for who looks.
#[expect(
    unsafe_code,
    reason = "the bindings' own redirection can panic inside a C++ callback, which ends the host"
)]
fn send_logs_to_tracing() {
    unsafe extern "C" fn log(
        level: llama_cpp_sys_2::ggml_log_level,
        text: *const std::ffi::c_char,
        _: *mut std::ffi::c_void,
    ) {
        if text.is_null() {
            return;
        }
        // SAFETY: not null, and llama.cpp passes a string that ends in NUL and outlives the call.
        let line = unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy();
        match level {
            llama_cpp_sys_2::GGML_LOG_LEVEL_ERROR => tracing::warn!(target: "llama", "{}", line.trim_end()),
            llama_cpp_sys_2::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama", "{}", line.trim_end()),
            _ => tracing::trace!(target: "llama", "{}", line.trim_end()),
        }
    }
    // SAFETY: the callback is a plain function without state, valid for the life of the process. Setting llama's log
    // sets ggml's too.
    unsafe { llama_cpp_sys_2::llama_log_set(Some(log), std::ptr::null_mut()) };
}
