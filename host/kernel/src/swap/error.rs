//! Why a change of seats or grants did not happen, in words for people and for programs.

use telos_store::{BlobError, CommitError, ComponentId, ReadError, WriteError, told};

use crate::change;
use crate::examine::ExamineError;
use crate::failure::{Effect, FREE_SPACE};
use crate::grant::INTERFACES;
use crate::root_object::RootObjectError;

/// Why a swap did not happen; the release that was serving keeps serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// The file is not a release.
    #[error("{source_name} was refused: {error}")]
    Examine {
        /// Where the bytes came from.
        source_name: String,
        /// Why.
        error: ExamineError,
    },
    /// The component is another one than its manifest says.
    #[error(
        "{source_name} was refused: its manifest says `{manifest}`, the component says `{embedded}`; make them agree"
    )]
    Identity {
        /// Where the bytes came from.
        source_name: String,
        /// The manifest's id.
        manifest: String,
        /// The embedded id.
        embedded: String,
    },
    /// The component has another version than its manifest says.
    #[error(
        "{source_name} was refused: its manifest says version {manifest}, the component says {embedded}; make them agree"
    )]
    Version {
        /// Where the bytes came from.
        source_name: String,
        /// The manifest's version.
        manifest: String,
        /// The embedded version.
        embedded: String,
    },
    /// Another file of the same directory holds the same component.
    #[error("{source_name} waits: {rival} beside it holds `{component}` too; keep one of them")]
    Rival {
        /// Where the bytes came from.
        source_name: String,
        /// The other file.
        rival: String,
        /// The component both hold.
        component: ComponentId,
    },
    /// It broke one of its own promises.
    #[error("{component} {version} fails its own example `{name}` of `{selector}`: it {detail}")]
    Example {
        /// The component.
        component: ComponentId,
        /// Its version.
        version: String,
        /// The selector concerned.
        selector: String,
        /// The example.
        name: String,
        /// What differed.
        detail: String,
    },
    /// This host could not run its examples, which says nothing of the component.
    #[error("the examples of {component} {version} could not be run: {cause}")]
    Untried {
        /// The component.
        component: ComponentId,
        /// Its version.
        version: String,
        /// What the host wanted for.
        cause: String,
    },
    /// Its root object cannot be made or changed.
    #[error(transparent)]
    RootObject(#[from] RootObjectError),
    /// Its component's state is of a generation that it does not know.
    #[error(
        "{component} {version} cannot serve: it knows state up to generation {known}, and that of {component} is in \
         generation {in_force}"
    )]
    Outdated {
        /// The component.
        component: ComponentId,
        /// The version that is too old.
        version: String,
        /// The newest generation that it knows.
        known: u32,
        /// What is in force.
        in_force: u32,
        /// A swap to it would carry the state back.
        may_go_back: bool,
    },
    /// A later release is permanent.
    #[error("{source_name} was refused: it is {component} {version}, and {permanent} is permanent")]
    Older {
        /// Where the bytes came from.
        source_name: String,
        /// The component.
        component: ComponentId,
        /// Its version.
        version: String,
        /// The version that is permanent.
        permanent: String,
    },
    /// Another build has this version.
    #[error(
        "{source_name} was refused: {component} {version} is another build already, with digest {digest}; a version \
         names one build"
    )]
    SameVersion {
        /// Where the bytes came from.
        source_name: String,
        /// The component.
        component: ComponentId,
        /// Its version.
        version: String,
        /// The beginning of the other build's digest.
        digest: String,
    },
    /// The build was burnt.
    #[error("{component} {version} ({digest}) is in quarantine: {cause}")]
    Quarantined {
        /// The component.
        component: ComponentId,
        /// Its version.
        version: String,
        /// The beginning of its digest.
        digest: String,
        /// What was found against it.
        cause: String,
    },
    /// There is no quarantine to lift.
    #[error("{component} {version} is not in quarantine; see `telos plugin quarantine list`")]
    NotQuarantined {
        /// The component.
        component: ComponentId,
        /// The version asked about.
        version: String,
    },
    /// A release that carries state to a later generation cannot carry it back.
    #[error(
        "{component} {version} was not let serve: it carries state from generation {from} to {to}, and knows no way \
         back to {from}"
    )]
    NoWayBack {
        /// The component.
        component: ComponentId,
        /// The release.
        version: String,
        /// The generation that its seat may have to go back to.
        from: u32,
        /// The release's.
        to: u32,
    },
    /// Carried there and back, an object is another one.
    #[error("{component} {version} was not let serve: object `{object}` does not come back: {cause}")]
    Astray {
        /// The component.
        component: ComponentId,
        /// The release.
        version: String,
        /// The object's name or id.
        object: String,
        /// How it differs, or why it cannot be tried.
        cause: String,
    },
    /// This host could not try whether state comes back, which says nothing of the release.
    #[error(
        "{component} {version} was not let serve: whether object `{object}` comes back could not be tried: {cause}"
    )]
    WayUntried {
        /// The component.
        component: ComponentId,
        /// The release.
        version: String,
        /// The object's name or id.
        object: String,
        /// What the host wanted for.
        cause: String,
    },
    /// Another change carries the component's state.
    #[error("`{0}` was not changed: its state is being carried over for another change")]
    Evolving(ComponentId),
    /// State was not carried over; what served serves on, unless the effect is unknown.
    #[error("{component} {version} does not serve: {cause}")]
    NotEvolved {
        /// The component.
        component: ComponentId,
        /// The release.
        version: String,
        /// Why.
        cause: String,
        /// What to do next.
        next: String,
        /// Whether it may serve all the same.
        effect: Effect,
    },
    /// Too many releases of the component lost their seat lately for one more to be tried by itself.
    #[error(
        "{component} {version} waits: {fallen} releases of {component} lost their seat within an hour, and it is tried \
         by itself in {minutes} min"
    )]
    RestartsSpent {
        /// The component.
        component: ComponentId,
        /// The release.
        version: String,
        /// How many lost it.
        fallen: usize,
        /// Until the next is tried.
        minutes: u64,
    },
    /// Slots of stored objects lead to the component on a condition that the release does not meet.
    #[error("{component} {version} was not let serve: {slots}")]
    Unmet {
        /// The component.
        component: ComponentId,
        /// The release.
        version: String,
        /// The first of the slots, with what they require.
        slots: String,
    },
    /// A set changes one seat at least, and not too many.
    #[error("a set of {members} members cannot be applied; it has from 1 to {max}")]
    SetSize {
        /// How many it has.
        members: usize,
        /// How many it may have.
        max: usize,
    },
    /// A set names a component twice.
    #[error("the set names `{0}` twice; one member says what becomes of its seat")]
    SetTwice(String),
    /// One member of a set could not serve at once, so nothing was changed.
    #[error("the set was not applied: {component}: {cause}")]
    SetMember {
        /// The component.
        component: ComponentId,
        /// Why.
        cause: String,
        /// What would lift that.
        next: String,
    },
    /// No component of this id has a seat or a release.
    #[error("no plugin is called `{0}`; see `telos plugin list`")]
    NoSuchPlugin(String),
    /// No such release is kept.
    #[error("`{component}` has no release `{wanted}`; it has {known}")]
    NoSuchRelease {
        /// The component.
        component: ComponentId,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// A digest begins so, and so may others.
    #[error(
        "`{wanted}` begins the digest of a release of `{component}`, and is too short to name it; give {enough}"
    )]
    DigestTooShort {
        /// The component.
        component: ComponentId,
        /// What was asked for.
        wanted: String,
        /// As much as is needed.
        enough: String,
    },
    /// There is nothing to go back to.
    #[error("`{0}` has no earlier release to return to")]
    NothingEarlier(ComponentId),
    /// Another change came first.
    #[error("no release of `{0}` waits for a grant any more")]
    NothingWaits(ComponentId),
    /// No such interface.
    #[error("there is no interface `{0}`; there are {known}", known = INTERFACES.join(", "))]
    NoSuchInterface(String),
    /// The root object had too much to do for too long.
    #[error(
        "`{component}` was not changed: its root object is busy; in {waited_s} s it was not this change's turn"
    )]
    RootBusy {
        /// The component.
        component: ComponentId,
        /// How long a change waits; one that finds the object's lane full does not.
        waited_s: u64,
    },
    /// The grant was given; the release that waited for it could not begin to serve.
    #[error("the grant was given, but {component} {version} does not serve yet: {cause}")]
    GrantedOnly {
        /// The component.
        component: ComponentId,
        /// The release that waits.
        version: String,
        /// Why.
        #[source]
        cause: Box<SwapError>,
    },
    /// The commit was refused, or nobody knows.
    #[error("the store did not take it: {0}")]
    Commit(#[from] CommitError),
    /// The store could not be read, or did not take the bytes; nothing was changed.
    #[error("the store did not take it: {0}")]
    Store(String),
    /// The device that the store is on has no room for the bytes; nothing was changed.
    #[error("there is no room for it: {0}")]
    NoRoom(String),
    /// The change ended before it could say how.
    #[error("the change was cut short: {0}")]
    CutShort(String),
}

impl SwapError {
    /// Whether what was asked for may have happened.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Commit(error) => change::effect(error),
            Self::NotEvolved { effect, .. } => *effect,
            Self::GrantedOnly { .. } => Effect::Committed,
            Self::CutShort(_) => Effect::Unknown,
            _ => Effect::None,
        }
    }

    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Commit(error) => change::kind(error),
            Self::RootBusy { .. } | Self::Evolving(_) => "busy",
            Self::NotEvolved { effect: Effect::Unknown, .. } => "unavailable",
            Self::GrantedOnly { cause, .. } => cause.kind(),
            Self::NoRoom(_) => "no-room",
            _ => "refused",
        }
    }

    /// What to do next, when there is something better than reading the message.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Commit(error) => change::next_step(error).map(Into::into),
            Self::RootBusy { component, .. } => Some(format!(
                "ask again when it has less to do; `telos plugin revoke {component} --all` does not wait"
            )),
            Self::GrantedOnly { component, version, .. } => {
                Some(format!("`telos plugin swap {component} {version}` lets it serve"))
            }
            Self::NoRoom(_) => Some(FREE_SPACE.into()),
            Self::Evolving(component) => Some(format!(
                "ask again when that has ended; `telos plugin info {component}` says who serves"
            )),
            Self::Untried { .. } | Self::WayUntried { .. } => {
                Some("try it again when the host has less to do; nothing was changed".into())
            }
            Self::Older { component, .. } => Some(format!(
                "give it a later version; or go back to a release that is kept, which `telos plugin info {component}` \
                 lists, with `telos plugin swap {component} VERSION`"
            )),
            Self::NoWayBack { component, version, .. } => Some(format!(
                "give it a `#[devolve]`; or, since it cannot return by itself then, `telos plugin swap {component} \
                 {version} --no-return`"
            )),
            Self::Astray { component, version, .. } => Some(format!(
                "mend its `devolve`; or, since it cannot return by itself then, `telos plugin swap {component} \
                 {version} --no-return`"
            )),
            Self::NotEvolved { next, .. } => Some(next.clone()),
            Self::RestartsSpent { component, .. } => Some(format!(
                "`telos plugin install` lets it serve now; `telos plugin quarantine list` says what became of the others \
                 of {component}"
            )),
            Self::Unmet { component, .. } => {
                Some(format!("change those slots, or let a release of {component} serve that they take"))
            }
            Self::SetMember { next, .. } if !next.is_empty() => Some(next.clone()),
            Self::SameVersion { .. } => Some("give the new build a later version".into()),
            Self::Quarantined { component, digest, .. } => Some(format!(
                "mend it and install the new build; or `telos plugin quarantine lift {component} {digest}` and then \
                 `telos plugin swap {component} {digest}`"
            )),
            Self::CutShort(_) => Some("look whether it happened, with `telos audit`".into()),
            Self::Outdated { component, version, may_go_back: true, .. } => Some(format!(
                "`telos plugin swap {component} {version}`, apart from any set and once it has its grants, carries the \
                 state back for it"
            )),
            Self::Outdated { known, in_force, .. } => Some(format!(
                "use a release of generation {in_force} or later; generation {known} comes back only with a backup, by \
                 `telos store restore`"
            )),
            _ => None,
        }
    }

    /// Whether the same may succeed in a moment, with nothing else changed.
    pub(crate) fn is_of_the_moment(&self) -> bool {
        matches!(self, Self::Examine { error, .. } if error.is_of_the_moment())
    }

    /// Whether this host refuses these bytes for ever, whatever else changes: only then need nobody try them again.
    pub fn is_of_the_bytes(&self) -> bool {
        match self {
            Self::Examine { error, .. } => error.is_of_the_bytes(),
            Self::Example { .. } => true,
            _ => false,
        }
    }
}

impl From<ReadError> for SwapError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<telos_store::Failure> for SwapError {
    fn from(error: telos_store::Failure) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<WriteError> for SwapError {
    fn from(error: WriteError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<BlobError> for SwapError {
    fn from(error: BlobError) -> Self {
        if error.is_no_room() { Self::NoRoom(told(&error)) } else { Self::Store(told(&error)) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn bytes_that_are_not_taken_name_the_file_and_the_cause() {
        let error = |kind: io::ErrorKind| {
            let file = BlobError::File { path: "/h/store/blobs/f4/02".into(), cause: kind.into() };
            SwapError::from(file)
        };
        let (full, broken) = (error(io::ErrorKind::StorageFull), error(io::ErrorKind::PermissionDenied));
        assert_eq!((full.kind(), full.effect()), ("no-room", Effect::None));
        assert!(full.next_step().is_some_and(|next| next.contains("free some space")));
        assert_eq!(broken.kind(), "refused");
        for (error, cause) in [(full, "no storage space"), (broken, "permission denied")] {
            let told = error.to_string();
            assert!(told.contains("/h/store/blobs/f4/02: ") && told.contains(cause), "{told}");
        }
    }
}
