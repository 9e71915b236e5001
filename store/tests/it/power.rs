//! Goal: whatever a power cut leaves of the disk, acknowledged units are whole and every other is whole or absent.
//! Method: one run of several clients is recorded, with every acknowledgement between the disk's operations; the
//! power is cut at moments all over it, each time leaving something else; each image is opened and its books
//! balanced, and some are cut again while they recover or go on. Simulators that find nothing prove nothing, so
//! disks and stores that break their promise are tried too, and must be found out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{Durability, ReadableDatabase, TableDefinition};
use telos_store::{Position, Store, StoreOptions};

use crate::fixture::assert_clean;
use crate::frozen::{cases, copy_tree};
use crate::ledger::{Ear, Known, Ledger, Said};
use crate::random::{Random, is_long};
use crate::simulated_disk::{Event, Recording, SimulatedDisk, Syncs};

const CLIENTS: u32 = 3;
const REQUESTS: u64 = 10;
/// Cuts after which a disk is looked at and left alone.
const CUTS_IN_A_ROW_MAX: u32 = 3;

/// A place for locks and blobs, and the books.
struct Bench {
    dir: tempfile::TempDir,
    ledger: Ledger,
}

#[test]
fn every_power_cut_leaves_acknowledged_units_whole() {
    let bench = bench();
    let (runs, images) = if is_long() { (12, 1_000) } else { (1, 250) };
    let mut made = 0;
    for run in 0..runs {
        let recording = bench.record(Syncs::Honest, REQUESTS);
        made += cut_everywhere(&recording, images, run << 32, |seed, image, known| {
            let survived = bench.survive(image.clone(), known, &mut Random::new(!seed), 1);
            survived.unwrap_or_else(|problem| report(seed, &image, &problem));
        });
    }
    println!("{made} images, none lost an acknowledged unit");
    assert!(made >= runs * images);
}

#[test]
fn a_power_cut_while_the_layout_is_raised_leaves_the_old_layout_or_the_new_one() {
    let case = cases().join("layout-1");
    let (dir, dir_of_images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    [&dir, &dir_of_images].iter().for_each(|dir| copy_tree(&case, dir.path()));
    let disk = SimulatedDisk::new(std::fs::read(case.join("objects.redb")).unwrap(), Syncs::Honest);
    let store = open(dir.path(), &disk).unwrap();
    let counts = store.counts().unwrap();
    drop(store);
    let images = if is_long() { 2_000 } else { 80 };
    let made = cut_everywhere(&disk.recording(), images, 0, |seed, image, _| {
        let disk = SimulatedDisk::new(image.clone(), Syncs::Honest);
        let store =
            open(dir_of_images.path(), &disk).unwrap_or_else(|problem| report(seed, &image, &problem));
        assert_eq!(store.counts().unwrap(), counts, "seed {seed}");
        assert_clean(&store);
    });
    println!("{made} images of a database that was being raised");
}

#[test]
fn a_failed_sync_whose_pages_are_never_written_costs_no_acknowledged_unit() {
    let bench = bench();
    let syncs = bench.record_alone(Syncs::Honest).1;
    let step = if is_long() { 1 } else { usize::try_from(syncs / 12).unwrap().max(1) };
    let mut made = 0;
    for number in (1..=syncs).step_by(step) {
        let (recording, _) = bench.record_alone(Syncs::FailingAt(number));
        let images = if is_long() { 100 } else { 10 };
        made += cut_everywhere(&recording, images, number << 32, |seed, image, known| {
            let survived = bench.check(image.clone(), known);
            survived.unwrap_or_else(|problem| report(seed, &image, &format!("sync {number}: {problem}")));
        });
    }
    println!("{made} images after one of {syncs} syncs had failed");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let bench = bench();
    let recording = bench.record(Syncs::Lying, REQUESTS);
    let mut losses = 0;
    let made = cut_everywhere(&recording, 60, 0, |_, image, known| {
        losses += u64::from(bench.check(image, known).is_err());
    });
    println!("{losses} of {made} images lost something");
    assert!(losses > made / 4, "{losses} of {made}");
}

#[test]
fn an_acknowledgement_before_its_commit_is_found_out() {
    let bench = bench();
    let recording = bench.record(Syncs::Honest, REQUESTS);
    let mut losses = 0;
    let made = cut_everywhere(&recording, 100, 0, |_, image, known| {
        losses += u64::from(bench.check(image, &known.clone().with_all_acknowledged()).is_err());
    });
    println!("{losses} of {made} images lost something");
    assert!(losses > made / 4, "{losses} of {made}");
}

#[test]
fn a_plain_loop_loses_rows_without_durability_and_none_with_it() {
    let images = if is_long() { 1_000 } else { 150 };
    let losses = |durability| -> u64 {
        let mut losses = 0;
        cut_everywhere(&record_plain_loop(durability), images, 0, |_, image, known| {
            losses += u64::from(!has_plain_rows(image, known.acknowledged()));
        });
        losses
    };
    assert_eq!(losses(Durability::Immediate), 0);
    let lost = losses(Durability::None);
    assert!(lost > images / 4, "{lost} of {images}");
}

fn bench() -> Bench {
    Bench { dir: tempfile::tempdir().unwrap(), ledger: Ledger::new() }
}

impl Bench {
    /// Several clients at once, from an empty disk until it is closed.
    fn record(&self, syncs: Syncs, requests: u64) -> Recording {
        let disk = SimulatedDisk::new(vec![], syncs);
        let store = open(self.dir.path(), &disk).unwrap();
        self.serve(&store, &disk, requests).unwrap();
        drop(store);
        disk.recording()
    }

    /// One client that asks until it is answered; also the number of syncs.
    fn record_alone(&self, syncs: Syncs) -> (Recording, u64) {
        let disk = SimulatedDisk::new(vec![], syncs);
        let ear = ear(&disk);
        // The first syncs make the database; when one of them fails, opening does, and is tried again.
        let store = open(self.dir.path(), &disk).or_else(|_| open(self.dir.path(), &disk)).unwrap();
        for number in 1..=REQUESTS {
            self.ledger.settle(&store, 0, number, &ear);
        }
        drop(store);
        (disk.recording(), disk.syncs())
    }

    fn serve(&self, store: &Store, disk: &SimulatedDisk, requests: u64) -> Result<(), String> {
        let ear = ear(disk);
        std::thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|client| {
                let ear = &ear;
                scope.spawn(move || {
                    self.serve_one(store, client, requests, ear).map_err(|error| error.to_string())
                })
            });
            let clients: Vec<_> = clients.collect();
            clients.into_iter().try_for_each(|client| client.join().unwrap())
        })
    }

    fn serve_one(
        &self,
        store: &Store,
        client: u32,
        requests: u64,
        ear: &Ear,
    ) -> Result<(), crate::ledger::Trouble> {
        let done = self.ledger.done(store, client)?;
        // The newest again, as a client does that was not answered.
        for number in done.max(1)..=done + requests {
            self.ledger.ask(store, client, number, ear)?;
            self.ledger.show(store, client, ear)?;
            if number.is_multiple_of(2) {
                self.ledger.deliver(store)?;
            }
        }
        Ok(())
    }

    /// Opens an image and balances its books.
    fn check(&self, image: Vec<u8>, known: &Known) -> Result<(), String> {
        without_panic(|| {
            let disk = SimulatedDisk::new(image, Syncs::Honest);
            self.ledger.check(&open(self.dir.path(), &disk)?, known)
        })
    }

    /// As `check`; then the image's redb pages, or what is left to deliver, or another power cut, by chance.
    fn survive(&self, image: Vec<u8>, known: &Known, random: &mut Random, cuts: u32) -> Result<(), String> {
        if random.once_in(4) {
            without_panic(|| check_pages(&image))?;
        }
        let disk = SimulatedDisk::new(image, Syncs::Honest);
        without_panic(|| {
            let store = open(self.dir.path(), &disk)?;
            self.ledger.check(&store, known)?;
            match random.below(8) {
                0 => self.serve(&store, &disk, 2),
                1 => {
                    self.ledger.drain(&store).map_err(|error| error.to_string())?;
                    self.ledger.check(&store, known)
                }
                _ => Ok(()),
            }
        })?;
        let is_cut_again = cuts < CUTS_IN_A_ROW_MAX && random.once_in(3);
        if is_cut_again { self.cut_again(&disk.recording(), known, random, cuts) } else { Ok(()) }
    }

    /// Cuts the power at one moment while the image was opened, worked on and closed.
    fn cut_again(
        &self,
        recording: &Recording,
        known: &Known,
        random: &mut Random,
        cuts: u32,
    ) -> Result<(), String> {
        let mut moment = recording.begin();
        let mut known = known.clone();
        for _ in 0..random.index(recording.events.len() + 1) {
            if let Some(Event::Said(said)) = moment.advance() {
                known.hear(*said);
            }
        }
        let survived = self.survive(moment.cut(random), &known, random, cuts + 1);
        survived.map_err(|problem| format!("cut {}: {problem}", cuts + 1))
    }
}

fn open(dir: &Path, disk: &SimulatedDisk) -> Result<Store, String> {
    let opened = Store::open_with_backend(dir, disk.clone(), StoreOptions::default());
    opened
        .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
}

fn ear(disk: &SimulatedDisk) -> Ear {
    let disk = disk.clone();
    Arc::new(move |said| disk.hear(said))
}

/// Cuts the power at moments all over a recording, and once more right after each acknowledgement; answers how
/// often.
fn cut_everywhere(
    recording: &Recording,
    images: u64,
    first_seed: u64,
    mut judge: impl FnMut(u64, Vec<u8>, &Known),
) -> u64 {
    let moments = recording.events.len() as u64 + 1;
    let (mut moment, mut known) = (recording.begin(), Known::nothing(CLIENTS));
    let (mut made, mut is_told) = (0, false);
    for index in 0..moments {
        let wanted = images * (index + 1) / moments - images * index / moments + u64::from(is_told);
        for seed in first_seed + made..first_seed + made + wanted {
            judge(seed, moment.cut(&mut Random::new(seed)), &known);
        }
        made += wanted;
        let event = moment.advance();
        is_told = matches!(event, Some(Event::Said(Said::Acknowledged { .. } | Said::Shown { .. })));
        if let Some(Event::Said(said)) = event {
            known.hear(*said);
        }
    }
    made
}

fn without_panic(check: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Err("a panic, printed above".into()))
}

/// redb's own check of every page, unless the database was only begun: that is the store's to notice.
fn check_pages(image: &[u8]) -> Result<(), String> {
    if !image.starts_with(b"redb") {
        return Ok(());
    }
    let disk = SimulatedDisk::new(image.to_vec(), Syncs::Honest);
    let opened = redb::Builder::new().create_with_backend(disk);
    let is_whole = opened.map_err(|error| error.to_string())?.check_integrity();
    if is_whole.map_err(|error| error.to_string())? { Ok(()) } else { Err("damaged pages".into()) }
}

/// Threads made the image, so its seed alone does not bring it back: it is kept.
#[track_caller]
fn report(seed: u64, image: &[u8], problem: &str) -> ! {
    let kept = std::env::temp_dir().join(format!("telos-power-{seed}.redb"));
    std::fs::write(&kept, image).unwrap();
    panic!("seed {seed}: {problem}; the image is {}", kept.display());
}

const ROWS: TableDefinition<u64, u64> = TableDefinition::new("rows");

/// One row after another, each acknowledged when its commit returns.
fn record_plain_loop(durability: Durability) -> Recording {
    let disk = SimulatedDisk::new(vec![], Syncs::Honest);
    let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
    for number in 1..=40 {
        let mut txn = database.begin_write().unwrap();
        txn.set_durability(durability).unwrap();
        txn.open_table(ROWS).unwrap().insert(number, number).unwrap();
        txn.commit().unwrap();
        disk.hear(Said::Acknowledged { client: 0, number, position: Position::new(number) });
    }
    disk.recording()
}

fn has_plain_rows(image: Vec<u8>, rows: u64) -> bool {
    let disk = SimulatedDisk::new(image, Syncs::Honest);
    let Ok(database) = redb::Builder::new().create_with_backend(disk) else { return rows == 0 };
    let txn = database.begin_read().unwrap();
    let Ok(table) = txn.open_table(ROWS) else { return rows == 0 };
    (1..=rows).all(|number| table.get(number).unwrap().is_some())
}
