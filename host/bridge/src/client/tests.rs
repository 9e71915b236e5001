use super::*;
use crate::client::calls::CALLS_MAX;
use crate::frame::{ClientBody, HostBody, PROTOCOL, Place, Welcome};
use crate::link::Backoff;
use crate::rpc::Effect;

const BEAT: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(100);
const NEVER: [bool; 0] = [];

struct Bench {
    pirate: LazyPirate,
    start: Instant,
    now: Instant,
}

fn settings() -> Settings {
    let link = LinkSettings {
        heartbeat: BEAT,
        liveness: 3,
        request_timeout: Duration::from_secs(2),
        retries: 2,
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(32),
        role: Role::Client,
        token: None,
    };
    Settings { link, silence_max: Some(SILENCE_MAX) }
}

fn welcome(run: u64, channel: u64, received: u64) -> Input {
    Input::Heard(ToClient::Welcome(Welcome {
        protocol: PROTOCOL,
        incarnation: 77,
        run,
        channel,
        received,
        heartbeat_ms: 1_000,
        role: Role::Client,
    }))
}

fn said(channel: u64, serial: u64, received: u64, body: HostBody) -> Input {
    Input::Heard(ToClient::Said { at: Place { channel, received }, serial, body })
}

fn error(number: u64, kind: &str, effect: Effect) -> HostBody {
    let error = crate::rpc::RpcError::new(kind, effect, "it says");
    HostBody::Error { number, payload: crate::rpc::encode_error(Some(number), &error) }
}

fn result(number: u64) -> HostBody {
    HostBody::Result { number, payload: Bytes::from_static(b"r") }
}

/// (number, attempt) of every request among the actions.
fn requests(actions: &[Action]) -> Vec<(u64, u32)> {
    let request = |action: &Action| match action {
        Action::Send(ToHost::Said { body: ClientBody::Request { number, attempt, .. }, .. }) => {
            Some((*number, *attempt))
        }
        _ => None,
    };
    actions.iter().filter_map(request).collect()
}

fn told(actions: Vec<Action>) -> Vec<(u64, News)> {
    let tell = |action| {
        if let Action::Tell { number, news } = action { Some((number, news)) } else { None }
    };
    actions.into_iter().filter_map(tell).collect()
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { pirate: LazyPirate::new(settings(), 42, start), start, now: start }
    }

    fn ready() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.step(Input::Tick), [Action::Connect]);
        bench.step(Input::Connected);
        assert_eq!(bench.step(welcome(1, 5, 0)), [Action::Welcomed(Role::Client)]);
        bench
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        self.pirate.step(self.now, input)
    }

    fn call(&mut self, seconds: u64) -> Vec<Action> {
        let number = self.pirate.take_number();
        let deadline = self.now + Duration::from_secs(seconds);
        self.step(Input::Call {
            number,
            request: Request { payload: Bytes::from_static(b"{}"), order: None, deadline },
        })
    }

    /// Ticks whenever the machine asks for it, until `at`.
    fn pass(&mut self, at: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(wake_at) = self.pirate.wake_at().filter(|wake_at| *wake_at <= self.start + at) {
            self.now = self.now.max(wake_at);
            actions.extend(self.step(Input::Tick));
        }
        self.now = self.start + at;
        actions
    }
}

#[test]
fn pauses_double_from_1_to_at_most_32_s_give_or_take_a_fifth_and_differ_between_clients() {
    let pauses = |client: u128| {
        let mut backoff = Backoff::new(settings().link.backoff_min, settings().link.backoff_max, client);
        (0..8).map(|_| backoff.next_pause().as_secs_f64()).collect::<Vec<_>>()
    };
    let longest = 32.0 / 1.2;
    for (pause, middle) in pauses(1).iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, longest, longest, longest]) {
        assert!((0.8 * middle..=1.2 * middle).contains(pause), "{pause} about {middle}");
    }
    assert_ne!(pauses(1), pauses(2));
}

#[test]
fn one_that_leaves_while_it_is_greeted_says_goodbye_to_a_host_that_may_know_it() {
    let mut bench = Bench::new();
    bench.step(Input::Tick);
    bench.step(Input::Connected);
    assert_eq!(bench.step(Input::Close), [Action::Send(ToHost::Bye), Action::Disconnect]);
}

#[test]
fn only_a_welcome_ends_the_backing_off() {
    let mut bench = Bench::new();
    bench.step(Input::Tick);
    for _ in 0..3 {
        bench.step(Input::ConnectFailed);
        bench.now += Duration::from_secs(60);
        assert_eq!(bench.step(Input::Tick), [Action::Connect]);
    }
    bench.step(Input::Connected);
    // Connected, and never greeted: that too is a failure.
    let greeted_at = bench.now - bench.start;
    assert!(bench.pass(greeted_at + 3 * BEAT).contains(&Action::Disconnect));
    assert_eq!(bench.pirate.link.failures(), 4);
    bench.pass(greeted_at + Duration::from_secs(60));
    bench.step(Input::Connected);
    bench.step(welcome(1, 1, 0));
    assert_eq!(bench.pirate.link.failures(), 0);
}

#[test]
fn silence_of_three_intervals_rebuilds_the_socket_at_once() {
    let mut bench = Bench::ready();
    let actions = bench.pass(3 * BEAT);
    let is_beat = |action: &&Action| matches!(action, Action::Send(ToHost::Heartbeat { .. }));
    assert_eq!(actions.iter().filter(is_beat).count(), 2);
    assert_eq!(actions[actions.len() - 2..], [Action::Disconnect, Action::Connect]);
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let mut bench = Bench::ready();
    for second in 1..20 {
        let actions = bench.pass(BEAT * second);
        assert!(!actions.contains(&Action::Disconnect), "second {second}");
        bench.step(Input::Heard(ToClient::Ack { at: Place { channel: 5, received: 0 } }));
    }
}

#[test]
fn our_own_suspension_is_not_the_hosts_death() {
    let mut bench = Bench::ready();
    bench.now += Duration::from_secs(600);
    assert!(!bench.step(Input::Tick).contains(&Action::Disconnect));
    assert!(bench.pass(Duration::from_secs(603)).contains(&Action::Disconnect));
}

#[test]
fn a_new_host_hears_every_open_call_again_under_its_number() {
    let mut bench = Bench::ready();
    assert_eq!(requests(&bench.call(60)), [(1, 1)]);
    assert_eq!(requests(&bench.call(60)), [(2, 1)]);
    let chunk = HostBody::Chunk { number: 2, attempt: 1, index: 0, payload: Bytes::new() };
    bench.step(said(5, 1, 2, chunk));
    assert_eq!(told(bench.step(said(5, 2, 2, result(1)))), [(1, News::Result(Bytes::from_static(b"r")))]);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    let actions = bench.step(welcome(2, 1, 0));
    assert_eq!(requests(&actions), [(2, 2)]);
    assert_eq!(told(actions), [(2, News::Reset { attempt: 2 })], "its chunks are void");
}

#[test]
fn the_same_host_hears_only_what_it_did_not_acknowledge() {
    let mut bench = Bench::ready();
    bench.call(60);
    bench.call(60);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    assert_eq!(requests(&bench.step(welcome(1, 5, 1))), [(2, 1)]);
}

#[test]
fn an_unacknowledged_request_is_repeated_then_the_socket_rebuilt() {
    let mut bench = Bench::ready();
    bench.call(60);
    let (mut repeats, mut is_rebuilt) = (0, false);
    for tenth in 1..=70 {
        let actions = bench.pass(Duration::from_millis(tenth * 100));
        repeats += requests(&actions).len();
        is_rebuilt |= actions.contains(&Action::Disconnect);
        let beat = ToClient::Heartbeat { at: Place { channel: 5, received: 0 }, beat: tenth };
        bench.step(Input::Heard(beat));
    }
    assert_eq!((repeats, is_rebuilt), (2, true));
}

#[test]
fn a_call_ends_two_heartbeats_after_its_deadline_and_knows_whether_it_left() {
    let mut bench = Bench::ready();
    bench.call(1);
    assert_eq!(told(bench.pass(Duration::from_millis(2_900))), []);
    assert_eq!(told(bench.pass(3 * BEAT)), [(1, News::TimedOut { was_sent: true })]);

    let mut bench = Bench::new();
    bench.step(Input::Tick);
    bench.call(1);
    assert_eq!(told(bench.pass(3 * BEAT)), [(1, News::TimedOut { was_sent: false })]);
}

#[test]
fn only_so_many_calls_are_open_and_only_a_window_is_under_way() {
    let mut bench = Bench::ready();
    let mut sent = 0;
    for _ in 0..CALLS_MAX {
        sent += requests(&bench.call(60)).len();
    }
    assert_eq!(sent, crate::channel::WINDOW.messages);
    let number = CALLS_MAX as u64 + 1;
    assert_eq!(told(bench.call(60)), [(number, News::Crowded)]);
    let ack = Input::Heard(ToClient::Ack { at: Place { channel: 5, received: 10 } });
    assert_eq!(requests(&bench.step(ack)).len(), 10);
}

#[test]
fn acked_through_names_the_last_number_below_which_all_have_ended() {
    let mut bench = Bench::ready();
    (0..3).for_each(|_| drop(bench.call(60)));
    bench.step(said(5, 1, 3, result(2)));
    assert_eq!(bench.pirate.acked_through(), 0);
    bench.step(said(5, 2, 3, result(1)));
    assert_eq!(bench.pirate.acked_through(), 2);
    bench.step(Input::Cancel { number: 3 });
    assert_eq!(bench.pirate.acked_through(), 3);
}

#[test]
fn frames_of_another_channel_are_void_and_a_stranger_greets_again() {
    let mut bench = Bench::ready();
    bench.call(60);
    assert_eq!(told(bench.step(said(4, 1, 1, result(1)))), []);
    let refused = ToClient::Refused { refusal: Refusal::Stranger, payload: Bytes::new() };
    let actions = bench.step(Input::Heard(refused));
    assert!(
        matches!(&actions[..], [Action::Send(ToHost::Hello(hello))] if hello.incarnation == 77),
        "{actions:?}"
    );
}

#[test]
fn a_refused_token_ends_everything() {
    let mut bench = Bench::ready();
    bench.call(60);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    let refused = ToClient::Refused { refusal: Refusal::Token, payload: Bytes::new() };
    let actions = bench.step(Input::Heard(refused));
    assert!(matches!(actions[0], Action::Refused { refusal: Refusal::Token, .. }));
    assert_eq!(told(actions), [(1, News::Closed { was_sent: true })]);
    assert_eq!(told(bench.call(1)), [(2, News::Closed { was_sent: false })]);
    assert_eq!(bench.pirate.wake_at(), None);
}

#[test]
fn a_call_whose_effect_nobody_can_tell_is_asked_again_under_its_number_until_the_host_knows() {
    let mut bench = Bench::ready();
    bench.call(60);
    assert_eq!(bench.step(said(5, 1, 1, error(1, "unavailable", Effect::Unknown))), [], "not yet an outcome");
    assert_eq!(requests(&bench.pass(Duration::from_millis(150))), [(1, 2)]);
    bench.step(said(5, 2, 2, error(1, "busy", Effect::None)));
    assert_eq!(requests(&bench.pass(Duration::from_millis(600))), [(1, 3)], "busy settles nothing");
    assert_eq!(told(bench.step(said(5, 3, 3, result(1)))), [(1, News::Result(Bytes::from_static(b"r")))]);
    assert_eq!(requests(&bench.pass(2 * BEAT)), []);
}

#[test]
fn chunks_of_a_call_that_is_asked_again_are_void() {
    let mut bench = Bench::ready();
    bench.call(60);
    let chunk = HostBody::Chunk { number: 1, attempt: 1, index: 0, payload: Bytes::new() };
    bench.step(said(5, 1, 1, chunk));
    bench.step(said(5, 2, 1, error(1, "unavailable", Effect::Unknown)));
    assert_eq!(told(bench.pass(Duration::from_millis(150))), [(1, News::Reset { attempt: 2 })]);
}

#[test]
fn a_call_nobody_can_tell_about_by_its_deadline_ends_and_says_so() {
    let mut bench = Bench::ready();
    bench.call(2);
    let (mut serial, mut asks, mut ends) = (0, 0, Vec::new());
    for tenth in 0..30 {
        let actions = bench.pass(Duration::from_millis(tenth * 100));
        for _ in 0..requests(&actions).len() + usize::from(tenth == 0) {
            serial += 1;
            asks += 1;
            ends.extend(told(bench.step(said(5, serial, serial, error(1, "unavailable", Effect::Unknown)))));
        }
        ends.extend(told(actions));
    }
    let HostBody::Error { payload, .. } = error(1, "unavailable", Effect::Unknown) else { panic!() };
    assert_eq!(ends, [(1, News::Unresolved { asks: asks - 1, cause: payload })]);
    assert!(asks > 3, "{asks}");
}

#[test]
fn a_new_host_is_asked_about_a_call_in_doubt_at_once_and_only_once() {
    let mut bench = Bench::ready();
    bench.call(60);
    bench.step(said(5, 1, 1, error(1, "unavailable", Effect::Unknown)));
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    assert_eq!(requests(&bench.step(welcome(2, 1, 0))), [(1, 2)]);
    assert_eq!(requests(&bench.pass(BEAT / 2)), [], "the pause that had begun is over");
}

#[test]
fn a_host_that_is_stopping_leaves_the_call_to_the_next() {
    let mut bench = Bench::ready();
    bench.call(2);
    assert_eq!(bench.step(said(5, 1, 1, error(1, "closing", Effect::None))), []);
    assert_eq!(bench.step(Input::Heard(ToClient::Bye)), [Action::Disconnect, Action::Connect]);
    bench.step(Input::Connected);
    assert_eq!(requests(&bench.step(welcome(2, 1, 0))), [(1, 1)], "no host has begun it");

    let mut bench = Bench::ready();
    bench.call(2);
    bench.step(said(5, 1, 1, error(1, "closing", Effect::None)));
    bench.step(Input::Lost);
    assert_eq!(told(bench.pass(5 * BEAT)), [(1, News::TimedOut { was_sent: false })], "no host came");
}

/// A day of reads leaves no trace in the host's store, which then does not know the session of the first write.
#[test]
fn a_closed_session_is_left_for_a_new_one_once_nothing_is_under_way_in_it() {
    let mut bench = Bench::ready();
    bench.call(60);
    bench.call(60);
    assert_eq!(bench.step(said(5, 1, 2, error(2, "unknown-session", Effect::None))), []);
    let actions = bench.step(said(5, 2, 2, result(1)));
    assert_eq!(actions[1..], [Action::Send(ToHost::Bye), Action::Disconnect, Action::Connect]);
    let actions = bench.step(Input::Connected);
    let [Action::Send(ToHost::Hello(hello))] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((hello.incarnation, hello.run, hello.channel), (0, 0, 0));
    assert_eq!(requests(&bench.step(welcome(1, 6, 0))), [(2, 1)]);
    let refused = error(2, "unknown-session", Effect::None);
    let ends = told(bench.step(said(6, 1, 1, refused)));
    assert!(matches!(ends[..], [(2, News::Error(_))]), "once is enough: {ends:?}");
}

#[test]
fn new_calls_wait_for_the_next_session_and_old_ones_hold_them_up_only_so_long() {
    let mut bench = Bench::ready();
    bench.call(3_600);
    bench.call(3_600);
    bench.step(said(5, 1, 2, error(2, "unknown-session", Effect::None)));
    assert_eq!(bench.call(3_600), [], "not into the closed session");
    bench.step(said(5, 2, 2, HostBody::Accepted { number: 1 }));
    let mut actions = Vec::new();
    for second in 1..=30 {
        actions.extend(bench.pass(BEAT * second));
        let beat = ToClient::Heartbeat { at: Place { channel: 5, received: 2 }, beat: u64::from(second) };
        actions.extend(bench.step(Input::Heard(beat)));
    }
    assert_eq!(requests(&actions), []);
    assert!(actions.contains(&Action::Send(ToHost::Bye)));
    let ends = told(actions);
    assert!(matches!(ends[..], [(1, News::Unresolved { asks: 0, .. })]), "{ends:?}");
    bench.step(Input::Connected);
    assert_eq!(requests(&bench.step(welcome(1, 6, 0))), [(2, 1), (3, 1)]);
}

#[test]
fn a_call_that_a_closed_session_may_have_done_is_not_sent_into_a_new_one() {
    let mut bench = Bench::ready();
    bench.call(60);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    bench.step(welcome(2, 1, 0));
    let ends = told(bench.step(said(1, 1, 1, error(1, "unknown-session", Effect::None))));
    assert!(matches!(ends[..], [(1, News::Unresolved { .. })]), "{ends:?}");
}

#[test]
fn a_pause_is_said_once_and_again_to_a_new_host() {
    let pauses = |actions: &[Action]| {
        let is_pause = |action: &&Action| {
            matches!(
                action,
                Action::Send(ToHost::Said { body: ClientBody::Pace { number: 1, is_paused: true }, .. })
            )
        };
        actions.iter().filter(is_pause).count()
    };
    let mut bench = Bench::ready();
    bench.call(60);
    assert_eq!(pauses(&bench.step(Input::Pace { number: 1, is_paused: true })), 1);
    assert_eq!(pauses(&bench.step(Input::Pace { number: 1, is_paused: true })), 0);
    bench.step(Input::Lost);
    bench.step(Input::Connected);
    assert_eq!(pauses(&bench.step(welcome(2, 1, 0))), 1);
    assert_eq!(bench.step(Input::Pace { number: 9, is_paused: true }), [], "there is no such call");
}

fn silences(actions: &[Action]) -> Vec<bool> {
    let silence = |action: &Action| match action {
        Action::Silence { is_silent } => Some(*is_silent),
        _ => None,
    };
    actions.iter().filter_map(silence).collect()
}

/// A host that died: lines are lost, and nobody listens.
fn pass_without_host(bench: &mut Bench, until: Duration) -> Vec<Action> {
    let mut actions = Vec::new();
    loop {
        let more = match bench.pirate.wake_at().filter(|at| *at <= bench.start + until) {
            Some(at) => {
                bench.now = bench.now.max(at);
                bench.step(Input::Tick)
            }
            None => return actions,
        };
        let is_refused = more.contains(&Action::Connect);
        actions.extend(more);
        if is_refused {
            actions.extend(bench.step(Input::ConnectFailed));
        }
    }
}

#[test]
fn a_silence_is_told_once_and_at_its_bound_every_call_ends_and_knows_whether_it_left() {
    let mut bench = Bench::ready();
    bench.call(3_600);
    bench.step(Input::Lost);
    bench.step(Input::ConnectFailed);
    bench.call(3_600);
    assert_eq!(silences(&pass_without_host(&mut bench, 3 * BEAT)), [true]);
    let actions = pass_without_host(&mut bench, SILENCE_MAX);
    assert_eq!(silences(&actions), NEVER);
    let waited = SILENCE_MAX;
    let ends = [(1, News::Silent { was_sent: true, waited }), (2, News::Silent { was_sent: false, waited })];
    assert_eq!(told(actions), ends);
    bench.now = bench.pirate.wake_at().unwrap();
    assert_eq!(bench.step(Input::Tick), [Action::Connect]);
    bench.step(Input::Connected);
    let said = bench.step(welcome(1, 5, 1));
    let is_request = |action: &&Action| {
        matches!(action, Action::Send(ToHost::Said { body: ClientBody::Request { .. }, .. }))
    };
    assert_eq!(said.iter().find(is_request), None, "what was told to have no effect never goes out");
}

#[test]
fn a_silence_that_outlived_its_calls_ends_when_the_host_is_heard() {
    let mut bench = Bench::ready();
    bench.call(3_600);
    bench.step(Input::Lost);
    bench.step(Input::ConnectFailed);
    assert_eq!(silences(&pass_without_host(&mut bench, SILENCE_MAX)), [true]);
    bench.call(3_600);
    while !bench.pass(bench.now - bench.start + BEAT).contains(&Action::Connect) {}
    bench.step(Input::Connected);
    assert_eq!(silences(&bench.step(welcome(2, 1, 0))), [false]);
}

#[test]
fn a_host_that_is_heard_is_never_silent_however_long_it_takes() {
    let mut bench = Bench::ready();
    bench.call(3_600);
    let mut actions = Vec::new();
    for second in 1..=3 * SILENCE_MAX.as_secs() {
        actions.extend(bench.pass(Duration::from_secs(second)));
        actions.extend(
            bench.step(Input::Heard(ToClient::Heartbeat {
                at: Place { channel: 5, received: 1 },
                beat: second,
            })),
        );
    }
    assert_eq!(silences(&actions), NEVER);
    assert_eq!(told(actions), []);
}

#[test]
fn a_host_that_comes_back_within_the_bound_is_asked_again_and_its_return_is_told() {
    let mut bench = Bench::ready();
    bench.call(3_600);
    bench.step(Input::Lost);
    bench.step(Input::ConnectFailed);
    assert_eq!(silences(&pass_without_host(&mut bench, SILENCE_MAX / 2)), [true]);
    while !bench.pass(bench.now - bench.start + BEAT).contains(&Action::Connect) {}
    bench.step(Input::Connected);
    let actions = bench.step(welcome(2, 1, 0));
    assert_eq!((silences(&actions), requests(&actions)), (vec![false], vec![(1, 2)]));
    assert_eq!(told(bench.step(said(1, 1, 1, result(1)))), [(1, News::Result(Bytes::from_static(b"r")))]);
}

#[test]
fn a_silence_without_calls_is_nobodys_and_the_next_call_begins_its_own() {
    let mut bench = Bench::ready();
    bench.step(Input::Lost);
    bench.step(Input::ConnectFailed);
    assert_eq!(silences(&pass_without_host(&mut bench, 2 * SILENCE_MAX)), NEVER);
    bench.now = bench.start + 2 * SILENCE_MAX;
    assert_eq!(silences(&bench.call(3_600)), NEVER);
    assert_eq!(told(pass_without_host(&mut bench, 3 * SILENCE_MAX - BEAT)), []);
    let waited = SILENCE_MAX;
    let ends = told(pass_without_host(&mut bench, 3 * SILENCE_MAX));
    assert_eq!(ends, [(1, News::Silent { was_sent: false, waited })]);
}
