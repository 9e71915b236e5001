use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::queue::Outcome;

const BEAT: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(60);
const RUN: u64 = 9;

fn rules() -> Rules {
    let limits = PppLimits {
        clients_max: 4,
        client_requests_max: 3,
        workers_max: 3,
        waiting_max: 4,
        ..PppLimits::default()
    };
    Rules { heartbeat: BEAT, liveness: 3, deadline: DEADLINE, lease: None, limits }
}

/// A queue and its clock; what it does is told in words.
struct Stage {
    queue: Queue,
    now: Instant,
    beats: usize,
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(frame: &Bytes) -> String {
    String::from_utf8_lossy(frame).into_owned()
}

/// `job/attempt`, as the token of this run.
fn token(spelt: &str, run: u64) -> Bytes {
    let (job, attempt) = spelt.split_once('/').unwrap();
    AttemptToken { run, job: JobId(job.parse().unwrap()), attempt: attempt.parse().unwrap() }.encode()
}

fn spell_token(frame: &Bytes) -> String {
    let reply = vec![frame.clone(), Bytes::new(), Bytes::new()];
    match WorkerSaid::decode(reply) {
        Some(WorkerSaid::Reply { token: Some(token), .. }) => format!("{}/{}", token.job.0, token.attempt),
        other => panic!("no token: {other:?}"),
    }
}

fn call_of(id: &str, method: &str) -> Bytes {
    bytes(&json!({"jsonrpc": "2.0", "id": id, "method": method}).to_string())
}

impl Stage {
    fn new(rules: Rules) -> Self {
        let now = Instant::now();
        Self { queue: Queue::new(rules, RUN, 1, now), now, beats: 0 }
    }

    fn step(&mut self, input: Input) -> Vec<String> {
        let actions = self.queue.step(self.now, input);
        let is_beat = |action: &Action| matches!(action, Action::BeatWorker { .. });
        self.beats += actions.iter().filter(|action| is_beat(action)).count();
        actions.iter().filter(|action| !is_beat(action)).map(tell).collect()
    }

    fn wait(&mut self, time: Duration) -> Vec<String> {
        let (until, mut told) = (self.now + time, Vec::new());
        while self.now < until {
            self.now = self.queue.wake_at().max(self.now + Duration::from_millis(1)).min(until);
            told.extend(self.step(Input::Tick));
        }
        told
    }

    fn say(&mut self, who: &str, frames: Vec<Bytes>) -> Vec<String> {
        let route = bytes(who);
        match who.starts_with('c') {
            true => self.step(Input::ClientSaid { route, frames, wall_ms: 1 }),
            false => self.step(Input::WorkerSaid { route, frames }),
        }
    }

    fn play(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ready", who] => self.say(who, vec![bytes("\u{1}")]),
            ["beat", who] => self.say(who, vec![bytes("\u{2}")]),
            ["junk", who] => self.say(who, vec![bytes("\u{3}")]),
            ["reply", who, at, what] => self.say(who, vec![token(at, RUN), Bytes::new(), bytes(what)]),
            ["reply-of-old", who, at, what] => {
                self.say(who, vec![token(at, RUN + 1), Bytes::new(), bytes(what)])
            }
            ["ask", who, what] => self.say(who, vec![Bytes::new(), bytes(what)]),
            ["ask-by", who, proxy, what] => self.say(who, vec![bytes(proxy), Bytes::new(), bytes(what)]),
            ["call", who, id, method] => self.say(who, vec![Bytes::new(), call_of(id, method)]),
            ["lose", who] if who.starts_with('c') => self.step(Input::ClientLost { route: bytes(who) }),
            ["lose", who] => self.step(Input::WorkerLost { route: bytes(who) }),
            ["slow", who] => self.step(Input::ClientSlow { route: bytes(who) }),
            ["answer", call, what] => {
                let payload = rpc::encode_result(call.parse().unwrap(), &json!(what));
                let output = Output::Finished(Outcome { failed: None, payload });
                self.step(Input::Said { call: CallId(call.parse().unwrap()), output })
            }
            ["gives-back", call] => {
                let output = Output::GaveBack { reason: "full".into() };
                self.step(Input::Said { call: CallId(call.parse().unwrap()), output })
            }
            ["close"] => self.step(Input::Close),
            ["leave"] => self.step(Input::Leave),
            ["wait", ms] => self.wait(Duration::from_millis(ms.parse().unwrap())),
            ["away", ms] => {
                self.now += Duration::from_millis(ms.parse().unwrap());
                self.step(Input::Tick)
            }
            _ => panic!("what is {line:?}?"),
        }
    }
}

fn tell(action: &Action) -> String {
    match action {
        Action::ToWorker { route, frames } => {
            assert!(frames[1].is_empty());
            let content: Vec<String> = frames[2..].iter().map(text).collect();
            format!("{} does {} {}", text(route), spell_token(&frames[0]), content.join("+"))
        }
        Action::ToClient { route, frames } => {
            let words: Vec<String> = frames.iter().map(text).collect();
            let words = words.join("|");
            let said = serde_json::from_str::<Value>(words.trim_start_matches('|'));
            let said = said.map_or(words, |json| match json.get("result") {
                Some(result) => format!("{}={}", json["id"], result),
                None => format!("{}!{}", json["id"], json["error"]["data"]["kind"].as_str().unwrap()),
            });
            format!("{} hears {said}", text(route))
        }
        Action::HangUpClient { route } | Action::HangUpWorker { route } => format!("hang up {}", text(route)),
        Action::Dispatch(dispatch) => format!(
            "dispatch {} as {} of {}: {}",
            dispatch.call.0, dispatch.number, dispatch.session.client, dispatch.method
        ),
        Action::Cancel { call, reason } => format!("cancel {}: {reason:?}", call.0),
        Action::BeatWorker { route } => format!("beat {}", text(route)),
    }
}

#[track_caller]
fn check_with(rules: Rules, script: &str, expected: &[&str]) -> PppStats {
    let mut stage = Stage::new(rules);
    let told: Vec<String> = script.split(';').flat_map(|line| stage.play(line)).collect();
    assert_eq!(told, expected, "{script}");
    stage.queue.stats()
}

#[track_caller]
fn check(script: &str, expected: &[&str]) -> PppStats {
    check_with(rules(), script, expected)
}

#[test]
fn a_request_goes_to_a_worker_and_its_reply_back_by_the_same_envelope() {
    let stats = check(
        "ready w1; ask c1 hello; reply w1 1/1 hi; ask-by c1 proxy again; reply w1 2/1 yes",
        &["w1 does 1/1 hello", "c1 hears |hi", "w1 does 2/1 again", "c1 hears proxy||yes"],
    );
    assert_eq!((stats.requests, stats.replies, stats.given, stats.workers, stats.clients), (2, 2, 2, 1, 1));
}

#[test]
fn requests_wait_for_a_worker_and_each_worker_has_one() {
    check(
        "ask c1 a; ask c2 b; ask c3 c; ready w1; ready w2; beat w1; reply w1 1/1 x",
        &["w1 does 1/1 a", "w2 does 2/1 b", "w1 does 3/1 c", "c1 hears |x"],
    );
}

#[test]
fn a_heartbeat_is_no_ready() {
    let stats = check("beat w1; ask c1 a; beat w1", &[]);
    assert_eq!((stats.strangers, stats.workers, stats.waiting), (2, 0, 1));
    check("ready w1; ask c1 a; ask c1 b; beat w1; beat w1", &["w1 does 1/1 a"]);
}

#[test]
fn an_idle_worker_is_gone_after_three_silent_intervals_and_a_busy_one_is_not() {
    let stats =
        check("ready w1; wait 2999; beat w1; wait 2999; wait 500; beat w1; ask c1 a", &["hang up w1"]);
    assert_eq!((stats.expired, stats.strangers, stats.waiting), (1, 1, 1));
    // Ten times its patience with a job in hand; from its reply on it has to beat again.
    let stats = check(
        "ready w1; ask c1 a; wait 30000; reply w1 1/1 done; wait 2500; ask c1 b",
        &["w1 does 1/1 a", "c1 hears |done", "w1 does 2/1 b"],
    );
    assert_eq!(stats.expired, 0);
}

#[test]
fn every_worker_is_beaten_to_busy_or_not() {
    let mut stage = Stage::new(rules());
    stage.play("ready w1");
    stage.play("ready w2");
    stage.play("ask c1 a");
    for _ in 0..10 {
        stage.wait(BEAT);
        stage.play("beat w1");
        stage.play("beat w2");
    }
    assert_eq!(stage.beats, 20);
}

#[test]
fn our_own_absence_expires_nobody() {
    let stats = check("ready w1; away 100000; ask c1 a", &["w1 does 1/1 a"]);
    assert_eq!(stats.expired, 0);
}

#[test]
fn the_request_of_a_worker_that_dies_goes_to_the_next_and_the_third_death_is_the_last() {
    let stats = check(
        "ready w1; ready w2; ask c1 a; lose w1; reply w2 1/2 x",
        &["w1 does 1/1 a", "w2 does 1/2 a", "c1 hears |x"],
    );
    assert_eq!(stats.redispatched, 1);
    let stats = check(
        "ask c1 poison; ready w1; lose w1; ready w1; lose w1; ready w1; lose w1; ready w1",
        &["w1 does 1/1 poison", "w1 does 1/2 poison", "w1 does 1/3 poison"],
    );
    assert_eq!((stats.unanswered, stats.waiting, stats.workers), (1, 0, 1), "silence, as in the guide");
}

#[test]
fn ready_begins_anew_and_what_the_worker_had_is_void() {
    let stats = check(
        "ready w1; ask c1 a; ready w1; reply w1 1/1 old; reply w1 1/2 new",
        &["w1 does 1/1 a", "w1 does 1/2 a", "c1 hears |new"],
    );
    assert_eq!((stats.fenced, stats.workers), (1, 1));
}

#[test]
fn a_reply_of_an_earlier_conversation_frees_no_hand() {
    let leased = Rules { lease: Some(Duration::from_secs(4)), ..rules() };
    let stats = check_with(
        leased,
        "ask c1 a; ready w1; ready w1; wait 7000; reply w1 1/1 old; reply w1 1/2 late",
        &["w1 does 1/1 a", "w1 does 1/2 a", "w1 does 1/3 a"],
    );
    assert_eq!(stats.fenced, 2);
}

#[test]
fn late_stale_and_strange_replies_are_fenced() {
    let leased = Rules { lease: Some(Duration::from_secs(5)), ..rules() };
    let stats = check_with(
        leased,
        "ready w1; ask c1 a; wait 2000; ready w2; wait 2000; beat w2; wait 2000; reply w1 1/1 late; reply w2 1/2 new; \
         reply w2 1/2 twice; reply w9 1/2 stranger; reply-of-old w1 1/2 before",
        &["w1 does 1/1 a", "w2 does 1/2 a", "c1 hears |new"],
    );
    assert_eq!((stats.fenced, stats.replies, stats.redispatched), (4, 1, 1));
}

#[test]
fn a_worker_that_has_a_request_beyond_its_deadline_is_let_go_in_the_end() {
    let stats = check(
        "ready w1; ask c1 a; wait 60001; ask c1 b; wait 30001; reply w1 1/1 late",
        &["w1 does 1/1 a", "hang up w1"],
    );
    assert_eq!((stats.unanswered, stats.dismissed, stats.fenced, stats.waiting), (1, 1, 1, 1));
    // One that comes back in time takes the next.
    check("ready w1; ask c1 a; wait 60001; ask c1 b; reply w1 1/1 late", &["w1 does 1/1 a", "w1 does 2/1 b"]);
}

#[test]
fn a_client_that_leaves_takes_what_waits_and_is_not_worked_for_twice() {
    let stats = check("ask c1 a; lose c1; ready w1", &[]);
    assert_eq!((stats.waiting, stats.clients), (0, 0));
    let stats = check(
        "ready w1; ask c1 a; lose c1; wait 40000; reply w1 1/1 x; ask c2 b",
        &["w1 does 1/1 a", "w1 does 2/1 b"],
    );
    assert_eq!((stats.unwanted, stats.dismissed), (1, 0), "the worker did nothing wrong");
    let stats = check("ready w1; ask c1 a; ready w2; lose c1; lose w1", &["w1 does 1/1 a"]);
    assert_eq!((stats.redispatched, stats.waiting, stats.in_hand), (0, 0, 0));
}

#[test]
fn a_client_without_room_is_refused() {
    let stats = check("ask c1 a; ask c1 b; ask c1 c; ask c1 d; call c1 x m", &["c1 hears \"x\"!busy"]);
    assert_eq!((stats.waiting, stats.refused), (3, 2));
    let stats = check("ask c1 a; ask c2 b; ask c3 c; ask c4 d; ask c5 e; ask c4 f", &["hang up c5"]);
    assert_eq!((stats.clients, stats.waiting, stats.refused, stats.unanswered), (4, 4, 1, 1));
    let stats = check("ready w1; ready w2; ready w3; ready w4; lose w1; ready w4", &["hang up w4"]);
    assert_eq!((stats.workers, stats.refused), (3, 1));
}

#[test]
fn who_says_nothing_that_is_understood_is_hung_up_on() {
    let script = ["junk c1; junk w1;"; 8].concat() + "junk c1; junk w1; wait 1";
    let stats = check(&script, &["hang up c1", "hang up w1"]);
    assert_eq!(stats.malformed, 18);
}

#[test]
fn a_json_rpc_request_is_the_hosts_and_ends_in_an_answer() {
    let stats = check(
        "call c1 a object.send; call c2 a x; answer 2 two; answer 1 one; call c1 a object.send; gives-back 3",
        &[
            "dispatch 1 as 1 of 1: object.send",
            "dispatch 2 as 1 of 2: x",
            "c2 hears \"a\"=\"two\"",
            "c1 hears \"a\"=\"one\"",
            "dispatch 3 as 2 of 1: object.send",
            "c1 hears \"a\"!gave-back",
        ],
    );
    assert_eq!((stats.dispatched, stats.replies, stats.calls), (3, 3, 0));
}

/// What is acknowledged the service may forget, so nothing that still runs ever is.
#[test]
fn only_what_is_answered_is_acknowledged_to_the_service() {
    let mut stage = Stage::new(rules());
    let mut acked = |id: &str| {
        let frames = vec![Bytes::new(), call_of(id, "m")];
        let asked = Input::ClientSaid { route: bytes("c1"), frames, wall_ms: 1 };
        match stage.queue.step(stage.now, asked).pop() {
            Some(Action::Dispatch(dispatch)) => {
                let payload = rpc::encode_result(1, &Value::Null);
                let output = Output::Finished(Outcome { failed: None, payload });
                if id != "slow" {
                    stage.step(Input::Said { call: dispatch.call, output });
                }
                dispatch.acked_through
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([acked("a"), acked("b"), acked("slow"), acked("c"), acked("d")], [0, 1, 2, 2, 2]);
}

#[test]
fn a_repeat_joins_the_running_request_and_is_answered_once() {
    let stats = check(
        "call c1 a m; call c1 a m; call c1 a m; answer 1 x; answer 1 y",
        &["dispatch 1 as 1 of 1: m", "c1 hears \"a\"=\"x\""],
    );
    assert_eq!((stats.dispatched, stats.repeats, stats.replies), (1, 2, 1));
    check(
        "call c1 a m; call c1 a other; answer 1 x",
        &["dispatch 1 as 1 of 1: m", "c1 hears \"a\"!id-in-use", "c1 hears \"a\"=\"x\""],
    );
    // A full client may still repeat.
    check(
        "call c1 a m; ask c1 x; ask c1 y; call c1 a m; answer 1 x",
        &["dispatch 1 as 1 of 1: m", "c1 hears \"a\"=\"x\""],
    );
}

#[test]
fn a_late_call_is_cancelled_and_a_beat_later_answered_for() {
    let stats = check(
        "call c1 a m; wait 60000; wait 999; wait 1; answer 1 late",
        &["dispatch 1 as 1 of 1: m", "cancel 1: Deadline", "c1 hears \"a\"!timeout"],
    );
    assert_eq!((stats.calls, stats.replies), (0, 1));
}

#[test]
fn the_calls_of_a_client_that_leaves_are_cancelled_and_a_new_connection_is_a_new_session() {
    let stats = check(
        "call c1 a m; lose c1; call c1 a m; answer 1 x; answer 2 y",
        &[
            "dispatch 1 as 1 of 1: m",
            "cancel 1: ClientGone",
            "dispatch 2 as 1 of 2: m",
            "c1 hears \"a\"=\"y\"",
        ],
    );
    assert_eq!((stats.unwanted, stats.replies), (1, 1));
    let stats = check("ask c1 a; slow c1; ready w1", &["hang up c1"]);
    assert_eq!((stats.slow_readers, stats.waiting), (1, 0));
}

#[test]
fn a_connection_of_half_a_day_is_given_a_new_session() {
    let mut stage = Stage::new(rules());
    stage.play("call c1 a m");
    stage.play("answer 1 x");
    stage.play("away 43200000");
    assert_eq!(stage.play("call c1 a m"), ["dispatch 2 as 1 of 2: m"]);
}

#[test]
fn a_queue_that_closes_ends_what_it_has_and_takes_nothing_new() {
    let stats = check(
        "ready w1; ask c1 a; call c1 i m; close; ask c2 b; call c2 j m; reply w1 1/1 x; leave; answer 1 y",
        &[
            "w1 does 1/1 a",
            "dispatch 1 as 1 of 1: m",
            "c2 hears \"j\"!closing",
            "c1 hears |x",
            "cancel 1: Shutdown",
            "c1 hears \"i\"=\"y\"",
        ],
    );
    assert_eq!(stats.refused, 1);
}

#[derive(Debug, Clone)]
enum Step {
    Ready(u8),
    Beat(u8),
    /// A worker echoes the token it was last handed, or an older one.
    Reply(u8, usize),
    LoseWorker(u8),
    Ask(u8),
    LoseClient(u8),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4).prop_map(Step::Ready),
        3 => (0_u8..4).prop_map(Step::Beat),
        8 => (0_u8..4, 0_usize..3).prop_map(|(worker, back)| Step::Reply(worker, back)),
        2 => (0_u8..4).prop_map(Step::LoseWorker),
        8 => (0_u8..3).prop_map(Step::Ask),
        1 => (0_u8..3).prop_map(Step::LoseClient),
        4 => (1_u64..9_000).prop_map(Step::Wait),
    ]
}

/// What each side has seen, beside the queue.
#[derive(Default)]
struct Ledger {
    /// Tokens that each worker was handed in its connection, oldest first.
    handed: HashMap<u8, Vec<Bytes>>,
    /// The one it has in hand.
    in_hand: HashMap<u8, Bytes>,
    /// The newest token of each request.
    newest: HashMap<String, Bytes>,
    answered: HashSet<String>,
}

impl Ledger {
    fn take(&mut self, actions: Vec<Action>, replying: Option<(u8, Bytes)>) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::ToWorker { route, frames } if frames.len() == 3 => {
                    let worker = route[1] - b'0';
                    let before = self.in_hand.insert(worker, frames[0].clone());
                    prop_assert!(before.is_none(), "a second job for w{}", worker);
                    self.handed.entry(worker).or_default().push(frames[0].clone());
                    self.newest.insert(text(&frames[2]), frames[0].clone());
                }
                Action::ToClient { route, frames } => {
                    let asked = text(&frames[1]);
                    prop_assert_eq!(asked.split('-').next(), Some(&*text(&route)), "somebody else's answer");
                    prop_assert!(self.answered.insert(asked.clone()), "{} answered twice", asked);
                    let (_, token) = replying.clone().expect("answers come from replies");
                    prop_assert_eq!(self.newest.get(&asked), Some(&token), "a void attempt answered");
                }
                Action::HangUpWorker { route } => drop(self.in_hand.remove(&(route[1] - b'0'))),
                _ => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    /// Workers that die, answer late, twice or for the attempt before: each request has at most one reply, of the attempt
    /// that counts, and no worker is given a second job while it has one.
    #[test]
    fn every_request_has_at_most_one_reply_and_every_worker_one_job(
        steps in prop::collection::vec(steps(), 1..150),
        lease_s in prop::option::of(1_u64..20),
    ) {
        let lease = lease_s.map(Duration::from_secs);
        let mut stage = Stage::new(Rules { lease, limits: PppLimits::default(), ..rules() });
        let mut ledger = Ledger::default();
        let mut asked = 0;
        for step in steps {
            let mut replying = None;
            let input = match step {
                Step::Ready(worker) => {
                    ledger.in_hand.remove(&worker);
                    Input::WorkerSaid { route: bytes(&format!("w{worker}")), frames: vec![bytes("\u{1}")] }
                }
                Step::Beat(worker) => {
                    Input::WorkerSaid { route: bytes(&format!("w{worker}")), frames: vec![bytes("\u{2}")] }
                }
                Step::Reply(worker, back) => {
                    let Some(token) = ledger.handed.get(&worker).and_then(|handed| handed.iter().rev().nth(back)) else {
                        continue;
                    };
                    let token = token.clone();
                    if ledger.in_hand.get(&worker) == Some(&token) {
                        ledger.in_hand.remove(&worker);
                    }
                    // A worker echoes the content, so that the ledger knows whose answer it is.
                    let content = ledger.newest.iter().find(|(_, newest)| newest[8..16] == token[8..16]);
                    let content = bytes(content.map_or("", |(content, _)| content));
                    replying = Some((worker, token.clone()));
                    Input::WorkerSaid { route: bytes(&format!("w{worker}")), frames: vec![token, Bytes::new(), content] }
                }
                Step::LoseWorker(worker) => {
                    ledger.in_hand.remove(&worker);
                    Input::WorkerLost { route: bytes(&format!("w{worker}")) }
                }
                Step::Ask(client) => {
                    asked += 1;
                    let content = bytes(&format!("c{client}-{asked}"));
                    Input::ClientSaid { route: bytes(&format!("c{client}")), frames: vec![Bytes::new(), content], wall_ms: 1 }
                }
                Step::LoseClient(client) => Input::ClientLost { route: bytes(&format!("c{client}")) },
                Step::Wait(ms) => {
                    let until = stage.now + Duration::from_millis(ms);
                    while stage.now < until {
                        stage.now = stage.queue.wake_at().max(stage.now + Duration::from_millis(1)).min(until);
                        let actions = stage.queue.step(stage.now, Input::Tick);
                        ledger.take(actions, None)?;
                    }
                    continue;
                }
            };
            let actions = stage.queue.step(stage.now, input);
            ledger.take(actions, replying)?;
        }
        stage.wait(2 * DEADLINE);
        let stats = stage.queue.stats();
        prop_assert!(stage.queue.is_idle() && stage.queue.askers.is_empty(), "every request ends");
        prop_assert_eq!(stage.queue.by_route.len(), stage.queue.workers.len());
        prop_assert_eq!(stats.replies, ledger.answered.len() as u64);
        prop_assert!(stage.queue.clients.values().all(|client| client.jobs.is_empty()));
    }
}
