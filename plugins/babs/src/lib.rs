//! Babs: a persona that remembers what people told her.
//!
//! Each object that Babs answers for is one conversation. A line said to her is turned into a vector, the nearest
//! facts told earlier in the same conversation go into her prompt, and the answer streams while it is made. Line,
//! answer and vector are stored in the same unit of work: she remembers exactly what was answered.
//!
//! Never here: other conversations. Recall filters by conversation, so what one person said is not told to another.

mod memory;
mod prompt;

use serde::{Deserialize, Serialize};
use telos_sdk::inference::embed;
use telos_sdk::messaging::emit;
use telos_sdk::prelude::*;

use memory::{Kind, Recalled, Turn};

/// Bytes of one line. With facts and recent turns it still fits a context of 4,096 tokens.
const TEXT_BYTES_MAX: usize = 2 * 1024;
/// Facts that go into a prompt: more would bury the question for a small mind.
const NOTES: u32 = 4;
/// Turns that one `recall` or `turns` answers at most.
const ANSWERS_MAX: u32 = 64;

struct Babs;

#[derive(Deserialize)]
struct Say {
    text: String,
}

#[derive(Deserialize)]
struct Recall {
    text: String,
    #[serde(default = "notes")]
    k: u32,
}

#[derive(Deserialize)]
struct Turns {
    #[serde(default = "ten")]
    n: u32,
}

#[derive(Serialize)]
struct Said {
    text: String,
    recalled: Vec<Recalled>,
}

/// Talks with people and remembers what they said.
#[plugin(kind = persona)]
#[slot(name = "count", default = 0, summary = "How many turns this conversation had.")]
#[slot(name = "recent", default = [], summary = "The newest turns, oldest first: objects with said, answered, when_ms, number.")]
impl Babs {
    /// Answers `text`, and remembers both. Streams `{"token": piece}`; answers `{"text", "recalled"}`.
    #[selector]
    #[example(name = "answers and counts the turn", arguments = {"text": "Hello!"}, embed = [[1.0, 0.0, 0.0]], recall = [], generate = "Hello, how are you?", returns = {"text": "Hello, how are you?", "recalled": []}, after = {"count": 1})]
    #[example(name = "recalls what is near and drops what is far", before = {"count": 2}, arguments = {"text": "What is my dog called?"}, embed = [[1.0, 0.0, 0.0]], recall = [{"object": "0123456789abcdef0123456789abcdef", "distance": 0.25, "metadata": {"said": "My dog is called Rex.", "answered": "A fine name."}}, {"object": "fedcba9876543210fedcba9876543210", "distance": 0.95, "metadata": {"said": "It rains.", "answered": "So it does."}}], generate = "Your dog is called Rex.", returns = {"text": "Your dog is called Rex.", "recalled": [{"object": "0123456789abcdef0123456789abcdef", "distance": 0.25, "said": "My dog is called Rex.", "answered": "A fine name."}]}, after = {"count": 3})]
    #[example(name = "needs something to answer", arguments = {"text": "  "}, refused)]
    fn say(this: &Receiver, arguments: Say) -> Result<Said, Failure> {
        let said = line(&arguments.text)?;
        let vector = meaning(said)?;
        let recalled = memory::recall(this, &vector, NOTES, Kind::Told)?;
        let recent = memory::recent(this, prompt::RECENT)?;
        let text = answer(&prompt::lines(said, &recalled, &recent))?;
        memory::remember(this, said, &text, &vector)?;
        Ok(Said { text, recalled })
    }

    /// The at most `k` earlier turns (4 unless told, 64 at most) nearest to `text` in meaning, nearest first.
    #[selector(read_only)]
    #[example(name = "recalls", arguments = {"text": "dog"}, embed = [[1.0, 0.0, 0.0]], recall = [{"object": "0123456789abcdef0123456789abcdef", "distance": 0.25, "metadata": {"said": "My dog is called Rex.", "answered": "A fine name."}}], returns = [{"object": "0123456789abcdef0123456789abcdef", "distance": 0.25, "said": "My dog is called Rex.", "answered": "A fine name."}])]
    #[example(name = "recalls nothing where nothing was said", arguments = {"text": "dog", "k": 2}, embed = [[1.0, 0.0, 0.0]], recall = [], returns = [])]
    fn recall(this: &Receiver, arguments: Recall) -> Result<Vec<Recalled>, Failure> {
        let vector = meaning(line(&arguments.text)?)?;
        Ok(memory::recall(this, &vector, arguments.k.clamp(1, ANSWERS_MAX), Kind::Any)?)
    }

    /// The newest `n` turns (10 unless told, 64 at most), oldest first.
    #[selector(read_only)]
    #[example(name = "has none at first", returns = [])]
    fn turns(this: &Receiver, arguments: Turns) -> Result<Vec<Turn>, Failure> {
        Ok(memory::recent(this, arguments.n.min(ANSWERS_MAX) as usize)?)
    }
}

fn line(text: &str) -> Result<&str, Failure> {
    match text.trim() {
        "" => Err(Failure::refused("there is nothing to answer: `text` is empty")),
        long if long.len() > TEXT_BYTES_MAX => Err(Failure::refused(format!(
            "`text` has {} bytes; at most {TEXT_BYTES_MAX} are taken",
            long.len()
        ))),
        line => Ok(line),
    }
}

fn meaning(text: &str) -> Result<Vec<f32>, Failure> {
    let vectors = embed(None, &[text.to_owned()])?;
    vectors.into_iter().next().ok_or_else(|| Failure::refused("the mind for embeddings gave no vector"))
}

/// The whole answer; every piece is emitted as it comes.
fn answer(lines: &[prompt::Line]) -> Result<String, Failure> {
    let mut text = String::new();
    for piece in prompt::compose(lines).generate()? {
        let piece = piece?;
        emit(&json!({ "token": piece }))?;
        text.push_str(&piece);
    }
    Ok(text)
}

fn notes() -> u32 {
    NOTES
}

fn ten() -> u32 {
    10
}
