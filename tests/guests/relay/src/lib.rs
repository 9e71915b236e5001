//! Well behaved: one selector per thing that a plugin can do with messages, names, streams, time and chance.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant, SystemTime};

use telos_sdk::messaging::{SendError, emit};
use telos_sdk::prelude::*;

struct Relay;

#[derive(Deserialize)]
struct Envelope {
    /// An object's name or identity.
    to: String,
    selector: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct FanOut {
    #[serde(flatten)]
    envelope: Envelope,
    n: u64,
}

#[derive(Serialize)]
struct FannedOut {
    answered: u64,
    last: Value,
    stopped: Option<&'static str>,
}

#[derive(Deserialize)]
struct Spawn {
    name: String,
}

#[derive(Deserialize)]
struct Stream {
    n: u64,
}

#[derive(Deserialize)]
struct Recurse {
    #[serde(default = "first")]
    depth: u64,
}

#[derive(Serialize, Deserialize)]
struct Deepest {
    depth: u64,
    stopped: String,
}

#[derive(Serialize)]
struct Clock {
    wall_ns: [u128; 2],
    elapsed_ns: u128,
    random: [u64; 2],
}

/// Relays.
#[plugin]
#[slot(name = "attempts", default = 0, summary = "How many forwards were tried.")]
#[slot(name = "outcome", summary = "What the last try answered.")]
impl Relay {
    /// Sends `arguments` to `to` and answers its answer.
    #[selector]
    #[example(name = "forwards", arguments = {"to": "0123456789abcdef0123456789abcdef", "selector": "read"}, send = 7, returns = 7)]
    fn forward(_this: &Receiver, envelope: Envelope) -> Result<Value, Failure> {
        Ok(object(&envelope.to)?.send(&envelope.selector, &envelope.arguments)?)
    }

    /// Sends twice and answers whether both answers were the same: a tree must not see two releases.
    #[selector(read_only)]
    #[example(name = "compares", arguments = {"to": "0123456789abcdef0123456789abcdef", "selector": "read"}, send = 7, send = 7, returns = true)]
    fn ask_twice(_this: &Receiver, envelope: Envelope) -> Result<bool, Failure> {
        let receiver = object(&envelope.to)?;
        let first: Value = receiver.send(&envelope.selector, &envelope.arguments)?;
        let second: Value = receiver.send(&envelope.selector, &envelope.arguments)?;
        Ok(first == second)
    }

    /// As `ask_twice`, from a selector that writes: it counts itself among the attempts.
    #[selector]
    fn ask_twice_and_count(this: &Receiver, envelope: Envelope) -> Result<bool, Failure> {
        *this.slot::<u64>("attempts")? += 1;
        Self::ask_twice(this, envelope)
    }

    /// Looks a slot of another object up, as a message would find it, and answers how that went.
    #[selector(read_only)]
    fn look(_this: &Receiver, envelope: Envelope) -> Result<String, Failure> {
        Ok(match object(&envelope.to)?.lookup(&envelope.selector) {
            Ok(found) => format!("found {}", found.is_some()),
            Err(error) => error.to_string(),
        })
    }

    /// Posts and answers the contract's name of the refusal, or `posted`.
    #[selector]
    fn try_post(_this: &Receiver, envelope: Envelope) -> Result<&'static str, Failure> {
        let posted = object(&envelope.to)?.post(&envelope.selector, &envelope.arguments);
        Ok(posted.map_or_else(|error| arm(&error), |()| "posted"))
    }

    /// As `forward`, from a selector that promises to change nothing.
    #[selector(read_only)]
    fn forward_read_only(this: &Receiver, envelope: Envelope) -> Result<Value, Failure> {
        Self::forward(this, envelope)
    }

    /// Sends, then fails: what the other one wrote must vanish as well.
    #[selector]
    fn forward_then_fail(this: &Receiver, envelope: Envelope) -> Result<Value, Failure> {
        Self::forward(this, envelope)?;
        Err(Failure::refused("the relay fails after forwarding"))
    }

    /// Sends and goes on whatever happens; keeps count and outcome in slots and answers the outcome.
    #[selector]
    fn try_forward(this: &Receiver, envelope: Envelope) -> Result<Value, Failure> {
        *this.slot::<u64>("attempts")? += 1;
        let answer = object(&envelope.to)?.send::<_, Value>(&envelope.selector, &envelope.arguments);
        let outcome = answer.map_or_else(
            |error| json!({"failed": error.to_string(), "arm": arm(&error)}),
            |answer| json!({"answered": answer}),
        );
        this.object().write("outcome", &outcome)?;
        Ok(outcome)
    }

    /// Posts: delivered after this message commits.
    #[selector]
    fn post_to(_this: &Receiver, envelope: Envelope) -> Result<&'static str, Failure> {
        object(&envelope.to)?.post(&envelope.selector, &envelope.arguments)?;
        Ok("posted")
    }

    /// Posts, then fails: nothing may be delivered.
    #[selector]
    fn post_then_fail(this: &Receiver, envelope: Envelope) -> Result<&'static str, Failure> {
        Self::post_to(this, envelope)?;
        Err(Failure::refused("the relay fails after posting"))
    }

    /// Makes an object that delegates to the receiver, names it and answers its identity.
    #[selector]
    fn spawn(this: &Receiver, arguments: Spawn) -> Result<Object, Failure> {
        let child = Object::create(&[this.object()])?;
        child.bind(&arguments.name)?;
        Ok(child)
    }

    /// Emits the numbers from 0 to `n` - 1, one chunk each, and answers `n`.
    #[selector(read_only)]
    #[example(name = "streams", arguments = {"n": 3}, returns = 3)]
    fn stream(_this: &Receiver, arguments: Stream) -> Result<u64, Failure> {
        (0..arguments.n).try_for_each(|number| emit(&number))?;
        Ok(arguments.n)
    }

    /// Answers its arguments.
    #[selector(read_only)]
    #[example(name = "echoes", arguments = {"any": ["thing", 1, null]}, returns = {"any": ["thing", 1, null]})]
    fn echo(_this: &Receiver, arguments: Value) -> Result<Value, Failure> {
        Ok(arguments)
    }

    /// Writes one line per level to the journal, with its arguments as a field, and answers nothing.
    #[selector(read_only)]
    fn log(_this: &Receiver, arguments: Value) -> Result<(), Failure> {
        let level = "every level";
        trace!("the relay logs at {level}", arguments = arguments);
        debug!("the relay logs at {level}", arguments = arguments);
        info!("the relay logs at {level}", arguments = arguments);
        warn!("the relay logs at {level}", arguments = arguments, urgent = false);
        error!("the relay logs");
        Ok(())
    }

    /// Reads the wall clock twice around some work, the monotonic clock, and two random numbers.
    #[selector(read_only)]
    fn clock(_this: &Receiver) -> Result<Clock, Failure> {
        let (before, start) = (wall()?, Instant::now());
        std::hint::black_box((0..10_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number)));
        let elapsed = start.elapsed();
        let random = RandomState::new();
        Ok(Clock {
            wall_ns: [before, wall()?],
            elapsed_ns: elapsed.as_nanos(),
            random: [random.hash_one(1), random.hash_one(2)],
        })
    }

    /// Sends the same `n` times, or until the host says no; answers how often it was answered, the last answer, and the
    /// contract's name of the refusal.
    #[selector(read_only)]
    fn fan_out(_this: &Receiver, arguments: FanOut) -> Result<FannedOut, Failure> {
        let FanOut { envelope, n } = arguments;
        let receiver = object(&envelope.to)?;
        let mut last = Value::Null;
        for answered in 0..n {
            match receiver.send(&envelope.selector, &envelope.arguments) {
                Ok(answer) => last = answer,
                Err(error) => return Ok(FannedOut { answered, last, stopped: Some(arm(&error)) }),
            }
        }
        Ok(FannedOut { answered: n, last, stopped: None })
    }

    /// Sends itself to itself until the host says no; answers how deep that was and what the host said.
    #[selector]
    fn recurse(this: &Receiver, arguments: Recurse) -> Result<Deepest, Failure> {
        let next = json!({"depth": arguments.depth + 1});
        Ok(this
            .object()
            .send("recurse", &next)
            .unwrap_or_else(|error| Deepest { depth: arguments.depth, stopped: error.to_string() }))
    }
}

/// The object with this identity or name.
fn object(to: &str) -> Result<Object, Failure> {
    match to.parse() {
        Ok(object) => Ok(object),
        Err(_) => Object::find(to)?.ok_or_else(|| Failure::refused(format!("no object is called `{to}`"))),
    }
}

/// The contract's name of an error, for tests to compare.
fn arm(error: &SendError) -> &'static str {
    match error {
        SendError::Denied => "denied",
        SendError::NoSuchObject => "no-such-object",
        SendError::NotUnderstood(_) => "not-understood",
        SendError::Refused(_) => "refused",
        SendError::Broken(_) => "broken",
        SendError::Busy(_) => "busy",
        SendError::Deadline => "deadline",
        SendError::ReadOnly => "read-only",
        SendError::Invalid(_) => "invalid",
        SendError::Failed(_) => "failed",
        _ => "mismatch",
    }
}

fn wall() -> Result<u128, Failure> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since: Duration| since.as_nanos())?)
}

fn first() -> u64 {
    1
}
