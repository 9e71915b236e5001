//! Components that move their vectors to disk: by grant and step by step.

use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::{Failure, Granting};
use telos_store::{ArchiveError, Children, ComponentId};
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
    let job = archive(&kernel).await;
    for _ in 0..2 {
        assert_eq!(archive(&kernel).await, job, "it is under way");
        state(&kernel, &job).await;
    }
    let other = kernel.store.begin_archive(&atlas(), "places");
    assert!(matches!(other, Err(ArchiveError::Busy(..))), "{other:?}");
    for _ in 0..2 {
        kernel.send("atlas", "cancel", job.clone()).await.unwrap();
        await_free(&kernel).await;
    }
    let ended = state(&kernel, &job).await;
    assert!(ended["ended"].as_str().unwrap().contains("given up"), "{ended}");
    assert!(said(kernel.send("atlas", "publish", job.clone()).await).contains("not at that step"));
    let shelves = kernel.path().join("store/archive");
    let left = walk(&shelves).into_iter().filter(|file| file.to_string_lossy().contains("edition")).count();
    assert_eq!((left, edition(&kernel)), (0, None));
    assert!(said(kernel.send("atlas", "job", json!(7)).await).contains("no such job"));
    let held = kernel.store.begin_archive(&atlas(), "places").unwrap();
    let busy = said(kernel.send("atlas", "archive", Value::Null).await);
    assert!(busy.contains("another edition is on its way"), "{busy}");
    drop(held);
    assert!(archive(&kernel).await.as_u64() > job.as_u64());
}

#[tokio::test]
async fn whoever_may_not_archive_any_more_has_nothing_under_way() {
    let kernel = mapped(40).await;
    let job = archive(&kernel).await;
    state(&kernel, &job).await;
    kernel.kernel.revoke("atlas", vec!["archive".into()]).await.unwrap();
    await_free(&kernel).await;
    kernel.kernel.grant("atlas", vec!["archive".into()]).await.unwrap();
    let ended = state(&kernel, &job).await;
    assert!(ended["ended"].as_str().unwrap().contains("may not archive any more"), "{ended}");
    let job = archive(&kernel).await;
    state(&kernel, &job).await;
    kernel.kernel.remove("atlas").await.unwrap();
    await_free(&kernel).await;
}

#[tokio::test]
async fn what_is_forgotten_while_an_edition_waits_ends_its_job() {
    let kernel = mapped(40).await;
    let job = archive(&kernel).await;
    state(&kernel, &job).await;
    let found = kernel.store.begin().search_vectors(&atlas(), "places", &[1.0, 0.0], 1, &[]).unwrap();
    kernel.store.forget(&[found[0].object], "a test", Children::Refuse).unwrap();
    await_free(&kernel).await;
    let ended = state(&kernel, &job).await;
    assert!(ended["ended"].as_str().unwrap().contains("forgotten"), "{ended}");
}

#[tokio::test]
async fn a_message_that_fails_leaves_its_job_and_a_reader_begins_none() {
    let kernel = mapped(20).await;
    let refused = said(kernel.send("atlas", "archive_by_stealth", Value::Null).await);
    assert!(refused.contains("read-only"), "{refused}");
    assert!(said(kernel.send("atlas", "archive_in_vain", Value::Null).await).contains("it began"));
    assert!(kernel.store.begin_archive(&atlas(), "places").is_err());
    let job = archive(&kernel).await;
    assert!(state(&kernel, &job).await.get("built").is_some());
    // A host that stops deletes what waits, and gives no number again.
    let kernel = kernel.restart();
    assert!(said(kernel.send("atlas", "job", job.clone()).await).contains("no such job"));
    let next = archive(&kernel).await;
    assert!(next.as_u64() > job.as_u64(), "{next}");
    assert!(state(&kernel, &next).await.get("built").is_some());
}

fn atlas() -> ComponentId {
    ComponentId::new("atlas").unwrap()
}

async fn archive(kernel: &TestKernel) -> Value {
    kernel.send("atlas", "archive", Value::Null).await.unwrap()
}

/// Until no edition is on its way.
async fn await_free(kernel: &TestKernel) {
    while kernel.store.begin_archive(&atlas(), "places").is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
