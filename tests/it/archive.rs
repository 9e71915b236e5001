//! Components that move their vectors to disk: by grant, step by step, and never another's.

use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Failure, Granting};
use telos_tests::TestKernel;

/// A map by angle with so many places, which all point elsewhere.
async fn mapped(places: u32) -> TestKernel {
    let kernel = TestKernel::with_guests(&["atlas"]).await;
    kernel.send("atlas", "map", json!({"dimension": 2, "by_angle": true})).await.unwrap();
    for number in 0..places {
        let angle = f64::from(number) / f64::from(places);
        let place = json!({"name": number, "at": [angle.cos(), angle.sin()]});
        let place = json!({"name": place["name"].to_string(), "at": place["at"]});
        kernel.send("atlas", "place", place).await.unwrap();
    }
    kernel
}

/// Waits until a job is somewhere else than on its way there.
async fn state(kernel: &TestKernel, job: &Value) -> Value {
    loop {
        let state = kernel.send("atlas", "job", job.clone()).await.unwrap();
        if state.get("building").is_none() && state.get("publishing").is_none() {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn nearest(kernel: &TestKernel) -> Value {
    kernel.send("atlas", "nearest", json!({"at": [1, 0.3], "k": 3})).await.unwrap()
}

fn edition(kernel: &TestKernel) -> Option<u64> {
    kernel.store.collection_shapes()[0].index.edition
}

fn said(outcome: Result<Value, Failure>) -> String {
    outcome.unwrap_err().to_string()
}

#[tokio::test]
async fn a_component_moves_its_vectors_to_disk_step_by_step() {
    let kernel = mapped(60).await;
    let before = nearest(&kernel).await;
    let job = kernel.send("atlas", "archive", Value::Null).await.unwrap();
    let built = state(&kernel, &job).await;
    assert_eq!((&built["built"]["vectors"], edition(&kernel)), (&json!(60), None));
    assert!(built["built"]["recall"].as_f64().unwrap() > 0.94, "{built}");
    assert_eq!(kernel.send("atlas", "check", job.clone()).await.unwrap(), built["built"]);
    for _ in 0..2 {
        kernel.send("atlas", "publish", job.clone()).await.unwrap();
    }
    let published = state(&kernel, &job).await;
    assert_eq!((&published["published"], edition(&kernel)), (&built["built"], Some(1)));
    assert_eq!(nearest(&kernel).await, before);
    assert!(said(kernel.send("atlas", "cancel", job.clone()).await).contains("not at that step"));
    assert!(said(kernel.send("atlas", "check", job).await).contains("not at that step"));
    let archived = kernel.store.audit_after(0, 1_000).unwrap().pop().unwrap();
    assert_eq!((archived.kind.as_str(), archived.subject.as_str()), ("memory.archived", "atlas/places"));
    let line = kernel.journal.lines("memory.archived").pop().unwrap();
    assert_eq!(line.plugin.as_deref(), Some("atlas"));
    let kernel = kernel.restart();
    assert_eq!((nearest(&kernel).await, edition(&kernel)), (before, Some(1)));
}

#[tokio::test]
async fn one_edition_is_on_its_way_and_what_is_given_up_leaves_nothing() {
    let kernel = mapped(40).await;
    let job = kernel.send("atlas", "archive", Value::Null).await.unwrap();
    assert!(
        said(kernel.send("atlas", "archive", Value::Null).await).contains("another edition is on its way")
    );
    state(&kernel, &job).await;
    assert!(
        said(kernel.send("atlas", "archive", Value::Null).await).contains("another edition is on its way")
    );
    kernel.send("atlas", "cancel", job.clone()).await.unwrap();
    let ended = loop {
        let state = state(&kernel, &job).await;
        if state.get("ended").is_some() {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(ended["ended"].as_str().unwrap().contains("given up"), "{ended}");
    kernel.send("atlas", "cancel", job.clone()).await.unwrap();
    assert!(said(kernel.send("atlas", "publish", job).await).contains("not at that step"));
    let shelves = kernel.path().join("store/archive");
    let left = walk(&shelves).into_iter().filter(|file| file.to_string_lossy().contains("edition")).count();
    assert_eq!((left, edition(&kernel)), (0, None));
    assert!(said(kernel.send("atlas", "job", json!(7)).await).contains("no such job"));
}

#[tokio::test]
async fn a_message_that_fails_leaves_its_job_and_a_reader_begins_none() {
    let kernel = mapped(20).await;
    let refused = said(kernel.send("atlas", "archive_by_stealth", Value::Null).await);
    assert!(refused.contains("read-only"), "{refused}");
    assert!(said(kernel.send("atlas", "archive_in_vain", Value::Null).await).contains("it began"));
    assert!(state(&kernel, &json!(1)).await.get("built").is_some());
    // A host that stops deletes what waits.
    let kernel = kernel.restart();
    assert!(said(kernel.send("atlas", "job", json!(1)).await).contains("no such job"));
    let job = kernel.send("atlas", "archive", Value::Null).await.unwrap();
    assert!(state(&kernel, &job).await.get("built").is_some());
}

#[tokio::test]
async fn what_cannot_be_archived_is_refused_by_name() {
    let kernel = TestKernel::with_guests(&["atlas"]).await;
    assert!(said(kernel.send("atlas", "archive", Value::Null).await).contains("no such collection"));
    kernel.send("atlas", "map", json!({"dimension": 2})).await.unwrap();
    assert!(said(kernel.send("atlas", "archive", Value::Null).await).contains("only cosine collections"));
    kernel.kernel.revoke("atlas", vec!["archive".into()]).await.unwrap();
    assert!(said(kernel.send("atlas", "archive", Value::Null).await).contains("archive: not granted"));
    let kernel = TestKernel::with_guests(&[]).await;
    let staged = kernel.try_install("atlas", Granting::Nothing).await.unwrap();
    assert!(staged.missing_grants.contains(&"archive".to_owned()), "{:?}", staged.missing_grants);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { [walk(&path), vec![path]].concat() } else { vec![path] })
        .collect()
}
