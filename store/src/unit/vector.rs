//! Vectors: upserts, removals and searches of one unit.

use std::collections::HashMap;

use crate::curator;
use crate::error::{Overflow, VectorError};
use crate::id::{ComponentId, ObjectId, ObjectName, Position};
use crate::json::Json;
use crate::limit;
use crate::scan::Scan as _;
use crate::tables::{COLLECTIONS, VECTORS};
use crate::vectors::{
    CollectionForm, CollectionKey, Neighbor, Query, Stored, Vector, View, fields, keep_nearest, passes,
};

use super::Unit;

impl Unit {
    /// Fixes how the vectors of a collection are compared and kept, before its first one. The same again changes
    /// nothing.
    ///
    /// # Errors
    /// [`VectorError::DeclaredOtherwise`], [`VectorError::TooLarge`] for the dimension, or past 1,000 collections of one
    /// owner, which the vote judges once more, [`VectorError::NoDimension`], [`VectorError::Name`].
    pub fn declare_collection(
        &mut self,
        owner: &ComponentId,
        collection: &str,
        form: CollectionForm,
    ) -> Result<(), VectorError> {
        let key = collection_key(owner, collection)?;
        Overflow::check("components of one vector", form.dim, limit::VECTOR_DIM_MAX)?;
        if form.dim == 0 {
            return Err(VectorError::NoDimension);
        }
        match self.form(&key) {
            None => self.name_collection(key, form),
            Some(found) if found == form => Ok(()),
            Some(found) => Err(VectorError::DeclaredOtherwise { name: key.name, found, asked: form }),
        }
    }

    /// Adds the object's vector to a collection of that owner, or replaces the one it has there.
    ///
    /// The first upsert fixes a collection that was not declared: the vector's dimension, cosine, full precision.
    /// `metadata`: a JSON object of at most 4 KiB.
    ///
    /// # Errors
    /// [`VectorError::Dimension`], [`VectorError::NoDimension`] for a first vector without components,
    /// [`VectorError::NotFinite`], [`VectorError::Metadata`], [`VectorError::NoSuchObject`], [`VectorError::TooLarge`], [`VectorError::Name`].
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
        let form = self.form(&key).unwrap_or(CollectionForm::of_first(vector.len()));
        check_dim(&vector, form.dim)?;
        let components = form.kept(vector)?.into();
        self.check_exists(object)?;
        self.name_collection(key.clone(), form)?;
        Ok(self.layers.put_vector((key, object), Some(Vector { components, metadata }))?)
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
        self.form(&key).ok_or_else(|| VectorError::NoSuchCollection(key.name.clone()))?;
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

    /// The `k` (at most 1,000) vectors nearest to `query` by the collection's metric, closest first, ties by object.
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
    /// more of the true neighbours and take longer. It counts between what `k` needs and 2,048; none is the
    /// least of 64, 256 and 1,024 with which a trial of the graph found 0.95 of them. What is searched without a graph is
    /// exact whatever it is, and so is a search without an effort where none of these finds enough.
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
        let form = self.form(&key).ok_or_else(|| VectorError::NoSuchCollection(key.name.clone()))?;
        check_dim(query, form.dim)?;
        let place = form.metric.place(query)?;
        let pending = self.pending(|order| order.vectors(&key, self.snapshot()));
        let mut own: HashMap<_, _> =
            pending.iter().map(|(object, vector)| (*object, vector.as_ref())).collect();
        own.extend(self.layers.vectors(&key));
        let asked = Query {
            place: &place,
            k,
            effort,
            at: self.snapshot(),
            filter,
            hidden: &|object| own.contains_key(&object),
        };
        let index = self.shared.index.read();
        let committed = index.at(&key, self.snapshot())?.map(|index| index.search(&asked));
        let view = index.view(&key);
        drop(index);
        // Without the lock: it may read from disk.
        let archived = match view {
            Some(view) => self.search_archived(&key, form, view, &asked)?,
            None => Vec::new(),
        };
        let written = own.iter().filter_map(|(object, vector)| Some((*object, (*vector)?)));
        let hits = written.filter_map(|(object, vector)| own_hit(object, vector, form, &asked));
        let committed = committed.unwrap_or_default().into_iter().chain(archived);
        Ok(keep_nearest(hits.chain(committed).collect(), k))
    }

    /// What lies on disk; where that cannot be read, the same from the database, which has every vector: at the cost of a
    /// look at each, until the edition is given up.
    fn search_archived(
        &self,
        key: &CollectionKey,
        form: CollectionForm,
        view: View,
        asked: &Query<'_>,
    ) -> Result<Vec<Neighbor>, VectorError> {
        let found = view.search(asked);
        fail::fail_point!("store::archive-searched");
        match found {
            Ok(found) => {
                drop(view);
                curator::reader_left(&self.shared);
                Ok(found)
            }
            Err(error) => {
                curator::reader_failed(&self.shared, &error.into());
                self.search_stored(key, form, &view, asked)
            }
        }
    }

    fn search_stored(
        &self,
        key: &CollectionKey,
        form: CollectionForm,
        view: &View,
        asked: &Query<'_>,
    ) -> Result<Vec<Neighbor>, VectorError> {
        let owner_and_name = (key.owner.as_str(), key.name.as_str());
        let number = self
            .shared
            .read(COLLECTIONS, |collections| Ok(collections.get(owner_and_name)?.map(|row| row.value().0)))?;
        // A collection that is searched has a row; one without rows has nothing to find.
        let Some(number) = number else { return Ok(Vec::new()) };
        let distance = |bytes: &[u8]| {
            form.metric.distance(asked.place, &form.place_or_zeros(&form.precision.decode(bytes)))
        };
        let found = self.shared.read(VECTORS, |vectors| {
            let mut rows = vectors.rows_in((number, 0)..=(number, u128::MAX))?;
            view.search_stored(asked, distance, |with| {
                rows.try_for_each(|row| {
                    let (key, value) = row?;
                    let (added, metadata, bytes) = value.value();
                    let object = ObjectId::from_bits(key.value().1);
                    with(Stored { object, added: Position::new(added), metadata, bytes });
                    Ok(())
                })
            })
        })?;
        // What was replaced since is in the edition alone: once that is given up, such a snapshot is too old anyway.
        found
            .ok_or_else(|| VectorError::SnapshotTooOld { snapshot: asked.at, oldest: self.shared.position() })
    }

    /// A collection's form never changes, so the newest answer is every snapshot's.
    fn form(&self, key: &CollectionKey) -> Option<CollectionForm> {
        let committed = self.shared.index.read().form(key);
        committed.or_else(|| self.pending(|order| order.form(key))).or_else(|| self.layers.form(key))
    }

    /// Makes a collection with the unit, unless it is durable: whoever was first may yet fail.
    fn name_collection(&mut self, key: CollectionKey, form: CollectionForm) -> Result<(), VectorError> {
        if self.layers.form(&key).is_some() {
            return Ok(());
        }
        let (is_there, others) = {
            let index = self.shared.index.read();
            (index.form(&key).is_some(), index.collections_of(&key.owner))
        };
        if is_there {
            return Ok(());
        }
        // What others voted for meanwhile counts at the vote.
        let is_own = |of: &&CollectionKey| of.owner == key.owner;
        let named = others + self.layers.count(|layer| layer.collections.keys().filter(is_own).count());
        Overflow::check("collections of one owner", named + 1, limit::COLLECTIONS_PER_OWNER_MAX)?;
        Ok(self.layers.put_collection(key, form)?)
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
    if expected == 0 {
        return Err(VectorError::NoDimension);
    }
    if vector.len() != expected {
        return Err(VectorError::Dimension { found: vector.len(), expected });
    }
    Ok(())
}

fn own_hit(object: ObjectId, vector: &Vector, form: CollectionForm, query: &Query<'_>) -> Option<Neighbor> {
    let is_asked = query.filter.is_empty() || passes(&fields(&vector.metadata)?, query.filter);
    let distance = form.metric.distance(query.place, &form.place(&vector.components).ok()?);
    is_asked.then(|| Neighbor { object, distance, metadata: vector.metadata.clone() })
}
