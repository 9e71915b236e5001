//! Blame: whether a message that broke a release on probation would have broken another release as well.
//!
//! The root runs again as it ran, with the other release in the seat: at the same moment, with the same chance and the
//! same answers of the world outside. Nothing it does is kept, nobody is asked anything new, no line is written. Where
//! the other release knows an earlier state, it finds the receiver, and what that delegates to, carried back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use telos_store::{Digest, Fault, Json, Object, ObjectId, ReadError, Unit};

use crate::allowance::Allowances;
use crate::budget::InferenceTerms;
use crate::deliver::{Message, deliver_root};
use crate::dispatch::{Dispatcher, Surroundings};
use crate::effects::EffectLog;
use crate::evolution::Evolver;
use crate::miss::ForgeSeat;
use crate::probation::fingerprint;
use crate::seams::{NoMinds, Unheard};
use crate::seat::Release;
use crate::tree::{Answers, RootContext, Tree};

/// Time for the other release; one that needs longer has not survived.
const BLAME_TIME: Duration = Duration::from_secs(10);

/// A root that a release on probation broke, or a message within it.
pub(crate) struct Struck {
    /// The release.
    pub(crate) release: Arc<Release>,
    /// What it did, in words.
    pub(crate) breakage: String,
    pub(crate) receiver: ObjectId,
    pub(crate) selector: String,
    pub(crate) arguments: Json,
    pub(crate) context: RootContext,
    pub(crate) effects: EffectLog,
}

impl Struck {
    /// What makes it distinct.
    pub(crate) fn fingerprint(&self) -> Digest {
        fingerprint(self.receiver, &self.selector, &self.arguments)
    }
}

/// Whether another release would not have been broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survival {
    Survives,
    Breaks,
    /// The release that broke does not carry its state back for it.
    NoWay,
    /// This host could not find out just now.
    Unknown,
}

/// Objects that are carried back for one message.
const CARRIED_MAX: usize = 64;

impl Dispatcher {
    /// Whether `other`, which knows the same state, is not broken by what broke the release.
    pub(crate) async fn would_survive(&self, struck: &Struck, other: Arc<Release>) -> bool {
        self.survives(struck, other, self.store.begin()).await
    }

    /// Whether `other`, to whose state the release carries its own back, is not broken by what broke the release.
    pub(crate) async fn would_survive_earlier(
        &self,
        struck: &Struck,
        other: Arc<Release>,
        evolver: Evolver,
    ) -> Survival {
        let mut unit = self.store.begin();
        let lowering = lower(&mut unit, struck, &other, evolver);
        match tokio::time::timeout(BLAME_TIME, lowering).await {
            Ok(Ok(())) => Survival::of(self.survives(struck, other, unit).await),
            Ok(Err(survival)) => survival,
            // This machine has too much to do.
            Err(_) => Survival::Unknown,
        }
    }

    async fn survives(&self, struck: &Struck, other: Arc<Release>, unit: Unit) -> bool {
        let Ok(_admitted) = self.admission.enter(None).await else { return false };
        let component = other.component.clone();
        let tree = self.scratch_tree(struck, other, unit);
        let message = Message {
            receiver: struck.receiver,
            selector: struck.selector.clone(),
            arguments: struck.arguments.clone(),
        };
        match tokio::time::timeout(BLAME_TIME, deliver_root(tree, message, None)).await {
            Ok((tree, _)) => tree.breakages.iter().all(|(release, _)| release.component != component),
            Err(_) => false,
        }
    }

    fn scratch_tree(&self, struck: &Struck, other: Arc<Release>, unit: Unit) -> Box<Tree> {
        let seats = Arc::new(self.seats.current().with(unit.snapshot(), other));
        let surroundings = Surroundings {
            pacer: self.surroundings.pacer.clone(),
            grants: Arc::clone(&self.surroundings.grants),
            journal: Arc::new(Unheard),
            minds: Arc::new(NoMinds),
            allowances: Allowances::new(InferenceTerms::default()),
            archivist: None,
            forge: ForgeSeat::default(),
        };
        let context = RootContext { deadline: Instant::now() + BLAME_TIME, ..struck.context.again() };
        Box::new(Tree {
            unit,
            seats,
            surroundings: Arc::new(surroundings),
            root: Arc::new(context),
            effects: struck.effects.unseen(),
            answers: Answers::Live,
            depth: 0,
            is_read_only: false,
            instances: 0,
            instance: Duration::ZERO,
            fuel: 0,
            sends: 0,
            hops: 0,
            cpu: Duration::ZERO,
            breakages: Vec::new(),
        })
    }
}

impl Survival {
    fn of(survives: bool) -> Self {
        if survives { Self::Survives } else { Self::Breaks }
    }

    /// What is said when a step to it failed, by the release's fault or not.
    fn without(is_of_release: bool) -> Self {
        if is_of_release { Self::NoWay } else { Self::Unknown }
    }
}

/// Puts what a message finds back into the state that an earlier release knows, and what it makes as well.
async fn lower(
    unit: &mut Unit,
    struck: &Struck,
    other: &Release,
    mut evolver: Evolver,
) -> Result<(), Survival> {
    let (from, to) = (struck.release.descriptor.generation, other.descriptor.generation);
    let lowered = unit.raise_generation(&other.component, from, to, struck.release.digest);
    lowered.map_err(|_| Survival::Unknown)?;
    for object in delegates(unit, struck.receiver).map_err(|_| Survival::Unknown)? {
        if object.owner == other.component && object.generation != to {
            let carried = evolver.carry(&object, to).await;
            let slots = carried.map_err(|refusal| Survival::without(refusal.is_of_release()))?;
            let put = unit.evolve(object.id, to, slots);
            put.map_err(|error| Survival::without(error.fault() == Fault::Guest))?;
        }
    }
    Ok(())
}

/// An object and those that it delegates to, each once.
fn delegates(unit: &mut Unit, receiver: ObjectId) -> Result<Vec<Arc<Object>>, ReadError> {
    let (mut found, mut ahead) = (Vec::<Arc<Object>>::new(), vec![receiver]);
    while let Some(id) = ahead.pop() {
        if found.len() < CARRIED_MAX
            && found.iter().all(|object| object.id != id)
            && let Some(object) = unit.object(id)?
        {
            ahead.extend(object.parents.iter().copied());
            found.push(object);
        }
    }
    Ok(found)
}
