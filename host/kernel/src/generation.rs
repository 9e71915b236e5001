//! Generations as the kernel judges them: which one a component's state is in, and what that means for a release.
//!
//! ```text
//! release's generation   below    equal    above the one in force
//! then it                refused  serves   is staged, and evolves at the next start
//! ```
//! In force is what the state was raised to; as long as it never was, what the release that serves says, or the last
//! one that did. Judging is pure; how state is carried over is `evolution`'s.

use telos_store::{ComponentId, ReleaseRecord, ReleaseState, SeatRecord};

use crate::descriptor::Descriptor;

/// What a start does with staged releases whose component's state is of an earlier generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GenerationMode {
    /// Carries the state over, puts the generation in force and lets the release serve.
    #[default]
    Evolve,
    /// Carries every object over in memory, tells how that went, and changes nothing.
    Check,
    /// Evolves only what could not serve otherwise: a staged release waits on while its component has one that serves,
    /// or is kept and could serve, the generation in force.
    Minimum,
}

/// What a component's state means for a release of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It knows exactly this state.
    Serves,
    /// It knows a later generation; the state is in this one.
    Evolves(u32),
    /// The state is in this generation, which is newer than it knows.
    Outdated(u32),
}

/// How a release of generation `known` stands to what is in force; none means that there is no state.
pub(crate) fn standing(known: u32, in_force: Option<u32>) -> Standing {
    match in_force {
        Some(in_force) if known > in_force => Standing::Evolves(in_force),
        Some(in_force) if known < in_force => Standing::Outdated(in_force),
        _ => Standing::Serves,
    }
}

/// Why a release waits for the next start.
pub(crate) fn waits_for_start(from: u32, to: u32) -> String {
    format!(
        "its state is of generation {to} and generation {from} is in force: it serves from the next start on"
    )
}

/// What lets a release serve that waits for the next start.
pub(crate) fn next_of_waiting(component: &ComponentId, version: &str) -> String {
    format!("`telos plugin swap {component} {version}` carries it over now, while messages flow")
}

/// The generation of state that was never raised: that of the release that serves, else the latest of those that did.
/// None when none did.
pub(crate) fn never_raised(
    seat: Option<&SeatRecord>,
    records: &[ReleaseRecord],
) -> Result<Option<u32>, serde_json::Error> {
    let is_one = |record: &&ReleaseRecord| match seat {
        Some(seat) => record.digest == seat.digest,
        None => has_served(record),
    };
    let mut latest = None;
    for record in records.iter().filter(is_one) {
        latest = latest.max(Some(Descriptor::of(record)?.generation));
    }
    Ok(latest)
}

/// Whether a release served once, so that it may do so again.
pub(crate) fn has_served(record: &ReleaseRecord) -> bool {
    matches!(record.state, ReleaseState::Permanent | ReleaseState::Probation)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    use telos_store::{Digest, Json};

    use crate::descriptor::Kind;

    fn record(generation: u32, state: ReleaseState) -> ReleaseRecord {
        let descriptor = Descriptor {
            id: "a".into(),
            version: semver::Version::new(1, 0, u64::from(generation)),
            kind: Kind::Behaviour,
            summary: String::new(),
            generation,
            slots: BTreeMap::new(),
            selectors: BTreeMap::new(),
        };
        ReleaseRecord {
            component: ComponentId::new("a").unwrap(),
            digest: Digest::of(&generation.to_le_bytes()),
            version: descriptor.version.to_string(),
            descriptor: Json::from_value(&serde_json::to_value(&descriptor).unwrap()).unwrap(),
            contract: String::new(),
            imports: Vec::new(),
            limits: Json::null(),
            source: String::new(),
            state,
            installed_at_ms: 0,
            verdict: None,
        }
    }

    fn seat(generation: u32) -> SeatRecord {
        let ReleaseRecord { component, digest, .. } = record(generation, ReleaseState::Permanent);
        SeatRecord { component, digest, previous: None, returns_to: None, swaps: 0, since_ms: 0 }
    }

    #[test]
    fn a_release_serves_its_own_generation_and_evolves_upwards_only() {
        assert_eq!(standing(3, None), Standing::Serves);
        assert_eq!(standing(3, Some(3)), Standing::Serves);
        assert_eq!(standing(3, Some(1)), Standing::Evolves(1));
        assert_eq!(standing(3, Some(4)), Standing::Outdated(4));
    }

    #[test]
    fn state_that_was_never_raised_is_that_of_what_serves_or_did() {
        let records = [
            record(1, ReleaseState::Permanent),
            record(2, ReleaseState::Permanent),
            record(3, ReleaseState::Staged),
            record(4, ReleaseState::NeedsGrant),
            record(5, ReleaseState::Returned),
        ];
        assert_eq!(never_raised(Some(&seat(1)), &records).unwrap(), Some(1));
        assert_eq!(never_raised(None, &records).unwrap(), Some(2), "what was staged has made no state");
        assert_eq!(never_raised(None, &records[2..]).unwrap(), None);
    }
}
