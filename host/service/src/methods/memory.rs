//! `memory.*`: search by meaning, as an operator.

use serde::Deserialize;
use serde_json::{Value, json};
use telos_bridge::{Call, Effect, RpcError};
use telos_store::{ComponentId, ObjectId};

use super::{Methods, invalid, params, read_error};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    owner: String,
    collection: String,
    text: Option<String>,
    vector: Option<Vec<f32>>,
    k: Option<usize>,
}

const NEIGHBORS: usize = 5;
const NEIGHBORS_MAX: usize = 1_000;

impl Methods {
    pub(super) async fn memory_search(&self, call: &Call) -> Result<Value, RpcError> {
        let search: Search = params(call)?;
        let owner = ComponentId::new(&search.owner).map_err(|error| invalid(error.to_string()))?;
        let query = match (search.text, search.vector) {
            (Some(text), None) => self.embed(call, text).await?,
            (None, Some(vector)) => vector,
            _ => return Err(invalid("give `text` or `vector`, and not both")),
        };
        let k = search.k.unwrap_or(NEIGHBORS).clamp(1, NEIGHBORS_MAX);
        let mut unit = self.store.begin();
        let found = unit.search_vectors(&owner, &search.collection, &query, k, &[]);
        let neighbors = found.map_err(|error| invalid(error.to_string()))?;
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

    async fn embed(&self, call: &Call, text: String) -> Result<Vec<f32>, RpcError> {
        let embedded = self.minds.embed(None, vec![text], call.deadline).await;
        let failed =
            |error: telos_inference::MindError| RpcError::new("mind", Effect::None, error.to_string());
        embedded.map_err(failed)?.pop().ok_or_else(|| invalid("the mind gave no embedding"))
    }
}

fn names(unit: &mut telos_store::Unit, id: ObjectId) -> Result<Vec<String>, RpcError> {
    Ok(unit.names_of(id).map_err(read_error)?.iter().map(ToString::to_string).collect())
}
