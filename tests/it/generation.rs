//! Releases whose state is of a later generation: staged while the host runs, carried over by the next start, every
//! object or none.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use telos_kernel::{
    Evolution, EvolutionOutcome, Evolving, Failure, GenerationMode, Granting, InstallRequest, SwapError,
    Swapping,
};
use telos_store::{
    AuditRow, ComponentId, Digest, Draft, DraftFact, DraftOptions, Json, ObjectId, ObjectName, ReleaseRecord,
    ReleaseState, Retention, Slot, StoreOptions, Vote,
};
use telos_tests::{Disk, TestKernel, guest};

fn counter() -> ComponentId {
    ComponentId::new("counter").unwrap()
}

/// A counter with `objects` more of its kind, `mine/0` and so on, which have counted up to their numbers.
async fn counting(objects: u32) -> TestKernel {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    kernel.send("counter", "increment", json!({"by": 3})).await.unwrap();
    make(&kernel, "mine", objects, 1, |number| ("count", json!(number)));
    kernel
}

/// Objects of the counter, in one generation, as messages to a release of it would have made them.
fn make(
    kernel: &TestKernel,
    folder: &str,
    objects: u32,
    generation: u32,
    slot: impl Fn(u32) -> (&'static str, Value),
) {
    let mut unit = kernel.store.begin();
    let root = unit.find(&ObjectName::new("counter").unwrap()).unwrap().unwrap();
    for number in 0..objects {
        let id = unit.create(counter(), generation, vec![root]).unwrap();
        let (name, value) = slot(number);
        unit.set_slot(id, name, Slot::Value(Json::from_value(&value).unwrap())).unwrap();
        unit.bind(&ObjectName::new(&format!("{folder}/{number}")).unwrap(), id).unwrap();
    }
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
}

fn outcome(evolutions: &[Evolution]) -> &EvolutionOutcome {
    let [evolution] = evolutions else { panic!("one release was staged: {evolutions:?}") };
    &evolution.outcome
}

fn in_force(kernel: &TestKernel) -> Option<u32> {
    kernel.store.generation(&counter()).unwrap().map(|record| record.generation)
}

fn audited(kernel: &TestKernel, kind: &str) -> Vec<AuditRow> {
    let rows = kernel.store.audit_after(0, 10_000).unwrap();
    rows.into_iter().filter(|row| row.kind == kind).collect()
}

fn generation_of(kernel: &TestKernel, name: &str) -> u32 {
    let mut unit = kernel.store.begin();
    let id = unit.find(&ObjectName::new(name).unwrap()).unwrap().unwrap();
    unit.object(id).unwrap().unwrap().generation
}

fn releases(kernel: &TestKernel) -> BTreeMap<String, ReleaseState> {
    let records = kernel.store.releases(Some(&counter())).unwrap();
    records.into_iter().map(|record| (record.version, record.state)).collect()
}

async fn reads(kernel: &TestKernel, receiver: &str) -> Value {
    kernel.send(receiver, "read", Value::Null).await.unwrap()
}

async fn serves(kernel: &TestKernel) -> Value {
    kernel.send("counter", "release", Value::Null).await.unwrap()
}

#[tokio::test]
async fn a_release_of_a_later_generation_is_staged_and_the_old_one_serves_on() {
    let kernel = counting(1).await;
    let staged = kernel.install("counter-v3").await;
    assert_eq!((&*staged.state, staged.previous.as_deref()), ("staged", Some("0.1.0")));
    let cause = staged.cause.unwrap();
    assert!(cause.contains("its state is of generation 2 and generation 1 is in force"), "{cause}");
    assert!(staged.next.unwrap().contains("telos plugin swap counter 0.3.0"));
    assert_eq!(serves(&kernel).await, "0.1.0");
    assert_eq!(kernel.send("mine/0", "increment", Value::Null).await.unwrap(), 1);
    let row = &kernel.kernel.plugins().unwrap()[0];
    assert_eq!(
        (&row["state"], &row["version"], &row["staged_version"]),
        (&json!("serving"), &json!("0.1.0"), &json!("0.3.0"))
    );
    assert!(row["cause"].as_str().unwrap().starts_with("0.3.0 waits: its state"), "{row}");
    let rows = audited(&kernel, "plugin.staged");
    assert_eq!((&rows[0].detail["from"], &rows[0].detail["to"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn the_next_start_carries_every_object_over_and_serves_with_the_new_release() {
    let mut kernel = counting(300).await;
    let mut clones = Vec::new();
    for number in [5, 17, 250] {
        let cloned = kernel.send(&format!("mine/{number}"), "clone", Value::Null).await.unwrap();
        clones.push((cloned.as_str().unwrap().to_owned(), number));
    }
    make(&kernel, "ahead", 20, 2, |number| ("tally", json!({"up": number, "down": 0})));
    kernel.kernel.new_object("theirs", &[]).await.unwrap();
    let staged = kernel.install("counter-v3").await;
    let raised;
    (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(outcome(&raised), &EvolutionOutcome::Raised);
    let [Evolution { from: 1, to: 2, objects: 304, .. }] = raised[..] else { panic!("{raised:?}") };
    assert_eq!((serves(&kernel).await, in_force(&kernel)), (json!("0.3.0"), Some(2)));
    for round in 0..2 {
        for number in 0..300 {
            assert_eq!(reads(&kernel, &format!("mine/{number}")).await, number, "round {round}");
        }
        for (id, number) in &clones {
            assert_eq!(reads(&kernel, id).await, *number, "round {round}");
        }
        for number in 0..20 {
            assert_eq!(reads(&kernel, &format!("ahead/{number}")).await, number, "round {round}");
        }
        assert_eq!((reads(&kernel, "counter").await, generation_of(&kernel, "counter")), (json!(3), 2));
        assert_eq!(generation_of(&kernel, "theirs"), 1, "another owner's");
        assert!(kernel.store.verify_open().unwrap().is_clean());
        let raised;
        (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
        assert!(raised.is_empty(), "once is enough: {raised:?}");
    }
    assert_eq!(kernel.send("mine/7", "decrement", Value::Null).await.unwrap(), 6);
    let gone = kernel.send("mine/7", "reset", Value::Null).await.unwrap_err();
    assert!(matches!(gone, Failure::NotUnderstood { .. }), "{gone}");
    let raised = &audited(&kernel, "generation.raised")[0];
    assert_eq!(raised.detail["evolver"], staged.digest.to_string());
    let activated = &audited(&kernel, "plugin.activated")[0];
    assert_eq!((activated.position, &activated.detail["version"]), (raised.position, &json!("0.3.0")));
    assert!(kernel.kernel.plugins().unwrap()[0]["cause"].is_null());
}

#[tokio::test]
async fn how_far_it_is_is_told_and_said_in_the_journal() {
    let kernel = counting(600).await;
    kernel.install("counter-v3").await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let told = Arc::new(move |evolving: &Evolving| hearing.lock().push((evolving.done, evolving.total)));
    kernel.kernel.raise_generations(GenerationMode::Evolve, told).await.unwrap();
    let heard = heard.lock();
    assert!(heard.is_sorted(), "{heard:?}");
    for told in [(0, 601), (256, 601), (512, 601), (601, 601)] {
        assert!(heard.contains(&told), "{told:?} of {heard:?}");
    }
    let lines = kernel.journal.lines("generation.evolving");
    assert!(lines[0].body.contains("from generation 1 to 2: 0 of 601 objects"), "{}", lines[0].body);
    let row = &kernel.kernel.plugins().unwrap()[0];
    assert_eq!(row["cause"], "this start carried 601 objects from generation 1 to 2");
}

/// A telling that takes so long that the next object is told of again; then does something once, beside the guests.
fn told_again(act: impl Fn() + Send + Sync + 'static) -> Arc<dyn Fn(&Evolving) + Send + Sync> {
    Arc::new(move |evolving| match evolving.done {
        0 => std::thread::sleep(Duration::from_millis(1_100)),
        1 => act(),
        _ => {}
    })
}

#[tokio::test]
async fn within_a_batch_it_is_told_each_second_and_no_snapshot_is_held() {
    let retention = Retention { age: Duration::ZERO, ..Retention::default() };
    let options = StoreOptions { retention, ..StoreOptions::default() };
    let kernel = TestKernel::with_options(options);
    kernel.install("counter").await;
    make(&kernel, "mine", 20, 1, |number| ("count", json!(number)));
    kernel.install("counter-v3").await;
    let (store, floors) = (kernel.store.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&floors);
    let told = told_again(move || {
        let mut unit = store.begin();
        unit.audit("test", "test", Value::Null).unwrap();
        let decided = store.decide(unit, Vote::default()).wait().unwrap().position;
        let now_ms = u64::MAX / 2;
        seen.lock().push((decided, store.prune_history(now_ms).unwrap().floor));
    });
    let raised = kernel.kernel.raise_generations(GenerationMode::Evolve, told).await.unwrap();
    assert_eq!(outcome(&raised), &EvolutionOutcome::Raised);
    let [(decided, floor)] = floors.lock()[..] else { panic!("told of its first object") };
    assert!(floor >= decided, "a unit holds the past: {floor:?} {decided:?}");
}

#[tokio::test]
async fn whoever_decides_anew_who_serves_overtakes_a_start() {
    for (guest, version, count) in [("counter-v3", "0.3.0", 1), ("misevolver", "0.5.0", 901)] {
        let kernel = counting(2).await;
        make(&kernel, "odd", 20, 1, |_| ("count", json!(count)));
        kernel.install(guest).await;
        let swapping = kernel.kernel.clone();
        let told: Arc<dyn Fn(&Evolving) + Send + Sync> = Arc::new(move |evolving: &Evolving| {
            if evolving.done == 0 {
                let swapping = swapping.clone();
                let swap =
                    move || block_on(async { swapping.swap("counter", "0.1.0".into()).await.unwrap() });
                std::thread::spawn(swap).join().unwrap();
            }
        });
        let overtaken = kernel.kernel.raise_generations(GenerationMode::Evolve, told).await.unwrap();
        assert_eq!(outcome(&overtaken), &EvolutionOutcome::Overtaken, "{guest}");
        assert_eq!((serves(&kernel).await, in_force(&kernel)), (json!("0.1.0"), None), "{guest}");
        assert_eq!(releases(&kernel)[version], ReleaseState::Retired, "{guest}");
        assert!(audited(&kernel, "generation.failed").is_empty(), "{guest}");
        assert!(kernel.journal.lines("generation.failed").is_empty(), "{guest}");
        assert_eq!(kernel.store.drop_shadows(&counter()).unwrap(), 0, "{guest}: copies that nobody needs");
        assert!(kernel.kernel.plugins().unwrap()[0]["cause"].is_null(), "{guest}");
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[tokio::test]
async fn objects_of_several_generations_are_carried_over_by_one_release() {
    let kernel = counting(4).await;
    make(&kernel, "ahead", 4, 2, |number| ("tally", json!({"up": number, "down": 1})));
    kernel.install("counter-v4").await;
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(outcome(&raised), &EvolutionOutcome::Raised);
    for number in 0..4_i64 {
        assert_eq!(reads(&kernel, &format!("mine/{number}")).await, number);
        assert_eq!(reads(&kernel, &format!("ahead/{number}")).await, number - 1);
    }
    assert_eq!((reads(&kernel, "counter").await, in_force(&kernel)), (json!(3), Some(3)));
}

#[tokio::test]
async fn one_generation_follows_another() {
    let kernel = counting(4).await;
    kernel.install("counter-v3").await;
    let (kernel, _) = kernel.restart_raising(GenerationMode::Evolve).await;
    kernel.send("mine/3", "decrement", Value::Null).await.unwrap();
    kernel.install("counter-v4").await;
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!((outcome(&raised), raised[0].from), (&EvolutionOutcome::Raised, 2));
    assert_eq!((reads(&kernel, "mine/3").await, reads(&kernel, "mine/2").await), (json!(2), json!(2)));
}

#[tokio::test]
async fn the_newest_staged_release_is_the_one_that_the_next_start_takes() {
    let kernel = counting(1).await;
    kernel.install("counter-v3").await;
    kernel.install("counter-v4").await;
    assert_eq!(releases(&kernel)["0.3.0"], ReleaseState::Retired);
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!((outcome(&raised), raised[0].version.as_str()), (&EvolutionOutcome::Raised, "0.4.0"));
    assert_eq!(serves(&kernel).await, "0.4.0");
}

#[tokio::test]
async fn whoever_decides_anew_who_serves_ends_the_waiting() {
    let kernel = counting(1).await;
    kernel.install("counter-v3").await;
    kernel.kernel.swap("counter", "0.1.0".into()).await.unwrap();
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert!(raised.is_empty(), "{raised:?}");
    assert_eq!(kernel.install("counter-v3").await.state, "staged");
    kernel.kernel.remove("counter").await.unwrap();
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert!(raised.is_empty(), "{raised:?}");
    assert!(matches!(
        kernel.send("counter", "read", Value::Null).await.unwrap_err(),
        Failure::NotUnderstood { .. }
    ));
}

#[tokio::test]
async fn a_removed_plugin_comes_back_in_a_later_generation_with_the_state_it_left() {
    let kernel = counting(1).await;
    kernel.kernel.remove("counter").await.unwrap();
    assert_eq!(kernel.install("counter-v3").await.state, "staged", "its objects are still there");
    assert_eq!(kernel.kernel.plugins().unwrap()[0]["state"], "staged");
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(outcome(&raised), &EvolutionOutcome::Raised);
    assert_eq!(reads(&kernel, "counter").await, 3);
}

#[tokio::test]
async fn a_later_generation_needs_its_grants_first() {
    let kernel = counting(1).await;
    kernel.kernel.revoke("counter", vec!["storage".into()]).await.unwrap();
    let staged = kernel.try_install("counter-v3", Granting::Nothing).await.unwrap();
    assert_eq!((&*staged.state, staged.missing_grants), ("staged", vec!["storage".to_owned()]));
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert!(raised.is_empty(), "{raised:?}");
    let granted = kernel.kernel.grant("counter", vec!["storage".into()]).await.unwrap().unwrap();
    assert_eq!(granted.state, "staged");
    assert!(granted.cause.unwrap().contains("generation 2"));
    kernel.kernel.revoke("counter", vec!["storage".into()]).await.unwrap();
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(outcome(&raised), &EvolutionOutcome::NeedsGrant);
    kernel.kernel.grant("counter", vec!["all".into()]).await.unwrap();
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(outcome(&raised), &EvolutionOutcome::Raised);
    assert_eq!(serves(&kernel).await, "0.3.0");
}

/// The misevolver meets this count in one object of many.
async fn misevolves(object: &str, count: u32, said: &str) {
    let kernel = counting(300).await;
    kernel.kernel.set_slot(object, "count", Some(&json!(count))).await.unwrap();
    let id = kernel.kernel.resolve(object).unwrap();
    assert_eq!(kernel.install("misevolver").await.state, "staged");
    let rows = kernel.store.counts().unwrap().object_rows;

    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    let EvolutionOutcome::Failed(cause) = outcome(&raised) else { panic!("{count}: {raised:?}") };
    assert!(cause.contains(said) && cause.contains(&format!("object `{object}`")), "{count}: {cause}");
    assert_as_before(&kernel, object, count).await;
    assert_eq!(kernel.store.counts().unwrap().object_rows, rows, "{count}");
    assert_eq!(kernel.store.drop_shadows(&counter()).unwrap(), 0, "{count}: copies that nobody needs");
    let failed = audited(&kernel, "generation.failed");
    assert_eq!((failed.len(), failed[0].subject.as_str()), (1, "counter"), "{count}");
    let detail = &failed[0].detail;
    assert_eq!((&detail["object"], &detail["cause"]), (&json!(id), &json!(cause)), "{count}");
    assert_eq!((&detail["from"], &detail["to"], &detail["version"]), (&json!(1), &json!(2), &json!("0.5.0")));
    assert_eq!(kernel.journal.lines("generation.failed").len(), 1);

    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert!(raised.is_empty(), "{count}: it is not tried again by itself: {raised:?}");
    let row = &kernel.kernel.plugins().unwrap()[0];
    assert_eq!((&row["state"], &row["version"]), (&json!("serving"), &json!("0.1.0")), "{count}");
    assert_eq!(row["is_trouble"], true, "{count}: {row}");
    assert!(row["cause"].as_str().unwrap().contains(said), "{count}: {row}");
    assert!(row["next"].as_str().unwrap().contains("telos plugin swap counter 0.5.0"), "{count}: {row}");
}

async fn assert_as_before(kernel: &TestKernel, object: &str, count: u32) {
    assert_eq!((serves(kernel).await, in_force(kernel)), (json!("0.1.0"), None), "{count}");
    assert_eq!(reads(kernel, object).await, count);
    assert_eq!(
        (reads(kernel, "mine/299").await, generation_of(kernel, "mine/299")),
        (json!(299), 1),
        "{count}"
    );
    assert!(kernel.store.verify_open().unwrap().is_clean(), "{count}");
}

#[tokio::test]
async fn a_misevolver_that_refuses_or_traps_changes_nothing() {
    misevolves("mine/290", 901, "it does not take this state, and says \"901 is no count\"").await;
    misevolves("mine/290", 902, "it knows no way between these generations").await;
    misevolves("mine/290", 903, "its evolve() failed: wasm trap: wasm `unreachable` instruction executed")
        .await;
    misevolves("mine/290", 912, "and may reach nothing; a panic does that to say why").await;
}

#[tokio::test]
async fn a_misevolver_that_takes_too_much_changes_nothing() {
    misevolves("mine/290", 904, "used up its 1000000000 units of fuel").await;
    misevolves("mine/290", 905, "asked for more than 64 MiB of memory").await;
    misevolves("mine/290", 910, "fuel allocated for hostcalls has been exhausted").await;
}

#[tokio::test]
async fn a_misevolver_that_answers_what_no_object_can_be_changes_nothing() {
    misevolves("mine/290", 906, "slot `large`, which is not a value: ").await;
    misevolves("mine/290", 907, "what it made of it cannot be stored: ").await;
    misevolves("counter", 909, "what it made of it cannot be stored: slot name \"read\"").await;
}

#[tokio::test]
async fn a_misevolver_that_asks_for_the_time_is_impure_and_changes_nothing() {
    misevolves("mine/290", 908, "its evolve() reached for `wasi:clocks/wall-clock").await;
}

#[tokio::test]
async fn copies_that_are_larger_than_one_commit_take_several() {
    let kernel = counting(0).await;
    make(&kernel, "large", 40, 1, |_| ("count", json!(911)));
    kernel.install("misevolver").await;
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!((outcome(&raised), raised[0].objects), (&EvolutionOutcome::Raised, 41));
    assert_eq!(reads(&kernel, "large/39").await, 911);
}

#[tokio::test]
async fn a_mended_release_takes_the_place_of_one_that_failed() {
    let kernel = counting(1).await;
    kernel.kernel.set_slot("mine/0", "count", Some(&json!(901))).await.unwrap();
    kernel.install("misevolver").await;
    let (kernel, _) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!(releases(&kernel)["0.5.0"], ReleaseState::Returned);
    kernel.install("counter-v3").await;
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert_eq!((outcome(&raised), reads(&kernel, "mine/0").await), (&EvolutionOutcome::Raised, json!(901)));
    assert_eq!(kernel.kernel.plugins().unwrap()[0]["is_trouble"], false);
}

#[tokio::test]
async fn an_operator_has_a_failed_release_tried_again() {
    let kernel = counting(1).await;
    kernel.kernel.set_slot("mine/0", "count", Some(&json!(901))).await.unwrap();
    kernel.install("misevolver").await;
    let (kernel, _) = kernel.restart_raising(GenerationMode::Evolve).await;
    kernel.install("counter-v2").await;
    let kernel = kernel.restart();
    assert_eq!(kernel.kernel.plugins().unwrap()[0]["is_trouble"], false, "somebody chose who serves");
    assert_eq!(kernel.install("misevolver").await.state, "staged");
    let (kernel, failed) = kernel.restart_raising(GenerationMode::Evolve).await;
    assert!(matches!(outcome(&failed), EvolutionOutcome::Failed(_)));
    let kernel = kernel.restart();
    assert_eq!(kernel.kernel.plugins().unwrap()[0]["is_trouble"], true, "though it is not the newest");
    kernel.kernel.set_slot("mine/0", "count", Some(&json!(1))).await.unwrap();
    let how = Swapping { no_return: true, ..Swapping::default() };
    assert_eq!(kernel.kernel.swap_so("counter", "0.5.0".into(), how).await.unwrap().state, "serving");
    let kernel = kernel.restart();
    assert_eq!((serves(&kernel).await, in_force(&kernel)), (json!("0.5.0"), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_on_the_way_changes_nothing_and_the_next_try_goes_on() {
    for fails_at in [0, 256, 301] {
        let disk = Disk::default();
        let kernel = TestKernel::on_disk(&disk);
        kernel.install("counter").await;
        make(&kernel, "mine", 300, 1, |number| ("count", json!(number)));
        kernel.install("counter-v3").await;
        let told = Arc::new(move |evolving: &Evolving| {
            if evolving.done == fails_at {
                disk.fail_once();
            }
        });
        let hindered = kernel.kernel.raise_generations(GenerationMode::Evolve, told).await.unwrap();
        let EvolutionOutcome::Hindered(cause) = outcome(&hindered) else {
            panic!("{fails_at}: {hindered:?}")
        };
        assert!(cause.contains("the store did not take it"), "{fails_at}: {cause}");
        assert_as_before(&kernel, "mine/290", 290).await;
        assert_eq!(releases(&kernel)["0.3.0"], ReleaseState::Staged);
        let failed = audited(&kernel, "generation.failed");
        assert_eq!((failed.len(), &failed[0].detail["tried_again"]), (1, &json!(true)), "{fails_at}");
        let told = Arc::new(|_: &Evolving| {});
        let raised = kernel.kernel.raise_generations(GenerationMode::Evolve, told).await.unwrap();
        assert_eq!(outcome(&raised), &EvolutionOutcome::Raised, "{fails_at}");
        assert_eq!((serves(&kernel).await, reads(&kernel, "mine/290").await), (json!("0.3.0"), json!(290)));
    }
}

/// Replaces what a release of the counter says of itself; answers what it said before.
fn redescribe(kernel: &TestKernel, version: &str, descriptor: Json) -> Json {
    let records = kernel.store.releases(Some(&counter())).unwrap();
    let record = records.into_iter().find(|record| record.version == version).unwrap();
    let before = record.descriptor.clone();
    let mut unit = kernel.store.begin();
    unit.put_release(ReleaseRecord { descriptor, ..record }).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    before
}

#[tokio::test]
async fn what_cannot_be_read_hinders_its_own_component_and_the_host_starts() {
    for (broken, still_served) in [("0.3.0", Some("0.1.0")), ("0.1.0", None)] {
        let kernel = counting(2).await;
        kernel.install("relay").await;
        kernel.install("counter-v3").await;
        let before = redescribe(&kernel, broken, Json::parse("{}").unwrap());
        for mode in [GenerationMode::Check, GenerationMode::Minimum, GenerationMode::Evolve] {
            let told = Arc::new(|_: &Evolving| {});
            let hindered = kernel.kernel.raise_generations(mode, told).await.unwrap();
            let EvolutionOutcome::Hindered(cause) = outcome(&hindered) else {
                panic!("{broken}: {hindered:?}")
            };
            assert!(cause.contains("missing field"), "{broken}: {cause}");
        }
        let (kernel, hindered) = kernel.restart_raising(GenerationMode::Evolve).await;
        assert!(matches!(outcome(&hindered), EvolutionOutcome::Hindered(_)), "{broken}: {hindered:?}");
        assert_eq!(kernel.send("relay", "echo", json!(1)).await.unwrap(), 1, "{broken}");
        let serving = kernel.send("counter", "release", Value::Null).await.ok();
        assert_eq!(serving, still_served.map(|version| json!(version)), "{broken}");
        assert_eq!(releases(&kernel)["0.3.0"], ReleaseState::Staged, "{broken}");
        redescribe(&kernel, broken, before);
        let (kernel, raised) = kernel.restart_raising(GenerationMode::Evolve).await;
        assert_eq!((outcome(&raised), serves(&kernel).await), (&EvolutionOutcome::Raised, json!("0.3.0")));
    }
}

#[tokio::test]
async fn a_check_tries_every_object_and_writes_nothing() {
    let kernel = counting(300).await;
    kernel.kernel.set_slot("mine/290", "count", Some(&json!(902))).await.unwrap();
    for (guest, passes) in [("counter-v3", true), ("misevolver", false)] {
        kernel.install(guest).await;
        let before = kernel.store.counts().unwrap();
        let told = Arc::new(|_: &Evolving| {});
        let checked = kernel.kernel.raise_generations(GenerationMode::Check, told).await.unwrap();
        match outcome(&checked) {
            EvolutionOutcome::Passes if passes => assert_eq!(checked[0].objects, 301),
            EvolutionOutcome::WouldFail(cause) if !passes => assert!(cause.contains("`mine/290`"), "{cause}"),
            other => panic!("{guest}: {other:?}"),
        }
        let after = kernel.store.counts().unwrap();
        assert_eq!((after.position, after.object_rows), (before.position, before.object_rows), "{guest}");
        let row = &kernel.kernel.plugins().unwrap()[0];
        assert_eq!(row["is_trouble"], !passes, "{row}");
        assert_eq!(kernel.kernel.plugin("counter").unwrap()["staged_version"], row["staged_version"]);
        assert_as_before(&kernel, "mine/290", 902).await;
    }
}

#[tokio::test]
async fn the_minimum_is_what_could_not_serve_otherwise() {
    let kernel = counting(3).await;
    kernel.install("counter-v3").await;
    let (kernel, held) = kernel.restart_raising(GenerationMode::Minimum).await;
    assert_eq!((outcome(&held), serves(&kernel).await), (&EvolutionOutcome::Waits, json!("0.1.0")));
    assert_eq!(releases(&kernel)["0.3.0"], ReleaseState::Staged);
    let digest = Digest::of(&guest("counter")).to_string();
    std::fs::remove_file(kernel.path().join("store/blobs").join(&digest[..2]).join(&digest[2..])).unwrap();
    let (kernel, raised) = kernel.restart_raising(GenerationMode::Minimum).await;
    assert_eq!(outcome(&raised), &EvolutionOutcome::Raised);
    assert_eq!((serves(&kernel).await, reads(&kernel, "mine/2").await), (json!("0.3.0"), json!(2)));
}

/// As a script does that an operator has run over a stopped home: counts become tallies, in all objects.
fn raise_by_hand(home: &Path) {
    let mut draft = Draft::begin(&home.join("store"), &DraftOptions::default(), &mut |_| ()).unwrap();
    for id in draft.objects_of(&counter(), None, 1_000).unwrap() {
        let object = draft.object(id).unwrap().unwrap();
        if let Some(count) = object.value("count") {
            let tally = json!({"up": count.to_value(), "down": 0});
            draft.remove_value(id, "count").unwrap();
            draft.set_value(id, "tally", Json::from_value(&tally).unwrap()).unwrap();
        }
        draft.set_generation(id, 2).unwrap();
    }
    let (kind, subject) = ("store.evolved".into(), "store".into());
    let fact = DraftFact { kind, subject, detail: Value::Null, evolver: Digest::of(b"a test") };
    draft.seal(fact, &mut |_| ()).unwrap();
}

#[tokio::test]
async fn what_waits_serves_once_a_script_put_its_generation_in_force() {
    for mode in [GenerationMode::Minimum, GenerationMode::Evolve] {
        let kernel = counting(4).await;
        kernel.install("counter-v3").await;
        let (kernel, checked) = kernel.restart_after(raise_by_hand, GenerationMode::Check).await;
        assert_eq!((outcome(&checked), in_force(&kernel)), (&EvolutionOutcome::Passes, Some(2)));
        let unserved = kernel.send("mine/3", "read", Value::Null).await;
        assert!(unserved.is_err(), "the release of generation 1 does not serve: {unserved:?}");
        let (kernel, served) = kernel.restart_raising(mode).await;
        assert_eq!((outcome(&served), served[0].objects), (&EvolutionOutcome::Raised, 0), "{mode:?}");
        assert_eq!((serves(&kernel).await, reads(&kernel, "mine/3").await), (json!("0.3.0"), json!(3)));
        let row = &kernel.kernel.plugins().unwrap()[0];
        assert!(row["is_trouble"] == false && row["cause"].to_string().contains("in force already"), "{row}");
        assert!(kernel.store.verify_open().unwrap().is_clean());
        let (kernel, settled) = kernel.restart_raising(mode).await;
        assert_eq!((settled.len(), reads(&kernel, "counter").await), (0, json!(3)));
    }
}

#[tokio::test]
async fn what_serves_is_refused_once_a_script_put_a_later_generation_in_force() {
    let kernel = counting(2).await;
    let (kernel, raised) = kernel.restart_after(raise_by_hand, GenerationMode::Evolve).await;
    assert!(raised.is_empty() && kernel.send("mine/1", "read", Value::Null).await.is_err());
    let row = &kernel.kernel.plugins().unwrap()[0];
    assert!(row["is_trouble"] == true && row["cause"].to_string().contains("cannot serve"), "{row}");
    kernel.install("counter-v3").await;
    assert_eq!((serves(&kernel).await, reads(&kernel, "mine/1").await), (json!("0.3.0"), json!(1)));
}

#[tokio::test]
async fn what_does_not_know_the_generation_in_force_is_refused() {
    let kernel = counting(1).await;
    kernel.install("counter-v3").await;
    let (kernel, _) = kernel.restart_raising(GenerationMode::Evolve).await;
    let decided = kernel.store.counts().unwrap().audit_rows;
    let refusals = [
        kernel.try_install("counter", Granting::All).await.unwrap_err(),
        kernel
            .kernel
            .check(guest("counter"), InstallRequest::of("counter.wasm".into(), None))
            .await
            .unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, SwapError::Outdated { .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("up to generation 1, and that of counter is in generation 2"), "{said}");
        let next = refused.next_step().unwrap();
        assert!(next.contains("`telos plugin swap counter 0.1.0`"), "it is kept: {next}");
    }
    assert_eq!(kernel.store.counts().unwrap().audit_rows, decided);
    assert_eq!(serves(&kernel).await, "0.3.0");
}

#[tokio::test]
async fn a_seat_that_does_not_know_the_generation_in_force_does_not_serve_and_the_rest_does() {
    let kernel = TestKernel::with_guests(&["counter", "relay"]).await;
    let mut unit = kernel.store.begin();
    let root: ObjectId = unit.find(&ObjectName::new("counter").unwrap()).unwrap().unwrap();
    unit.evolve(root, 5, BTreeMap::new()).unwrap();
    unit.raise_generation(&counter(), 1, 5, Digest::of(b"somebody")).unwrap();
    kernel.store.decide(unit, Vote::default()).wait().unwrap();
    let kernel = kernel.restart();
    let refused = kernel.send("counter", "read", Value::Null).await.unwrap_err();
    assert!(matches!(refused, Failure::NotServing { .. }), "{refused}");
    assert_eq!(kernel.send("relay", "echo", json!(1)).await.unwrap(), 1);
    let row = kernel.kernel.plugin("counter").unwrap();
    assert_eq!((&row["state"], &row["is_trouble"]), (&json!("unloadable"), &json!(true)));
    assert!(row["cause"].as_str().unwrap().contains("is in generation 5"), "{row}");
    assert!(row["next"].as_str().unwrap().contains("generation 5 or later"), "{row}");
    assert_eq!(kernel.journal.lines("plugin.unloadable").len(), 1);
}

#[tokio::test]
async fn what_serves_for_the_first_time_serves_at_once_whatever_its_generation() {
    let kernel = TestKernel::with_guests(&["counter-v4"]).await;
    assert_eq!((serves(&kernel).await, generation_of(&kernel, "counter")), (json!("0.4.0"), 3));
    let request = InstallRequest { source: "counter-v3.wasm".into(), ..InstallRequest::default() };
    let refused = kernel.kernel.install(guest("counter-v3"), request).await.unwrap_err();
    assert!(matches!(refused, SwapError::Outdated { known: 2, in_force: 3, .. }), "{refused}");
}
