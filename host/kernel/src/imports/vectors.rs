//! `vectors`: search by meaning in the running component's collections, inside the message's unit of work.

use serde_json::Value;
use telos_store::{CollectionForm, Json, Metric, Precision, VectorError};

use crate::contract::{types, vectors};
use crate::instance::MessageState;

/// Most hits one search answers.
const NEIGHBORS_MAX: u32 = 1_000;

type Answer<T> = wasmtime::Result<Result<T, vectors::Error>>;

impl vectors::Host for MessageState {
    async fn declare(&mut self, collection: String, form: vectors::Form) -> Answer<()> {
        if let Err(refusal) = self.may_remember(&collection)? {
            return Ok(Err(refusal));
        }
        let owner = self.release.component.clone();
        let declared = self.tree()?.unit.declare_collection(&owner, &collection, form.into());
        self.remembered(declared)
    }

    async fn upsert(
        &mut self,
        collection: String,
        object: types::ObjectId,
        vector: Vec<f32>,
        metadata: String,
    ) -> Answer<()> {
        if let Err(refusal) = self.may_remember(&collection)? {
            return Ok(Err(refusal));
        }
        let metadata = match Json::parse(&metadata) {
            Ok(metadata) => metadata,
            Err(error) => return Ok(Err(vectors::Error::Invalid(error.to_string()))),
        };
        let owner = self.release.component.clone();
        let added = self.tree()?.unit.upsert_vector(&owner, &collection, object.into(), vector, metadata);
        self.remembered(added)
    }

    async fn remove(&mut self, collection: String, object: types::ObjectId) -> Answer<bool> {
        if let Err(refusal) = self.may_remember(&collection)? {
            return Ok(Err(refusal));
        }
        let owner = self.release.component.clone();
        let removed = self.tree()?.unit.remove_vector(&owner, &collection, object.into());
        self.remembered(removed)
    }

    async fn search(
        &mut self,
        collection: String,
        query: Vec<f32>,
        k: u32,
        filter: Vec<vectors::Equals>,
        ef: Option<u32>,
    ) -> Answer<Vec<vectors::Neighbor>> {
        if !self.is_granted("vectors")? {
            return Ok(Err(vectors::Error::Denied));
        }
        if k == 0 || k > NEIGHBORS_MAX {
            return Ok(Err(vectors::Error::Invalid(format!("k is {k}; 1 to {NEIGHBORS_MAX}"))));
        }
        if let Some(recorded) = self.tree()?.recorded("recall") {
            return Ok(recorded.as_ref().and_then(recorded_neighbors).ok_or_else(|| {
                vectors::Error::Invalid("the example has no well-formed recording for this recall".into())
            }));
        }
        let filter = match filter.into_iter().map(condition).collect::<Result<Vec<_>, _>>() {
            Ok(filter) => filter,
            Err(error) => {
                return Ok(Err(vectors::Error::Invalid(format!("a filter value is not JSON: {error}"))));
            }
        };
        let owner = self.release.component.clone();
        let (k, effort) = (k as usize, ef.map(|ef| ef as usize));
        let found = self.tree()?.unit.search_vectors_with(&owner, &collection, &query, k, &filter, effort);
        let hits = self.remembered(found)?;
        Ok(hits.map(|hits| hits.into_iter().map(neighbor).collect()))
    }
}

impl MessageState {
    fn may_remember(&mut self, collection: &str) -> wasmtime::Result<Result<(), vectors::Error>> {
        if !self.is_granted("vectors")? {
            return Ok(Err(vectors::Error::Denied));
        }
        if self.tree()?.is_read_only {
            self.note_read_only_write(&format!("(collection {collection})"));
            return Ok(Err(vectors::Error::ReadOnly));
        }
        Ok(Ok(()))
    }

    fn remembered<T>(&mut self, outcome: Result<T, VectorError>) -> Answer<T> {
        Ok(match outcome {
            Ok(value) => Ok(value),
            Err(VectorError::Dimension { expected, .. }) => {
                Err(vectors::Error::Dimension(u32::try_from(expected).unwrap_or(u32::MAX)))
            }
            Err(VectorError::NotFinite) => Err(vectors::Error::NotFinite),
            Err(VectorError::NoSuchCollection { .. }) => Err(vectors::Error::NoSuchCollection),
            Err(VectorError::SnapshotTooOld { .. }) => Err(vectors::Error::SnapshotTooOld),
            Err(VectorError::Failed(error)) => {
                Err(vectors::Error::Failed(self.host_incident("vectors", &error.to_string())?))
            }
            Err(other) => Err(vectors::Error::Invalid(other.to_string())),
        })
    }
}

impl From<vectors::Form> for CollectionForm {
    fn from(form: vectors::Form) -> CollectionForm {
        let metric = match form.metric {
            vectors::Metric::Cosine => Metric::Cosine,
            vectors::Metric::Euclidean => Metric::Euclidean,
        };
        let precision = match form.precision {
            vectors::Precision::Full => Precision::Full,
            vectors::Precision::Half => Precision::Half,
        };
        CollectionForm { dim: form.dimension as usize, metric, precision }
    }
}

fn condition(equals: vectors::Equals) -> Result<(String, Value), serde_json::Error> {
    Ok((equals.field, serde_json::from_str(&equals.value)?))
}

fn neighbor(hit: telos_store::Neighbor) -> vectors::Neighbor {
    vectors::Neighbor {
        object: hit.object.into(),
        distance: hit.distance,
        metadata: hit.metadata.as_str().to_owned(),
    }
}

/// `[{object: 32 hex digits, distance, metadata}]` as an example records it.
fn recorded_neighbors(answer: &Value) -> Option<Vec<vectors::Neighbor>> {
    let read = |hit: &Value| {
        Some(vectors::Neighbor {
            object: hit.get("object")?.as_str()?.parse::<telos_store::ObjectId>().ok()?.into(),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a recording's distance, shown with six digits"
            )]
            distance: hit.get("distance")?.as_f64()? as f32,
            metadata: hit.get("metadata").cloned().unwrap_or_default().to_string(),
        })
    };
    answer.as_array()?.iter().map(read).collect()
}
