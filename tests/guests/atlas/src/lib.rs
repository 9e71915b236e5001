//! Places on a map: a collection that is declared, compared by Euclidean distance and kept with half precision, or by
//! angle and as it was given.

use telos_sdk::prelude::*;
use telos_sdk::vectors::{Collection, Metric, Precision};

struct Atlas;

#[derive(Deserialize)]
struct Map {
    dimension: u32,
    #[serde(default)]
    by_angle: bool,
}

#[derive(Deserialize)]
struct Place {
    name: String,
    at: Vec<f32>,
}

#[derive(Deserialize)]
struct Around {
    at: Vec<f32>,
    k: u32,
}

#[derive(Serialize)]
struct Near {
    name: Value,
    distance: f32,
}

/// Keeps places and says which are near.
#[plugin]
impl Atlas {
    /// Makes the map, of so many dimensions.
    #[selector]
    #[example(name = "makes a map", arguments = {"dimension": 2}, returns = null)]
    fn map(_this: &Receiver, map: Map) -> Result<(), Failure> {
        let (metric, precision) = match map.by_angle {
            true => (Metric::Cosine, Precision::Full),
            false => (Metric::Euclidean, Precision::Half),
        };
        Ok(places().declare(map.dimension, metric, precision)?)
    }

    /// A place of that name.
    #[selector]
    #[example(name = "places", arguments = {"name": "here", "at": [1, 2]}, returns = null)]
    fn place(_this: &Receiver, place: Place) -> Result<(), Failure> {
        Ok(places().upsert(Object::create(&[])?, &place.at, &json!({ "name": place.name }))?)
    }

    /// The nearest places, with their distances.
    #[selector(read_only)]
    fn nearest(_this: &Receiver, around: Around) -> Result<Vec<Near>, Failure> {
        let found = places().nearest(around.k).find(&around.at)?;
        let near = |place: telos_sdk::vectors::Neighbor| Near {
            name: place.metadata["name"].clone(),
            distance: place.distance,
        };
        Ok(found.into_iter().map(near).collect())
    }
}

fn places() -> Collection {
    Collection::named("places")
}
