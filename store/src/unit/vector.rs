//! Vectors: upserts, removals and searches of one unit.

use std::collections::HashMap;

use crate::error::{Overflow, VectorError};
use crate::id::{ComponentId, ObjectId, ObjectName, Position};
use crate::json::Json;
use crate::limit;
use crate::vectors::{
    CollectionKey, Neighbor, Query, Vector, distance, fields, keep_nearest, normalised, passes,
};

use super::Unit;

impl Unit {
    /// Adds the object's vector to a collection of that owner, or replaces the one it has there.
    ///
    /// The first upsert fixes the collection's dimension. `metadata`: a JSON object of at most 4 KiB.
    ///
    /// # Errors
    /// [`VectorError::Dimension`], [`VectorError::NotFinite`], [`VectorError::Metadata`],
    /// [`VectorError::NoSuchObject`], [`VectorError::TooLarge`], [`VectorError::Name`].
    pub fn upsert_vector(
        &mut self,
        owner: &ComponentId,
        collection: &str,
        object: ObjectId,
        vector: Vec<f32>,
        metadata: Json,
    ) -> Result<(), VectorError> {
        let key = collection_key(owner, collection)?;
        Overflow::check("bytes of metadata", metadata.as_str().len(), limit::METADATA_BYTES_MAX)?;
        fields(&metadata).ok_or(VectorError::Metadata)?;
        check_dim(&vector, self.dim(&key).unwrap_or(vector.len()))?;
        normalised(&vector)?;
        self.check_exists(object)?;
        Ok(self.layers.put_vector((key, object), Some(Vector { components: vector.into(), metadata }))?)
    }

    /// Removes the object's vector; answers whether there was one. Recorded either way.
    ///
    /// # Errors
    /// [`VectorError::NoSuchCollection`], [`VectorError::SnapshotTooOld`], [`VectorError::Name`].
    pub fn remove_vector(
        &mut self,
        owner: &ComponentId,
        collection: &str,
        object: ObjectId,
    ) -> Result<bool, VectorError> {
        let key = collection_key(owner, collection)?;
        self.dim(&key).ok_or_else(|| VectorError::NoSuchCollection(key.name.clone()))?;
        let key = (key, object);
        let is_there = match self.layers.vector(&key) {
            Some(own) => own.is_some(),
            None => self.committed_vector(&key)? != Position::NONE,
        };
        if is_there {
            self.layers.put_vector(key, None)?;
        }
        Ok(is_there)
    }

    /// The `k` (at most 1,000) vectors nearest to `query` by cosine distance, closest first, ties by object.
    ///
    /// Sees the snapshot and own writes. `filter`: top-level metadata fields that must have exactly these values.
    ///
    /// # Errors
    /// [`VectorError::NoSuchCollection`], [`VectorError::Dimension`], [`VectorError::NotFinite`],
    /// [`VectorError::SnapshotTooOld`] when a unit lived on for more than a minute, [`VectorError::TooLarge`].
    pub fn search_vectors(
        &mut self,
        owner: &ComponentId,
        collection: &str,
        query: &[f32],
        k: usize,
        filter: &[(String, serde_json::Value)],
    ) -> Result<Vec<Neighbor>, VectorError> {
        self.search_vectors_with(owner, collection, query, k, filter, None)
    }

    /// As [`Unit::search_vectors`], with an effort: how many near vectors a search of a graph keeps in view. More find
    /// more of the true neighbours and take longer. It counts between what `k` needs and 2,048; none is 64,
    /// which find 0.96 to more than 0.99 of them. What is searched without a graph is exact whatever it is.
    ///
    /// # Errors
    /// As [`Unit::search_vectors`].
    pub fn search_vectors_with(
        &mut self,
        owner: &ComponentId,
        collection: &str,
        query: &[f32],
        k: usize,
        filter: &[(String, serde_json::Value)],
        effort: Option<usize>,
    ) -> Result<Vec<Neighbor>, VectorError> {
        let key = collection_key(owner, collection)?;
        Overflow::check("neighbours of one search", k, limit::NEIGHBORS_MAX)?;
        let dim = self.dim(&key).ok_or_else(|| VectorError::NoSuchCollection(key.name.clone()))?;
        check_dim(query, dim)?;
        let direction = normalised(query)?;
        let pending = self.pending(|order| order.vectors(&key, self.snapshot()));
        let mut own: HashMap<_, _> =
            pending.iter().map(|(object, vector)| (*object, vector.as_ref())).collect();
        own.extend(self.layers.vectors(&key));
        let asked = Query {
            direction: &direction,
            k,
            effort,
            at: self.snapshot(),
            filter,
            hidden: &|object| own.contains_key(&object),
        };
        let index = self.shared.index.read();
        let committed = index.at(&key, self.snapshot())?.map(|index| index.search(&asked));
        drop(index);
        let written = own.iter().filter_map(|(object, vector)| Some((*object, (*vector)?)));
        let hits = written.filter_map(|(object, vector)| own_hit(object, vector, &asked));
        Ok(keep_nearest(hits.chain(committed.unwrap_or_default()).collect(), k))
    }

    /// A collection's dimension never changes, so the newest answer is every snapshot's.
    fn dim(&self, key: &CollectionKey) -> Option<usize> {
        let committed = self.shared.index.read().dim(key);
        committed.or_else(|| self.pending(|order| order.dim(key))).or_else(|| self.layers.dim(key))
    }

    fn committed_vector(&mut self, key: &(CollectionKey, ObjectId)) -> Result<Position, VectorError> {
        if let Some(seen) = self.seen.vectors.get(key) {
            return Ok(*seen);
        }
        let added = match self.pending(|order| order.vector(&key.0, key.1, self.snapshot())) {
            Some(pending) => pending,
            None => self.durable_vector(key)?,
        };
        self.seen.record(0)?;
        self.seen.vectors.insert(key.clone(), added);
        Ok(added)
    }
}

impl Unit {
    fn durable_vector(&self, key: &(CollectionKey, ObjectId)) -> Result<Position, VectorError> {
        let index = self.shared.index.read();
        let found = index.at(&key.0, self.snapshot())?;
        Ok(found.and_then(|index| index.added(key.1, self.snapshot())).unwrap_or(Position::NONE))
    }
}

fn collection_key(owner: &ComponentId, collection: &str) -> Result<CollectionKey, VectorError> {
    Ok(CollectionKey { owner: owner.clone(), name: ObjectName::new(collection)? })
}

fn check_dim(vector: &[f32], expected: usize) -> Result<(), VectorError> {
    Overflow::check("components of one vector", vector.len(), limit::VECTOR_DIM_MAX)?;
    if vector.is_empty() {
        return Err(VectorError::NotFinite);
    }
    if vector.len() != expected {
        return Err(VectorError::Dimension { found: vector.len(), expected });
    }
    Ok(())
}

fn own_hit(object: ObjectId, vector: &Vector, query: &Query<'_>) -> Option<Neighbor> {
    let is_asked = query.filter.is_empty() || passes(&fields(&vector.metadata)?, query.filter);
    let direction = normalised(&vector.components).ok()?;
    let distance = distance(query.direction, &direction);
    is_asked.then(|| Neighbor { object, distance, metadata: vector.metadata.clone() })
}
