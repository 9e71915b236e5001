use super::presence::OFFENCES_MAX;
use super::*;
use crate::frame::{FRAME_BYTES_MAX, Hello, PROTOCOL, Refusal, Welcome};

const BEAT: Duration = Duration::from_secs(1);

struct Bench {
    queue: Queue,
    start: Instant,
    now: Instant,
}

fn rules() -> Rules {
    Rules {
        heartbeat: BEAT,
        liveness: 3,
        role_max: Role::Operator,
        token: None,
        limits: Limits::default(),
        open_services: Vec::new(),
    }
}

fn route(name: &'static str) -> Route {
    Bytes::from_static(name.as_bytes())
}

fn hello(client: u128) -> Hello {
    Hello {
        protocol: PROTOCOL,
        client,
        incarnation: 0,
        run: 0,
        channel: 0,
        received: 0,
        role: Role::Operator,
        token: None,
    }
}

fn request(serial: u64, number: u64, remaining_ms: u32) -> (u64, ClientBody) {
    let payload = Bytes::from_static(b"{}");
    (serial, ClientBody::Request { number, acked_through: 0, remaining_ms, attempt: 1, order: None, payload })
}

fn done(failed: Option<Effect>) -> Output {
    Output::Finished(Outcome { failed, payload: Bytes::from_static(b"answer") })
}

fn dispatched(actions: &[Action]) -> Vec<(u64, CallId)> {
    let dispatch = |action: &Action| match action {
        Action::Dispatch(dispatch) => Some((dispatch.number, dispatch.call)),
        _ => None,
    };
    actions.iter().filter_map(dispatch).collect()
}

/// Bodies said to anybody.
fn said(actions: &[Action]) -> Vec<HostBody> {
    let body = |action: &Action| match action {
        Action::Send { frame: ToClient::Said { body, .. }, .. } => Some(body.clone()),
        _ => None,
    };
    actions.iter().filter_map(body).collect()
}

fn kind_of(body: &HostBody) -> String {
    let HostBody::Error { number, payload } = body else { panic!("{body:?} is no error") };
    rpc::decode_error(Some(*number), payload).unwrap().data.kind
}

impl Bench {
    fn with(rules: Rules) -> Self {
        let start = Instant::now();
        Self { queue: Queue::new(rules, 1, start), start, now: start }
    }

    /// Client 7 on route `a`, channel 1.
    fn ready() -> Self {
        let mut bench = Self::with(rules());
        assert_eq!(bench.greet("a", hello(7)).channel, 1);
        bench
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        self.queue.step(self.now, input)
    }

    fn hear(&mut self, from: &'static str, frame: ToHost) -> Vec<Action> {
        self.step(Input::Heard { route: route(from), frame, wall_ms: 1_000 })
    }

    fn greet(&mut self, from: &'static str, hello: Hello) -> Welcome {
        let actions = self.hear(from, ToHost::Hello(hello));
        let welcome = |action: &Action| match action {
            Action::Send { frame: ToClient::Welcome(welcome), .. } => Some(*welcome),
            _ => None,
        };
        actions.iter().find_map(welcome).unwrap_or_else(|| panic!("no WELCOME: {actions:?}"))
    }

    fn say(&mut self, (serial, body): (u64, ClientBody)) -> Vec<Action> {
        self.hear("a", ToHost::Said { at: Place { channel: 1, received: 0 }, serial, body })
    }

    fn service(&mut self, call: CallId, output: Output) -> Vec<Action> {
        self.step(Input::Said { call, output })
    }

    fn pass(&mut self, at: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.queue.wake_at() <= self.start + at {
            self.now = self.now.max(self.queue.wake_at());
            actions.extend(self.step(Input::Tick));
        }
        self.now = self.start + at;
        actions
    }

    /// The client has had all that was sent.
    fn acknowledge(&mut self) -> Vec<Action> {
        let received = self.queue.sessions[&7].sender.last_serial();
        self.hear("a", ToHost::Ack { at: Place { channel: 1, received } })
    }

    fn beat(&mut self, acked_through: u64) {
        let at = Place { channel: 1, received: 0 };
        let beat = self.queue.sessions[&7].beats();
        self.hear("a", ToHost::Heartbeat { at, acked_through, beat });
    }

    /// Time passes while the client is well.
    fn pass_beating(&mut self, at: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.now + BEAT / 2 < self.start + at {
            let next = self.now + BEAT / 2 - self.start;
            actions.extend(self.pass(next));
            self.beat(0);
        }
        actions.extend(self.pass(at));
        actions
    }
}

#[test]
fn a_session_keeps_its_incarnation_over_reconnects_and_host_restarts() {
    let mut bench = Bench::ready();
    let again = bench.greet("b", hello(7));
    assert_eq!(again.incarnation, 1_000);
    let known = Hello { incarnation: 555, run: 99, channel: 3, ..hello(8) };
    assert_eq!(bench.greet("c", known).incarnation, 555, "an earlier host gave it");
}

#[test]
fn the_newest_connection_is_the_sessions_and_the_older_is_dropped() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    let back = Hello { incarnation: 1_000, run: 1, channel: 1, ..hello(7) };
    let actions = bench.hear("b", ToHost::Hello(back));
    assert!(actions.contains(&Action::Disconnect { route: route("a") }));
    let actions = bench.service(call, done(None));
    assert!(matches!(&actions[..], [Action::Send { route, .. }] if *route == "b"), "{actions:?}");
}

#[test]
fn a_lost_welcome_is_said_again_and_a_late_hello_changes_nothing() {
    let mut bench = Bench::ready();
    assert_eq!(
        bench.greet("b", hello(7)).channel,
        1,
        "the client never used the channel: it may not know it"
    );
    bench.hear("b", ToHost::Ack { at: Place { channel: 1, received: 0 } });
    assert_eq!(bench.hear("b", ToHost::Hello(hello(7))), [], "it is late");
    bench.hear("a", ToHost::Hello(hello(7)));
    assert_eq!(bench.queue.sessions[&7].route, Some(route("b")), "late on the dead connection");
}

/// Its farewell was lost, or comes later: whoever begins anew is told to come again, not left without a word.
#[test]
fn who_begins_anew_before_its_farewell_is_heard_is_told_to_wait() {
    let mut bench = Bench::ready();
    bench.beat(0);
    bench.step(Input::Lost { route: route("a") });
    let actions = bench.hear("b", ToHost::Hello(hello(7)));
    let refused = |action: &Action| {
        matches!(action, Action::Send { frame: ToClient::Refused { refusal: Refusal::Full, .. }, .. })
    };
    assert!(matches!(&actions[..], [action] if refused(action)), "{actions:?}");
    bench.pass(4 * BEAT);
    assert_eq!(bench.greet("b", hello(7)).channel, 2);
}

#[test]
fn what_the_lost_connection_swallowed_is_said_again() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    bench.service(call, Output::Accepted);
    bench.service(call, done(None));
    let back = Hello { incarnation: 1_000, run: 1, channel: 1, received: 1, ..hello(7) };
    let bodies = said(&bench.hear("b", ToHost::Hello(back)));
    assert!(matches!(bodies[..], [HostBody::Result { number: 1, .. }]), "{bodies:?}");
}

#[test]
fn a_number_reaches_the_service_once_however_often_it_comes() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    assert_eq!(dispatched(&bench.say(request(1, 1, 60_000))), []);
    assert_eq!(dispatched(&bench.say(request(2, 1, 60_000))), []);
    bench.service(call, Output::Accepted);
    assert_eq!(said(&bench.say(request(3, 1, 60_000))), [HostBody::Accepted { number: 1 }]);
    bench.service(call, done(None));
    let bodies = said(&bench.say(request(4, 1, 60_000)));
    assert!(matches!(bodies[..], [HostBody::Result { number: 1, .. }]), "{bodies:?}");
    bench.beat(1);
    assert_eq!(kind_of(&said(&bench.say(request(5, 1, 60_000)))[0]), "too-old");
    assert_eq!(bench.queue.stats().dispatched, 1);
}

#[test]
fn the_memory_of_finished_replies_keeps_64() {
    let mut bench = Bench::ready();
    for number in 1..=65 {
        let call = dispatched(&bench.say(request(number, number, 60_000)))[0].1;
        bench.service(call, done(None));
    }
    assert_eq!(dispatched(&bench.say(request(66, 65, 60_000))), []);
    assert_eq!(dispatched(&bench.say(request(67, 1, 60_000))).len(), 1, "forgotten: the service remembers");
}

/// Who greets and leaves, over and over, would else keep everybody out for as long as it likes.
#[test]
fn sessions_whose_connection_is_gone_make_room_for_newcomers() {
    let limits = Limits { sessions_max: 3, ..Limits::default() };
    let mut bench = Bench::with(Rules { limits, ..rules() });
    bench.greet("a", hello(7));
    dispatched(&bench.say(request(1, 1, 60_000)));
    bench.step(Input::Lost { route: route("a") });
    bench.now += BEAT / 4;
    bench.greet("b", hello(8));
    bench.greet("c", hello(9));
    bench.step(Input::Lost { route: route("c") });
    bench.now += BEAT / 4;
    bench.greet("d", hello(10));
    let there = |bench: &Bench| bench.queue.sessions.keys().copied().collect::<Vec<_>>();
    assert_eq!(there(&bench), [7, 8, 10], "one that something is done for goes last");
    bench.greet("e", hello(11));
    assert_eq!(there(&bench), [8, 10, 11]);
    let full = bench.hear("f", ToHost::Hello(hello(12)));
    let is_full = |action: &Action| {
        matches!(action, Action::Send { frame: ToClient::Refused { refusal: Refusal::Full, .. }, .. })
    };
    assert!(matches!(&full[..], [action] if is_full(action)), "who is connected stays: {full:?}");
}

#[test]
fn three_missed_intervals_end_the_session_and_tell_its_calls() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    assert_eq!(bench.pass(Duration::from_millis(2_900)), []);
    let actions = bench.pass(Duration::from_millis(3_250));
    let cancel = Action::Cancel { call, reason: CancelReason::ClientGone };
    assert_eq!(actions, [cancel, Action::Disconnect { route: route("a") }]);
    assert_eq!(bench.service(call, done(None)), []);
    let stats = bench.queue.stats();
    assert_eq!((stats.sessions, stats.calls, stats.expired, stats.dropped_replies), (0, 0, 1, 1));
}

#[test]
fn our_own_suspension_is_not_the_clients_death() {
    let mut bench = Bench::ready();
    bench.now += Duration::from_secs(600);
    bench.step(Input::Tick);
    assert_eq!(bench.queue.stats().sessions, 1);
}

/// It went away, we cancelled, it came back and asked again before the service had noticed.
#[test]
fn a_returned_clients_call_runs_again_only_if_the_first_left_no_effect() {
    for (first, is_run_again) in [(Some(Effect::None), true), (Some(Effect::Unknown), false), (None, false)] {
        let mut bench = Bench::ready();
        let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
        bench.pass(4 * BEAT);
        let welcome = bench.greet("a", Hello { incarnation: 1_000, run: 1, channel: 1, ..hello(7) });
        let at = Place { channel: welcome.channel, received: 0 };
        let (serial, body) = request(1, 1, 60_000);
        let actions = bench.hear("a", ToHost::Said { at, serial, body });
        assert_eq!(dispatched(&actions), [], "not beside the first");
        let actions = bench.service(call, done(first));
        assert_eq!(dispatched(&actions).len(), usize::from(is_run_again), "{first:?}");
        assert_eq!(said(&actions).len(), usize::from(!is_run_again), "{first:?}");
    }
}

#[test]
fn a_deadline_is_told_and_one_heartbeat_later_answered_for() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 2_000)))[0].1;
    let actions = bench.pass_beating(Duration::from_millis(2_100));
    assert!(actions.contains(&Action::Cancel { call, reason: CancelReason::Deadline }), "{actions:?}");
    assert_eq!(said(&actions), []);
    let bodies = said(&bench.pass_beating(Duration::from_millis(3_100)));
    assert_eq!(bodies.iter().map(kind_of).collect::<Vec<_>>(), ["timeout"]);
    assert_eq!(said(&bench.service(call, done(None))), [], "one outcome is enough");
    let bodies = said(&bench.say(request(2, 1, 2_000)));
    assert!(matches!(bodies[..], [HostBody::Result { .. }]), "who asks again learns the truth: {bodies:?}");
}

#[test]
fn a_request_without_time_left_is_not_begun() {
    let mut bench = Bench::ready();
    let bodies = said(&bench.say(request(1, 1, 0)));
    assert_eq!(kind_of(&bodies[0]), "timeout");
    assert_eq!(bench.queue.stats().dispatched, 0);
}

#[test]
fn a_refusal_knows_that_an_earlier_host_may_have_done_it() {
    let mut bench =
        Bench::with(Rules { limits: Limits { session_calls_max: 0, ..Limits::default() }, ..rules() });
    bench.greet("a", hello(7));
    for (attempt, effect) in [(1, Effect::None), (2, Effect::Unknown)] {
        let (number, payload) = (u64::from(attempt), Bytes::from_static(b"{}"));
        let body = ClientBody::Request {
            number,
            acked_through: 0,
            remaining_ms: 1_000,
            attempt,
            order: None,
            payload,
        };
        let bodies = said(&bench.say((number, body)));
        let HostBody::Error { payload, .. } = &bodies[0] else { panic!("{bodies:?}") };
        let error = rpc::decode_error(Some(number), payload).unwrap();
        assert_eq!((error.data.kind.as_str(), error.data.effect), ("busy", effect));
    }
}

fn large_request(serial: u64, number: u64) -> (u64, ClientBody) {
    let (remaining_ms, payload) = (60_000, Bytes::from(vec![0; FRAME_BYTES_MAX]));
    (serial, ClientBody::Request { number, acked_through: 0, remaining_ms, attempt: 1, order: None, payload })
}

#[test]
fn requests_under_way_are_bounded_in_bytes_and_busy_names_the_bound() {
    let limits = Limits { call_bytes_max: 10 * FRAME_BYTES_MAX, ..Limits::default() };
    let mut bench = Bench::with(Rules { limits, ..rules() });
    bench.greet("a", hello(7));
    let calls: Vec<CallId> =
        (1..=8).map(|number| dispatched(&bench.say(large_request(number, number)))[0].1).collect();
    let busy = said(&bench.say(large_request(9, 9)));
    let HostBody::Error { payload, .. } = &busy[0] else { panic!("{busy:?}") };
    let error = rpc::decode_error(Some(9), payload).unwrap();
    assert_eq!((error.data.kind.as_str(), error.data.effect), ("busy", Effect::None));
    assert!(error.message.contains("33554432 of at most 33554432"), "{error}");
    bench.greet("b", hello(8));
    let mut other = |serial| {
        let (serial, body) = large_request(serial, serial);
        bench.hear("b", ToHost::Said { at: Place { channel: 2, received: 0 }, serial, body })
    };
    assert_eq!((1..=2).map(|serial| dispatched(&other(serial)).len()).sum::<usize>(), 2);
    assert_eq!(kind_of(&said(&other(3))[0]), "busy", "of all sessions");
    for call in calls {
        bench.service(call, done(None));
    }
    assert_eq!(dispatched(&bench.say(large_request(10, 10))).len(), 1);
}

#[test]
fn what_a_returned_client_asks_again_counts_and_what_it_cancelled_is_not_kept() {
    let mut bench = Bench::ready();
    let calls: Vec<CallId> =
        (1..=6).map(|number| dispatched(&bench.say(large_request(number, number)))[0].1).collect();
    bench.pass(4 * BEAT);
    let welcome = bench.greet("a", Hello { incarnation: 1_000, run: 1, channel: 1, ..hello(7) });
    let at = Place { channel: welcome.channel, received: 0 };
    for number in 1..=2 {
        let (serial, body) = large_request(number, number);
        assert_eq!(said(&bench.hear("a", ToHost::Said { at, serial, body })), []);
    }
    let (serial, body) = large_request(3, 3);
    assert_eq!(kind_of(&said(&bench.hear("a", ToHost::Said { at, serial, body }))[0]), "busy");
    let body = ClientBody::Cancel { number: 1 };
    bench.hear("a", ToHost::Said { at, serial: 4, body });
    assert_eq!(bench.queue.call_bytes, 7 * FRAME_BYTES_MAX);
    for call in calls {
        bench.service(call, done(Some(Effect::None)));
    }
    assert_eq!(bench.queue.call_bytes, FRAME_BYTES_MAX, "the second runs again");
    let (_, body) = large_request(0, 9);
    let call = dispatched(&bench.hear("a", ToHost::Said { at, serial: 5, body }))[0].1;
    let body = ClientBody::Cancel { number: 9 };
    bench.hear("a", ToHost::Said { at, serial: 6, body });
    let (_, body) = large_request(0, 9);
    assert_eq!(kind_of(&said(&bench.hear("a", ToHost::Said { at, serial: 7, body }))[0]), "cancelled");
    assert_eq!(bench.queue.call_bytes, 2 * FRAME_BYTES_MAX);
    bench.service(call, done(None));
}

#[test]
fn a_slow_reader_is_cut_at_the_bound_and_learns_why() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    let mut cancelled = Vec::new();
    for index in 0..2_000 {
        let payload = Bytes::from_static(b"token");
        let actions = bench.service(call, Output::Chunk { attempt: 1, index, payload });
        cancelled.extend(actions.into_iter().filter(|action| matches!(action, Action::Cancel { .. })));
    }
    assert_eq!(cancelled, [Action::Cancel { call, reason: CancelReason::SlowReader }]);
    let peer = &bench.queue.peers(bench.now)[0];
    assert_eq!((peer.unacked_messages, peer.waiting_messages), (64, 1_024));
    let failed = Outcome::error(1, &RpcError::new("cancelled", Effect::None, "as asked"));
    bench.service(call, Output::Finished(failed));
    let mut bodies = Vec::new();
    for _ in 0..20 {
        bodies.extend(said(&bench.acknowledge()));
    }
    assert_eq!(kind_of(bodies.last().unwrap()), "slow-reader");
    assert_eq!(bodies.len(), 1_025);
}

#[test]
fn a_result_decided_despite_the_deadline_is_delivered_but_a_cut_stream_is_an_error() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 100)))[0].1;
    assert_eq!(bench.pass(BEAT / 2), [Action::Cancel { call, reason: CancelReason::Deadline }]);
    assert!(matches!(said(&bench.service(call, done(None)))[..], [HostBody::Result { .. }]));

    let call = dispatched(&bench.say(request(2, 2, 60_000)))[0].1;
    bench.service(call, Output::Refused(CancelReason::SlowReader));
    let bodies = said(&bench.service(call, done(None)));
    let HostBody::Error { payload, .. } = &bodies[0] else { panic!("{bodies:?}") };
    let error = rpc::decode_error(Some(2), payload).unwrap();
    assert_eq!((error.data.kind.as_str(), error.data.effect), ("slow-reader", Effect::Committed));
}

#[test]
fn a_cancelled_call_is_told_and_its_answer_dropped() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    let actions = bench.say((2, ClientBody::Cancel { number: 1 }));
    assert_eq!(actions, [Action::Cancel { call, reason: CancelReason::Caller }]);
    assert_eq!(bench.service(call, done(None)), []);
    assert_eq!(bench.queue.stats().dropped_replies, 1);
}

#[test]
fn replies_nobody_takes_end_the_session_like_a_death() {
    let mut bench = Bench::ready();
    for number in 1..=20 {
        let call = dispatched(&bench.say(request(number, number, 60_000)))[0].1;
        let payload = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        bench.service(call, Output::Finished(Outcome { failed: None, payload }));
        if bench.queue.stats().sessions == 0 {
            assert_eq!(number, 10, "one under way and eight waiting make 32 MiB; the next is too much");
            return;
        }
    }
    panic!("it holds 80 MiB for one peer");
}

#[test]
fn answers_from_memory_that_nobody_takes_end_the_session_too() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    bench.service(call, done(None));
    for serial in 2..=10_000 {
        bench.say(request(serial, 1, 60_000));
        if bench.queue.stats().sessions == 0 {
            assert_eq!(serial, 64 + WAITING_MESSAGES_MAX as u64 + 1);
            return;
        }
    }
    panic!("{:?}", bench.queue.peers(bench.now));
}

#[test]
fn the_token_and_the_protocol_are_checked_before_anything_is_remembered() {
    let mut bench = Bench::with(Rules { token: Some(Token::from_bytes([3; 32])), ..rules() });
    let refusal = |actions: &[Action]| match actions {
        [Action::Send { frame: ToClient::Refused { refusal, .. }, .. }] => *refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&bench.hear("a", ToHost::Hello(hello(1)))), Refusal::Token);
    let wrong = Hello { token: Some([4; 32]), ..hello(1) };
    assert_eq!(refusal(&bench.hear("a", ToHost::Hello(wrong))), Refusal::Token);
    let old = Hello { protocol: 0, token: Some([3; 32]), ..hello(1) };
    assert_eq!(refusal(&bench.hear("a", ToHost::Hello(old))), Refusal::Protocol);
    assert_eq!((bench.queue.stats().sessions, bench.queue.stats().refused), (0, 3));
    bench.greet("a", Hello { token: Some([3; 32]), ..hello(1) });
}

#[test]
fn offenders_are_answered_eight_times_and_then_dropped() {
    let mut bench = Bench::with(rules());
    let error = FrameError::Empty;
    for _ in 0..OFFENCES_MAX {
        assert!(matches!(bench.step(Input::Garbage { route: route("x"), error })[..], [Action::Send { .. }]));
    }
    let actions = bench.step(Input::Garbage { route: route("x"), error });
    assert_eq!(actions, [Action::Disconnect { route: route("x") }]);
}

/// Whoever believes it sends the next window, and the next beat, to one that reads nothing.
#[test]
fn what_was_never_sent_is_not_acknowledged_and_saying_so_is_an_offence() {
    let mut bench = Bench::ready();
    for number in 1..=80 {
        let call = dispatched(&bench.say(request(number, number, 60_000)))[0].1;
        bench.service(call, done(None));
    }
    let at = |received| Place { channel: 1, received };
    let lies = [
        ToHost::Ack { at: at(65) },
        ToHost::Ack { at: at(u64::MAX) },
        ToHost::Heartbeat { at: at(0), acked_through: 0, beat: u64::MAX },
        ToHost::Heartbeat { at: at(65), acked_through: 0, beat: 0 },
        ToHost::Said { at: at(u64::MAX), serial: 81, body: ClientBody::Cancel { number: 1 } },
        ToHost::Hello(Hello { incarnation: 1_000, run: 1, channel: 1, received: 65, ..hello(7) }),
    ];
    for lie in lies {
        let actions = bench.hear("a", lie.clone());
        let refusal = |action: &Action| match action {
            Action::Send { frame: ToClient::Refused { refusal, .. }, .. } => Some(*refusal),
            _ => None,
        };
        assert_eq!(actions.iter().map(refusal).collect::<Vec<_>>(), [Some(Refusal::Malformed)], "{lie:?}");
    }
    let peer = &bench.queue.peers(bench.now)[0];
    assert_eq!((peer.unacked_messages, peer.waiting_messages), (64, 16), "nothing of it was believed");
    let mut last = Vec::new();
    for _ in 0..=OFFENCES_MAX {
        last = bench.hear("a", ToHost::Ack { at: at(u64::MAX) });
        if last == [Action::Disconnect { route: route("a") }] {
            return;
        }
    }
    panic!("it goes on for ever: {last:?}");
}

#[test]
fn heartbeats_are_answered_twice_an_interval_however_many_come() {
    let mut bench = Bench::ready();
    let mut answers = 0;
    for tenth in 0..40 {
        bench.now = bench.start + BEAT * tenth / 10;
        for _ in 0..100 {
            let (at, beat) = (Place { channel: 1, received: 0 }, bench.queue.sessions[&7].beats());
            answers += bench.hear("a", ToHost::Heartbeat { at, acked_through: 0, beat }).len();
        }
    }
    assert_eq!(answers, 8);
}

/// One that is waited for so long may be asleep for as long, and read all of it then.
#[test]
fn how_far_a_peer_may_be_behind_goes_with_the_liveness() {
    for (liveness, answers) in [(1, 9), (3, 10), (10, 31)] {
        let mut bench = Bench::with(Rules { liveness, ..rules() });
        bench.greet("a", hello(7));
        let mut answered = 0;
        while bench.queue.stats().sessions == 1 {
            bench.now += BEAT / 2;
            let at = Place { channel: 1, received: 0 };
            bench.hear("a", ToHost::Heartbeat { at, acked_through: 0, beat: 0 });
            answered += u64::from(bench.queue.stats().sessions == 1);
        }
        assert_eq!(answered, answers, "liveness {liveness}");
    }
}

#[test]
fn a_connection_that_leaves_too_much_unread_is_dropped_with_its_session() {
    let mut bench = Bench::ready();
    let actions = bench.step(Input::Slow { route: route("a") });
    assert_eq!(actions, [Action::Disconnect { route: route("a") }]);
    assert_eq!((bench.queue.stats().sessions, bench.queue.stats().expired), (0, 1));
    assert_eq!(
        bench.step(Input::Slow { route: route("x") }),
        [Action::Disconnect { route: route("x") }],
        "a stranger"
    );
}

#[test]
fn a_lost_message_is_noticed_by_the_beat_that_overtook_it() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    bench.service(call, done(None));
    let heartbeat =
        |beat| ToHost::Heartbeat { at: Place { channel: 1, received: 0 }, acked_through: 0, beat };
    assert_eq!(said(&bench.hear("a", heartbeat(0))), [], "no beat of ours was read since");
    bench.pass(BEAT / 2);
    let bodies = said(&bench.hear("a", heartbeat(1)));
    assert!(matches!(bodies[..], [HostBody::Result { .. }]), "{bodies:?}");
}

#[test]
fn closing_lets_calls_end_puts_new_ones_off_and_then_says_goodbye() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    assert_eq!(bench.step(Input::Close), []);
    assert_eq!(kind_of(&said(&bench.say(request(2, 2, 60_000)))[0]), "closing");
    assert!(!bench.queue.is_idle());
    let bodies = said(&bench.service(call, done(None)));
    assert!(matches!(bodies[..], [HostBody::Result { number: 1, .. }]), "{bodies:?}");
    bench.acknowledge();
    assert!(bench.queue.is_idle());
    assert_eq!(bench.step(Input::Leave), [Action::Send { route: route("a"), frame: ToClient::Bye }]);
}

#[test]
fn what_is_not_done_when_the_host_leaves_is_stopped_and_not_answered() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    bench.step(Input::Close);
    let goodbye = Action::Send { route: route("a"), frame: ToClient::Bye };
    let stop = Action::Cancel { call, reason: CancelReason::Shutdown };
    assert_eq!(bench.step(Input::Leave), [goodbye, stop], "goodbye first: the client asks elsewhere");
}

/// A store that cannot say what became of a commit can, once it is open again.
#[test]
fn an_answer_that_cannot_tell_the_effect_is_not_remembered() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    let bodies = said(&bench.service(call, done(Some(Effect::Unknown))));
    assert!(matches!(bodies[..], [HostBody::Error { number: 1, .. }]), "{bodies:?}");
    let call = dispatched(&bench.say(request(2, 1, 60_000)))[0].1;
    bench.service(call, done(None));
    let bodies = said(&bench.say(request(3, 1, 60_000)));
    assert!(matches!(bodies[..], [HostBody::Result { number: 1, .. }]), "{bodies:?}");
}

#[test]
fn a_pause_reaches_the_call_and_outlives_its_second_run() {
    let mut bench = Bench::ready();
    let call = dispatched(&bench.say(request(1, 1, 60_000)))[0].1;
    let paused = |call| Action::Pace { call, is_paused: true };
    assert_eq!(bench.say((2, ClientBody::Pace { number: 1, is_paused: true })), [paused(call)]);
    assert_eq!(bench.say((3, ClientBody::Pace { number: 9, is_paused: true })), [], "there is no such call");
    bench.pass(4 * BEAT);
    let welcome = bench.greet("a", Hello { incarnation: 1_000, run: 1, channel: 1, ..hello(7) });
    let at = Place { channel: welcome.channel, received: 0 };
    let (serial, body) = request(1, 1, 60_000);
    bench.hear("a", ToHost::Said { at, serial, body });
    let body = ClientBody::Pace { number: 1, is_paused: true };
    bench.hear("a", ToHost::Said { at, serial: 2, body });
    let actions = bench.service(call, done(Some(Effect::None)));
    let again = dispatched(&actions)[0].1;
    assert!(actions.contains(&paused(again)), "{actions:?}");
}
