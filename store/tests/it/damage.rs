//! Goal: a database file that was changed behind the store's back, cut short, or whose pages rot while it is open, is
//! answered with an error that says what to do; it ends no process, no committer and no wait, and a refused file keeps
//! every byte.
//! Method: files are cut at many lengths and bits flipped at many places, by chance and in every header field; whatever
//! opens is asked everything, written to, pruned, copied and closed, under a watch that finds what hangs.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use redb::StorageBackend;
use telos_store::{
    BackupOptions, Children, CommitError, Effect, Fault, MemoryBackend, OpenError, Store, StoreOptions, Vote,
};

use crate::fixture::{assert_clean, commit, number, object_with, operator, read};
use crate::random::{Random, is_long};
use crate::whole::{all_names, files, fill, now_ms, vary};

const PAGE: usize = 4_096;
/// Far above what any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A directory with a database's bytes in it.
struct Home {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    refused: u64,
    opened: u64,
    /// Of those that opened, which then met what was damaged.
    met: u64,
}

impl Home {
    /// A store with something in every table, closed in good order or left as a crash leaves it.
    fn new(seed: u64, is_closed: bool) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        fill(&store, now_ms());
        vary(&store, seed);
        let crashed = fs::read(dir.path().join("objects.redb")).unwrap();
        drop(store);
        let bytes = if is_closed { fs::read(dir.path().join("objects.redb")).unwrap() } else { crashed };
        Home { dir, bytes }
    }

    /// Puts other bytes in its place, verifies them, opens them, and uses what opens.
    fn try_bytes(&self, bytes: &[u8], what: &str, tally: &mut Tally) {
        let (path, dir) = (self.dir.path().join("objects.redb"), self.dir.path().to_path_buf());
        fs::write(&path, bytes).unwrap();
        within_patience(what, || {
            let verified = Store::verify(&dir);
            assert!(fs::read(&path).unwrap() == bytes, "{what}: verification changed the file");
            verified.inspect_err(|error| assert_typed(error, what)).is_ok_and(|report| report.is_clean())
        });
        let opened = within_patience(what, || Store::open(&dir, StoreOptions::default()));
        match opened {
            Err(error) => {
                assert_typed(&error, what);
                assert!(fs::read(&path).unwrap() == bytes, "{what}: {error}: the file was changed");
                tally.refused += 1;
            }
            Ok(store) => {
                tally.opened += 1;
                tally.met += u64::from(within_patience(what, move || use_all(store, &dir.join("backup"))));
            }
        }
    }
}

/// Does something in a thread of its own: a panic fails the test, and so does what never ends.
#[track_caller]
fn within_patience<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(sender.send(catch_unwind(AssertUnwindSafe(work)))));
        let done = receiver.recv_timeout(PATIENCE);
        // A thread that hangs would hang the scope too.
        let done = done.unwrap_or_else(|_| hang(what));
        done.unwrap_or_else(|panic| panic!("{what}: a panic escaped: {:?}", panic.downcast_ref::<String>()))
    })
}

#[track_caller]
fn hang(what: &str) -> ! {
    eprintln!("{what}: this never ends");
    std::process::abort()
}

/// The host's fault, and a cause that says what to do next.
#[track_caller]
fn assert_typed(error: &OpenError, what: &str) {
    let OpenError::Failed { cause, .. } = error else { panic!("{what}: {error:?}") };
    assert_eq!(error.fault(), Fault::Host, "{what}");
    assert!(cause.to_string().contains("telos store"), "{what}: {cause}");
}

/// Calls everything that reads or writes rows; answers whether something was refused.
fn use_all(store: Store, backup: &Path) -> bool {
    let mut refusals = 0;
    let mut note = |is_refused: bool| refusals += u64::from(is_refused);
    note(store.counts().is_err());
    note(store.verify_open().map_or(true, |report| !report.is_clean()));
    note(store.audit_after(0, 1_000).is_err());
    note(store.outbox_due(u64::MAX, 100).is_err());
    note(store.dead_letters(100).is_err());
    note(store.releases(None).is_err() || store.seats().is_err() || store.all_grants().is_err());
    let mut unit = store.begin();
    let names = unit.names("", "", 500);
    note(names.is_err());
    for (_, id) in names.unwrap_or_default() {
        note(unit.object(id).is_err() || unit.history(id, 100).is_err() || unit.names_of(id).is_err());
        note(store.traces_of(id).is_err());
    }
    note(unit.search_vectors(&operator(), "notes", &[1.0, 0.0, 0.0], 10, &[]).is_err());
    note(write(&store).is_err());
    note(store.prune_history(u64::MAX / 2).is_err());
    let forgotten = store.begin().create(operator(), 1, vec![]);
    note(forgotten.is_ok_and(|id| store.forget(&[id], "a test", Children::Refuse).is_err()));
    note(store.collect_blobs(0).is_err());
    note(store.drop_shadows(&operator()).is_err() || store.settle_generation(10).is_err());
    note(store.sweep_sessions(u64::MAX).is_err());
    note(store.backup(backup, BackupOptions::default(), &mut |_| ()).is_err());
    let _ = fs::remove_dir_all(backup);
    note(store.rewrite(&mut |_| ()).is_err());
    note(write(&store).is_err());
    if let Some(cause) = store.read_only_cause() {
        note(true);
        assert!(cause.contains("damaged") || cause.contains("not readable"), "{cause}");
    }
    drop((unit, store));
    refusals > 0
}

fn write(store: &Store) -> Result<(), CommitError> {
    let mut unit = store.begin();
    if let Ok(id) = unit.create(operator(), 1, vec![]) {
        let _ = unit.set_slot(id, "a", number(1));
    }
    let _ = unit.audit("written", "after", serde_json::Value::Null);
    commit(store, unit).map(drop)
}

#[test]
fn a_file_that_was_cut_short_is_refused_and_left_alone() {
    let mut tally = Tally::default();
    for (seed, is_closed) in [(0, true), (0, false)] {
        let home = Home::new(seed, is_closed);
        let pages = home.bytes.len() / PAGE;
        let step = if is_long() { 1 } else { pages.div_ceil(12) };
        let at_pages =
            (0..pages).step_by(step).flat_map(|page| [page * PAGE, page * PAGE + 1, page * PAGE + 2_000]);
        for len in at_pages.chain([1, 8, 9, 320, 512, home.bytes.len() - 1]).filter(|len| *len > 0) {
            home.try_bytes(&home.bytes[..len], &format!("cut at {len}, closed: {is_closed}"), &mut tally);
        }
    }
    println!("cut files: {tally:?}");
    assert!(tally.refused > 0 && tally.opened == 0, "{tally:?}");
}

#[test]
fn a_flipped_bit_anywhere_ends_in_an_error_or_in_nothing() {
    if is_long() {
        let deaths = in_children("damage::bits_flip_in_a_child", 10_000);
        return println!("{deaths} of 10,000 flipped bits ended their process, all of them inside redb");
    }
    let tally = let_bits_flip(0..24);
    assert!(tally.refused > 0 && tally.met > 0, "{tally:?}");
    // One that looked like the layout of a newer host.
    let_bits_flip(4_844..4_845);
}

#[test]
fn bits_flip_in_a_child() {
    if let Some(seeds) = seeds_of_child() {
        let_bits_flip(seeds);
    }
}

fn let_bits_flip(seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    let homes = [Home::new(0, true), Home::new(1, false)];
    for seed in seeds {
        eprintln!("trying seed {seed}");
        let (mut random, home) = (Random::new(seed), &homes[usize::try_from(seed % 2).unwrap()]);
        let mut bytes = home.bytes.clone();
        let what = format!("seed {seed}: {}", damage(&mut bytes, &mut random));
        home.try_bytes(&bytes, &what, &mut tally);
    }
    println!("flipped bits: {tally:?}");
    tally
}

#[test]
fn a_flipped_bit_in_any_byte_of_the_header_ends_in_an_error_or_in_nothing() {
    let home = Home::new(0, true);
    let mut tally = Tally::default();
    for at in (0..320).step_by(if is_long() { 1 } else { 13 }) {
        for bit in (0..8).step_by(if is_long() { 1 } else { 3 }) {
            let mut bytes = home.bytes.clone();
            bytes[at] ^= 1 << bit;
            home.try_bytes(&bytes, &format!("bit {bit} of byte {at}"), &mut tally);
        }
    }
    println!("headers: {tally:?}");
    assert!(tally.refused > 0, "{tally:?}");
}

/// Flips a bit, zeroes a sector, or swaps pages; mostly in pages that are used. Says what it did.
fn damage(bytes: &mut [u8], random: &mut Random) -> String {
    let used: Vec<usize> = bytes
        .chunks(PAGE)
        .enumerate()
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        .map(|(page, _)| page * PAGE)
        .collect();
    let page = used[random.index(used.len())];
    match random.below(8) {
        0 => {
            let at = page + 512 * random.index(PAGE / 512);
            bytes[at..at + 512].fill(0);
            format!("sector at {at} zeroed")
        }
        1 => {
            let other = used[random.index(used.len())];
            bytes.copy_within(other..other + PAGE, page);
            format!("page at {other} copied over the one at {page}")
        }
        2 => {
            bytes[page..page + PAGE].iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]);
            format!("page at {page} garbled")
        }
        // The first bytes of a page say how the rest is read.
        3..=5 => flip(bytes, page + random.index(64), random),
        _ => flip(bytes, page + random.index(PAGE), random),
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) -> String {
    let bit = random.below(8);
    bytes[at] ^= 1 << bit;
    format!("bit {bit} of byte {at} flipped")
}

/// The pages of a store that is open, read anew each time.
fn open_over(bytes: &[u8], dir: &Path) -> (Store, MemoryBackend) {
    let backend = MemoryBackend::new();
    backend.set_len(bytes.len() as u64).unwrap();
    backend.write(0, bytes).unwrap();
    let options = StoreOptions { cache_bytes: 0, ..StoreOptions::default() };
    (Store::open_with_backend(dir, backend.clone(), options).unwrap(), backend)
}

/// The first seed that a child tries.
const FIRST_SEED: &str = "TELOS_STORE_FIRST_SEED";
/// redb's own commit, the only place where a page may end the process: by one of these names, as far as it was inlined.
const MAY_END_IT: [&str; 2] = ["redb::transactions::WriteTransaction::commit", "extract_freed_pages"];
const SEEDS_PER_CHILD: u64 = 250;

/// The long run meets the one place where a page may end the process, so it has children.
#[test]
fn a_page_that_rots_below_an_open_store_ends_the_calls_that_meet_it_and_nothing_else() {
    if !is_long() {
        assert!(let_pages_rot(0..25) > 0);
        return;
    }
    let deaths = in_children("damage::pages_rot_in_a_child", 3_000);
    println!("{deaths} of 3,000 damaged stores ended their process, all of them in redb's own commit");
}

#[test]
fn pages_rot_in_a_child() {
    if let Some(seeds) = seeds_of_child() {
        let_pages_rot(seeds);
    }
}

/// Runs a test of this binary as a child, over some seeds at a time; answers how many of them ended it where they may.
fn in_children(test: &str, seeds: u64) -> u64 {
    let (mut first, mut deaths) = (0, 0);
    while first < seeds {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(FIRST_SEED, first.to_string())
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        if child.status.success() {
            first += SEEDS_PER_CHILD;
            continue;
        }
        let said = String::from_utf8_lossy(&child.stderr);
        let (_, last) = said.rsplit_once("trying seed ").expect("it tried one");
        let (seed, end) = last.split_once('\n').unwrap();
        let mut panics = end.rsplit("panicked at");
        let (last, second) = (panics.next().unwrap_or_default(), panics.next().unwrap_or_default());
        let is_commit =
            last.contains("panic in a destructor") && MAY_END_IT.iter().any(|place| second.contains(place));
        // redb walks pages that lie below themselves, by a swap, until the thread's stack ends.
        let is_known = is_commit || end.contains("has overflowed its stack");
        assert!(is_known, "seed {seed}: {end}");
        (first, deaths) = (seed.parse::<u64>().unwrap() + 1, deaths + 1);
    }
    deaths
}

/// In a child: what to try.
fn seeds_of_child() -> Option<std::ops::Range<u64>> {
    let first: u64 = std::env::var(FIRST_SEED).ok()?.parse().ok()?;
    Some(first..first + SEEDS_PER_CHILD)
}

/// Answers how many of the stores noticed.
fn let_pages_rot(seeds: std::ops::Range<u64>) -> u64 {
    let home = Home::new(0, true);
    let mut met = 0;
    for seed in seeds.clone() {
        eprintln!("trying seed {seed}");
        let mut random = Random::new(seed);
        let (store, backend) = open_over(&home.bytes, home.dir.path());
        let mut bytes = vec![0; usize::try_from(backend.len().unwrap()).unwrap()];
        backend.read(0, &mut bytes).unwrap();
        let what = format!("seed {seed}: {}", damage(&mut bytes[PAGE..], &mut random));
        backend.write(0, &bytes).unwrap();
        let backup = home.dir.path().join("backup");
        met += u64::from(within_patience(&what, move || use_all(store, &backup)));
    }
    println!("{met} of the damaged stores with seeds {seeds:?} were noticed");
    met
}

/// redb panics over a table that it cannot open while it holds the lock of those that are open: none of them may end the
/// process, or keep the file.
#[test]
fn a_store_whose_list_of_tables_rots_gives_its_file_up_to_whoever_opens_it_next() {
    let (home, mut met) = (Home::new(0, true), 0);
    let (dir, path) = (home.dir.path(), home.dir.path().join("objects.redb"));
    let lists =
        |page: &[u8]| ["collections", "owned", "vectors"].iter().all(|name| holds(page, name.as_bytes()));
    for at in (0..PAGE).step_by(if is_long() { 16 } else { 256 }) {
        fs::write(&path, &home.bytes).unwrap();
        let options = StoreOptions { cache_bytes: 0, ..StoreOptions::default() };
        let store = Store::open(dir, options).unwrap();
        let id = object_with(&store, "a", 1);
        let whole = fs::read(&path).unwrap();
        let pages: Vec<usize> = (1..whole.len() / PAGE)
            .map(|page| page * PAGE)
            .filter(|page| lists(&whole[*page..][..PAGE]))
            .collect();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let put = |page: usize, bytes: &[u8]| {
            (&file).seek(SeekFrom::Start(page as u64)).and_then(|_| (&file).write_all(bytes)).unwrap();
        };
        pages.iter().for_each(|page| put(page + at, &vec![0xff; PAGE - at]));
        let what = format!("from byte {at} of each list");
        let written = within_patience(&what, || write(&store));
        let is_noted = store.standing().damage.is_some();
        drop(store);
        // Whoever could write may have used the pages that are to be put back.
        let Err(error) = written else { continue };
        assert!(is_noted, "{what}: {error}");
        pages.iter().for_each(|page| put(*page, &whole[*page..][..PAGE]));
        let store = Store::open(dir, StoreOptions::default()).unwrap();
        assert_eq!(read(&mut store.begin(), id, "a"), Some(1), "{what}");
        write(&store).unwrap();
        assert_clean(&store);
        met += 1;
    }
    assert!(met > 0);
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// What only readers meet is said by the store until a verification finds nothing; what a verification found among the
/// pages stays, since they may have been written anew.
#[test]
fn damage_that_only_readers_meet_is_told_by_the_store_until_it_is_gone() {
    let home = Home::new(0, true);
    let (store, backend) = open_over(&home.bytes, home.dir.path());
    let id = object_with(&store, "a_slot_that_is_easy_to_find", 1);
    assert_eq!(store.standing().damage, None);
    let mut whole = vec![0; usize::try_from(backend.len().unwrap()).unwrap()];
    backend.read(0, &mut whole).unwrap();
    let needle = b"a_slot_that_is_easy_to_find";
    let pages: Vec<usize> = (0..whole.len() / PAGE)
        .filter(|page| holds(&whole[page * PAGE..(page + 1) * PAGE], needle))
        .map(|page| page * PAGE)
        .collect();
    pages.iter().for_each(|at| backend.write(*at as u64, &[0xff; PAGE]).unwrap());
    within_patience("a reader that meets damage", || {
        assert!(store.begin().history(id, 1).is_err());
        let what = store.standing().damage.unwrap();
        assert!(what.contains("telos store verify"), "{what}");
        let mut elsewhere = store.begin();
        elsewhere.audit("written", "elsewhere", serde_json::Value::Null).unwrap();
        commit(&store, elsewhere).expect("the rest is served");
        assert!(store.standing().damage.is_some());
        pages.iter().for_each(|at| backend.write(*at as u64, &whole[*at..at + PAGE]).unwrap());
        assert_eq!(store.verify_open().unwrap().problems, Vec::<String>::new());
        assert_eq!(store.standing().damage, None);
        assert_eq!(read(&mut store.begin(), id, "a_slot_that_is_easy_to_find"), Some(1));
        pages.iter().for_each(|at| backend.write(*at as u64, &[0xff; PAGE]).unwrap());
        assert!(store.verify_open().map_or(true, |report| !report.is_clean()));
        pages.iter().for_each(|at| backend.write(*at as u64, &whole[*at..at + PAGE]).unwrap());
        assert!(!store.verify_open().unwrap().is_clean());
        assert!(store.standing().damage.is_some());
    });
}

/// Every page but the header is gone: the committer cannot write and must say so, to everybody and at once.
#[test]
fn a_committer_that_meets_damage_leaves_a_read_only_store_that_says_why() {
    let home = Home::new(0, true);
    let (store, backend) = open_over(&home.bytes, home.dir.path());
    let id = object_with(&store, "a", 1);
    let len = usize::try_from(backend.len().unwrap()).unwrap();
    let garbage: Vec<u8> = {
        let mut random = Random::new(1);
        (PAGE..len).map(|_| random.next().to_le_bytes()[0]).collect()
    };
    backend.write(PAGE as u64, &garbage).unwrap();
    within_patience("a committer that meets damage", || {
        let mut unit = store.begin();
        unit.audit("written", "after", serde_json::Value::Null).unwrap();
        let error = commit(&store, unit).unwrap_err();
        let CommitError::Unavailable(failure) = &error else { panic!("{error}") };
        assert!(failure.to_string().contains("telos store restore"), "{failure}");
        assert_eq!(error.effect(), Effect::Unknown);
        while !store.read_only_cause().is_some_and(|cause| cause.contains("the database is damaged")) {
            std::thread::yield_now();
        }
        // Nobody waits for what will not happen, those that must be alone included.
        let error = write(&store).unwrap_err();
        assert!(
            matches!(error, CommitError::ReadOnlyStore { .. }) && error.effect() == Effect::None,
            "{error}"
        );
        assert!(store.forget(&[id], "a test", Children::Refuse).is_err());
        assert!(store.counts().is_err() && store.verify_open().is_err());
        let _ = store.collect_blobs(0);
        drop(store);
    });
}

#[test]
fn a_reply_that_panics_costs_its_own_group_at_most() {
    let store = crate::fixture::scratch();
    let id = object_with(&store, "a", 1);
    within_patience("a reply that panics", || {
        let mut unit = store.begin();
        unit.set_slot(id, "a", number(2)).unwrap();
        store.decide_then(unit, Vote::default(), |_| panic!("this reply is not right"));
        // It is decided all the same, and the store works again by itself.
        let until = std::time::Instant::now() + PATIENCE;
        while write(&store).is_err() || read(&mut store.begin(), id, "a") != Some(2) {
            assert!(std::time::Instant::now() < until, "{:?}", store.read_only_cause());
            std::thread::yield_now();
        }
    });
    assert_eq!(all_names(&mut store.begin()), vec![]);
    assert_clean(&store);
}

#[test]
fn a_store_that_was_only_opened_and_verified_is_left_as_it_was() {
    let home = Home::new(0, false);
    fs::write(home.dir.path().join("objects.redb"), &home.bytes).unwrap();
    let before = files(home.dir.path());
    assert!(Store::verify(home.dir.path()).unwrap().is_clean());
    assert!(fs::read(home.dir.path().join("objects.redb")).unwrap() == home.bytes);
    assert_eq!(files(home.dir.path()), before);
}
