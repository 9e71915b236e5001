use super::*;
use crate::frame::{PROTOCOL, Place, Welcome};

const BEAT: Duration = Duration::from_secs(1);
const MINUTE: u32 = 60_000;

/// A worker, its clock, and what its host says.
struct Bench {
    pirate: Pirate,
    now: Instant,
    channel: u64,
    serial: u64,
}

fn settings(credit: u16) -> Settings {
    let link = LinkSettings {
        heartbeat: BEAT,
        liveness: 3,
        request_timeout: Duration::from_secs(2),
        retries: 2,
        backoff_min: BEAT,
        backoff_max: 32 * BEAT,
        role: Role::Worker,
        token: None,
    };
    Settings { link, services: vec!["echo".into()], credit }
}

impl Bench {
    fn new(credit: u16) -> Self {
        let now = Instant::now();
        Self { pirate: Pirate::new(settings(credit), 42, now), now, channel: 0, serial: 0 }
    }

    /// Connected to a host that welcomes it in a new channel.
    fn ready(credit: u16) -> (Self, Vec<String>) {
        let mut bench = Self::new(credit);
        bench.step(Input::Tick);
        bench.step(Input::Connected);
        let said = bench.welcome(Role::Worker);
        (bench, said)
    }

    fn step(&mut self, input: Input) -> Vec<String> {
        spell(self.pirate.step(self.now, input))
    }

    fn welcome(&mut self, role: Role) -> Vec<String> {
        (self.channel, self.serial) = (self.channel + 1, 0);
        self.step(Input::Heard(ToClient::Welcome(Welcome {
            protocol: PROTOCOL,
            incarnation: 7,
            run: self.channel,
            channel: self.channel,
            received: 0,
            heartbeat_ms: 1_000,
            role,
        })))
    }

    fn hear(&mut self, body: JobBody, received: u64) -> Vec<String> {
        self.serial += 1;
        let at = Place { channel: self.channel, received };
        let (serial, body) = (self.serial, HostBody::Work(body));
        self.step(Input::Heard(ToClient::Said { at, serial, body }))
    }

    fn give(&mut self, job: u64, remaining_ms: u32) -> Vec<String> {
        let (service, payload) = ("echo".into(), Bytes::from_static(b"{}"));
        self.hear(JobBody::Job { job, attempt: 1, remaining_ms, lease_ms: 4_000, service, payload }, 0)
    }

    fn say(&mut self, slot: u64, report: WorkerReport) -> Vec<String> {
        self.step(Input::Said { slot: SlotId(slot), report })
    }
}

fn done() -> WorkerReport {
    WorkerReport::Done { payload: Bytes::from_static(b"1") }
}

/// What was decided, but for connections, heartbeats and acknowledgements.
fn spell(actions: Vec<Action>) -> Vec<String> {
    let spell = |action| match action {
        Action::Send(ToHost::Said { body: ClientBody::Work(body), .. }) => Some(spell_body(&body)),
        Action::Send(ToHost::Bye) => Some("bye".to_owned()),
        Action::Begin(begin) => Some(format!("begin {} as {}", begin.job, begin.slot.0)),
        Action::Stop { slot, reason } => Some(format!("stop {} {reason:?}", slot.0)),
        Action::Refused { refusal, .. } => Some(format!("refused {refusal:?}")),
        Action::Drained => Some("drained".to_owned()),
        Action::Stuck => Some("stuck".to_owned()),
        _ => None,
    };
    actions.into_iter().filter_map(spell).collect()
}

fn spell_body(body: &WorkerBody) -> String {
    match body {
        WorkerBody::Ready { credit, services } => format!("ready {credit} {}", services.join(",")),
        WorkerBody::Drain => "drain".to_owned(),
        WorkerBody::Report { job, attempt, report } => {
            let report = match report {
                WorkerReport::Progress => "progress",
                WorkerReport::Piece { .. } => "piece",
                WorkerReport::Done { .. } => "done",
                WorkerReport::Failed { .. } => "failed",
                WorkerReport::GaveBack { .. } => "gave back",
            };
            format!("{report} {job}.{attempt}")
        }
    }
}

#[test]
fn a_welcome_is_answered_by_an_offer_and_a_job_by_its_result() {
    let (mut bench, said) = Bench::ready(2);
    assert_eq!(said, ["ready 2 echo"]);
    assert_eq!(bench.give(5, MINUTE), ["begin 5 as 1"]);
    assert_eq!(bench.say(1, done()), ["done 5.1"]);
    assert_eq!(bench.say(1, done()), [""; 0], "one answer a job");
}

#[test]
fn more_jobs_than_it_offered_are_given_back() {
    let (mut bench, _) = Bench::ready(1);
    bench.give(1, MINUTE);
    assert_eq!(bench.give(2, MINUTE), ["gave back 2.1"]);
}

#[test]
fn signs_of_progress_go_out_four_times_in_a_lease() {
    let (mut bench, _) = Bench::ready(1);
    bench.give(1, MINUTE);
    let mut said = Vec::new();
    for _ in 0..80 {
        bench.now += Duration::from_millis(100);
        said.extend(bench.say(1, WorkerReport::Progress));
        // READY, and what it said since.
        bench.hear(JobBody::Recall { job: 99, attempt: 1 }, 1 + said.len() as u64);
    }
    assert_eq!(said.len(), 8, "two leases of 4 s: {said:?}");
}

#[test]
fn a_recalled_job_is_told_to_stop_and_answers_all_the_same() {
    let (mut bench, _) = Bench::ready(1);
    bench.give(1, MINUTE);
    assert_eq!(bench.hear(JobBody::Recall { job: 1, attempt: 1 }, 0), ["stop 1 Caller"]);
    assert_eq!(bench.hear(JobBody::Recall { job: 1, attempt: 1 }, 0), [""; 0]);
    assert_eq!(bench.say(1, gave_back("stopped")), ["gave back 1.1"]);
}

#[test]
fn a_job_past_its_deadline_is_told_to_stop() {
    let (mut bench, _) = Bench::ready(1);
    bench.give(1, 500);
    assert_eq!(bench.pirate.wake_at(), Some(bench.now + Duration::from_millis(500)));
    bench.now += Duration::from_millis(500);
    assert_eq!(bench.step(Input::Tick), ["stop 1 Deadline"]);
}

#[test]
fn a_host_that_forgot_it_voids_its_jobs_and_is_offered_less_until_they_have_stopped() {
    let (mut bench, _) = Bench::ready(2);
    bench.give(1, MINUTE);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    assert_eq!(bench.welcome(Role::Worker), ["stop 1 ClientGone", "ready 1 echo"]);
    assert_eq!(bench.say(1, WorkerReport::Progress), [""; 0]);
    assert_eq!(bench.give(1, MINUTE), ["begin 1 as 2"], "the new host's job 1 is another");
    assert_eq!(bench.say(1, done()), ["ready 2 echo"], "its answer goes nowhere");
    assert_eq!(bench.say(2, done()), ["done 1.1"]);
}

#[test]
fn one_that_drains_ends_what_it_has_and_takes_no_more() {
    let (mut bench, _) = Bench::ready(2);
    bench.give(1, MINUTE);
    assert_eq!(bench.step(Input::Drain), ["drain"]);
    assert_eq!(bench.give(2, MINUTE), ["gave back 2.1"]);
    assert_eq!(bench.say(1, done()), ["done 1.1"]);
    assert_eq!(bench.hear(JobBody::Recall { job: 9, attempt: 1 }, 4), ["drained"], "when all has arrived");
    assert_eq!(bench.step(Input::Close), ["bye"]);
}

#[test]
fn an_endpoint_that_takes_no_workers_ends_it() {
    let mut bench = Bench::new(1);
    bench.step(Input::Tick);
    bench.step(Input::Connected);
    assert_eq!(bench.welcome(Role::Client), ["refused Role", "bye"]);
    assert_eq!(bench.pirate.wake_at(), None);
}

#[test]
fn one_whose_every_job_is_void_and_does_not_stop_is_stuck() {
    let (mut bench, _) = Bench::ready(1);
    bench.give(1, MINUTE);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    assert_eq!(bench.welcome(Role::Worker), ["stop 1 ClientGone", "ready 0 echo"]);
    bench.now += STUCK_AFTER;
    assert!(bench.step(Input::Tick).contains(&"stuck".to_owned()));
}
