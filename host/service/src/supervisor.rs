//! Processes that are started again when they end: a host's own workers, and a host itself.
//!
//! ```text
//! start ─→ runs ─→ ended ─→ pause (100 ms .. 10 s, doubling) ─→ start
//!         │          └ 5 restarts within a minute were not enough: given up
//!         └ not heard of for SILENT_MAX: killed
//! ```
//! A child knows that it is not wanted any more by the end of its standard input, so it goes with whoever started it,
//! however that ends.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::home::Home;

/// Restarts within [`WINDOW`], beyond which a child is given up.
const RESTARTS_MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Three times what a peer may be silent for until it is taken for dead, and what a start takes on a busy machine.
pub const SILENT_MAX: Duration = Duration::from_secs(19);
/// How often it is tried to supervise a home, [`PAUSE_MIN`] apart.
const SUPERVISION_TRIES: u32 = 5;
/// How often it is listened for.
const LISTEN: Duration = Duration::from_secs(1);
/// A child that is told to end has so long before it is killed: longer than a host takes to stop.
const FAREWELL: Duration = Duration::from_secs(15);

/// What happens to a child.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChildEvent {
    /// It runs.
    Started {
        /// Its process.
        pid: u32,
    },
    /// It ended, and is started again after a pause.
    Ended {
        /// How.
        how: String,
        /// The pause.
        pause: Duration,
    },
    /// It cannot be started; that is tried again after a pause.
    NotStarted {
        /// Why.
        cause: io::Error,
        /// The pause.
        pause: Duration,
    },
    /// It ended too often, and is not started again.
    GivenUp {
        /// How it ended last.
        how: String,
    },
}

/// Says that a home's host is started again when it dies, for as long as it is kept: a lock, so that it ends with its
/// process, however that ends.
#[derive(Debug)]
pub struct Supervision(#[expect(dead_code, reason = "it holds the lock")] File);

impl Supervision {
    /// None when somebody else supervises the home's host.
    ///
    /// # Errors
    /// Of the file system.
    pub async fn begin(home: &Home) -> io::Result<Option<Self>> {
        home.prepare()?;
        let file = File::create(home.supervisor_file())?;
        // Whoever looks holds it for a moment.
        for _ in 0..SUPERVISION_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE_MIN).await,
                Err(TryLockError::Error(cause)) => return Err(cause),
            }
        }
        Ok(None)
    }

    /// Whether somebody supervises the home's host.
    pub fn is_held(home: &Home) -> bool {
        let file = File::open(home.supervisor_file());
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// Whether a process is heard of.
pub type IsHeard = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// What a supervisor goes by.
#[derive(Clone)]
pub struct Rules {
    /// Whether a child that ended so by itself is not to be started again.
    pub is_over: fn(ExitStatus) -> bool,
    /// A child of which nothing is heard for [`SILENT_MAX`] is killed, and started again; none: nobody listens.
    pub is_heard: Option<IsHeard>,
}

/// How a child's life under supervision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to end.
    Told,
    /// It ended by itself, in a way that [`Rules::is_over`] takes for the end.
    Over(ExitStatus),
    /// It ended too often.
    GivenUp,
}

/// Hears what happens to a child; must not block.
pub type OnChild = Arc<dyn Fn(&ChildEvent) + Send + Sync>;

/// Runs what `command` makes, again and again, until it is over, ended too often, or `stopping` turns true.
///
/// # Cancel safety
/// Dropping the future kills the child.
pub async fn supervise(
    command: impl Fn() -> Command,
    rules: Rules,
    mut stopping: watch::Receiver<bool>,
    told: OnChild,
) -> Ending {
    let mut budget = Budget::default();
    loop {
        let how = match start(command()) {
            Ok(child) => {
                told(&ChildEvent::Started { pid: child.id().unwrap_or_default() });
                match run(child, &rules, &mut stopping).await {
                    Run::Told => return Ending::Told,
                    Run::Ended(status) if (rules.is_over)(status) => return Ending::Over(status),
                    Run::Ended(status) => Ok(status.to_string()),
                    Run::Silent => Ok(format!(
                        "nothing was heard of it for {} s, so it was killed",
                        SILENT_MAX.as_secs()
                    )),
                }
            }
            Err(cause) => Err(cause),
        };
        let Some(pause) = budget.next_pause(Instant::now()) else {
            let how = how.unwrap_or_else(|cause| cause.to_string());
            told(&ChildEvent::GivenUp { how });
            return Ending::GivenUp;
        };
        told(&match how {
            Ok(how) => ChildEvent::Ended { how, pause },
            Err(cause) => ChildEvent::NotStarted { cause, pause },
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return Ending::Told,
        }
    }
}

fn start(mut command: Command) -> io::Result<Child> {
    command.stdin(Stdio::piped()).kill_on_drop(true).spawn()
}

/// How one run of a child ended.
enum Run {
    Told,
    Ended(ExitStatus),
    Silent,
}

async fn run(mut child: Child, rules: &Rules, stopping: &mut watch::Receiver<bool>) -> Run {
    // Waiting for a child closes its input, unless somebody else has it.
    let input = child.stdin.take();
    let pid = child.id().unwrap_or_default();
    let run = tokio::select! {
        // Of a child that is ours the system tells how it ended.
        status = child.wait() => return Run::Ended(status.unwrap_or_default()),
        _ = stopping.wait_for(|is_stopping| *is_stopping) => Run::Told,
        () = fell_silent(pid, rules.is_heard.as_ref(), LISTEN, SILENT_MAX) => Run::Silent,
    };
    drop(input);
    // Who is not heard of would not hear us either.
    let is_asked = matches!(run, Run::Told);
    if !is_asked || tokio::time::timeout(FAREWELL, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
    run
}

/// Counted in looks: time in which this process itself stood still is nobody's silence.
async fn fell_silent(pid: u32, is_heard: Option<&IsHeard>, listen: Duration, bound: Duration) {
    let Some(is_heard) = is_heard else { return std::future::pending().await };
    let mut silent = Duration::ZERO;
    while silent < bound {
        tokio::time::sleep(listen).await;
        silent = if is_heard(pid) { Duration::ZERO } else { silent + listen };
    }
}

/// How soon, and whether, something is tried again.
#[derive(Debug, Default)]
struct Budget {
    restarts: VecDeque<Instant>,
}

impl Budget {
    /// None when it was tried too often.
    fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        while self.restarts.front().is_some_and(|at| now.saturating_duration_since(*at) > WINDOW) {
            self.restarts.pop_front();
        }
        let tries = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if self.restarts.len() >= RESTARTS_MAX {
            return None;
        }
        self.restarts.push_back(now);
        Some(PAUSE_MIN.saturating_mul(2_u32.saturating_pow(tries)).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_a_child_that_ends_too_often_is_given_up() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let pauses: Vec<_> = (0..6).map(|_| budget.next_pause(start)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [ms(100), ms(200), ms(400), ms(800), ms(1_600), None]);
        let later = start + WINDOW + Duration::from_secs(1);
        assert_eq!(budget.next_pause(later), ms(100), "what was long ago does not count");
    }

    #[tokio::test]
    async fn a_home_has_one_supervisor_and_shows_it() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        assert!(!Supervision::is_held(&home));
        let held = Supervision::begin(&home).await.unwrap();
        assert!(held.is_some() && Supervision::is_held(&home));
        assert!(Supervision::begin(&home).await.unwrap().is_none());
        drop(held);
        assert!(!Supervision::is_held(&home) && Supervision::begin(&home).await.unwrap().is_some());
    }

    const UNLESS_WELL: Rules = Rules { is_over: |status| status.success(), is_heard: None };

    #[tokio::test]
    async fn silence_is_counted_from_the_last_time_that_something_was_heard() {
        let listen = Duration::from_millis(10);
        let looks = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let looked = Arc::clone(&looks);
        // Heard of at the third look only.
        let is_heard: IsHeard =
            Arc::new(move |_| looked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2);
        fell_silent(1, Some(&is_heard), listen, 5 * listen).await;
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 3 + 5);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_child_that_keeps_failing_is_started_again_and_then_given_up() {
        let (_stop, stopping) = watch::channel(false);
        let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let told: OnChild = Arc::new(move |event| hearing.lock().push(format!("{event:?}")));
        let fail = || {
            let mut command = Command::new("sh");
            command.args(["-c", "exit 3"]);
            command
        };
        assert_eq!(supervise(fail, UNLESS_WELL, stopping, told).await, Ending::GivenUp);
        let heard = heard.lock();
        assert_eq!(heard.iter().filter(|event| event.starts_with("Started")).count(), RESTARTS_MAX + 1);
        assert!(heard.last().unwrap().starts_with("GivenUp"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_child_is_told_to_end_by_the_end_of_its_input() {
        let (stop, stopping) = watch::channel(false);
        let told: OnChild = Arc::new(|_| {});
        let wait = || {
            let mut command = Command::new("sh");
            command.args(["-c", "cat; exit 0"]);
            command
        };
        let supervised = tokio::spawn(supervise(wait, UNLESS_WELL, stopping, told));
        stop.send_replace(true);
        assert_eq!(supervised.await.unwrap(), Ending::Told);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_child_that_is_wanted_keeps_its_input() {
        let (_stop, stopping) = watch::channel(false);
        let (tell, told) = std::sync::mpsc::channel();
        let told_by: OnChild = Arc::new(move |event| tell.send(format!("{event:?}")).unwrap());
        // Ends badly as soon as its input does.
        let read = || {
            let mut command = Command::new("sh");
            command.args(["-c", "cat; exit 1"]);
            command
        };
        let supervised = tokio::spawn(supervise(read, UNLESS_WELL, stopping, told_by));
        tokio::time::sleep(Duration::from_millis(300)).await;
        supervised.abort();
        let told: Vec<String> = told.try_iter().collect();
        assert_eq!(told.len(), 1, "{told:?}");
    }
}
