use super::*;

const BEAT: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        heartbeat: BEAT,
        liveness: 3,
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(32),
        deadline: Duration::from_secs(60),
    }
}

struct Stage {
    pirate: Pirate,
    now: Instant,
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Stage {
    fn new() -> Self {
        Self { pirate: Pirate::new(settings(), 7), now: Instant::now() }
    }

    fn step(&mut self, input: Input) -> Vec<String> {
        self.pirate.step(self.now, input).iter().map(tell).collect()
    }

    /// What happens by itself.
    fn wait(&mut self, ms: u64) -> Vec<String> {
        let (until, mut told) = (self.now + Duration::from_millis(ms), Vec::new());
        while let Some(at) = self.pirate.wake_at().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            told.extend(self.step(Input::Tick));
        }
        self.now = until;
        told.extend(self.step(Input::Tick));
        told
    }

    fn play(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["begin"] => self.step(Input::Tick),
            ["connected"] => self.step(Input::Connected),
            ["failed"] => self.step(Input::ConnectFailed),
            ["lost"] => self.step(Input::Lost),
            ["beat"] => self.step(Input::Heard(vec![bytes("\u{2}")])),
            ["junk"] => self.step(Input::Heard(vec![bytes("\u{9}")])),
            ["ask", who, what] => self.step(Input::Heard(vec![bytes(who), Bytes::new(), bytes(what)])),
            ["ask-plain", what] => self.step(Input::Heard(vec![Bytes::new(), bytes(what)])),
            ["done", slot, what] => {
                let (slot, content) = (SlotId(slot.parse().unwrap()), Some(Content(vec![bytes(what)])));
                self.step(Input::Done { slot, content })
            }
            ["gave-back", slot] => {
                self.step(Input::Done { slot: SlotId(slot.parse().unwrap()), content: None })
            }
            ["drain"] => self.step(Input::Drain),
            ["close"] => self.step(Input::Close),
            ["wait", ms] => self.wait(ms.parse().unwrap()),
            _ => panic!("what is {line:?}?"),
        }
    }
}

fn tell(action: &Action) -> String {
    match action {
        Action::Connect => "connect".into(),
        Action::Disconnect => "disconnect".into(),
        Action::Heard => "heard".into(),
        Action::Drained => "drained".into(),
        Action::Send(frames) if frames[..] == [bytes("\u{1}")] => "READY".into(),
        Action::Send(frames) if frames[..] == [bytes("\u{2}")] => "beat".into(),
        Action::Send(frames) => {
            let words: Vec<_> = frames.iter().map(|frame| String::from_utf8_lossy(frame)).collect();
            format!("say {}", words.join("|"))
        }
        Action::Begin { slot, content, .. } => {
            format!("begin {} {}", slot.0, String::from_utf8_lossy(&content.0[0]))
        }
        Action::Stop { slot, reason } => format!("stop {}: {reason:?}", slot.0),
    }
}

#[track_caller]
fn check(script: &str, expected: &[&str]) {
    let mut stage = Stage::new();
    let told: Vec<String> = script.split(';').flat_map(|line| stage.play(line)).collect();
    assert_eq!(told, expected, "{script}");
}

#[test]
fn a_conversation_begins_with_ready_and_beats_while_idle() {
    check(
        "begin; connected; beat; wait 1000; beat; wait 1000",
        &["connect", "READY", "heard", "beat", "beat"],
    );
}

#[test]
fn a_request_is_answered_by_its_own_envelope() {
    check(
        "begin; connected; ask c1 hello; done 1 hi; ask-plain again; done 2 yes",
        &["connect", "READY", "heard", "begin 1 hello", "say c1||hi", "begin 2 again", "say |yes"],
    );
}

#[test]
fn with_a_request_in_hand_it_neither_beats_nor_minds_silence() {
    check(
        "begin; connected; ask c1 a; wait 20000; done 1 x; wait 999; wait 1",
        &["connect", "READY", "heard", "begin 1 a", "say c1||x", "beat"],
    );
}

#[test]
fn a_silent_queue_is_left_and_looked_for_with_growing_pauses() {
    let mut stage = Stage::new();
    stage.play("begin");
    let mut pauses = Vec::new();
    for _ in 0..7 {
        // Whatever connects but says nothing, or nothing valid, is no queue.
        assert_eq!(stage.play("connected"), ["READY"]);
        stage.play("junk");
        assert_eq!(stage.wait(3_000), ["beat", "beat", "disconnect"]);
        let since = stage.now;
        stage.now = stage.pirate.wake_at().unwrap();
        assert_eq!(stage.step(Input::Tick), ["connect"]);
        pauses.push((stage.now - since).as_secs_f64());
    }
    for (pause, nominal) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0]) {
        assert!((0.8 * nominal..=1.2 * nominal).contains(pause), "{pauses:?}");
    }
    assert_eq!(stage.pirate.malformed(), 7);
    stage.play("connected");
    stage.play("beat");
    stage.wait(3_000);
    assert!(
        stage.pirate.wake_at().unwrap() <= stage.now + Duration::from_millis(1_200),
        "forgotten when it was heard"
    );
}

#[test]
fn a_connection_that_ends_is_made_anew_at_once_when_a_queue_was_heard() {
    check(
        "begin; connected; beat; lost; connected",
        &["connect", "READY", "heard", "disconnect", "connect", "READY"],
    );
    check("begin; connected; lost; wait 700", &["connect", "READY", "disconnect"]);
    check("begin; failed; wait 700", &["connect"]);
    check("begin; failed; wait 1200", &["connect", "connect"]);
}

#[test]
fn work_of_a_lost_connection_is_void_and_ends_before_the_next_ready() {
    check(
        "begin; connected; ask c1 a; ask c2 b; lost; connected; wait 5000; done 1 x; beat; ask c3 c",
        &[
            "connect",
            "READY",
            "heard",
            "begin 1 a",
            "stop 1: ClientGone",
            "disconnect",
            "connect",
            "READY",
            "heard",
            "begin 2 c",
        ],
    );
}

#[test]
fn requests_beyond_the_one_in_hand_wait_up_to_a_bound() {
    let mut stage = Stage::new();
    stage.play("begin");
    stage.play("connected");
    (0..30).for_each(|number| drop(stage.play(&format!("ask c{number} a"))));
    let mut done = 0;
    while !stage.play(&format!("done {} x", done + 1)).is_empty() {
        done += 1;
    }
    assert_eq!(done, 1 + WAITING_MAX as u64);
}

#[test]
fn what_is_given_back_begins_the_conversation_anew() {
    check(
        "begin; connected; ask c1 a; gave-back 1; ask c1 b",
        &["connect", "READY", "heard", "begin 1 a", "READY", "begin 2 b"],
    );
}

#[test]
fn late_work_is_told_to_stop_and_still_answers() {
    check(
        "begin; connected; ask c1 a; wait 60000; done 1 partial",
        &["connect", "READY", "heard", "begin 1 a", "stop 1: Deadline", "say c1||partial"],
    );
}

#[test]
fn one_that_drains_answers_what_it_has_and_takes_no_more() {
    check(
        "begin; connected; ask c1 a; drain; ask c2 b; done 1 x; close",
        &["connect", "READY", "heard", "begin 1 a", "say c1||x", "drained", "disconnect"],
    );
    check("begin; drain", &["connect", "drained"]);
    check(
        "begin; connected; ask c1 a; close; done 1 x",
        &["connect", "READY", "heard", "begin 1 a", "stop 1: Shutdown", "disconnect"],
    );
}
