//! Places on a map: a collection that is declared, compared by Euclidean distance and kept with half precision, or by
//! angle and as it was given. Its places can move to the archive.

use telos_sdk::archive::{Edition, Job, State};
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

    /// Begins to move all places to the archive; the job's number.
    #[selector]
    #[example(name = "has no archive in a trial", refused)]
    fn archive(_this: &Receiver) -> Result<Job, Failure> {
        Ok(Job::begin(PLACES)?)
    }

    /// Begins it, and fails.
    #[selector]
    fn archive_in_vain(_this: &Receiver) -> Result<(), Failure> {
        Job::begin(PLACES)?;
        Err(Failure::refused("it began"))
    }

    /// Begins it, though it may not.
    #[selector(read_only)]
    fn archive_by_stealth(_this: &Receiver) -> Result<Job, Failure> {
        Ok(Job::begin(PLACES)?)
    }

    /// Where a job is.
    #[selector(read_only)]
    fn job(_this: &Receiver, job: Job) -> Result<State, Failure> {
        Ok(job.state()?)
    }

    /// Reads the whole edition that waits.
    #[selector(read_only)]
    fn check(_this: &Receiver, job: Job) -> Result<Edition, Failure> {
        Ok(job.validate()?)
    }

    /// Lets an edition that waits serve.
    #[selector]
    fn publish(_this: &Receiver, job: Job) -> Result<(), Failure> {
        Ok(job.publish()?)
    }

    /// Gives a job up.
    #[selector]
    fn cancel(_this: &Receiver, job: Job) -> Result<(), Failure> {
        Ok(job.cancel()?)
    }
}

const PLACES: &str = "places";

fn places() -> Collection {
    Collection::named(PLACES)
}
