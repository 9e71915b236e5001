//! Goal: a process that dies leaves every acknowledged unit whole, and every other whole or absent.
//! Method: a real child process works on a real directory and prints what it asked and what it was acknowledged. It
//! aborts at a named point, at a pass drawn from a seed, or is killed at a random time; where it dies while it
//! starts, it dies again. The parent reopens the directory, resends, delivers, and balances the books.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use telos_store::{Backend, Counts, FileBackend, Position, Store, StoreOptions};

use crate::fixture::{assert_clean, operator, within};
use crate::frozen::{cases, copy_tree};
use crate::ledger::{Ear, Known, Ledger, Said};
use crate::random::{Random, is_long};

const DIR: &str = "TELOS_STORE_CRASH_DIR";
const POINT: &str = "TELOS_STORE_CRASH_POINT";
const WORK: &str = "TELOS_STORE_CRASH_WORK";
const OPENED_MS: &str = "TELOS_STORE_CRASH_OPENED_MS";
const CLIENTS: u32 = 3;
/// Far above what a child takes on a busy machine: after it, it hangs.
const PATIENCE: Duration = Duration::from_secs(900);
/// Deaths after which a directory has a long enough past.
const DEATHS_PER_DIRECTORY: u64 = 5;

/// Every named place where a process can die: what passes it, and at which pass at most. A new point is a line here.
const POINTS: &[(&str, Work, u64)] = &[
    ("store::before-commit", Work::Serve, 64),
    ("store::after-commit", Work::Serve, 64),
    ("store::before-reply", Work::Serve, 64),
    ("store::blob-before-rename", Work::Serve, 64),
    ("store::blob-after-rename", Work::Serve, 64),
    ("disk::write", Work::Serve, 500),
    ("disk::sync", Work::Serve, 64),
    ("disk::set-len", Work::Serve, 3),
    ("store::make-before-commit", Work::Make, 1),
    ("store::make-after-commit", Work::Make, 1),
    ("disk::write", Work::Make, 30),
    ("disk::sync", Work::Make, 4),
    ("disk::set-len", Work::Make, 1),
    ("store::open-before-load", Work::Start, 1),
    ("store::open-after-load", Work::Start, 1),
    ("disk::write", Work::Start, 3),
    ("disk::sync", Work::Start, 2),
    ("store::raise-before-commit", Work::Raise, 1),
    ("store::raise-after-commit", Work::Raise, 1),
    ("disk::write", Work::Raise, 30),
    ("disk::sync", Work::Raise, 4),
    ("store::reopen-before-open", Work::Reopen, 4),
    ("store::reopen-before-install", Work::Reopen, 3),
];

/// What the child does until it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Answers requests and delivers posts.
    Serve,
    /// Opens an empty directory.
    Make,
    /// Opens a directory with a past.
    Start,
    /// Opens a directory of an older layout.
    Raise,
    /// As `Serve`, on a disk that refuses a sync now and then.
    Reopen,
}

#[test]
fn a_process_that_dies_while_it_serves_leaves_acknowledged_units_whole() {
    die_serving(Work::Serve);
}

#[test]
fn a_process_that_dies_while_it_recovers_from_a_refused_sync_leaves_acknowledged_units_whole() {
    die_serving(Work::Reopen);
}

#[test]
fn a_process_that_dies_while_it_makes_its_store_is_followed_by_one_that_makes_it() {
    each_death(Work::Make, |death| {
        let home = Home::new();
        (0..death.random.below(3)).for_each(|_| home.die(death));
        home.assert_whole(&death.what);
    });
}

#[test]
fn a_process_that_dies_while_it_starts_again_and_again_leaves_acknowledged_units_whole() {
    each_death(Work::Start, |death| {
        let home = Home::new();
        let pass = 1 + death.random.below(12);
        home.run("store::after-commit", pass, Work::Serve, &death.what);
        (0..=death.random.below(3)).for_each(|_| home.die(death));
        home.assert_whole(&death.what);
    });
}

#[test]
fn a_process_that_dies_while_it_raises_the_layout_leaves_the_old_layout_or_the_new_one() {
    let raised = counts_when_raised();
    each_death(Work::Raise, |death| {
        let home = Home::new();
        copy_tree(&cases().join("layout-1"), home.dir.path());
        (0..=death.random.below(3)).for_each(|_| home.die(death));
        let store = home.open(&death.what);
        assert_eq!(store.counts().unwrap(), raised, "{}", death.what);
        assert_clean(&store);
        within(&store, |unit| unit.create(operator(), 1, vec![]).unwrap());
    });
}

#[test]
fn a_killed_process_leaves_acknowledged_units_whole() {
    let rounds = if is_long() { 400 } else { 8 };
    let mut random = Random::new(0x5eed);
    let mut home = Home::new();
    for round in 0..rounds {
        let delay = Duration::from_millis(random.below(120));
        let what = format!("round {round}, killed {delay:?} after the first acknowledgement");
        let end = home.listen(spawn(&home, None, Work::Serve), Some(delay));
        assert!(end.is_none() && home.known.lock().acknowledged() > 0, "{what}: {end:?}");
        home.assert_whole(&what);
        if round % DEATHS_PER_DIRECTORY == DEATHS_PER_DIRECTORY - 1 {
            home = Home::new();
        }
    }
}

/// One death to come.
struct Death {
    point: &'static str,
    passes: u64,
    work: Work,
    random: Random,
    what: String,
}

/// Every seed of every point that a kind of work passes.
fn each_death(work: Work, mut die: impl FnMut(&mut Death)) {
    let seeds = if is_long() { 200 } else { 2 };
    for &(point, _, passes) in POINTS.iter().filter(|(_, of, _)| *of == work) {
        for seed in 0..seeds {
            let what = format!("{point} of {work:?}, seed {seed}");
            die(&mut Death { point, passes, work, random: Random::new(seed), what });
        }
    }
}

fn die_serving(work: Work) {
    let mut home = Home::new();
    let mut deaths = 0;
    each_death(work, |death| {
        home.die(death);
        home.assert_whole(&death.what);
        deaths += 1;
        if deaths % DEATHS_PER_DIRECTORY == 0 {
            home = Home::new();
        }
    });
}

/// A directory, and what the processes in it were told.
struct Home {
    dir: tempfile::TempDir,
    ledger: Ledger,
    known: Arc<Mutex<Known>>,
}

impl Home {
    fn new() -> Home {
        let ledger = Ledger::with_releases(Ledger::new().opened_ms);
        let known = Arc::new(Mutex::new(Known::nothing(CLIENTS)));
        Home { dir: tempfile::tempdir().unwrap(), ledger, known }
    }

    /// Lets a process die at a point. One that opens only may be done before it is there.
    fn die(&self, death: &mut Death) {
        let pass = 1 + death.random.below(death.passes);
        self.run(death.point, pass, death.work, &death.what);
    }

    fn run(&self, point: &str, pass: u64, work: Work, what: &str) {
        let end = self.listen(spawn(self, Some(&format!("{point} {pass}")), work), None);
        let end = end.unwrap_or_else(|| panic!("{what}: pass {pass} was never reached"));
        // 101 is a test that failed, as opposed to a process that aborted.
        let has_aborted = !end.success() && end.code() != Some(101);
        let is_done = end.success() && !matches!(work, Work::Serve | Work::Reopen);
        assert!(has_aborted || is_done, "{what}, pass {pass}: {end}");
    }

    /// Hears a child until it dies; kills it after a time from its first acknowledgement, or when it hangs.
    fn listen(&self, mut child: Child, delay: Option<Duration>) -> Option<ExitStatus> {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, first) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for said in lines.map_while(Result::ok).filter_map(|line| parse(&line)) {
                    self.known.lock().hear(said);
                    if let Said::Acknowledged { .. } = said {
                        let _ = sender.send(());
                    }
                }
            });
            // An error means that the child closed its output, so that it has died or is about to.
            let has_acknowledged = first.recv().is_ok();
            let delay = delay.filter(|_| has_acknowledged);
            let end = wait_or_exit(&mut child, delay.unwrap_or(PATIENCE));
            let _ = child.kill();
            child.wait().unwrap();
            end
        })
    }

    fn open(&self, what: &str) -> Store {
        let opened = Store::open(self.dir.path(), StoreOptions::default());
        opened.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// As it was acknowledged; and still so when everything was resent and delivered.
    #[track_caller]
    fn assert_whole(&self, what: &str) {
        let report = Store::verify(self.dir.path()).unwrap();
        assert!(report.is_clean(), "{what}: {:#?}", report.problems);
        let store = self.open(what);
        let balance = |when: &str| {
            let known = self.known.lock().clone();
            self.ledger.check(&store, &known).unwrap_or_else(|problem| panic!("{what}, {when}: {problem}"));
            known
        };
        let known = balance("when it was opened");
        let ear = self.ear();
        self.ledger.resend(&store, &known, &ear).unwrap_or_else(|problem| panic!("{what}: {problem}"));
        balance("after resends");
        self.ledger.drain(&store).unwrap_or_else(|trouble| panic!("{what}: {trouble}"));
        balance("after deliveries");
    }

    fn ear(&self) -> Ear {
        let known = Arc::clone(&self.known);
        Arc::new(move |said| known.lock().hear(said))
    }
}

fn counts_when_raised() -> Counts {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&cases().join("layout-1"), dir.path());
    Store::open(dir.path(), StoreOptions::default()).unwrap().counts().unwrap()
}

fn spawn(home: &Home, point: Option<&str>, work: Work) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIR, home.dir.path()).env(WORK, format!("{work:?}"));
    command.env(OPENED_MS, home.ledger.opened_ms.to_string());
    if let Some(point) = point {
        command.env(POINT, point);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The random part of the test is when the child dies, so this one waits for time to pass.
fn wait_or_exit(child: &mut Child, delay: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + delay;
    let mut end = child.try_wait().unwrap();
    while end.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
        end = child.try_wait().unwrap();
    }
    end
}

/// A torn last line says nothing: its last word is a full stop.
fn parse(line: &str) -> Option<Said> {
    // The test harness prints on the same line, before.
    let (_, said) = line.rsplit_once("said ")?;
    let words: Vec<_> = said.split(' ').collect();
    match words[..] {
        ["sent", client, number, "."] => {
            Some(Said::Sent { client: client.parse().ok()?, number: number.parse().ok()? })
        }
        ["acknowledged", client, number, position, "."] => Some(Said::Acknowledged {
            client: client.parse().ok()?,
            number: number.parse().ok()?,
            position: Position::new(position.parse().ok()?),
        }),
        ["shown", position, "."] => Some(Said::Shown { position: Position::new(position.parse().ok()?) }),
        _ => None,
    }
}

fn print(said: Said) {
    let mut out = io::stdout().lock();
    let printed = match said {
        Said::Sent { client, number } => writeln!(out, "said sent {client} {number} ."),
        Said::Acknowledged { client, number, position } => {
            writeln!(out, "said acknowledged {client} {number} {position} .")
        }
        Said::Shown { position } => writeln!(out, "said shown {position} ."),
    };
    printed.and_then(|()| out.flush()).unwrap();
}

/// The child's side; does nothing when it is not one.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let work = std::env::var(WORK).unwrap();
    if let Ok(point) = std::env::var(POINT) {
        abort_at(&point);
    }
    let opened_ms = std::env::var(OPENED_MS).unwrap().parse().unwrap();
    let ledger = Ledger::with_releases(opened_ms);
    let is_refusing = work == format!("{:?}", Work::Reopen);
    let store = Store::open_with_backend(&dir, Disk::new(&dir, is_refusing), options()).unwrap();
    if is_refusing || work == format!("{:?}", Work::Serve) {
        serve_for_ever(&ledger, &store);
    }
}

fn options() -> StoreOptions {
    StoreOptions { reopen_first: Duration::from_micros(100), ..StoreOptions::default() }
}

fn abort_at(point: &str) {
    let (name, pass) = point.split_once(' ').unwrap();
    let left = AtomicU64::new(pass.parse().unwrap());
    let die_in_time = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    };
    fail::cfg_callback(name, die_in_time).unwrap();
}

fn serve_for_ever(ledger: &Ledger, store: &Store) {
    let ear: Ear = Arc::new(print);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let ear = &ear;
            scope.spawn(move || {
                let done = ledger.done(store, client).unwrap();
                // The newest again, as a client does that was not answered.
                for number in done.max(1).. {
                    ledger.settle(store, client, number, ear);
                    // What the disk refused is shown or delivered later.
                    let _ = ledger.show(store, client, ear);
                    if number.is_multiple_of(2) {
                        let _ = ledger.deliver(store);
                    }
                }
            });
        }
    });
}

/// The database's file, with a point to die at before each change; refuses a sync now and then if it is to.
struct Disk {
    file: FileBackend,
    syncs: Arc<AtomicU64>,
    is_refusing: bool,
}

struct OpenDisk {
    file: Box<dyn redb::StorageBackend>,
    syncs: Arc<AtomicU64>,
    is_refusing: bool,
}

/// Opening takes fewer, so that the store is open before the first is refused.
const SYNCS_PER_REFUSAL: u64 = 15;

impl Disk {
    fn new(dir: &Path, is_refusing: bool) -> Disk {
        Disk { file: FileBackend::new(dir.join("objects.redb")), syncs: Arc::default(), is_refusing }
    }
}

impl Backend for Disk {
    fn open(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        let syncs = Arc::clone(&self.syncs);
        Ok(Box::new(OpenDisk { file: self.file.open()?, syncs, is_refusing: self.is_refusing }))
    }
}

impl fmt::Debug for OpenDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenDisk")
    }
}

impl redb::StorageBackend for OpenDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fail::fail_point!("disk::set-len");
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        fail::fail_point!("disk::sync");
        let number = self.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        if self.is_refusing && number.is_multiple_of(SYNCS_PER_REFUSAL) {
            return Err(io::Error::other("the disk refused"));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fail::fail_point!("disk::write");
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
