//! `inference`: minds, through the effect log, so that a root that runs again gets the answers it got.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmtime::component::Resource;

use crate::allowance::Allowed;
use crate::contract::inference::{self, Error, Finish, Mind, Request, Role};
use crate::effects::{Operation, Verdict};
use crate::failure::Failure;
use crate::instance::MessageState;
use crate::seams::{GenerateRequest, LoadProgress, MindError, MindInfo, Speaker, TokenSource, Usage};

/// Most texts one call embeds.
const TEXTS_MAX: usize = 64;
/// Most bytes of one text.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Most tokens one generation gives.
const TOKENS_MAX: u32 = 4_096;
/// Bytes of one token, about.
const TOKEN_BYTES: usize = 4;
/// Most stop texts.
const STOPS_MAX: usize = 8;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// A generation under way: pieces of an earlier attempt first, then the mind's own.
#[expect(unreachable_pub, reason = "the generated bindings re-export it by a public name")]
pub struct OpenGeneration {
    request: GenerateRequest,
    key: Vec<u8>,
    recorded: Option<VecDeque<String>>,
    source: Option<Box<dyn TokenSource>>,
    /// Its place in the component's budget, while the mind is at work.
    allowed: Option<Allowed>,
    /// Pieces replayed so far, which a source started late must skip.
    replayed: usize,
    usage: Option<Usage>,
    is_finished: bool,
}

impl inference::Host for MessageState {
    async fn generate(&mut self, request: Request) -> Answer<Resource<OpenGeneration>> {
        if !self.is_granted("inference")? {
            return Ok(Err(Error::Denied));
        }
        let request = match checked(request) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let key = format!("{request:?}").into_bytes();
        let recorded = match self.tree()?.recorded("generate") {
            None => None,
            Some(Some(Value::String(text))) => Some(VecDeque::from([text])),
            Some(_) => {
                return Ok(Err(Error::Invalid("the example has no recording for this generation".into())));
            }
        };
        let generation = OpenGeneration {
            request,
            key,
            recorded,
            source: None,
            allowed: None,
            replayed: 0,
            usage: None,
            is_finished: false,
        };
        Ok(Ok(self.table.push(generation)?))
    }

    async fn embed(&mut self, mind: Option<String>, texts: Vec<String>) -> Answer<Vec<Vec<f32>>> {
        if !self.is_granted("inference")? {
            return Ok(Err(Error::Denied));
        }
        if texts.is_empty() || texts.len() > TEXTS_MAX || texts.iter().any(|text| text.len() > TEXT_BYTES_MAX)
        {
            let refusal =
                format!("{} texts; 1 to {TEXTS_MAX} of at most {TEXT_BYTES_MAX} bytes", texts.len());
            return Ok(Err(Error::Invalid(refusal)));
        }
        if let Some(recorded) = self.tree()?.recorded("embed") {
            let vectors = recorded.and_then(|answer| serde_json::from_value(answer).ok());
            return Ok(
                vectors.ok_or_else(|| Error::Invalid("the example has no recording for this embed".into()))
            );
        }
        let key = json!([mind, texts]).to_string().into_bytes();
        match self.tree()?.effects.ask(Operation::Embed, &key) {
            Verdict::Replay(answer) => Ok(Ok(serde_json::from_str(&answer)?)),
            Verdict::Diverged => self.end(Failure::Conflict { attempts: 0 }),
            Verdict::Live => self.embed_live(mind, texts, &key).await,
        }
    }

    async fn minds(&mut self) -> Answer<Vec<Mind>> {
        if !self.is_granted("inference")? {
            return Ok(Err(Error::Denied));
        }
        Ok(Ok(self.tree()?.surroundings.minds.list().into_iter().map(listed).collect()))
    }
}

impl inference::HostGeneration for MessageState {
    async fn next(&mut self, generation: Resource<OpenGeneration>) -> Answer<Option<String>> {
        let index = Resource::<OpenGeneration>::new_borrow(generation.rep());
        if self.table.get(&index)?.is_finished {
            return Ok(Ok(None));
        }
        if let Some(recorded) = &mut self.table.get_mut(&index)?.recorded {
            return Ok(Ok(recorded.pop_front()));
        }
        let key = self.table.get(&index)?.key.clone();
        let piece = match self.tree()?.effects.ask(Operation::Generate, &key) {
            Verdict::Diverged => return self.end(Failure::Conflict { attempts: 0 }),
            Verdict::Replay(answer) => self.replay_piece(&index, &answer)?,
            Verdict::Live => match self.live_piece(&index, &key).await? {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(error)),
            },
        };
        if piece.is_none() {
            let generation = self.table.get_mut(&index)?;
            (generation.is_finished, generation.source, generation.allowed) = (true, None, None);
        }
        Ok(Ok(piece))
    }

    async fn usage(
        &mut self,
        generation: Resource<OpenGeneration>,
    ) -> wasmtime::Result<Option<inference::Usage>> {
        let usage = self.table.get(&generation)?.usage;
        Ok(usage.map(|usage| inference::Usage {
            prompt_tokens: usage.prompt_tokens,
            generated_tokens: usage.generated_tokens,
            finish: if usage.is_cut { Finish::Length } else { Finish::Stop },
        }))
    }

    async fn drop(&mut self, generation: Resource<OpenGeneration>) -> wasmtime::Result<()> {
        self.table.delete(generation)?;
        Ok(())
    }
}

impl MessageState {
    async fn embed_live(
        &mut self,
        mind: Option<String>,
        texts: Vec<String>,
        key: &[u8],
    ) -> Answer<Vec<Vec<f32>>> {
        let cost = texts.iter().map(|text| tokens_of(text)).sum();
        let _allowed = match self.begin_request(cost, cost)? {
            Ok(allowed) => allowed,
            Err(error) => return Ok(Err(error)),
        };
        let tree = self.tree()?;
        let (minds, deadline) = (Arc::clone(&tree.surroundings.minds), tree.root.deadline);
        match minds.embed(mind, texts, deadline).await {
            Ok(vectors) => {
                let answer = serde_json::to_string(&vectors)?;
                self.tree()?.effects.record(Operation::Embed, key, answer);
                Ok(Ok(vectors))
            }
            Err(error) => Ok(Err(self.mind_error(error)?)),
        }
    }

    fn replay_piece(
        &mut self,
        index: &Resource<OpenGeneration>,
        answer: &str,
    ) -> wasmtime::Result<Option<String>> {
        let (piece, usage): (Option<String>, Option<(u32, u32, bool)>) = serde_json::from_str(answer)?;
        let generation = self.table.get_mut(index)?;
        generation.replayed += 1;
        generation.usage = usage.map(|(prompt_tokens, generated_tokens, is_cut)| Usage {
            prompt_tokens,
            generated_tokens,
            is_cut,
        });
        Ok(piece)
    }

    async fn live_piece(&mut self, index: &Resource<OpenGeneration>, key: &[u8]) -> Answer<Option<String>> {
        let mut source = match self.table.get_mut(index)?.source.take() {
            Some(source) => source,
            None => match self.start(index).await? {
                Ok(source) => source,
                Err(error) => return Ok(Err(error)),
            },
        };
        let piece = match source.next().await {
            Ok(piece) => piece,
            Err(error) => {
                self.table.get_mut(index)?.allowed = None;
                return Ok(Err(self.mind_error(error)?));
            }
        };
        let usage = source.usage();
        let recorded =
            (&piece, usage.map(|usage| (usage.prompt_tokens, usage.generated_tokens, usage.is_cut)));
        let answer = serde_json::to_string(&recorded)?;
        self.tree()?.effects.record(Operation::Generate, key, answer);
        let generation = self.table.get_mut(index)?;
        match (&mut generation.allowed, usage) {
            (Some(allowed), Some(usage)) => {
                allowed.set_cost(u64::from(usage.prompt_tokens) + u64::from(usage.generated_tokens));
            }
            (Some(allowed), None) => allowed.count_token(),
            (None, _) => {}
        }
        generation.usage = usage;
        generation.source = Some(source);
        Ok(Ok(piece))
    }

    /// Starts the mind, past the pieces that were replayed: same request and seed, same pieces.
    async fn start(&mut self, index: &Resource<OpenGeneration>) -> Answer<Box<dyn TokenSource>> {
        let generation = self.table.get(index)?;
        let (request, skip) = (generation.request.clone(), generation.replayed);
        let read = request.turns.iter().map(|(_, text)| tokens_of(text)).sum();
        let allowed = match self.begin_request(read, read + u64::from(request.max_tokens))? {
            Ok(allowed) => allowed,
            Err(error) => return Ok(Err(error)),
        };
        self.table.get_mut(index)?.allowed = Some(allowed);
        let tree = self.tree()?;
        let (minds, deadline) = (Arc::clone(&tree.surroundings.minds), tree.root.deadline);
        let progress = progress_to(tree.root.sink.clone(), tree.root.attempt);
        let mut source = match minds.generate(request, deadline, progress).await {
            Ok(source) => source,
            Err(error) => return Ok(Err(self.mind_error(error)?)),
        };
        for _ in 0..skip {
            if let Err(error) = source.next().await {
                return Ok(Err(self.mind_error(error)?));
            }
        }
        Ok(Ok(source))
    }

    /// A place in the running component's budget for a request that costs `least` tokens at once and `most` at its end.
    fn begin_request(&mut self, least: u64, most: u64) -> Answer<Allowed> {
        let component = self.release.component.clone();
        let allowed = self.tree()?.surroundings.allowances.begin(&component, least, most);
        Ok(allowed.map_err(|wait| Error::Busy(u32::try_from(wait.time.as_millis()).unwrap_or(u32::MAX))))
    }

    fn mind_error(&mut self, error: MindError) -> wasmtime::Result<Error> {
        Ok(match error {
            MindError::NoSuchMind(text) => Error::NoSuchMind(text),
            MindError::ContextExceeded { fits } => Error::ContextExceeded(fits),
            MindError::Invalid(text) => Error::Invalid(text),
            MindError::Deadline => Error::Budget,
            MindError::Failed(cause) => Error::Failed(self.host_incident("inference", &cause)?),
        })
    }
}

/// What a text that is read counts for before the mind has said: a token for each four bytes.
fn tokens_of(text: &str) -> u64 {
    text.len().div_ceil(TOKEN_BYTES) as u64
}

/// Load progress reaches whoever waits as a piece of its own, `{"progress": {"mind", "fraction"}}`. It is not an effect.
fn progress_to(sink: Option<Arc<dyn crate::seams::StreamSink>>, attempt: u32) -> LoadProgress {
    Arc::new(move |mind, fraction| {
        if let Some(sink) = &sink {
            sink.chunk(attempt, json!({ "progress": { "mind": mind, "fraction": fraction } }));
        }
    })
}

fn checked(request: Request) -> Result<GenerateRequest, Error> {
    if request.turns.is_empty() {
        return Err(Error::Invalid("there are no turns".into()));
    }
    if request.max_tokens == 0 || request.max_tokens > TOKENS_MAX {
        return Err(Error::Invalid(format!("max-tokens is {}; 1 to {TOKENS_MAX}", request.max_tokens)));
    }
    if !(0.0..=2.0).contains(&request.temperature) {
        return Err(Error::Invalid(format!("temperature is {}; 0.0 to 2.0", request.temperature)));
    }
    if request.stop.len() > STOPS_MAX || request.stop.iter().any(String::is_empty) {
        return Err(Error::Invalid(format!("at most {STOPS_MAX} stop texts, none of them empty")));
    }
    let schema = request.schema.map(|text| serde_json::from_str(&text)).transpose();
    Ok(GenerateRequest {
        mind: request.mind,
        turns: request.turns.into_iter().map(|turn| (speaker(turn.role), turn.text)).collect(),
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        seed: request.seed,
        stop: request.stop,
        schema: schema.map_err(|error| Error::Invalid(format!("the schema is not JSON: {error}")))?,
    })
}

fn speaker(role: Role) -> Speaker {
    match role {
        Role::System => Speaker::System,
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
    }
}

fn listed(mind: MindInfo) -> Mind {
    Mind {
        name: mind.name,
        kind: if mind.is_embedding { "embedding" } else { "text" }.into(),
        context: mind.context,
        dimension: mind.dimension,
        is_default: mind.is_default,
        is_fetched: mind.is_fetched,
    }
}
