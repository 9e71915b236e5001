//! Layers: the writes of one unit, one layer per open savepoint. Discarding a savepoint drops its layer, keeping
//! it folds the layer into the one below.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::audit::Fact;
use crate::error::Overflow;
use crate::id::{ComponentId, ObjectId, ObjectName, PostId};
use crate::limit;
use crate::object::Object;
use crate::outbox::Post;
use crate::record::RecordWrite;
use crate::vectors::{CollectionForm, CollectionKey, Vector};

/// One object's vector in one collection.
pub(crate) type VectorKey = (CollectionKey, ObjectId);

/// The writes made since a savepoint.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) objects: HashMap<ObjectId, Arc<Object>>,
    /// None unbinds.
    pub(crate) names: BTreeMap<ObjectName, Option<ObjectId>>,
    /// Collections that this unit was the first to name.
    pub(crate) collections: BTreeMap<CollectionKey, CollectionForm>,
    /// None removes.
    pub(crate) vectors: BTreeMap<VectorKey, Option<Vector>>,
    pub(crate) posts: Vec<Post>,
    pub(crate) taken: Vec<PostId>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) records: Vec<RecordWrite>,
    pub(crate) bytes: usize,
    serial: u64,
}

/// All layers of one unit, the newest last; never empty.
#[derive(Debug)]
pub(crate) struct Layers {
    layers: Vec<Layer>,
    serial: u64,
}

/// A place to return to; ends when it is kept or discarded, or when one below it is.
#[derive(Debug)]
#[must_use = "a savepoint is kept or discarded"]
pub struct Savepoint {
    depth: usize,
    serial: u64,
}

impl Layer {
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.names.is_empty()
            && self.collections.is_empty()
            && self.vectors.is_empty()
            && self.posts.is_empty()
            && self.taken.is_empty()
            && self.facts.is_empty()
            && self.records.is_empty()
    }

    fn put_object(&mut self, object: Arc<Object>) {
        self.bytes += object.bytes();
        if let Some(replaced) = self.objects.insert(object.id, object) {
            self.bytes -= replaced.bytes();
        }
    }

    fn put_vector(&mut self, key: VectorKey, vector: Option<Vector>) {
        self.bytes += vector_bytes(vector.as_ref());
        if let Some(replaced) = self.vectors.insert(key, vector) {
            self.bytes -= vector_bytes(replaced.as_ref());
        }
    }

    /// Takes over what a newer layer wrote. Lists other than maps count their bytes once, when they were written.
    fn absorb(&mut self, newer: Layer) {
        let mapped = newer.objects.values().map(|object| object.bytes()).sum::<usize>()
            + newer.vectors.values().map(|vector| vector_bytes(vector.as_ref())).sum::<usize>();
        self.bytes += newer.bytes - mapped;
        newer.objects.into_values().for_each(|object| self.put_object(object));
        newer.vectors.into_iter().for_each(|(key, vector)| self.put_vector(key, vector));
        self.names.extend(newer.names);
        self.collections.extend(newer.collections);
        self.posts.extend(newer.posts);
        self.taken.extend(newer.taken);
        self.facts.extend(newer.facts);
        self.records.extend(newer.records);
    }
}

impl Layers {
    pub(crate) fn new() -> Layers {
        Layers { layers: vec![Layer::default()], serial: 0 }
    }

    pub(crate) fn savepoint(&mut self) -> Savepoint {
        self.serial += 1;
        self.layers.push(Layer { serial: self.serial, ..Layer::default() });
        Savepoint { depth: self.layers.len() - 1, serial: self.serial }
    }

    pub(crate) fn keep(&mut self, savepoint: &Savepoint) {
        self.assert_open(savepoint);
        let newer = self.layers.split_off(savepoint.depth);
        newer.into_iter().for_each(|layer| self.top().absorb(layer));
    }

    pub(crate) fn discard(&mut self, savepoint: &Savepoint) {
        self.assert_open(savepoint);
        self.layers.truncate(savepoint.depth);
    }

    /// Everything as one layer.
    pub(crate) fn flatten(mut self) -> Layer {
        let newer = self.layers.split_off(1);
        newer.into_iter().for_each(|layer| self.top().absorb(layer));
        self.layers.pop().unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.iter().all(Layer::is_empty)
    }

    pub(crate) fn object(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.layers.iter().rev().find_map(|layer| layer.objects.get(&id))
    }

    pub(crate) fn name(&self, name: &ObjectName) -> Option<Option<ObjectId>> {
        self.layers.iter().rev().find_map(|layer| layer.names.get(name)).copied()
    }

    pub(crate) fn vector(&self, key: &VectorKey) -> Option<&Option<Vector>> {
        self.layers.iter().rev().find_map(|layer| layer.vectors.get(key))
    }

    /// The names that pass, with what they stand for.
    pub(crate) fn names(
        &self,
        passes: impl Fn(&ObjectName) -> bool,
    ) -> BTreeMap<ObjectName, Option<ObjectId>> {
        let written = self.layers.iter().flat_map(|layer| &layer.names);
        written.filter(|(name, _)| passes(name)).map(|(name, id)| (name.clone(), *id)).collect()
    }

    /// The vectors written to one collection.
    pub(crate) fn vectors(&self, collection: &CollectionKey) -> HashMap<ObjectId, Option<&Vector>> {
        self.collection(collection).map(|((_, object), vector)| (*object, vector.as_ref())).collect()
    }

    /// The form of a collection that only this unit knows.
    pub(crate) fn form(&self, collection: &CollectionKey) -> Option<CollectionForm> {
        self.layers.iter().find_map(|layer| layer.collections.get(collection)).copied()
    }

    /// The generation that the newest raise of this component puts in force.
    pub(crate) fn raised_to(&self, owner: &ComponentId) -> Option<u32> {
        let raise = |record: &RecordWrite| match record {
            RecordWrite::RaiseGeneration { component, to, .. } if component == owner => Some(*to),
            _ => None,
        };
        self.layers.iter().rev().find_map(|layer| layer.records.iter().rev().find_map(raise))
    }

    pub(crate) fn count(&self, of: impl Fn(&Layer) -> usize) -> usize {
        self.layers.iter().map(of).sum()
    }

    pub(crate) fn put_object(&mut self, object: Object) -> Result<(), Overflow> {
        self.check_bytes(object.bytes())?;
        self.top().put_object(Arc::new(object));
        Ok(())
    }

    pub(crate) fn put_name(&mut self, name: ObjectName, id: Option<ObjectId>) -> Result<(), Overflow> {
        let bytes = name.as_str().len() + size_of::<ObjectId>();
        self.check_bytes(bytes)?;
        self.top().bytes += bytes;
        self.top().names.insert(name, id);
        Ok(())
    }

    pub(crate) fn put_collection(
        &mut self,
        key: CollectionKey,
        form: CollectionForm,
    ) -> Result<(), Overflow> {
        let bytes = key.owner.as_str().len() + key.name.as_str().len() + size_of::<CollectionForm>();
        self.check_bytes(bytes)?;
        self.top().bytes += bytes;
        self.top().collections.insert(key, form);
        Ok(())
    }

    pub(crate) fn put_vector(&mut self, key: VectorKey, vector: Option<Vector>) -> Result<(), Overflow> {
        self.check_bytes(vector_bytes(vector.as_ref()))?;
        self.top().put_vector(key, vector);
        Ok(())
    }

    pub(crate) fn put_post(&mut self, post: Post) -> Result<(), Overflow> {
        let posts = self.count(|layer| layer.posts.len());
        Overflow::check("posts of one unit", posts + 1, limit::POSTS_PER_UNIT_MAX)?;
        self.check_bytes(post.bytes())?;
        self.top().bytes += post.bytes();
        self.top().posts.push(post);
        Ok(())
    }

    pub(crate) fn put_fact(&mut self, fact: Fact) -> Result<(), Overflow> {
        let facts = self.count(|layer| layer.facts.len());
        Overflow::check("audit rows of one unit", facts + 1, limit::RECORDS_PER_UNIT_MAX)?;
        self.check_bytes(fact.bytes())?;
        self.top().bytes += fact.bytes();
        self.top().facts.push(fact);
        Ok(())
    }

    pub(crate) fn put_record(&mut self, record: RecordWrite, bytes: usize) -> Result<(), Overflow> {
        let records = self.count(|layer| layer.records.len());
        Overflow::check("system records of one unit", records + 1, limit::RECORDS_PER_UNIT_MAX)?;
        self.check_bytes(bytes)?;
        self.top().bytes += bytes;
        self.top().records.push(record);
        Ok(())
    }

    pub(crate) fn take(&mut self, post: PostId) {
        self.top().taken.push(post);
    }

    /// What was written to one collection, oldest layer first.
    fn collection(&self, collection: &CollectionKey) -> impl Iterator<Item = (&VectorKey, &Option<Vector>)> {
        let first = (collection.clone(), ObjectId::from_parts(0, 0));
        self.layers.iter().flat_map(move |layer| {
            layer.vectors.range(&first..).take_while(move |((key, _), _)| key == collection)
        })
    }

    fn check_bytes(&self, more: usize) -> Result<(), Overflow> {
        let written = self.count(|layer| layer.bytes);
        Overflow::check("bytes written by one unit", written + more, limit::UNIT_BYTES_MAX)
    }

    fn top(&mut self) -> &mut Layer {
        // The first layer is made with the unit and no savepoint ever drops it.
        let top = self.layers.len() - 1;
        &mut self.layers[top]
    }

    fn assert_open(&self, savepoint: &Savepoint) {
        let is_open = self.layers.get(savepoint.depth).is_some_and(|layer| layer.serial == savepoint.serial);
        assert!(is_open, "a savepoint ends once, and with the one below it at the latest");
    }
}

fn vector_bytes(vector: Option<&Vector>) -> usize {
    vector.map_or(16, |vector| vector.components.len() * 4 + vector.metadata.as_str().len() + 16)
}
