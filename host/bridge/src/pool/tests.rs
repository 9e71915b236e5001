use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type TestPool = Pool<u8, &'static str>;
type TestAction = PoolAction<u8, &'static str>;

impl Size for &'static str {
    fn size(&self) -> usize {
        self.len()
    }
}

const LEASE: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(60);

/// A pool, its clock, and what it did.
struct Stage {
    pool: TestPool,
    start: Instant,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let rules = PoolRules { lease_min: LEASE, fence_patience: LEASE, ..PoolRules::default() };
        Self { pool: Pool::new(rules), start: now, now }
    }

    fn ready(&mut self, worker: u8, credit: u16) {
        self.pool.declare(self.now, worker, &["echo".into(), "other".into()], credit);
    }

    fn submit(&mut self, class: Class) -> JobId {
        self.submit_to("echo", class)
    }

    fn submit_to(&mut self, service: &str, class: Class) -> JobId {
        let deadline = self.now + DEADLINE;
        let order = Order { service: service.into(), class, deadline, lease: Some(LEASE), payload: "job" };
        self.pool.submit(self.now, order)
    }

    fn hear(&mut self, worker: u8, job: JobId, attempt: u32, report: Report<&'static str>) -> bool {
        self.pool.hear(self.now, worker, job, attempt, report)
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.pool.tick(self.now);
    }

    fn actions(&mut self) -> Vec<String> {
        self.pool.take_actions().iter().map(spell).collect()
    }
}

fn spell(action: &TestAction) -> String {
    match action {
        PoolAction::Give { worker, job, attempt, .. } => format!("give {} to {worker} as {attempt}", job.0),
        PoolAction::Recall { worker, job, attempt } => format!("recall {} of {worker} as {attempt}", job.0),
        PoolAction::Pace { worker, job, is_paused, .. } => format!("pace {} of {worker} {is_paused}", job.0),
        PoolAction::Dismiss { worker } => format!("dismiss {worker}"),
        PoolAction::Streamed { job, attempt, index, .. } => format!("streamed {} {attempt}.{index}", job.0),
        PoolAction::Restarted { job, attempt } => format!("restarted {} as {attempt}", job.0),
        PoolAction::Ended { job, end } => format!("ended {}: {}", job.0, spell_end(end)),
    }
}

fn spell_end(end: &End<&'static str>) -> String {
    match end {
        End::Done(payload) => format!("done {payload}"),
        End::Failed { payload, is_in_doubt: false } => format!("failed {payload}"),
        End::Failed { payload, is_in_doubt: true } => format!("failed {payload}, in doubt"),
        End::Unknown => "unknown".into(),
        End::Dead { trials, is_in_doubt } => {
            let trials: Vec<String> = trials.iter().map(|(_, mishap)| mishap.to_string()).collect();
            format!("dead {is_in_doubt} {}", trials.join(", "))
        }
        End::TimedOut { was_given } => format!("timed out {was_given}"),
        End::Busy => "busy".into(),
        End::Cancelled { was_given } => format!("cancelled {was_given}"),
    }
}

#[test]
fn jobs_go_round_among_ready_workers_and_wait_for_credit() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    stage.ready(2, 2);
    let jobs: Vec<JobId> = (0..4).map(|_| stage.submit(Class::Idempotent)).collect();
    assert_eq!(stage.actions(), ["give 1 to 1 as 1", "give 2 to 2 as 1", "give 3 to 2 as 1"]);
    assert!(stage.hear(1, jobs[0], 1, Report::Done("one")));
    assert_eq!(stage.actions(), ["give 4 to 1 as 1", "ended 1: done one"]);
    // 2 was given something before 1 was, so it is its turn.
    stage.hear(2, jobs[1], 1, Report::Done("two"));
    stage.hear(1, jobs[3], 1, Report::Done("four"));
    stage.actions();
    stage.submit(Class::Idempotent);
    assert_eq!(stage.actions(), ["give 5 to 2 as 1"]);
}

#[test]
fn a_dead_workers_job_goes_to_another_and_its_late_answer_is_void() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    stage.ready(2, 1);
    let job = stage.submit(Class::Idempotent);
    stage.hear(1, job, 1, Report::Chunk { index: 0, payload: "half" });
    stage.actions();
    stage.pool.remove(stage.now, 1, Mishap::Died);
    assert_eq!(stage.actions(), ["restarted 1 as 2", "give 1 to 2 as 2"]);
    assert!(!stage.hear(1, job, 1, Report::Done("late")));
    assert!(!stage.hear(2, job, 1, Report::Done("of another attempt")));
    assert_eq!(stage.pool.stats().fenced, 2);
    assert!(stage.hear(2, job, 2, Report::Done("good")));
    assert_eq!(stage.actions(), ["ended 1: done good"]);
}

#[test]
fn the_error_of_a_later_worker_says_nothing_of_an_earlier_one() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    stage.ready(2, 1);
    let job = stage.submit(Class::Idempotent);
    stage.pool.remove(stage.now, 1, Mishap::Died);
    stage.actions();
    assert!(stage.hear(2, job, 2, Report::Failed("no")));
    assert_eq!(stage.actions(), ["ended 1: failed no, in doubt"]);
}

#[test]
fn what_must_not_be_done_twice_is_given_again_only_when_it_came_back_untouched() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    stage.ready(2, 1);
    let job = stage.submit(Class::Once);
    stage.hear(1, job, 1, Report::GaveBack { reason: "full".into(), was_begun: true });
    assert_eq!(stage.actions(), ["give 1 to 1 as 1", "give 1 to 2 as 2"]);
    stage.pool.remove(stage.now, 2, Mishap::Died);
    assert_eq!(stage.actions(), ["ended 1: unknown"]);
}

fn leaving() -> Report<&'static str> {
    Report::GaveBack { reason: "the worker is leaving".into(), was_begun: false }
}

#[test]
fn what_was_given_back_goes_to_another_worker_and_rests_where_there_is_none() {
    let mut stage = Stage::new();
    stage.ready(1, 2);
    let job = stage.submit(Class::Once);
    stage.hear(1, job, 1, leaving());
    assert_eq!(stage.actions(), ["give 1 to 1 as 1"], "not at once to the same one");
    stage.wait(Duration::from_millis(50));
    assert_eq!(stage.actions(), ["give 1 to 1 as 2"]);
    stage.ready(2, 1);
    stage.hear(1, job, 2, leaving());
    assert_eq!(stage.actions(), ["give 1 to 2 as 3"]);
    stage.hear(2, job, 3, leaving());
    assert_eq!(stage.actions(), ["give 1 to 1 as 4"]);
    stage.hear(1, job, 4, Report::Done("done"));
    assert_eq!(stage.actions(), ["ended 1: done done"]);
}

#[test]
fn a_job_that_nobody_begins_uses_up_no_attempt_and_is_not_offered_for_ever() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    let job = stage.submit(Class::Idempotent);
    let (since, untaken_max) = (stage.now, PoolRules::default().untaken_max);
    for attempt in 1..untaken_max {
        assert!(stage.hear(1, job, attempt, leaving()), "{attempt}");
        stage.wait(Duration::from_secs(1));
    }
    assert_eq!(stage.pool.stats().redispatched, 0, "none of it was an attempt");
    stage.hear(1, job, untaken_max, leaving());
    assert!(stage.actions().last().unwrap().starts_with("ended 1: dead false given back"));
    assert!(stage.now - since > Duration::from_secs(10));

    let job = stage.submit(Class::Idempotent);
    stage.hear(1, job, 1, leaving());
    stage.pool.cancel(stage.now, job);
    assert_eq!((stage.pool.is_idle(), stage.pool.waiting_count(), stage.pool.wake_at()), (true, 0, None));
}

#[test]
fn a_busy_worker_that_gets_on_keeps_its_job_and_a_wedged_one_loses_it() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    let job = stage.submit(Class::Idempotent);
    stage.actions();
    for _ in 0..10 {
        stage.wait(LEASE - Duration::from_millis(1));
        assert!(stage.hear(1, job, 1, Report::Progress));
    }
    assert_eq!(stage.actions(), [""; 0], "busy for ten leases");
    stage.ready(2, 1);
    stage.wait(LEASE);
    assert_eq!(stage.actions(), ["recall 1 of 1 as 1", "give 1 to 2 as 2"]);
    assert_eq!(stage.pool.worker(1).map(|worker| worker.3), Some(WorkerState::Suspect));
    stage.hear(2, job, 2, Report::Progress);
    stage.wait(LEASE);
    assert!(stage.actions().contains(&"dismiss 1".to_owned()), "it did not even answer to the recall");
}

/// Whoever orders could else have any worker taken for stuck, and dismissed a moment later.
#[test]
fn no_order_makes_a_lease_shorter_than_the_rules_or_a_fence_less_patient() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    let (deadline, lease) = (stage.now + DEADLINE, Some(Duration::from_millis(1)));
    let order = Order { service: "echo".into(), class: Class::Idempotent, deadline, lease, payload: "job" };
    stage.pool.submit(stage.now, order);
    stage.wait(LEASE - Duration::from_millis(1));
    assert_eq!(stage.actions(), ["give 1 to 1 as 1"]);
    stage.wait(Duration::from_millis(1));
    assert_eq!(stage.actions(), ["recall 1 of 1 as 1"]);
    stage.wait(LEASE - Duration::from_millis(1));
    assert_eq!(stage.actions(), [""; 0]);
    stage.wait(Duration::from_millis(1));
    assert_eq!(stage.actions(), ["dismiss 1"]);
}

#[test]
fn a_recalled_worker_has_its_slot_again_when_it_answers() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    let (job, other) = (stage.submit(Class::Idempotent), stage.submit(Class::Idempotent));
    stage.pool.cancel(stage.now, job);
    assert_eq!(stage.actions(), ["give 1 to 1 as 1", "recall 1 of 1 as 1", "ended 1: cancelled true"]);
    assert!(!stage.hear(1, job, 1, Report::GaveBack { reason: "recalled".into(), was_begun: true }));
    assert_eq!(stage.actions(), ["give 2 to 1 as 1"]);
    stage.wait(LEASE / 2);
    stage.hear(1, other, 1, Report::Done("two"));
    stage.wait(DEADLINE);
    assert_eq!(stage.actions(), ["ended 2: done two"], "nobody is dismissed");
}

#[test]
fn poison_is_a_dead_letter_after_three_attempts_with_its_history() {
    let mut stage = Stage::new();
    let job = stage.submit(Class::Idempotent);
    for worker in 1..=3 {
        stage.ready(worker, 1);
        stage.pool.remove(stage.now, worker, if worker == 2 { Mishap::Left } else { Mishap::Died });
    }
    let actions = stage.actions();
    assert_eq!(
        actions.last().unwrap(),
        "ended 1: dead true its worker died, its worker left, its worker died"
    );
    let letter = stage.pool.dead_letters().next().unwrap();
    assert_eq!((letter.job, letter.history.len()), (job, 3));
    stage.ready(4, 1);
    assert_eq!(stage.actions(), [""; 0]);
}

#[test]
fn deadlines_end_jobs_wherever_they_are() {
    let mut stage = Stage::new();
    stage.submit(Class::Idempotent);
    stage.ready(1, 1);
    stage.submit(Class::Once);
    stage.hear(1, JobId(1), 1, Report::Progress);
    stage.actions();
    stage.pool.forgive(DEADLINE);
    stage.wait(DEADLINE);
    let actions = stage.actions();
    assert_eq!(actions, ["recall 1 of 1 as 1", "ended 1: timed out true", "ended 2: timed out false"]);
}

#[test]
fn drained_and_unreachable_workers_get_nothing_and_keep_what_they_have() {
    let mut stage = Stage::new();
    stage.ready(1, 2);
    let job = stage.submit(Class::Idempotent);
    stage.pool.suspect(1);
    stage.submit(Class::Idempotent);
    assert_eq!(stage.actions(), ["give 1 to 1 as 1"]);
    stage.pool.trust(stage.now, 1);
    assert_eq!(stage.actions(), ["give 2 to 1 as 1"]);
    stage.pool.drain(1);
    stage.submit(Class::Idempotent);
    assert!(stage.hear(1, job, 1, Report::Done("one")));
    assert_eq!(stage.actions(), ["ended 1: done one"]);
    assert!(!stage.pool.offers("echo"));
}

#[test]
fn a_pause_follows_the_job_from_worker_to_worker() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    let job = stage.submit(Class::Idempotent);
    stage.pool.pace(stage.now, job, true);
    stage.pool.pace(stage.now, job, true);
    assert_eq!(stage.actions(), ["give 1 to 1 as 1", "pace 1 of 1 true"]);
    stage.ready(2, 1);
    stage.pool.remove(stage.now, 1, Mishap::Died);
    stage.wait(3 * LEASE);
    stage.pool.pace(stage.now, job, false);
    assert_eq!(stage.actions(), ["give 1 to 2 as 2", "pace 1 of 2 true", "pace 1 of 2 false"]);
}

/// Each pause would else renew the lease.
#[test]
fn a_reader_that_stops_and_goes_hides_no_worker_that_is_stuck() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    stage.ready(2, 1);
    let job = stage.submit(Class::Idempotent);
    stage.actions();
    let toggle = |stage: &mut Stage| {
        stage.wait(LEASE / 4);
        stage.pool.pace(stage.now, job, true);
        stage.wait(LEASE / 4);
        stage.pool.pace(stage.now, job, false);
    };
    (0..4).for_each(|_| toggle(&mut stage));
    assert!(stage.actions().contains(&"recall 1 of 1 as 1".to_owned()), "after two leases");
    for _ in 0..20 {
        toggle(&mut stage);
        stage.hear(2, job, 2, Report::Progress);
    }
    assert!(!stage.actions().iter().any(|action| action.starts_with("recall")), "it gets on");
}

#[test]
fn a_worker_that_is_held_back_is_not_judged_until_it_may_go_on() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    let job = stage.submit(Class::Idempotent);
    stage.pool.pace(stage.now, job, true);
    stage.wait(10 * LEASE);
    stage.pool.pace(stage.now, job, false);
    assert_eq!(stage.actions(), ["give 1 to 1 as 1", "pace 1 of 1 true", "pace 1 of 1 false"]);
    stage.wait(LEASE);
    assert_eq!(stage.actions(), ["recall 1 of 1 as 1"]);
}

#[test]
fn a_service_with_many_waiting_does_not_keep_another_out() {
    let mut stage = Stage::new();
    let submit = |stage: &mut Stage, service: &str| stage.submit_to(service, Class::Idempotent);
    for _ in 0..3 {
        submit(&mut stage, "many");
    }
    let rare = submit(&mut stage, "rare");
    let services = ["many".into(), "rare".into()];
    stage.pool.declare(stage.now, 1, &services, 1);
    for (job, service) in [(1, "many"), (2, "many"), (3, "many"), (rare.0, "rare"), (5, "many")] {
        let action = stage.pool.take_actions().into_iter().find_map(|action| match action {
            PoolAction::Give { job, service, .. } => Some((job.0, service)),
            _ => None,
        });
        assert_eq!(action, Some((job, service.into())));
        submit(&mut stage, "many");
        stage.hear(1, JobId(job), 1, Report::Done("done"));
    }
}

#[test]
fn what_waits_is_bounded() {
    let mut stage = Stage::new();
    let max = PoolRules::default().waiting_max;
    (0..max).for_each(|_| {
        stage.submit(Class::Idempotent);
    });
    assert_eq!(stage.actions(), [""; 0]);
    stage.submit(Class::Idempotent);
    assert_eq!(stage.actions(), [format!("ended {}: busy", max + 1)]);
}

#[test]
fn our_own_absence_is_nobodys_lease() {
    let mut stage = Stage::new();
    stage.ready(1, 1);
    stage.submit(Class::Idempotent);
    stage.actions();
    let absence = Duration::from_secs(30);
    stage.pool.forgive(absence);
    stage.wait(absence);
    assert_eq!(stage.actions(), [""; 0]);
    stage.wait(LEASE);
    assert_eq!(stage.actions(), ["recall 1 of 1 as 1"]);
    assert_eq!(stage.now - stage.start, absence + LEASE);
}

/// What a history of the pool must look like, whatever happens to it.
#[derive(Default)]
struct Ledger {
    submitted: BTreeMap<u64, Class>,
    ended: BTreeSet<u64>,
    /// Who was told last to do a job, and as which attempt.
    given: BTreeMap<u64, (u8, u32)>,
    untouched: BTreeSet<u64>,
    live: BTreeMap<u8, (u16, bool)>,
    in_hand: BTreeMap<u8, BTreeSet<(u64, u32)>>,
}

impl Ledger {
    fn take(&mut self, action: &TestAction) -> Result<(), TestCaseError> {
        match action {
            PoolAction::Give { worker, job, attempt, .. } => {
                let (credit, takes) = self.live.get(worker).copied().unwrap_or_default();
                prop_assert!(takes, "given to one that takes nothing");
                let in_hand = self.in_hand.entry(*worker).or_default();
                in_hand.insert((job.0, *attempt));
                prop_assert!(in_hand.len() <= usize::from(credit), "more than its credit");
                if let Some((_, last)) = self.given.insert(job.0, (*worker, *attempt)) {
                    prop_assert_eq!(*attempt, last + 1);
                    let is_once = self.submitted.get(&job.0) == Some(&Class::Once);
                    prop_assert!(!is_once || self.untouched.contains(&job.0), "done twice");
                }
                self.untouched.remove(&job.0);
                prop_assert!(!self.ended.contains(&job.0), "given after its end");
                let rules = PoolRules::default();
                prop_assert!(*attempt <= rules.attempts_max + rules.untaken_max);
            }
            PoolAction::Ended { job, .. } => prop_assert!(self.ended.insert(job.0), "ended twice"),
            PoolAction::Streamed { job, attempt, .. } => {
                prop_assert_eq!(self.given.get(&job.0).map(|(_, attempt)| *attempt), Some(*attempt));
            }
            PoolAction::Dismiss { .. }
            | PoolAction::Recall { .. }
            | PoolAction::Restarted { .. }
            | PoolAction::Pace { .. } => {}
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Submit(bool, bool),
    Declare(u8, u16),
    Drain(u8),
    Suspect(u8),
    Trust(u8),
    Remove(u8),
    Say(u8, u64, u32, u8),
    Cancel(u64),
    Wait(u64),
    Forgive,
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0_u8..4;
    prop_oneof![
        4 => any::<(bool, bool)>().prop_map(|(is_once, is_other)| Step::Submit(is_once, is_other)),
        3 => (worker.clone(), 0_u16..4).prop_map(|(worker, credit)| Step::Declare(worker, credit)),
        1 => worker.clone().prop_map(Step::Drain),
        1 => worker.clone().prop_map(Step::Suspect),
        1 => worker.clone().prop_map(Step::Trust),
        2 => worker.clone().prop_map(Step::Remove),
        9 => (worker, 1_u64..20, 1_u32..4, 0_u8..6).prop_map(|(w, j, a, what)| Step::Say(w, j, a, what)),
        1 => (1_u64..20).prop_map(Step::Cancel),
        3 => (0_u64..6_000).prop_map(Step::Wait),
        1 => Just(Step::Forgive),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_once_and_credit_classes_and_attempts_hold(steps in prop::collection::vec(step(), 1..120)) {
        let mut stage = Stage::new();
        let mut ledger = Ledger::default();
        for step in steps {
            match step {
                Step::Submit(is_once, is_other) => {
                    let class = if is_once { Class::Once } else { Class::Idempotent };
                    // The actions of a submission name the job, so it is known before them.
                    ledger.submitted.insert(ledger.submitted.len() as u64 + 1, class);
                    stage.submit_to(if is_other { "other" } else { "echo" }, class);
                }
                Step::Declare(worker, credit) => {
                    let in_hand = ledger.in_hand.get(&worker).map_or(0, |jobs| u16::try_from(jobs.len()).unwrap());
                    ledger.live.insert(worker, (credit.max(in_hand), true));
                    stage.ready(worker, credit);
                }
                Step::Drain(worker) | Step::Suspect(worker) if ledger.live.contains_key(&worker) => {
                    ledger.live.entry(worker).and_modify(|(_, takes)| *takes = false);
                    if matches!(step, Step::Drain(_)) { stage.pool.drain(worker) } else { stage.pool.suspect(worker) }
                }
                Step::Trust(worker) => {
                    let is_draining = stage.pool.workers.get(&worker).is_some_and(|worker| worker.is_draining);
                    ledger.live.entry(worker).and_modify(|(_, takes)| *takes = !is_draining);
                    stage.pool.trust(stage.now, worker);
                }
                Step::Remove(worker) => {
                    ledger.live.remove(&worker);
                    ledger.in_hand.remove(&worker);
                    stage.pool.remove(stage.now, worker, Mishap::Died);
                }
                Step::Say(worker, job, attempt, what) => {
                    let report = match what {
                        0 => Report::Progress,
                        1 => Report::Chunk { index: 0, payload: "chunk" },
                        2 => Report::Done("done"),
                        3 => Report::Failed("failed"),
                        4 => Report::GaveBack { reason: String::new(), was_begun: true },
                        _ => Report::GaveBack { reason: String::new(), was_begun: false },
                    };
                    let is_present = ledger.given.get(&job) == Some(&(worker, attempt)) && !ledger.ended.contains(&job);
                    if what >= 4 && is_present { ledger.untouched.insert(job); }
                    if what >= 2
                        && let Some(jobs) = ledger.in_hand.get_mut(&worker) { jobs.remove(&(job, attempt)); }
                    stage.hear(worker, JobId(job), attempt, report);
                }
                Step::Cancel(job) => stage.pool.cancel(stage.now, JobId(job)),
                Step::Wait(ms) => stage.wait(Duration::from_millis(ms)),
                Step::Forgive => stage.pool.forgive(LEASE),
                Step::Drain(_) | Step::Suspect(_) => {}
            }
            // Whoever has got room by an answer is given the oldest of what it could do.
            let oldest_left = stage.pool.waiting.values().flatten().min().copied();
            let is_answer = matches!(step, Step::Say(.., 2 | 3));
            loop {
                let actions = stage.pool.take_actions();
                if actions.is_empty() {
                    break;
                }
                for action in actions {
                    ledger.take(&action)?;
                    if let PoolAction::Give { job, .. } = &action && is_answer {
                        prop_assert!(oldest_left.is_none_or(|left| *job < left), "an older job waits");
                    }
                    if let PoolAction::Dismiss { worker } = action {
                        ledger.live.remove(&worker);
                        ledger.in_hand.remove(&worker);
                        stage.pool.remove(stage.now, worker, Mishap::Died);
                    }
                }
            }
            prop_assert!(stage.pool.worker(0).is_none_or(|worker| worker.2 <= 64));
        }
        stage.wait(2 * DEADLINE);
        for action in stage.pool.take_actions() {
            ledger.take(&action)?;
        }
        prop_assert_eq!(ledger.ended.len(), ledger.submitted.len(), "every job ends");
        prop_assert!(stage.pool.is_idle() && stage.pool.waiting_count() == 0 && stage.pool.waiting_bytes == 0);
        prop_assert!(stage.pool.due.is_empty() && stage.pool.waiting.is_empty());
    }
}
