//! The outbox: messages to be sent after their unit committed, in order per (source, target).
//!
//! redb holds the rows; this mirror holds only ids and times, so that asking for due posts costs nothing while
//! none is due. A lane is one (source, target); only the oldest post of a lane is ever due.
//! Never here: delivery, clocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::error::{NameError, Overflow, WriteError};
use crate::id::{ComponentId, ObjectId, PostId};
use crate::json::Json;
use crate::limit;
use crate::object::check_slot_name;

/// A message to be sent after its unit committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The object that posted.
    pub source: ObjectId,
    /// The object that will receive.
    pub target: ObjectId,
    /// What it will be asked.
    pub selector: String,
    /// With what.
    pub arguments: Json,
    /// How many posts led to this one; at most 32.
    pub hops: u32,
    /// The trace it belongs to, opaque here; at most 256 bytes.
    pub trace: String,
}

/// A post waiting for delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Its place in the order of all posts.
    pub id: PostId,
    /// The message.
    pub post: Post,
    /// Deliveries that failed.
    pub attempts: u32,
    /// Not to be delivered before this time, Unix milliseconds.
    pub not_before_ms: u64,
}

/// A post that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its place in the order of all posts.
    pub id: PostId,
    /// The message.
    pub post: Post,
    /// Deliveries that failed.
    pub attempts: u32,
    /// Why the last one failed.
    pub cause: String,
    /// When it was given up, Unix milliseconds.
    pub at_ms: u64,
}

impl Post {
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        check_slot_name(&self.selector).map_err(|_| {
            NameError::new("selector", &self.selector, "1 to 128 bytes without control characters")
        })?;
        Overflow::check("posts in a chain", self.hops as usize, limit::POST_HOPS_MAX as usize)?;
        Overflow::check("bytes of a trace", self.trace.len(), limit::NAME_BYTES_MAX)?;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.selector.len() + self.arguments.as_str().len() + self.trace.len() + 64
    }
}

/// One change of the outbox, applied to the mirror when its commit is decided.
#[derive(Clone, Debug)]
pub(crate) enum OutboxChange {
    /// `owner`: of the source; none where there is no such object.
    Add {
        id: PostId,
        lane: Lane,
        not_before_ms: u64,
        owner: Option<ComponentId>,
    },
    Delay {
        id: PostId,
        lane: Lane,
        not_before_ms: u64,
    },
    Remove {
        id: PostId,
        lane: Lane,
    },
}

/// Source and target: posts of one lane are delivered one after another.
pub(crate) type Lane = (ObjectId, ObjectId);

/// Ids and times of all pending posts.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lanes: HashMap<Lane, BTreeMap<PostId, u64>>,
    /// The first post of every lane, by the time from which it is due.
    heads: BTreeSet<(u64, PostId)>,
    pending: usize,
    /// Whose each source is, as of its oldest pending post, and how many it has.
    sources: HashMap<ObjectId, (Option<ComponentId>, usize)>,
    owners: HashMap<ComponentId, usize>,
}

impl Outbox {
    pub(crate) fn apply(&mut self, change: &OutboxChange) {
        let before = self.pending;
        match change {
            OutboxChange::Add { id, lane, not_before_ms, .. }
            | OutboxChange::Delay { id, lane, not_before_ms } => {
                self.change_lane(*lane, |posts| {
                    posts.insert(*id, *not_before_ms);
                });
            }
            OutboxChange::Remove { id, lane } => self.change_lane(*lane, |posts| {
                posts.remove(id);
            }),
        }
        match change {
            OutboxChange::Add { lane, owner, .. } if self.pending > before => {
                self.count_source(lane.0, owner.as_ref());
            }
            OutboxChange::Remove { lane, .. } if self.pending < before => self.uncount_source(lane.0),
            _ => {}
        }
    }

    /// Posts that may be delivered now, longest due first.
    pub(crate) fn due(&self, now_ms: u64, limit: usize) -> Vec<PostId> {
        let due = self.heads.iter().take_while(|(not_before_ms, _)| *not_before_ms <= now_ms);
        due.take(limit).map(|(_, id)| *id).collect()
    }

    /// When the next post is due; none when no post is pending.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.heads.first().map(|(not_before_ms, _)| *not_before_ms)
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Posts whose sources a component owns.
    pub(crate) fn pending_of(&self, owner: &ComponentId) -> usize {
        self.owners.get(owner).copied().unwrap_or_default()
    }

    fn count_source(&mut self, source: ObjectId, owner: Option<&ComponentId>) {
        let (owner, pending) = self.sources.entry(source).or_insert_with(|| (owner.cloned(), 0));
        *pending += 1;
        if let Some(owner) = owner {
            *self.owners.entry(owner.clone()).or_default() += 1;
        }
    }

    fn uncount_source(&mut self, source: ObjectId) {
        let Some((owner, pending)) = self.sources.get_mut(&source) else { return };
        *pending -= 1;
        if let Some(of_owner) = owner.as_ref().and_then(|owner| self.owners.get_mut(owner)) {
            *of_owner -= 1;
        }
        if *pending == 0 {
            self.sources.remove(&source);
            self.owners.retain(|_, pending| *pending > 0);
        }
    }

    fn change_lane(&mut self, lane: Lane, change: impl FnOnce(&mut BTreeMap<PostId, u64>)) {
        let posts = self.lanes.entry(lane).or_default();
        let (head_before, len_before) = (head(posts), posts.len());
        change(posts);
        let (head_after, len_after) = (head(posts), posts.len());
        if len_after == 0 {
            self.lanes.remove(&lane);
        }
        if let Some(head) = head_before {
            self.heads.remove(&head);
        }
        self.heads.extend(head_after);
        self.pending = self.pending + len_after - len_before;
    }
}

fn head(posts: &BTreeMap<PostId, u64>) -> Option<(u64, PostId)> {
    posts.first_key_value().map(|(id, not_before_ms)| (*not_before_ms, *id))
}

#[cfg(test)]
mod tests;
