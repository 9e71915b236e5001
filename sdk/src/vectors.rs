//! Search by meaning in named collections; upserts commit together with the objects they describe.

use serde::Serialize;
use serde_json::Value;

use crate::bindings::telos::host::vectors as host;
use crate::object::Object;

/// Why a vector call changed and returned nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// Not granted.
    #[error("vectors: not granted")]
    Denied,
    /// No such collection.
    #[error("vectors: no such collection; declaring it makes one, and so does the first upsert")]
    NoSuchCollection,
    /// The vector's length is not the collection's, which is given.
    #[error("vectors: the collection holds vectors of length {0}")]
    Dimension(u32),
    /// A component is NaN, infinite or past 65,504 at half precision; by cosine, all are zero, or round to it at half
    /// precision; else the vector's length is past 4.6e18.
    #[error("vectors: a vector must be finite, and by cosine not all zeros")]
    NotFinite,
    /// A write while serving a read-only selector.
    #[error("vectors: a read-only selector cannot write")]
    ReadOnly,
    /// A bound was passed or an argument is malformed; says which.
    #[error("vectors: {0}")]
    Invalid(String),
    /// The message ran too long for its snapshot; sending it again helps.
    #[error("vectors: the snapshot is too old; send the message again")]
    SnapshotTooOld,
    /// The host failed; the journal has the cause under this number.
    #[error("vectors: the host failed; its journal says why under incident {0}")]
    Failed(u64),
}

/// A named collection of this component; two components may use one name and never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection(String);

/// How far apart two vectors are.
pub use host::Metric;

/// How precisely components are kept.
pub use host::Precision;

/// A search under construction; `find` runs it.
#[derive(Debug, Clone)]
pub struct Search<'c> {
    collection: &'c Collection,
    k: u32,
    ef: Option<u32>,
    filter: Vec<host::Equals>,
}

/// One hit.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbor {
    /// The object whose vector it is.
    pub object: Object,
    /// How far it is by the collection's metric.
    pub distance: f32,
    /// What was given at upsert.
    pub metadata: Value,
}

impl Collection {
    /// The collection of this name; it exists once it is declared, or from its first upsert on.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Makes the collection: vectors of `dimension` components, 1 to 4,096, compared by `metric`, kept with `precision`.
    /// The same again changes nothing.
    ///
    /// # Errors
    /// [`VectorError::Invalid`] when it has another form, which never changes; [`VectorError::ReadOnly`] and the host's
    /// others.
    pub fn declare(&self, dimension: u32, metric: Metric, precision: Precision) -> Result<(), VectorError> {
        Ok(host::declare(&self.0, host::Form { dimension, metric, precision })?)
    }

    /// Adds the object's vector, or replaces the one it has. The first upsert makes a collection that was not declared:
    /// the vector's length, cosine, full precision.
    ///
    /// `metadata`: a JSON object of at most 4 KiB, given back by searches and used by their filters.
    ///
    /// # Errors
    /// [`VectorError::Dimension`], [`VectorError::NotFinite`], [`VectorError::ReadOnly`] and the host's others.
    pub fn upsert<M>(&self, object: Object, vector: &[f32], metadata: &M) -> Result<(), VectorError>
    where
        M: Serialize + ?Sized,
    {
        Ok(host::upsert(&self.0, object.into(), vector, &spell(metadata)?)?)
    }

    /// Removes the object's vector; answers whether there was one.
    ///
    /// # Errors
    /// [`VectorError::ReadOnly`] and the host's others.
    pub fn remove(&self, object: Object) -> Result<bool, VectorError> {
        Ok(host::remove(&self.0, object.into())?)
    }

    /// A search for the `k` nearest, 1 to 1,000.
    pub fn nearest(&self, k: u32) -> Search<'_> {
        Search { collection: self, k, ef: None, filter: Vec::new() }
    }
}

impl Search<'_> {
    /// Search effort for approximate indexes, at least `k`: more finds more of the true neighbours and costs more.
    #[must_use]
    pub fn ef(mut self, ef: u32) -> Self {
        self.ef = Some(ef);
        self
    }

    /// Keeps only vectors whose metadata has exactly this value in this top-level field; all filters must hold.
    #[must_use]
    pub fn matching(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.filter.push(host::Equals { field: field.to_owned(), value: value.into().to_string() });
        self
    }

    /// Runs the search: closest first, fewer than `k` when fewer match.
    ///
    /// # Errors
    /// [`VectorError::NoSuchCollection`], [`VectorError::Dimension`], [`VectorError::NotFinite`] and the host's others.
    pub fn find(self, query: &[f32]) -> Result<Vec<Neighbor>, VectorError> {
        let hits = host::search(&self.collection.0, query, self.k, &self.filter, self.ef)?;
        hits.into_iter().map(neighbor).collect()
    }
}

impl From<host::Error> for VectorError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied => Self::Denied,
            host::Error::NoSuchCollection => Self::NoSuchCollection,
            host::Error::Dimension(length) => Self::Dimension(length),
            host::Error::NotFinite => Self::NotFinite,
            host::Error::ReadOnly => Self::ReadOnly,
            host::Error::Invalid(what) => Self::Invalid(what),
            host::Error::SnapshotTooOld => Self::SnapshotTooOld,
            host::Error::Failed(incident) => Self::Failed(incident),
        }
    }
}

fn spell<M: Serialize + ?Sized>(metadata: &M) -> Result<String, VectorError> {
    serde_json::to_string(metadata)
        .map_err(|cause| VectorError::Invalid(format!("metadata is not JSON: {cause}")))
}

fn neighbor(hit: host::Neighbor) -> Result<Neighbor, VectorError> {
    let metadata = serde_json::from_str(&hit.metadata)
        .map_err(|cause| VectorError::Invalid(format!("the host's metadata is not JSON: {cause}")))?;
    Ok(Neighbor { object: hit.object.into(), distance: hit.distance, metadata })
}
