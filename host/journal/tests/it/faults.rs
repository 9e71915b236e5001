//! Goal: a disk that refuses costs no fact, no file of before, and is said so. Method: a disk that fails on request.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use telos_journal::{Disk, Journal, JournalConfig, JournalError, LogFile, Rate, Surroundings, SystemDisk};
use tempfile::tempdir;

use crate::fixture::{backups, check_sound, fact, facts, info, lines};

/// Fails the next so many writes (half of whose bytes arrive) and syncs.
#[derive(Clone, Debug, Default)]
struct FaultyDisk {
    writes: Arc<AtomicU32>,
    syncs: Arc<AtomicU32>,
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn LogFile>,
    disk: FaultyDisk,
    is_dead: bool,
}

impl Disk for FaultyDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = SystemDisk.open_append(path)?;
        Ok(Box::new(FaultyFile { file, disk: self.clone(), is_dead: false }))
    }
}

impl LogFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.is_dead, "a file whose sync failed was used again");
        if take_one(&self.disk.writes) {
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        assert!(!self.is_dead, "a file whose sync failed was synced again");
        self.is_dead = take_one(&self.disk.syncs);
        if self.is_dead { Err(io::Error::other("input/output error")) } else { self.file.sync() }
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.file.cut(bytes)
    }
}

fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

fn open(dir: &Path, disk: &FaultyDisk, config: JournalConfig) -> Journal {
    let on = Surroundings { disk: Arc::new(disk.clone()), ..Surroundings::default() };
    let journal = Journal::open_in(dir, config, on).unwrap();
    journal.flush().unwrap();
    journal
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_half_written() {
    let (dir, disk) = (tempdir().unwrap(), FaultyDisk::default());
    let journal = open(dir.path(), &disk, JournalConfig::default());
    disk.writes.store(2, Ordering::SeqCst);
    journal.record_fact(fact(1)).unwrap();
    journal.flush().unwrap();
    assert_eq!(journal.stats().degraded, None, "recovered without a restart");
    journal.close();
    check_sound(dir.path());
    assert_eq!(facts(dir.path()), [1]);
    assert_eq!(lines(dir.path(), "journal.restored").len(), 1);
}

#[test]
fn a_disk_that_stays_full_makes_facts_late_and_is_reported() {
    let (dir, disk) = (tempdir().unwrap(), FaultyDisk::default());
    let journal = open(dir.path(), &disk, JournalConfig { wait_ms_max: 50, ..JournalConfig::default() });
    disk.writes.store(u32::MAX, Ordering::SeqCst);
    assert!(matches!(journal.record_fact(fact(1)), Err(JournalError::Late { .. })));
    let degraded = journal.stats().degraded.unwrap();
    assert!(degraded.do_this.contains("free space"), "{degraded:?}");
    disk.writes.store(0, Ordering::SeqCst);
    // Asked again until it is there: it is written once all the same.
    while journal.record_fact(fact(1)).is_err() {}
    journal.close();
    check_sound(dir.path());
    assert_eq!(facts(dir.path()), [1]);
}

#[test]
fn a_full_disk_at_the_end_gives_up_and_promises_nothing_it_did_not_write() {
    let (dir, disk) = (tempdir().unwrap(), FaultyDisk::default());
    let journal = open(dir.path(), &disk, JournalConfig { wait_ms_max: 2_000, ..JournalConfig::default() });
    journal.record_fact(fact(1)).unwrap();
    disk.writes.store(u32::MAX, Ordering::SeqCst);
    assert!(journal.record_fact(fact(2)).is_err());
    journal.close();
    disk.writes.store(0, Ordering::SeqCst);
    let journal = open(dir.path(), &disk, JournalConfig::default());
    assert_eq!(journal.audit_cursor(), 1);
    journal.record_facts(vec![fact(1), fact(2)]).unwrap();
    journal.close();
    check_sound(dir.path());
    assert_eq!(facts(dir.path()), [1, 2]);
}

#[test]
fn a_failed_sync_ends_the_file_and_repeats_what_is_in_doubt() {
    let (dir, disk) = (tempdir().unwrap(), FaultyDisk::default());
    let journal = open(dir.path(), &disk, JournalConfig::default());
    journal.record_fact(fact(1)).unwrap();
    disk.syncs.store(1, Ordering::SeqCst);
    journal.record_fact(fact(2)).unwrap();
    assert_eq!(journal.stats().sync_failures, 1);
    assert!(journal.stats().degraded.unwrap().do_this.contains("check the disk"));
    journal.record_fact(fact(3)).unwrap();
    assert!(journal.stats().degraded.is_some(), "one good sync does not heal a disk");
    journal.close();
    let report = check_sound(dir.path());
    assert_eq!((report.facts, report.facts_repeated), (3, 1));
    assert_eq!(lines(dir.path(), "journal.degraded").len(), 1);
    assert_eq!(backups(dir.path()), ["journal.000001.jsonl"]);
}

#[test]
fn a_flush_over_a_failed_sync_says_so() {
    let (dir, disk) = (tempdir().unwrap(), FaultyDisk::default());
    let journal = open(dir.path(), &disk, JournalConfig::default());
    journal.producer("test", Rate::HOST).record(&info("in doubt"));
    disk.syncs.store(1, Ordering::SeqCst);
    assert!(matches!(journal.flush(), Err(JournalError::Sync)));
    journal.flush().unwrap();
}

#[test]
fn a_disk_that_never_syncs_costs_no_old_backup() {
    let (dir, disk) = (tempdir().unwrap(), FaultyDisk::default());
    for _ in 0..5 {
        let journal = open(dir.path(), &disk, JournalConfig::default());
        journal.record_fact(fact(journal.audit_cursor() + 1)).unwrap();
        disk.syncs.store(1, Ordering::SeqCst);
        journal.record_fact(fact(journal.audit_cursor() + 1)).unwrap();
    }
    let before = backups(dir.path());
    assert_eq!(before.len(), 5);
    let journal = open(dir.path(), &disk, JournalConfig { wait_ms_max: 1_500, ..JournalConfig::default() });
    disk.syncs.store(u32::MAX, Ordering::SeqCst);
    assert!(matches!(journal.record_fact(fact(11)), Err(JournalError::Late { .. })));
    disk.syncs.store(0, Ordering::SeqCst);
    let after = backups(dir.path());
    assert!(before.iter().all(|name| after.contains(name)), "{after:?}");
    assert!(after.len() <= 10, "{after:?}");
}
