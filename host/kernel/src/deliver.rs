//! One message inside a tree: look the selector up by delegation, run whoever answers it, keep or discard its writes.

use std::sync::Arc;

use futures::future::BoxFuture;
use semver::VersionReq;
use serde_json::{Map, Value};
use telos_store::{Found, Json, MethodSlot, ObjectId, Slot};

use crate::MESSAGE_DEPTH_MAX;
use crate::failure::{Breakage, Failure, StoreFailure};
use crate::instance::{self, Delivery, Ending};
use crate::miss::{Miss, prototype_of};
use crate::objects;
use crate::pace::Turn;
use crate::seams::{JournalLine, Severity};
use crate::seat::Release;
use crate::tree::Tree;

/// A message to an object of the tree.
pub(crate) struct Message {
    pub(crate) receiver: ObjectId,
    pub(crate) selector: String,
    pub(crate) arguments: Json,
}

/// The selector that every object answers, whatever its slots.
pub(crate) const CLONE: &str = "clone";

/// Delivers one message and gives the tree back. A failure has discarded the message's writes and nothing else.
///
/// Cancel safety: dropping the future loses the tree; the root must then be given up.
pub(crate) fn deliver(
    tree: Box<Tree>,
    message: Message,
) -> BoxFuture<'static, (Box<Tree>, Result<Json, Failure>)> {
    Box::pin(async move {
        let mut tree = tree;
        if tree.depth >= MESSAGE_DEPTH_MAX {
            return (
                tree,
                Err(Failure::Busy(format!("messages are {MESSAGE_DEPTH_MAX} deep, the most there may be"))),
            );
        }
        tree.depth += 1;
        let was_read_only = tree.is_read_only;
        let savepoint = tree.unit.savepoint();
        let (mut tree, outcome) = answer(tree, message).await;
        match &outcome {
            Ok(_) => tree.unit.keep(savepoint),
            Err(_) => tree.unit.discard(savepoint),
        }
        tree.is_read_only = was_read_only;
        tree.depth -= 1;
        (tree, outcome)
    })
}

/// Delivers the message that opens a tree: one that computes for long takes turns with others that do, and one that is
/// expected to has its `first` already.
///
/// Cancel safety: as [`deliver`].
pub(crate) async fn deliver_root(
    tree: Box<Tree>,
    message: Message,
    first: Option<Turn>,
) -> (Box<Tree>, Result<Json, Failure>) {
    let (pacer, pace) = (tree.surroundings.pacer.clone(), tree.root.pace.clone());
    pacer.run(pace, first, deliver(tree, message)).await
}

async fn answer(mut tree: Box<Tree>, message: Message) -> (Box<Tree>, Result<Json, Failure>) {
    let found = match tree.unit.lookup(message.receiver, &message.selector) {
        Ok(found) => found,
        Err(error) => {
            let failure = host_failure(&tree, error.into());
            return (tree, Err(failure));
        }
    };
    match found {
        Some(Found { slot: Slot::Value(value), .. }) => (tree, Ok(value)),
        Some(Found { slot: Slot::Method(method), .. }) => call_method(tree, message, method).await,
        None => {
            let outcome = answer_missing(&mut tree, &message);
            (tree, outcome)
        }
    }
}

async fn call_method(
    mut tree: Box<Tree>,
    message: Message,
    method: MethodSlot,
) -> (Box<Tree>, Result<Json, Failure>) {
    let release = match seated(&tree, &method) {
        Ok(release) => release,
        Err(failure) => return (tree, Err(failure)),
    };
    let Some(selector) = release.descriptor.selectors.get(&method.selector) else {
        let failure = broken(&mut tree, &release, Breakage::Selector(method.selector));
        return (tree, Err(failure));
    };
    if tree.is_read_only && !selector.read_only {
        return (tree, Err(Failure::ReadOnly(message.selector)));
    }
    tree.is_read_only = selector.read_only;
    let delivery = Delivery {
        release: Arc::clone(&release),
        receiver: message.receiver,
        selector: method.selector,
        arguments: message.arguments,
    };
    let (mut tree, ending) = instance::run(tree, delivery).await;
    let outcome = match ending {
        Ending::Answer(answer) => Ok(answer),
        Ending::Failure(failure) => Err(failure),
        Ending::Broken(breakage) => {
            let failure = broken(&mut tree, &release, breakage);
            return (tree, Err(failure));
        }
    };
    release.tally.count_answered();
    (tree, outcome)
}

/// The release that a method slot leads to, in the tree's own seat table.
fn seated(tree: &Tree, method: &MethodSlot) -> Result<Arc<Release>, Failure> {
    let Some(release) = tree.seats.releases.get(&method.component) else {
        return Err(Failure::NotServing {
            component: method.component.to_string(),
            selector: method.selector.clone(),
        });
    };
    let is_satisfied =
        VersionReq::parse(&method.requirement).is_ok_and(|wanted| wanted.matches(release.version()));
    if is_satisfied {
        return Ok(Arc::clone(release));
    }
    Err(Failure::Requirement {
        component: method.component.to_string(),
        serving: release.version().to_string(),
        requirement: method.requirement.clone(),
        selector: method.selector.clone(),
    })
}

/// What is left when no slot answers: `clone`, which every object understands, or nothing.
fn answer_missing(tree: &mut Tree, message: &Message) -> Result<Json, Failure> {
    if message.selector != CLONE {
        return Err(not_understood(tree, message));
    }
    if tree.is_read_only {
        return Err(Failure::ReadOnly(CLONE.into()));
    }
    let copied = objects::clone_object(&mut tree.unit, message.receiver);
    let id = copied.map_err(|error| host_failure(tree, error))?;
    Json::parse(&format!("\"{id}\"")).map_err(|error| Failure::Refused(error.to_string()))
}

fn not_understood(tree: &mut Tree, message: &Message) -> Failure {
    let prototype = prototype_of(&mut tree.unit, message.receiver).unwrap_or(message.receiver);
    let miss = Miss {
        receiver: message.receiver,
        prototype,
        selector: message.selector.clone(),
        arguments: message.arguments.clone(),
        has_emitted: tree.effects.has_emitted(),
    };
    let tried = match objects::lookup_path(&mut tree.unit, message.receiver) {
        Ok(path) => path.join(", "),
        Err(_) => message.receiver.to_string(),
    };
    Failure::NotUnderstood {
        receiver: objects::display_name(&mut tree.unit, message.receiver),
        selector: message.selector.clone(),
        tried,
        ticket: None,
        miss: Box::new(miss),
    }
}

/// Turns a store error into a failure, writing what is the host's to the journal.
pub(crate) fn host_failure(tree: &Tree, error: StoreFailure) -> Failure {
    match error {
        StoreFailure::Failure(failure) => failure,
        StoreFailure::Host(cause) => {
            let journal = &tree.surroundings.journal;
            let incident = journal.next_incident();
            journal.record(JournalLine {
                severity: Severity::Error,
                event: "message.host-failed",
                body: cause.clone(),
                trace: Some(tree.root.trace.clone()),
                plugin: None,
                attributes: Map::from_iter([("incident".into(), Value::from(incident))]),
            });
            Failure::Host { cause, incident }
        }
    }
}

fn broken(tree: &mut Tree, release: &Arc<Release>, breakage: Breakage) -> Failure {
    release.tally.count_broken();
    if !tree.breakages.iter().any(|(known, _)| Arc::ptr_eq(known, release)) {
        tree.breakages.push((Arc::clone(release), breakage.to_string()));
    }
    let journal = &tree.surroundings.journal;
    let incident = journal.next_incident();
    let attributes = Map::from_iter([
        ("incident".into(), Value::from(incident)),
        ("component".into(), release.component.to_string().into()),
        ("release".into(), release.version().to_string().into()),
        ("digest".into(), release.digest.to_string().into()),
    ]);
    journal.record(JournalLine {
        severity: Severity::Warn,
        event: "message.broken",
        body: format!("{} {} {breakage}", release.component, release.version()),
        trace: Some(tree.root.trace.clone()),
        // Against its own rate: a message can send, and survive, as many that break as it likes.
        plugin: Some(release.component.to_string()),
        attributes,
    });
    Failure::Broken {
        component: release.component.to_string(),
        version: release.version().to_string(),
        breakage: Box::new(breakage),
        incident,
    }
}
