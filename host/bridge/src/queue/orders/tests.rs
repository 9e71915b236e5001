use super::*;
use crate::frame::{ClientBody, Hello, PROTOCOL, Place, ToHost, WorkerBody, WorkerReport};
use crate::pool::Class;
use crate::queue::{Input, Limits, Route, Rules};

const CLIENT: &str = "client";
const WORKER: &str = "worker";

/// A queue with a client and a worker of `echo` that takes one job at once, unless it has none.
struct Bench {
    queue: Queue,
    now: std::time::Instant,
    serials: [u64; 2],
}

impl Bench {
    fn new(has_worker: bool) -> Self {
        let rules = Rules {
            heartbeat: Duration::from_secs(1),
            liveness: 3,
            role_max: Role::Operator,
            token: None,
            limits: Limits::default(),
            open_services: vec!["echo".into()],
        };
        let now = std::time::Instant::now();
        let mut bench = Self { queue: Queue::new(rules, 1, now), now, serials: [0; 2] };
        bench.greet(CLIENT, 1, Role::Client);
        if has_worker {
            bench.greet(WORKER, 2, Role::Worker);
            let ready = WorkerBody::Ready { credit: 1, services: vec!["echo".into()] };
            bench.say(WORKER, ClientBody::Work(ready));
        }
        bench
    }

    fn hear(&mut self, from: &'static str, frame: ToHost) -> Vec<Action> {
        let route = Route::from_static(from.as_bytes());
        self.queue.step(self.now, Input::Heard { route, frame, wall_ms: 1_000 })
    }

    fn greet(&mut self, from: &'static str, client: u128, role: Role) {
        let (protocol, incarnation, run, channel, received, token) = (PROTOCOL, 0, 0, 0, 0, None);
        self.hear(
            from,
            ToHost::Hello(Hello { protocol, client, incarnation, run, channel, received, role, token }),
        );
    }

    fn say(&mut self, from: &'static str, body: ClientBody) -> Vec<Action> {
        let peer = usize::from(from == WORKER);
        self.serials[peer] += 1;
        let (at, serial) = (Place { channel: peer as u64 + 1, received: 0 }, self.serials[peer]);
        self.hear(from, ToHost::Said { at, serial, body })
    }

    fn order(&mut self, attempt: u32) -> Vec<Action> {
        let order = Some(OrderTerms { service: "echo".into(), class: Class::Idempotent, lease_ms: 0 });
        let (number, acked_through, remaining_ms, payload) = (7, 0, 1_000, Bytes::from_static(b"{}"));
        self.say(CLIENT, ClientBody::Request { number, acked_through, remaining_ms, attempt, order, payload })
    }

    fn fail(&mut self, effect: Effect) -> Vec<Action> {
        let payload = rpc::encode_error(Some(7), &RpcError::new("failed", effect, "it went wrong"));
        let report = WorkerReport::Failed { payload };
        self.say(WORKER, ClientBody::Work(WorkerBody::Report { job: 1, attempt: 1, report }))
    }
}

/// The effect that the client is told.
#[track_caller]
fn effect_told(actions: &[Action]) -> Effect {
    let told = actions.iter().find_map(|action| match action {
        Action::Send {
            frame: crate::frame::ToClient::Said { body: crate::frame::HostBody::Error { payload, .. }, .. },
            ..
        } => rpc::decode_error(Some(7), payload),
        _ => None,
    });
    told.unwrap_or_else(|| panic!("no error in {actions:?}")).data.effect
}

#[test]
fn a_workers_error_is_believed_about_the_first_attempt_only() {
    for (attempt, expected) in [(1, Effect::None), (2, Effect::Unknown)] {
        let mut bench = Bench::new(true);
        bench.order(attempt);
        assert_eq!(effect_told(&bench.fail(Effect::None)), expected, "attempt {attempt}");
    }
    let mut bench = Bench::new(true);
    bench.order(2);
    assert_eq!(effect_told(&bench.fail(Effect::Committed)), Effect::Committed);
}

#[test]
fn an_order_that_no_worker_was_free_for_may_have_been_done_before() {
    for (attempt, expected) in [(1, Effect::None), (2, Effect::Unknown)] {
        let mut bench = Bench::new(false);
        bench.order(attempt);
        bench.now += Duration::from_secs(1);
        assert_eq!(effect_told(&bench.queue.step(bench.now, Input::Tick)), expected, "attempt {attempt}");
    }
}

#[test]
fn a_reader_that_changes_its_mind_makes_no_queue_for_the_worker() {
    let mut bench = Bench::new(true);
    bench.order(1);
    for toggle in 0..10_000 {
        bench.say(CLIENT, ClientBody::Pace { number: 7, is_paused: toggle % 2 == 0 });
    }
    let peers = bench.queue.peers(bench.now);
    let waiting: Vec<_> = peers.iter().map(|peer| peer.waiting_messages).collect();
    assert_eq!(waiting, [0, 1], "its last word waits for the worker's window");
}
