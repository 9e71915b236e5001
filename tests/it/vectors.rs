//! Collections that a guest declares.

use serde_json::json;
use telos_kernel::Failure;
use telos_store::{Metric, Precision};
use telos_tests::TestKernel;

#[tokio::test]
async fn a_guest_declares_how_its_vectors_are_compared_and_kept() {
    let kernel = TestKernel::with_guests(&["atlas"]).await;
    kernel.send("atlas", "map", json!({"dimension": 2})).await.unwrap();
    kernel.send("atlas", "map", json!({"dimension": 2})).await.unwrap();
    for (name, at) in [("centre", [0.0, 0.0]), ("near", [3.0, 4.0]), ("far", [30.0, 40.0])] {
        kernel.send("atlas", "place", json!({"name": name, "at": at})).await.unwrap();
    }
    let nearest = kernel.send("atlas", "nearest", json!({"at": [0, 0], "k": 2})).await.unwrap();
    assert_eq!(nearest, json!([{"name": "centre", "distance": 0.0}, {"name": "near", "distance": 5.0}]));
    let form = kernel.store.collection_shapes()[0].form;
    assert_eq!((form.dim, form.metric, form.precision), (2, Metric::Euclidean, Precision::Half));
}

#[tokio::test]
async fn a_collection_that_is_there_is_not_declared_otherwise() {
    let kernel = TestKernel::with_guests(&["atlas"]).await;
    kernel.send("atlas", "map", json!({"dimension": 2})).await.unwrap();
    let refused = |failure: Failure| failure.to_string();
    let failure = refused(kernel.send("atlas", "map", json!({"dimension": 3})).await.unwrap_err());
    assert!(failure.contains("places has dimension 2, euclidean, half precision"), "{failure}");
    assert!(failure.contains("dimension 3, euclidean, half precision was declared"), "{failure}");
    let failure = refused(kernel.send("atlas", "map", json!({"dimension": 0})).await.unwrap_err());
    assert!(failure.contains("1 to 4,096 components"), "{failure}");
    let place = json!({"name": "too far", "at": [70_000, 0]});
    let failure = refused(kernel.send("atlas", "place", place).await.unwrap_err());
    assert!(failure.contains("must be finite"), "{failure}");
}
