//! Goal: what a worker may have died of does not reach the host's own minds. Method: workers that hold what they have.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::elsewhere::tests::{Does, Scene, crew, give_up};

/// Counts what reaches it.
#[derive(Default)]
struct Own(AtomicU32);

#[async_trait]
impl Minds for Own {
    fn list(&self) -> Vec<MindInfo> {
        Vec::new()
    }

    async fn generate(
        &self,
        _: GenerateRequest,
        _: Instant,
        _: LoadProgress,
    ) -> Result<Box<dyn TokenSource>, MindError> {
        Err(MindError::Failed("not asked here".into()))
    }

    async fn embed(&self, _: Option<String>, _: Vec<String>, _: Instant) -> Result<Vec<Vec<f32>>, MindError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![vec![1.0]])
    }
}

fn shared(scene: &Scene) -> (Arc<Own>, Arc<SharedMinds>) {
    let own = Arc::<Own>::default();
    let minds = SharedMinds { own: Arc::clone(&own) as Arc<dyn Minds>, elsewhere: scene.elsewhere.clone() };
    (own, Arc::new(minds))
}

async fn embed(minds: &SharedMinds) -> Result<Vec<Vec<f32>>, MindError> {
    minds.embed(None, vec!["x".into()], Instant::now() + Duration::from_secs(100)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_worker_offers_the_host_asks_its_own_minds() {
    let (own, minds) = shared(&Scene::new().await);
    assert_eq!(embed(&minds).await.unwrap(), [[1.0]]);
    assert_eq!(own.0.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_worker_had_is_not_tried_by_the_host_and_is_told_soon() {
    let scene = Scene::new().await;
    let (own, minds) = shared(&scene);
    let worker = scene.worker(SERVICE, Arc::new(Does::Holds)).await;
    let asking = tokio::spawn(async move { embed(&minds).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(worker);
    let before = Instant::now();
    let refusal = asking.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("its worker was lost"), "{refusal}");
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
    assert_eq!(own.0.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_workers_of_its_own_never_does_their_work() {
    let crew = crew(1);
    let scene = Scene::with(&crew).await;
    let (own, minds) = shared(&scene);
    give_up(&crew, 0);
    let refusal = embed(&minds).await.unwrap_err().to_string();
    assert!(refusal.contains("ended too often"), "{refusal}");
    assert_eq!(own.0.load(Ordering::SeqCst), 0);
}
