//! One object's state through a release's `evolve` or `devolve`, judged: an answer that is state, or why not.

use std::collections::{BTreeMap, BTreeSet};

use telos_store::{Json, Object, Slot};

use crate::contract::lifecycle::{EvolveError, SlotValue};
use crate::pure::{Pure, PureError, Way};

/// Objects that are carried over twice, to compare. A call reaches nothing and begins with fresh memory, so that equal
/// state evolves equally by construction; this shows a hole in that construction before anything is decided.
const COMPARED: u32 = 64;

/// Longest text of a guest's that is kept.
const CAUSE_CHARS_MAX: usize = 1_000;

/// Why an object is not carried over: what follows the words "object so-and-so cannot be carried over".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it knows no way between these generations")]
    Unsupported,
    #[error("it does not take this state, and says {0:?}")]
    Invalid(String),
    #[error("its {0}() {1}")]
    Pure(Way, PureError),
    #[error("what it made of it has slot `{slot}`, which {problem}")]
    Answer { slot: String, problem: String },
    #[error("its {0}() answered differently the second time; it must be pure")]
    Impure(Way),
}

impl Refusal {
    /// Whether it would be the same the next time; what this machine wants for just now would not.
    pub(crate) fn is_of_release(&self) -> bool {
        !matches!(self, Self::Pure(_, error) if error.is_of_the_moment())
    }
}

/// A release as what carries state over.
pub(crate) struct Evolver {
    pure: Pure,
    to_compare: u32,
}

impl Evolver {
    pub(crate) fn new(pure: Pure) -> Self {
        Self { pure, to_compare: COMPARED }
    }

    /// The value slots of an object in another generation, later or earlier. Runs the guest, within the bounds of
    /// [`Pure::carry`].
    pub(crate) async fn carry(
        &mut self,
        object: &Object,
        to: u32,
    ) -> Result<BTreeMap<String, Json>, Refusal> {
        let (slots, from) = (value_slots(object), object.generation);
        let way = if to < from { Way::Back } else { Way::Up };
        let first = self.call(way, &slots, from, to).await?;
        if self.to_compare > 0 {
            self.to_compare -= 1;
            let second = self.call(way, &slots, from, to).await?;
            compare(way, &first, &second)?;
        }
        judge(first)
    }

    async fn call(&self, way: Way, slots: &[SlotValue], from: u32, to: u32) -> Result<Evolved, Refusal> {
        self.pure.carry(way, slots, from, to).await.map_err(|error| Refusal::Pure(way, error))
    }
}

/// Which ways a release must know.
pub(crate) struct Ways {
    /// Its generation, which it comes back from.
    pub(crate) to: u32,
    /// The generations that it must be able to go back to.
    pub(crate) back_to: BTreeSet<u32>,
    /// The names of methods that the object will have: no value can come back under them.
    pub(crate) methods: BTreeSet<String>,
}

/// What carrying an object there and back shows of a release.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WayBack {
    /// The object is as it was.
    Leads,
    /// The release knows none between these generations.
    Unknown {
        /// The earlier one.
        from: u32,
        /// The release's.
        to: u32,
    },
    /// It gives something else back, or fails: how.
    Astray(String),
}

impl Evolver {
    /// Carries an object there, and back to its own generation, which must give what it was; also back to the others that
    /// the release must be able to go back to.
    pub(crate) async fn way_back(&self, object: &Object, ways: &Ways) -> Result<WayBack, Refusal> {
        let (slots, from) = (value_slots(object), object.generation);
        let there = judge(self.call(Way::Up, &slots, from, ways.to).await?)?;
        let there: Vec<SlotValue> = there
            .into_iter()
            .map(|(name, value)| SlotValue { name, value: value.as_str().to_owned() })
            .collect();
        for to in ways.back_to.iter().copied().filter(|to| *to != from).chain([from]) {
            let back = match self.back(&there, (ways.to, to)).await? {
                Ok(back) => back,
                Err(ended) => return Ok(ended),
            };
            let compared = if to == from { compare_slots(&slots, &back) } else { WayBack::Leads };
            let judged = hidden(&back, &ways.methods).unwrap_or(compared);
            if judged != WayBack::Leads {
                return Ok(judged);
            }
        }
        Ok(WayBack::Leads)
    }

    /// Whether the release knows the ways back at all, as it says of an object without slots.
    pub(crate) async fn knows_way_back(&self, ways: &Ways) -> Result<WayBack, Refusal> {
        for to in &ways.back_to {
            if let Err(unknown @ WayBack::Unknown { .. }) = self.back(&[], (ways.to, *to)).await? {
                return Ok(unknown);
            }
        }
        Ok(WayBack::Leads)
    }

    /// What an object becomes in an earlier generation; else how the way ends.
    async fn back(
        &self,
        there: &[SlotValue],
        (from, to): (u32, u32),
    ) -> Result<Result<BTreeMap<String, Json>, WayBack>, Refusal> {
        Ok(match self.pure.carry(Way::Back, there, from, to).await {
            Ok(Err(EvolveError::Unsupported)) => Err(WayBack::Unknown { from: to, to: from }),
            Ok(back) => judge(back).map_err(|refusal| WayBack::Astray(format!("on the way back {refusal}"))),
            Err(error) if error.is_of_the_moment() => return Err(Refusal::Pure(Way::Back, error)),
            Err(error) => Err(WayBack::Astray(format!("its devolve() {error}"))),
        })
    }
}

/// How a slot that comes back would hide a method, if one does.
fn hidden(back: &BTreeMap<String, Json>, methods: &BTreeSet<String>) -> Option<WayBack> {
    let name = back.keys().find(|name| methods.contains(*name))?;
    Some(WayBack::Astray(format!("its devolve() gives slot `{name}` back, which is a method of it by then")))
}

fn compare_slots(before: &[SlotValue], back: &BTreeMap<String, Json>) -> WayBack {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let lost = before
        .iter()
        .find(|slot| back.get(&slot.name).is_none_or(|kept| value(kept.as_str()) != value(&slot.value)));
    let new = back.keys().find(|name| before.iter().all(|slot| &slot.name != *name));
    match (lost, new) {
        (Some(slot), _) => {
            WayBack::Astray(format!("its devolve() does not give slot `{}` back as it was", slot.name))
        }
        (None, Some(name)) => WayBack::Astray(format!("its devolve() leaves slot `{name}` behind")),
        (None, None) => WayBack::Leads,
    }
}

fn value_slots(object: &Object) -> Vec<SlotValue> {
    let value = |(name, slot): (&String, &Slot)| match slot {
        Slot::Value(value) => Some(SlotValue { name: name.clone(), value: value.as_str().to_owned() }),
        Slot::Method(_) => None,
    };
    object.slots.iter().filter_map(value).collect()
}

type Evolved = Result<Vec<SlotValue>, EvolveError>;

fn compare(way: Way, first: &Evolved, second: &Evolved) -> Result<(), Refusal> {
    // The contract's types have no equality of their own.
    if format!("{first:?}") == format!("{second:?}") { Ok(()) } else { Err(Refusal::Impure(way)) }
}

fn judge(evolved: Evolved) -> Result<BTreeMap<String, Json>, Refusal> {
    let slots = evolved.map_err(|error| match error {
        EvolveError::Unsupported => Refusal::Unsupported,
        EvolveError::Invalid(cause) => Refusal::Invalid(cause.chars().take(CAUSE_CHARS_MAX).collect()),
    })?;
    let mut judged = BTreeMap::new();
    for SlotValue { name, value } in slots {
        let bad =
            |problem: String| Refusal::Answer { slot: name.chars().take(CAUSE_CHARS_MAX).collect(), problem };
        let value = Json::parse(&value).map_err(|error| bad(format!("is not a value: {error}")))?;
        if judged.insert(name.clone(), value).is_some() {
            return Err(bad("is there twice".into()));
        }
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, value: &str) -> SlotValue {
        SlotValue { name: name.into(), value: value.into() }
    }

    #[test]
    fn what_is_no_state_is_refused_by_the_slots_name() {
        let refusal = |slots| judge(Ok(slots)).unwrap_err().to_string();
        assert!(refusal(vec![slot("a", "{")]).contains("slot `a`, which is not a value"));
        assert!(refusal(vec![slot("a", "1"), slot("a", "1")]).contains("slot `a`, which is there twice"));
        let large = format!("\"{}\"", "x".repeat(300_000));
        assert!(refusal(vec![slot("a", &large)]).contains("262144 allowed"));
        assert_eq!(judge(Ok(vec![slot("a", "1")])).unwrap().len(), 1);
    }

    #[test]
    fn a_value_that_comes_back_under_the_name_of_a_method_is_astray() {
        let back = judge(Ok(vec![slot("count", "1"), slot("read", "2")])).unwrap();
        let methods = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert_eq!(hidden(&back, &methods(&["increment"])), None);
        let Some(WayBack::Astray(cause)) = hidden(&back, &methods(&["increment", "read"])) else { panic!() };
        assert!(cause.contains("slot `read`"), "{cause}");
    }

    #[test]
    fn two_answers_that_differ_are_refused() {
        let answer = |value: &str| Ok(vec![slot("a", value)]);
        assert!(compare(Way::Up, &answer("1"), &answer("1")).is_ok());
        assert!(matches!(compare(Way::Up, &answer("1"), &answer("2")), Err(Refusal::Impure(Way::Up))));
        assert!(compare(Way::Back, &answer("1"), &Err(EvolveError::Unsupported)).is_err());
    }

    #[test]
    fn only_what_a_release_does_is_blamed_on_it() {
        let refusal = |error: PureError| Refusal::Pure(Way::Back, error);
        assert!(!refusal(PureError::Host("no slot is free".into())).is_of_release());
        assert!(!refusal(PureError::Time(std::time::Duration::ZERO)).is_of_release());
        assert!(refusal(PureError::Trap("unreachable".into())).is_of_release());
        assert!(Refusal::Impure(Way::Up).is_of_release());
    }

    #[test]
    fn what_a_guest_says_is_kept_short() {
        let refusal = judge(Err(EvolveError::Invalid("x".repeat(5_000)))).unwrap_err();
        assert!(refusal.to_string().len() < 1_100, "{refusal}");
    }
}
