//! Goal: a slow disk holds up answers, not work; a disk that fails loses nothing that was answered and mixes nothing.
//! Method: a store on a disk whose syncs the test holds, counts and fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use telos_kernel::{Answer, Effect, Failure, Granting, SwapError, Swapped};
use telos_store::{DedupeKey, SessionId};
use telos_tests::{Disk, Sending, TestKernel, eventually};
use tokio::task::JoinHandle;

/// A kernel on a disk; the disk is let go when the test ends, however it ends.
struct Bench {
    kernel: Arc<TestKernel>,
    disk: Disk,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.disk.release();
    }
}

impl Bench {
    async fn new(guests: &[&str]) -> Self {
        let disk = Disk::default();
        let kernel = TestKernel::on_disk(&disk);
        for guest in guests {
            kernel.install(guest).await;
        }
        Self { kernel: Arc::new(kernel), disk }
    }

    /// Takes a message in and answers it on a task of its own.
    fn begin(&self, receiver: &str, selector: &str, arguments: Value) -> JoinHandle<Result<Answer, Failure>> {
        tokio::spawn(self.kernel.line_up(receiver, selector, arguments).answer())
    }

    /// Waits until that many commits were voted for that are not durable.
    async fn pending(&self, commits: u64) {
        let store = &self.kernel.store;
        let is_so = || store.begin_on_voted().snapshot().get() == store.position().get() + commits;
        eventually(&format!("{commits} commits are voted for and wait for the disk"), is_so).await;
        assert_eq!(store.begin_on_voted().snapshot().get(), store.position().get() + commits);
    }

    /// One increment that is being written and waits for the disk, alone in its group.
    async fn hold_an_increment(&self) -> JoinHandle<Result<Answer, Failure>> {
        self.disk.hold();
        let held = self.begin("counter", "increment", Value::Null);
        eventually("the disk is waited for", || self.disk.is_waited_for()).await;
        self.pending(1).await;
        held
    }

    fn begin_swap(&self, version: &str) -> JoinHandle<Result<Swapped, SwapError>> {
        let (kernel, version) = (self.kernel.kernel.clone(), version.to_owned());
        tokio::spawn(async move { kernel.swap("counter", version).await })
    }

    /// The version that a root sees which only reads.
    async fn read_release(&self) -> Value {
        self.kernel.send("counter", "release", Value::Null).await.unwrap()
    }

    /// The version that a root sees which writes.
    fn begin_write_release(&self) -> JoinHandle<Result<Answer, Failure>> {
        self.begin("relay", "try_forward", json!({"to": "counter", "selector": "release"}))
    }
}

fn count(answer: &Answer) -> u64 {
    answer.value.as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_of_one_object_share_commits_and_keep_their_order() {
    const SENDERS: usize = 32;
    const EACH: usize = 4;
    let bench = Bench::new(&["counter"]).await;
    let before = bench.disk.syncs();
    bench.kernel.send("counter", "increment", Value::Null).await.unwrap();
    let per_commit = bench.disk.syncs() - before;
    let held = bench.hold_an_increment().await;
    let mut sent: Vec<Vec<_>> = (0..SENDERS).map(|_| Vec::new()).collect();
    for _ in 0..EACH {
        for sender in &mut sent {
            sender.push(bench.begin("counter", "increment", Value::Null));
        }
    }
    let all = (SENDERS * EACH) as u64;
    bench.pending(all + 1).await;
    let read = bench.kernel.send("counter", "read", Value::Null).await.unwrap();
    assert_eq!(read, 1, "a root that reads waits for no disk and sees what is durable");
    let before = bench.disk.syncs();
    bench.disk.release();
    held.await.unwrap().unwrap();
    let (mut counts, mut positions) = (BTreeSet::new(), BTreeSet::new());
    for sender in sent {
        let mut last = 0;
        for sending in sender {
            let answer = sending.await.unwrap().unwrap();
            assert!(count(&answer) > last, "{} after {last}: out of the sender's order", count(&answer));
            last = count(&answer);
            counts.insert(last);
            positions.insert(answer.position);
        }
    }
    assert_eq!(counts, (3..=all + 2).collect::<BTreeSet<_>>(), "nothing is lost or repeated");
    assert_eq!(positions.len(), SENDERS * EACH, "every message has a commit position of its own");
    let groups = (bench.disk.syncs() - before) / per_commit;
    assert!(groups <= 4, "{all} commits took {groups} groups");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_on_a_commit_that_failed_runs_again_in_its_order() {
    let bench = Bench::new(&["counter"]).await;
    let held = bench.hold_an_increment().await;
    let behind: Vec<_> = (0..20).map(|_| bench.begin("counter", "increment", Value::Null)).collect();
    bench.pending(21).await;
    bench.disk.fail_once();
    let failure = held.await.unwrap().unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)) && failure.effect() == Effect::Unknown, "{failure}");
    let mut counts = Vec::new();
    for sending in behind {
        counts.push(count(&sending.await.unwrap().unwrap()));
    }
    let first = counts[0];
    assert!(first == 1 || first == 2, "the one that failed counted once or not at all, not {first}");
    assert_eq!(counts, (first..first + 20).collect::<Vec<_>>());
    assert_eq!(bench.kernel.send("counter", "read", Value::Null).await.unwrap(), first + 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_relies_on_what_is_not_durable_waits_for_it() {
    let bench = Bench::new(&["counter"]).await;
    bench.kernel.send("counter", "increment", json!({"by": u64::MAX - 1})).await.unwrap();
    let held = bench.hold_an_increment().await;
    let over = bench.begin("counter", "increment", Value::Null);
    let after = bench.begin("counter", "reset", Value::Null);
    bench.pending(2).await;
    assert!(!over.is_finished() && !after.is_finished());
    bench.disk.fail_once();
    assert!(matches!(held.await.unwrap(), Err(Failure::Unavailable(_))));
    // Whether there was room for it again depends on whether the one that failed was decided.
    match over.await.unwrap() {
        Ok(answer) => assert_eq!(count(&answer), u64::MAX),
        Err(failure) => assert!(matches!(failure, Failure::Refused(_)), "{failure}"),
    }
    assert_eq!(count(&after.await.unwrap().unwrap()), u64::MAX, "the last one runs last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_waits_for_the_disk_serves_writers_and_not_yet_readers() {
    let bench = Bench::new(&["relay", "counter-v2", "counter"]).await;
    bench.disk.hold();
    let swap = bench.begin_swap("0.2.0");
    bench.pending(1).await;
    let writer = bench.begin_write_release();
    bench.pending(2).await;
    assert_eq!(bench.read_release().await, "0.1.0");
    assert!(!swap.is_finished() && !writer.is_finished());
    bench.disk.release();
    assert_eq!(swap.await.unwrap().unwrap().version, "0.2.0");
    assert_eq!(writer.await.unwrap().unwrap().value, json!({"answered": "0.2.0"}));
    assert_eq!(bench.read_release().await, "0.2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_whose_commit_fails_leaves_readers_and_writers_with_what_the_store_says() {
    let bench = Bench::new(&["relay", "counter-v2", "counter"]).await;
    bench.disk.hold();
    let swap = bench.begin_swap("0.2.0");
    eventually("the disk is waited for", || bench.disk.is_waited_for()).await;
    let writer = bench.begin_write_release();
    bench.pending(2).await;
    bench.disk.fail_once();
    swap.await.unwrap().unwrap_err();
    let said = writer.await.unwrap().unwrap().value["answered"].clone();
    assert!(said == "0.1.0" || said == "0.2.0", "{said}");
    let stored = bench.kernel.kernel.plugin("counter").unwrap()["version"].clone();
    assert_eq!(bench.read_release().await, stored);
    let written = bench.begin_write_release().await.unwrap().unwrap().value;
    assert_eq!(written, json!({ "answered": stored }));
    let swapped = bench.begin_swap(if stored == "0.1.0" { "0.2.0" } else { "0.1.0" }).await.unwrap().unwrap();
    assert_eq!(bench.read_release().await, json!(swapped.version));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_was_built_on_a_commit_that_failed_changes_nothing() {
    let bench = Bench::new(&["relay", "counter-v2", "counter"]).await;
    let held = bench.hold_an_increment().await;
    let swap = bench.begin_swap("0.2.0");
    bench.pending(2).await;
    let writer = bench.begin_write_release();
    bench.pending(3).await;
    bench.disk.fail_once();
    assert!(matches!(held.await.unwrap(), Err(Failure::Unavailable(_))));
    let refused = swap.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("was built on failed"), "{refused}");
    assert_eq!(writer.await.unwrap().unwrap().value, json!({"answered": "0.1.0"}));
    assert_eq!(bench.read_release().await, "0.1.0");
    assert_eq!(bench.kernel.kernel.plugin("counter").unwrap()["version"], "0.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_of_an_install_whose_commit_failed_are_taken_back() {
    let bench = Bench::new(&["counter"]).await;
    let held = bench.hold_an_increment().await;
    let kernel = Arc::clone(&bench.kernel);
    let install = tokio::spawn(async move { kernel.try_install("overreacher", Granting::All).await });
    bench.pending(2).await;
    let granted = || bench.kernel.kernel.grants("overreacher").unwrap();
    assert!(granted().contains(&"inference".to_owned()), "roots that may write begin on it already");
    bench.disk.fail_once();
    assert!(matches!(held.await.unwrap(), Err(Failure::Unavailable(_))));
    install.await.unwrap().unwrap_err();
    assert_eq!(granted(), Vec::<String>::new());
    let refused = bench.kernel.send("overreacher", "think", json!({})).await.unwrap_err();
    assert_eq!(refused.to_string(), "no object is called `overreacher`");
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_and_revocations_whose_commit_fails_leave_what_the_store_says() {
    let bench = Bench::new(&["counter", "overreacher"]).await;
    let kernel = || bench.kernel.kernel.clone();
    let granted = || bench.kernel.kernel.grants("overreacher").unwrap();
    let stored = || {
        let of_it = bench.kernel.store.all_grants().unwrap().into_iter();
        of_it
            .filter(|grant| grant.component.as_str() == "overreacher")
            .map(|grant| grant.interface)
            .collect::<Vec<_>>()
    };
    let inference = || vec!["inference".to_owned()];
    for round in 0..4 {
        let (host, is_granting) = (kernel(), !granted().contains(&"inference".to_owned()));
        bench.disk.hold();
        let changing = tokio::spawn(async move {
            match is_granting {
                true => host.grant("overreacher", inference()).await.map(|_| ()),
                false => host.revoke("overreacher", inference()).await.map(|_| ()),
            }
        });
        eventually("the disk is waited for", || bench.disk.is_waited_for()).await;
        bench.pending(1).await;
        assert_eq!(
            granted().contains(&"inference".to_owned()),
            is_granting,
            "round {round}: it was voted for"
        );
        bench.disk.fail_once();
        let failure = changing.await.unwrap().unwrap_err();
        assert_eq!(failure.effect(), Effect::Unknown, "{failure}");
        assert_eq!(granted(), stored(), "round {round}");
    }
    kernel().revoke("overreacher", inference()).await.unwrap();
    assert!(!granted().contains(&"inference".to_owned()));
    kernel().grant("overreacher", inference()).await.unwrap();
    assert!(granted().contains(&"inference".to_owned()));
    assert_eq!(granted(), stored());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_was_built_on_a_commit_that_failed_revokes_nothing() {
    let bench = Bench::new(&["counter", "overreacher"]).await;
    let before = bench.kernel.kernel.grants("overreacher").unwrap();
    let held = bench.hold_an_increment().await;
    let kernel = bench.kernel.kernel.clone();
    let revoking = tokio::spawn(async move { kernel.revoke("overreacher", vec!["all".to_owned()]).await });
    bench.pending(2).await;
    assert_eq!(bench.kernel.kernel.grants("overreacher").unwrap(), Vec::<String>::new());
    bench.disk.fail_once();
    assert!(matches!(held.await.unwrap(), Err(Failure::Unavailable(_))));
    let refused = revoking.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("was built on failed"), "{refused}");
    assert_eq!(bench.kernel.kernel.grants("overreacher").unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_refuses_without_effect_until_there_is_room() {
    let bench = Bench::new(&["counter"]).await;
    let session = SessionId { client: 1, incarnation: now_ms() };
    let request = Some(DedupeKey { session, number: 1, acked_through: 0 });
    let increment = || {
        let sending = Sending { request, ..Sending::default() };
        bench.kernel.send_as("counter", "increment", Value::Null, sending)
    };
    bench.disk.fill();
    let found_out = increment().await.unwrap_err();
    assert_eq!(found_out.effect(), Effect::Unknown, "{found_out}");
    assert!(found_out.to_string().contains("full on purpose"), "{found_out}");
    eventually("it is open again", || bench.kernel.store.standing().full.is_some()).await;
    let refused = increment().await.unwrap_err();
    assert_eq!((refused.kind(), refused.effect()), ("no-room", Effect::None), "{refused}");
    assert!(refused.to_string().contains("full on purpose"), "{refused}");
    assert!(refused.next_step().unwrap().contains("free some space"));
    assert_eq!(bench.kernel.send("counter", "read", Value::Null).await.unwrap(), 0);
    let refused = bench.kernel.try_install("relay", Granting::All).await.unwrap_err();
    assert_eq!((refused.kind(), refused.effect()), ("no-room", Effect::None), "{refused}");
    bench.disk.make_room();
    eventually("it takes writes", || bench.kernel.store.standing().trouble().is_none()).await;
    assert_eq!(increment().await.unwrap().value, 1, "what was refused was not done before");
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
