//! `memory.*`: search by meaning, what it costs, and its archive, as an operator.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Call, Effect, Reply, RpcError};
use telos_store::{ArchiveBudget, ArchiveProgress, ArchiveStage, ComponentId, ObjectId, VectorError};

use super::{Methods, invalid, params, read_error};
use crate::outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    owner: String,
    collection: String,
    text: Option<String>,
    vector: Option<Vec<f32>>,
    k: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Archive {
    owner: String,
    collection: String,
}

const NEIGHBORS: usize = 5;
/// Between two tellings of one stage.
const TELLING_INTERVAL: Duration = Duration::from_millis(100);
const NEIGHBORS_MAX: usize = 1_000;

impl Methods {
    pub(super) async fn memory_search(&self, call: &Call) -> Result<Value, RpcError> {
        let search: Search = params(call)?;
        let k = search.k.unwrap_or(NEIGHBORS);
        if !(1..=NEIGHBORS_MAX).contains(&k) {
            return Err(invalid(format!("k is {k}; from 1 to {NEIGHBORS_MAX} neighbours can be asked for")));
        }
        let owner = ComponentId::new(&search.owner).map_err(|error| invalid(error.to_string()))?;
        let query = match (search.text, search.vector) {
            (Some(text), None) => self.embed(call, text).await?,
            (None, Some(vector)) => vector,
            _ => return Err(invalid("give `text` or `vector`, and not both")),
        };
        let mut unit = self.store.begin();
        let found = unit.search_vectors(&owner, &search.collection, &query, k, &[]);
        let neighbors = found.map_err(|error| match error {
            VectorError::NoSuchCollection(name) => self.no_collection(&owner, name.as_ref()),
            error @ (VectorError::Failed(_) | VectorError::SnapshotTooOld { .. }) => read_error(error),
            other => invalid(other.to_string()),
        })?;
        let mut rows = Vec::new();
        for neighbor in neighbors {
            rows.push(json!({
                "object": neighbor.object,
                "names": names(&mut unit, neighbor.object)?,
                "distance": neighbor.distance,
                "metadata": neighbor.metadata.to_value(),
            }));
        }
        Ok(json!({ "neighbors": rows }))
    }

    /// How every collection's index stands.
    pub(super) fn memory_stats(&self) -> Value {
        json!({ "collections": self.store.collection_shapes() })
    }

    /// Moves a collection's vectors into the archive. It ends by itself even when nobody waits any more.
    pub(super) async fn memory_archive(
        &self,
        reply: &Arc<Reply>,
        archive: Archive,
    ) -> Result<Value, RpcError> {
        let Archive { owner, collection } = archive;
        let owner = ComponentId::new(&owner).map_err(|error| invalid(error.to_string()))?;
        let told = Arc::clone(reply);
        self.whole_store(reply, move |store, _| {
            let tell = telling(&told);
            let outcome = store.archive(&owner, &collection, &ArchiveBudget::default(), &tell);
            outcome::archived(&format!("{owner}/{collection}"), outcome)
        })
        .await
    }

    /// Reads every byte of every edition.
    pub(super) async fn memory_verify(&self, reply: &Arc<Reply>) -> Result<Value, RpcError> {
        self.whole_store(reply, |store, _| {
            outcome::archive_verified(store.verify_archive().map_err(read_error))
        })
        .await
    }

    fn no_collection(&self, owner: &ComponentId, name: &str) -> RpcError {
        match self.store.collections(owner) {
            Ok(known) if known.is_empty() => invalid(format!("`{owner}` has no vector collections"))
                .with_next("`telos plugin list` names the plugins"),
            Ok(known) => invalid(format!("`{owner}` has no vector collection `{name}`"))
                .with_next(format!("search one of its collections: {}", known.join(", "))),
            Err(error) => read_error(error),
        }
    }

    async fn embed(&self, call: &Call, text: String) -> Result<Vec<f32>, RpcError> {
        let embedded = self.minds.embed(None, vec![text], call.deadline).await;
        let failed =
            |error: telos_inference::MindError| RpcError::new("mind", Effect::None, error.to_string());
        embedded.map_err(failed)?.pop().ok_or_else(|| invalid("the mind gave no embedding"))
    }
}

/// Chunks of the answer: now and then how far the build is.
fn telling(reply: &Reply) -> impl Fn(ArchiveProgress) {
    let told: Mutex<Option<(ArchiveStage, Instant)>> = Mutex::new(None);
    move |progress| {
        let mut told = told.lock();
        if told.is_none_or(|(stage, at)| stage != progress.stage || at.elapsed() >= TELLING_INTERVAL) {
            *told = Some((progress.stage, Instant::now()));
            let (doing, done, total) = (doing(progress.stage), progress.done, progress.of);
            reply.chunk(1, json!({ "phase": doing, "doing": doing, "done": done, "total": total }));
        }
    }
}

fn doing(stage: ArchiveStage) -> &'static str {
    match stage {
        ArchiveStage::Rows => "reading vectors",
        ArchiveStage::Graph => "building the graph",
        ArchiveStage::Files => "making files safe",
        ArchiveStage::Validation => "trying searches",
    }
}

fn names(unit: &mut telos_store::Unit, id: ObjectId) -> Result<Vec<String>, RpcError> {
    Ok(unit.names_of(id).map_err(read_error)?.iter().map(ToString::to_string).collect())
}
