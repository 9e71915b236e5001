//! Goal: a worker that gets on keeps what it has, however long it says nothing, and one that hangs does not.
//! Method: leases far shorter than the work, an engine that takes its time, and one that stands still.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::json;
use telos_bridge::{JobEvent, Service};
use telos_inference::engine::{Ending, Engine, Loaded, OnLoading, Spent};
use telos_inference::{Catalogue, GenerateRequest, Mind, MindsConfig};

use super::*;
use crate::elsewhere::tests::Scene;
use crate::elsewhere::{Errand, Heard};
use crate::minding::wire::SERVICE;

const LEASE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(100);

/// Takes [`STEP`] for everything, and for ever where the prompt says `hang`, until the gate is gone.
struct Slow(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);

impl Engine for Slow {
    fn is_fetched(&self, _: &Mind, _: &Path) -> bool {
        true
    }

    fn with_loaded(
        &self,
        mind: &Mind,
        _: &Path,
        progress: &OnLoading,
        serve: &mut dyn FnMut(&mut dyn Loaded),
    ) -> Result<(), telos_inference::MindError> {
        // As long as a lease and a half.
        for step in 0..30 {
            std::thread::sleep(STEP);
            progress(telos_inference::LoadPhase::Verifying, step as f32 / 1_000.0);
        }
        serve(&mut SlowMind { dimension: mind.dimension as usize, gate: Arc::clone(&self.0) });
        Ok(())
    }
}

struct SlowMind {
    dimension: usize,
    gate: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
}

impl Loaded for SlowMind {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        listener: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Spent, telos_inference::MindError> {
        if request.turns[0].text == "hang" {
            let _ = self.gate.lock().recv();
        }
        for _ in 0..30 {
            std::thread::sleep(STEP);
            let _ = listener(&[]);
        }
        let _ = listener(b"ok");
        Ok(Spent { prompt_tokens: 1, generated_tokens: 1, ending: Ending::Done })
    }

    fn embed(&mut self, _: &str) -> Result<Vec<f32>, telos_inference::MindError> {
        std::thread::sleep(STEP);
        Ok(vec![1.0; self.dimension])
    }
}

struct Duty(Inference);

impl Service for Duty {
    fn call(&self, call: Call, reply: Reply) {
        self.0.call(call, reply);
    }
}

fn duty() -> (Arc<Duty>, std::sync::mpsc::Sender<()>) {
    let (gate, closed) = std::sync::mpsc::channel();
    let engine = Arc::new(Slow(Arc::new(Mutex::new(closed))));
    let minds = Minds::open(Path::new("absent"), Catalogue::bundled(), engine, MindsConfig::default());
    (Arc::new(Duty(Inference::new(minds))), gate)
}

fn generate(scene: &Scene, text: &str) -> Errand {
    let asked = json!({"generate": {
        "mind": null, "turns": [["user", text]], "max_tokens": 8, "temperature": 0.0, "seed": 0, "stop": [],
        "schema": null,
    }});
    scene.elsewhere.order(SERVICE, Instant::now() + Duration::from_secs(100), Some(LEASE), &asked)
}

fn embed(scene: &Scene) -> Errand {
    let asked = json!({"embed": {"mind": null, "texts": vec!["x"; 40]}});
    scene.elsewhere.order(SERVICE, Instant::now() + Duration::from_secs(100), Some(LEASE), &asked)
}

async fn last(mut errand: Errand) -> (Result<Value, RpcError>, u32) {
    loop {
        if let Heard::Event(JobEvent::Done(outcome)) = errand.hear().await {
            return (outcome, errand.begun());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_another_loads_or_reads_for_long_keeps_its_lease() {
    let scene = Scene::new().await;
    let (duty, _gate) = duty();
    let _worker = scene.worker(SERVICE, duty).await;
    let ends = [generate(&scene, "a"), generate(&scene, "b"), embed(&scene)]
        .map(|errand| tokio::spawn(last(errand)));
    for end in ends {
        let (outcome, begun) = end.await.unwrap();
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(begun, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mind_that_hangs_loses_its_lease_while_another_gets_on() {
    let scene = Scene::new().await;
    let (duty, gate) = duty();
    let _worker = scene.worker(SERVICE, duty).await;
    let hanging = tokio::spawn(last(generate(&scene, "hang")));
    let (embedded, begun) = last(embed(&scene)).await;
    assert!(embedded.is_ok() && begun == 1, "{embedded:?}");
    let (outcome, begun) = hanging.await.unwrap();
    assert_eq!((outcome.unwrap_err().data.kind.as_str(), begun), ("dead-letter", 3));
    drop(gate);
}
