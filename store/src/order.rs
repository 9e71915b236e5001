//! The order: units that were voted for and are not yet durable, as units that begin on them see it.
//!
//! ```text
//! vote     the unit gets the next position, its writes join the order    memory    crash after: nothing happened
//! decide   one redb commit for a group of them                           durable   crash after: it happened
//! settle   what is durable leaves the order                              memory
//! fail     the order is emptied and its era ends                         memory    units of that era decide nothing
//! ```
//! The states of objects that leave are remembered for a while, so that busy objects are not read back.
//! So a busy object batches: the next unit reads what the last one wrote while the disk still works on it. Whoever
//! reads asks the order first and redb second, since what leaves the order is durable before.
//! Never here: redb, clocks, replies.

mod recent;
mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use crate::generation::Generations;
use crate::id::{ComponentId, ObjectId, ObjectName, Position, PostId};
use crate::object::Object;
use crate::record::RecordWrite;
use crate::session::{DedupeKey, SessionId};
use crate::stored::StoredBytes;
use crate::unit::Layer;
use crate::vectors::{CollectionForm, CollectionKey, Growth, Room, Vector, bytes_of};

use recent::{Half, Recent};
use sessions::Sessions;

pub(crate) use sessions::KnownSession;

/// Everything that is voted for and not yet durable.
#[derive(Default)]
pub(crate) struct Order {
    /// The last position that was given away.
    position: Position,
    /// Counts failures: positions of an era that failed are given away again.
    era: u64,
    /// Units that wait for the disk, those that only wait for what they read included.
    waiting: usize,
    objects: HashMap<ObjectId, Versions<Arc<Object>>>,
    recent: Recent,
    /// The last vote of this era that changes states otherwise than by writing them. None before it is remembered.
    reshaped: Position,
    names: BTreeMap<ObjectName, Versions<Option<ObjectId>>>,
    collections: HashMap<CollectionKey, Versions<CollectionForm>>,
    vectors: HashMap<CollectionKey, HashMap<ObjectId, Versions<Option<Vector>>>>,
    /// Bytes that components store, everything pending included.
    pub(crate) stored: StoredBytes,
    /// Bytes of all vectors once everything pending is durable.
    room: Room,
    /// Posts that a unit takes, or whose delivery failed in it.
    touched_posts: HashMap<PostId, Versions<()>>,
    /// Posts added and taken by each unit.
    posts: Versions<(usize, usize)>,
    /// Posts added by each unit, by whose objects sent them.
    posters: Versions<Posters>,
    sessions: Sessions,
    /// As of when each unit closes idle sessions.
    sweeps: Versions<u64>,
    /// Every raise that is in force once everything pending is durable.
    generations: Arc<Generations>,
    /// The last vote of this era that wrote an object of a component; kept when it is durable.
    touched: HashMap<ComponentId, Position>,
    /// The last vote of this era that wrote, moved or dropped evolved copies; kept when it is durable.
    copied: Position,
}

/// Posts by whose objects sent them.
pub(crate) type Posters = BTreeMap<ComponentId, usize>;

/// What the order knows of an object's state.
pub(crate) enum Known<'a> {
    /// It will be so; a raise may be between it and the position that was asked for.
    Pending(&'a Arc<Object>),
    /// It is so in the tables.
    Durable(&'a Arc<Object>),
}

/// One thing's pending states, oldest first.
struct Versions<T>(Vec<(Position, T)>);

impl Order {
    /// The last position that was given away.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The era that units begin in.
    pub(crate) fn era(&self) -> u64 {
        self.era
    }

    /// Units that wait for the disk.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Gives a unit the next position; its objects say so from now on. `now_ms`: when its request is used.
    pub(crate) fn add(
        &mut self,
        writes: &mut Layer,
        request: Option<&DedupeKey>,
        outcome: &[u8],
        now_ms: u64,
    ) -> Position {
        let position = self.position.next();
        self.position = position;
        self.waiting += 1;
        for (id, object) in &mut writes.objects {
            Arc::make_mut(object).position = position;
            self.touch(&object.owner, position);
            push(&mut self.objects, *id, position, Arc::clone(object));
        }
        for (name, id) in &writes.names {
            self.names.entry(name.clone()).or_default().push(position, *id);
        }
        for (collection, form) in &writes.collections {
            push(&mut self.collections, collection.clone(), position, *form);
        }
        for ((collection, object), vector) in &writes.vectors {
            let vectors = self.vectors.entry(collection.clone()).or_default();
            push(vectors, *object, position, vector.clone());
        }
        self.add_posts(writes, position);
        self.add_generations(writes, position);
        self.add_reshapes(writes, position);
        self.add_sweeps(writes, position);
        if let Some(key) = request {
            self.sessions.add(key, position, outcome, now_ms);
        }
        position
    }

    /// Counts a unit that waits until what it read is durable.
    pub(crate) fn add_reader(&mut self) {
        self.waiting += 1;
    }

    /// Forgets what is durable through a position, and that many units waiting. Answers what is remembered no longer, to
    /// be dropped once the order's lock is free.
    pub(crate) fn settle(&mut self, through: Position, units: usize) -> Vec<Half> {
        self.waiting = self.waiting.saturating_sub(units);
        self.settle_objects(through);
        self.names.retain(|_, versions| versions.settle(through));
        self.collections.retain(|_, versions| versions.settle(through));
        self.vectors.retain(|_, objects| {
            objects.retain(|_, versions| versions.settle(through));
            !objects.is_empty()
        });
        self.touched_posts.retain(|_, versions| versions.settle(through));
        self.posts.settle(through);
        self.posters.settle(through);
        self.sessions.settle(through);
        self.sweeps.settle(through);
        self.recent.take_aged()
    }

    /// Empties the order after a failure: what was voted for will not be decided, or nobody knows.
    pub(crate) fn end_era(&mut self, decided: Position) {
        let stored = std::mem::take(&mut self.stored).without_pending();
        *self = Order { position: decided, era: self.era + 1, stored, ..Order::default() };
    }

    /// Where positions go on, once the database says what was decided.
    pub(crate) fn begin_at(&mut self, position: Position) {
        self.position = position;
    }

    /// Begins with what the database says is in force.
    pub(crate) fn set_generations(&mut self, generations: Arc<Generations>) {
        self.generations = generations;
    }

    /// Every raise that is in force once everything pending is durable.
    pub(crate) fn generations(&self) -> &Arc<Generations> {
        &self.generations
    }

    /// The last vote of this era that may have changed what a raise of a component finds.
    pub(crate) fn touched(&self, component: &ComponentId) -> Position {
        self.touched.get(component).copied().unwrap_or_default().max(self.copied)
    }

    /// The last vote of this era that wrote, moved or dropped evolved copies.
    pub(crate) fn copied(&self) -> Position {
        self.copied
    }

    /// The newest pending state of every object that a component will own.
    pub(crate) fn objects_of(&self, component: &ComponentId) -> impl Iterator<Item = &Arc<Object>> {
        let newest = self.objects.values().filter_map(|versions| versions.0.last());
        newest.map(|(_, state)| state).filter(move |state| state.owner == *component)
    }

    /// The state of an object as of a position that is pending; of one that was decided lately, where it is remembered,
    /// and no raise is then between.
    pub(crate) fn state(&self, id: ObjectId, at: Position) -> Option<Known<'_>> {
        if let Some(pending) = self.object(id, at) {
            return Some(Known::Pending(pending));
        }
        self.recent.get(id).filter(|state| state.position <= at).map(Known::Durable)
    }

    /// The pending state of an object as of a position.
    pub(crate) fn object(&self, id: ObjectId, at: Position) -> Option<&Arc<Object>> {
        self.objects.get(&id)?.at(at)
    }

    /// The pending states of an object as of a position, newest first.
    pub(crate) fn history(&self, id: ObjectId, at: Position) -> Vec<Arc<Object>> {
        let states = self.objects.get(&id).map(|versions| versions.0.as_slice()).unwrap_or_default();
        states
            .iter()
            .rev()
            .filter(|(position, _)| *position <= at)
            .map(|(_, state)| Arc::clone(state))
            .collect()
    }

    /// What a name stands for as of a position, and the unit that says so; none while no change is pending.
    pub(crate) fn name(&self, name: &ObjectName, at: Position) -> Option<(Option<ObjectId>, Position)> {
        let (position, id) = self.names.get(name)?.entry_at(at)?;
        Some((*id, position))
    }

    /// Names after `after`, those with a prefix, as of a position.
    pub(crate) fn names(
        &self,
        prefix: &str,
        after: &str,
        at: Position,
    ) -> BTreeMap<ObjectName, Option<ObjectId>> {
        let is_asked = |name: &ObjectName| name.as_str().starts_with(prefix) && name.as_str() > after;
        let asked = self.names.iter().filter(|(name, _)| is_asked(name));
        asked.filter_map(|(name, versions)| Some((name.clone(), *versions.at(at)?))).collect()
    }

    /// The pending vectors of a collection as of a position; none is one that will be gone.
    pub(crate) fn vectors(&self, key: &CollectionKey, at: Position) -> HashMap<ObjectId, Option<Vector>> {
        let pending = self.vectors.get(key).into_iter().flatten();
        pending.filter_map(|(object, versions)| Some((*object, versions.at(at)?.clone()))).collect()
    }

    /// The commit that will have added an object's vector as of a position, [`Position::NONE`] for one that will be
    /// gone; none while no change is pending.
    pub(crate) fn vector(&self, key: &CollectionKey, object: ObjectId, at: Position) -> Option<Position> {
        let (position, vector) = self.vectors.get(key)?.get(&object)?.entry_at(at)?;
        Some(if vector.is_some() { position } else { Position::NONE })
    }

    /// The bytes that an object's vector will count for, 0 for one that will be gone; none while no change is pending.
    pub(crate) fn vector_bytes(&self, key: &CollectionKey, object: ObjectId) -> Option<u64> {
        let (_, vector) = self.vectors.get(key)?.get(&object)?.0.last()?;
        Some(vector.as_ref().map_or(0, bytes_of))
    }

    /// Bytes of all vectors once everything pending is durable.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Counts the vectors of a unit that was added.
    pub(crate) fn grow(&mut self, growth: &Growth) {
        self.room.grow(growth);
    }

    /// Begins with what the database says is in use.
    pub(crate) fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// The form of a collection that only pending units know.
    pub(crate) fn form(&self, key: &CollectionKey) -> Option<CollectionForm> {
        self.collections.get(key)?.0.first().map(|(_, form)| *form)
    }

    /// The collections of an owner that pending units make.
    pub(crate) fn collections_of(&self, owner: &ComponentId) -> impl Iterator<Item = &CollectionKey> {
        self.collections.keys().filter(move |key| key.owner == *owner)
    }

    /// Whether a pending unit takes the post, or counts a failure of it.
    pub(crate) fn is_touched(&self, post: PostId) -> bool {
        self.touched_posts.contains_key(&post)
    }

    /// Posts that wait for delivery once everything pending is durable, when `pending` do now.
    pub(crate) fn posts_after(&self, pending: usize) -> usize {
        let sum = |of: fn(&(usize, usize)) -> usize| {
            self.posts.0.iter().map(|(_, counts)| of(counts)).sum::<usize>()
        };
        (pending + sum(|counts| counts.0)).saturating_sub(sum(|counts| counts.1))
    }

    /// Counts by whose objects a unit that was added posts.
    pub(crate) fn add_posters(&mut self, position: Position, posters: Posters) {
        if !posters.is_empty() {
            self.posters.push(position, posters);
        }
    }

    /// Posts of one owner's objects that wait once everything pending is durable, when `pending` do now; those that
    /// pending units take are still among them.
    pub(crate) fn posts_of_after(&self, owner: &ComponentId, pending: usize) -> usize {
        let added = self.posters.0.iter().filter_map(|(_, posters)| posters.get(owner));
        pending + added.sum::<usize>()
    }

    /// What is known of a session, everything pending included; none unless it was learnt and has requests.
    pub(crate) fn session(&self, session: SessionId) -> Option<&KnownSession> {
        self.sessions.known(session)
    }

    /// Takes what the tables say of a session that is not known; none when they do not know it either.
    pub(crate) fn learn_session(&mut self, session: SessionId, stored: Option<KnownSession>) {
        self.sessions.learn(session, stored);
    }

    /// The latest time as of which a pending sweep closes sessions; 0 while none is pending.
    pub(crate) fn sweeping_ms(&self) -> u64 {
        self.sweeps.0.iter().map(|(_, now_ms)| *now_ms).max().unwrap_or_default()
    }

    /// Forgets what is known of sessions: some were removed from the tables.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions.forget();
    }

    /// The pending decision of a request.
    pub(crate) fn decided(&self, key: &DedupeKey) -> Option<(Position, Vec<u8>)> {
        self.sessions.decided(key)
    }

    fn touch(&mut self, component: &ComponentId, position: Position) {
        match self.touched.get_mut(component) {
            Some(touched) => *touched = position,
            None => drop(self.touched.insert(component.clone(), position)),
        }
    }

    fn settle_objects(&mut self, through: Position) {
        let Order { objects, recent, reshaped, .. } = self;
        objects.retain(|_, versions| {
            if let Some((position, state)) = versions.entry_at(through)
                && position > *reshaped
            {
                recent.remember(Arc::clone(state));
            }
            versions.settle(through)
        });
    }

    /// Of generations and forgetting alike: rows are put in the place of others.
    fn add_reshapes(&mut self, writes: &Layer, position: Position) {
        let is_reshape = |record: &RecordWrite| {
            matches!(
                record,
                RecordWrite::RaiseGeneration { .. }
                    | RecordWrite::Shadow { .. }
                    | RecordWrite::SettleShadows { .. }
                    | RecordWrite::DropShadows { .. }
                    | RecordWrite::Forget(_)
            )
        };
        if writes.records.iter().any(is_reshape) {
            self.reshaped = position;
            self.recent.forget();
        }
    }

    fn add_generations(&mut self, writes: &Layer, position: Position) {
        for record in &writes.records {
            match record {
                RecordWrite::RaiseGeneration { component, to, .. } => {
                    Arc::make_mut(&mut self.generations).raise(component.clone(), position, *to);
                    self.touch(component, position);
                }
                RecordWrite::Shadow { .. }
                | RecordWrite::SettleShadows { .. }
                | RecordWrite::DropShadows { .. } => self.copied = position,
                _ => {}
            }
        }
    }

    fn add_sweeps(&mut self, writes: &Layer, position: Position) {
        for record in &writes.records {
            if let RecordWrite::SweepSessions { now_ms } = record {
                self.sweeps.push(position, *now_ms);
            }
        }
    }

    fn add_posts(&mut self, writes: &Layer, position: Position) {
        let failed = writes.records.iter().filter_map(|record| match record {
            RecordWrite::FailPost { id, .. } => Some(*id),
            _ => None,
        });
        for post in writes.taken.iter().copied().chain(failed) {
            push(&mut self.touched_posts, post, position, ());
        }
        if !writes.posts.is_empty() || !writes.taken.is_empty() {
            self.posts.push(position, (writes.posts.len(), writes.taken.len()));
        }
    }
}

impl<T> Versions<T> {
    fn push(&mut self, position: Position, state: T) {
        self.0.push((position, state));
    }

    fn entry_at(&self, at: Position) -> Option<(Position, &T)> {
        let found = self.0.iter().rev().find(|(position, _)| *position <= at);
        found.map(|(position, state)| (*position, state))
    }

    fn at(&self, at: Position) -> Option<&T> {
        self.entry_at(at).map(|(_, state)| state)
    }

    /// Forgets what is durable; false when nothing is left.
    fn settle(&mut self, through: Position) -> bool {
        self.0.retain(|(position, _)| *position > through);
        !self.0.is_empty()
    }
}

impl<T> Default for Versions<T> {
    fn default() -> Versions<T> {
        Versions(Vec::new())
    }
}

fn push<K: Eq + Hash, T>(map: &mut HashMap<K, Versions<T>>, key: K, position: Position, state: T) {
    map.entry(key).or_default().push(position, state);
}

#[cfg(test)]
impl Order {
    fn known_sessions(&self) -> usize {
        self.sessions.count()
    }
}

#[cfg(test)]
mod tests;
