//! `object.show` with `as_of`: an object as it was, by position or by time.

use jiff::Timestamp;
use serde_json::{Value, json};
use telos_bridge::{Effect, RpcError};
use telos_store::{HistoryView, Object, Position, ReadError, Slot};

use super::{Methods, invalid, read_error};

impl Methods {
    /// The object that the name stood for then, in the state that it had then. What it understood is not answered:
    /// that depends on releases, which have a past of their own.
    pub(super) fn object_as_of(&self, target: &str, as_of: &str) -> Result<Value, RpcError> {
        let at = self.position_of(as_of)?;
        let past = |error: ReadError| match error {
            ReadError::SnapshotTooOld { .. } => self.too_old(as_of),
            other => read_error(other),
        };
        let id = self.store.locate_at(target, at).map_err(past)?;
        let is_named = target.parse().ok() != id;
        let state = id.map(|id| self.store.object_at(id, at)).transpose().map_err(past)?.flatten();
        let state = state.ok_or_else(|| {
            let message = format!("no object was called `{target}` at {}", self.moment_text(as_of, at));
            let next = format!("`telos object history {target}` lists what is kept of it");
            RpcError::new("no-such-object", Effect::None, message).with_next(next)
        })?;
        Ok(shown(&state, is_named.then_some(target), at))
    }

    /// A position is digits; anything else is a time.
    fn position_of(&self, as_of: &str) -> Result<Position, RpcError> {
        if let Ok(position) = as_of.parse::<u64>() {
            let newest = self.store.position();
            if position > newest.get() {
                return Err(invalid(format!(
                    "position {position} is not decided yet; the newest is {newest}"
                )));
            }
            return Ok(Position::new(position));
        }
        let time: Timestamp = as_of.parse().map_err(|_| {
            let message = format!("`{as_of}` is neither a position nor a time");
            invalid(message).with_next("give a number, or a time with its zone: 2026-11-22T23:01:51Z")
        })?;
        let ms = u64::try_from(time.as_millisecond()).unwrap_or(0);
        let position = self.store.position_at(ms).map_err(read_error)?;
        position.ok_or_else(|| self.too_old(as_of))
    }

    /// What was asked for, what it stands for, and how far back anything can be known.
    fn moment_text(&self, as_of: &str, at: Position) -> String {
        let kept =
            self.store.retention().map_or_else(|_| String::new(), |view| format!("; {}", kept_text(&view)));
        match as_of.parse::<u64>() {
            Ok(_) => format!("position {at}{kept}"),
            Err(_) => {
                format!("{as_of}, which stands for position {at} and may be up to a minute early{kept}")
            }
        }
    }

    fn too_old(&self, as_of: &str) -> RpcError {
        match self.store.retention() {
            Ok(view) => RpcError::new("too-old", Effect::None, too_old_text(as_of, &view))
                .with_next(format!("ask for position {} or later", oldest(&view))),
            Err(error) => read_error(error),
        }
    }
}

fn too_old_text(as_of: &str, view: &HistoryView) -> String {
    format!("{as_of} is before what is kept: {}", kept_text(view))
}

/// From where on the past can be read, and by which rule it goes.
fn kept_text(view: &HistoryView) -> String {
    let days = view.age_ms / (24 * 60 * 60 * 1_000);
    let since = view.floor_ms.and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    let since = since.map(|at| format!(", of {at}")).unwrap_or_default();
    format!(
        "the oldest position is {}{since}; the past is kept for {days} days and at most {} states",
        oldest(view),
        view.rows_max
    )
}

/// While all is kept, the first commit.
fn oldest(view: &HistoryView) -> Position {
    view.floor.max(Position::new(1))
}

fn shown(state: &Object, name: Option<&str>, at: Position) -> Value {
    let slots = state.slots.iter().map(|(name, slot)| match slot {
        Slot::Value(value) => json!({ "name": name, "value": value.to_value() }),
        Slot::Method(method) => json!({ "name": name, "method": method.to_string() }),
    });
    json!({
        "as_of": at,
        "id": state.id,
        "names": name.into_iter().collect::<Vec<_>>(),
        "owner": state.owner,
        "generation": state.generation,
        "revision": state.revision.get(),
        "position": state.position.get(),
        "parents": state.parents.iter().map(|id| json!({ "id": id, "names": [] })).collect::<Vec<_>>(),
        "slots": slots.collect::<Vec<_>>(),
    })
}
