//! Goal: what was acknowledged survives a power cut though its file or directory was only just made, and what was not
//! is whole or absent.
//! Method: before every sync the tree is looked at; for each entry that changed since its directory was synced, an image
//! has the old one or the new one, by chance; bytes that were never synced are gone. Each image is opened.
//! Kinder than the worst disk in two ways, which every journalling file system promises: a rename whose target is lost
//! leaves its source, and a directory is in one place only.

#![cfg(unix)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use crate::backup::BackupOptions;
use crate::commit::Vote;
use crate::draft::{Draft, DraftFact, DraftOptions};
use crate::id::{ComponentId, Digest, ObjectName};
use crate::json::Json;
use crate::object::Slot;
use crate::record::{ReleaseRecord, ReleaseState};
use crate::restore::RestoreOptions;
use crate::store::{Store, StoreOptions};
use crate::unit::Unit;

type Watcher = Box<dyn FnMut(&Path)>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Tells this thread's test of a sync that is about to be done.
pub(super) fn watch(path: &Path) {
    // Taken meanwhile: what the test does itself is not watched.
    if let Some(mut watcher) = WATCHER.take() {
        watcher(path);
        WATCHER.set(Some(watcher));
    }
}

/// One file or directory, wherever it is: numbers are given again.
type Inode = (u64, Option<SystemTime>);

type Entries = BTreeMap<OsString, Inode>;

/// A tree as it is now.
#[derive(Clone, Debug, Default)]
struct Tree {
    dirs: HashMap<Inode, Entries>,
    files: HashMap<Inode, PathBuf>,
}

/// A tree, and what of it is safe.
struct Disk {
    root: PathBuf,
    synced: HashMap<Inode, Entries>,
    contents: HashMap<Inode, Vec<u8>>,
    /// Databases that were there before: redb syncs them itself.
    open: BTreeSet<Inode>,
}

fn inode(path: &Path) -> Inode {
    let found = fs::metadata(path).unwrap();
    (found.ino(), found.created().ok())
}

impl Tree {
    fn of(root: &Path) -> Tree {
        let mut tree = Tree::default();
        tree.scan(root);
        tree
    }

    fn scan(&mut self, dir: &Path) {
        let mut entries = Entries::new();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (path, found) = (entry.path(), inode(&entry.path()));
            entries.insert(entry.file_name(), found);
            if path.is_dir() { self.scan(&path) } else { drop(self.files.insert(found, path)) }
        }
        self.dirs.insert(inode(dir), entries);
    }
}

impl Disk {
    /// All that is there is safe.
    fn new(root: &Path) -> Disk {
        let tree = Tree::of(root);
        let contents = tree.files.iter().map(|(inode, path)| (*inode, fs::read(path).unwrap())).collect();
        let is_open = |path: &Path| path.extension().is_some_and(|extension| extension == "redb");
        let open = tree.files.iter().filter(|(_, path)| is_open(path)).map(|(inode, _)| *inode).collect();
        Disk { root: root.into(), synced: tree.dirs, contents, open }
    }

    fn sync(&mut self, path: &Path) {
        if path.is_dir() {
            if let Some(entries) = Tree::of(&self.root).dirs.remove(&inode(path)) {
                self.synced.insert(inode(path), entries);
            }
        } else {
            self.contents.insert(inode(path), fs::read(path).unwrap());
        }
    }

    /// Writes what a power cut leaves now.
    fn cut(&self, seed: u64, image: &Path) {
        let now = Tree::of(&self.root);
        let mut random = Random(seed);
        let left = self.entries_left(&now, &mut |_| match seed {
            0 => false,
            1 => true,
            _ => random.next().is_multiple_of(2),
        });
        self.write(&left, &now, inode(&self.root), image, seed);
    }

    /// The entries of every directory: of each that changed, the old one, or the new one when `is_new`.
    fn entries_left(&self, now: &Tree, is_new: &mut dyn FnMut(&OsString) -> bool) -> HashMap<Inode, Entries> {
        let mut left: HashMap<Inode, Entries> = HashMap::new();
        let mut gone: BTreeSet<Inode> = BTreeSet::new();
        let dirs: BTreeSet<&Inode> = self.synced.keys().chain(now.dirs.keys()).collect();
        let none = Entries::new();
        for dir in dirs {
            let (old, new) = (self.synced.get(dir).unwrap_or(&none), now.dirs.get(dir).unwrap_or(&none));
            let kept = left.entry(*dir).or_default();
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let (before, after) = (old.get(name), new.get(name));
                let chosen = if before == after || is_new(name) { after } else { before };
                kept.extend(chosen.map(|inode| (name.clone(), *inode)));
                gone.extend(before.filter(|_| chosen != before));
            }
        }
        // A rename never loses what it moved.
        let is_left = |left: &HashMap<Inode, Entries>, inode| {
            left.values().any(|entries| entries.values().any(|other| other == inode))
        };
        for (dir, name, found) in now
            .dirs
            .iter()
            .flat_map(|(dir, entries)| entries.iter().map(move |(name, found)| (dir, name, found)))
        {
            if gone.contains(found) && !is_left(&left, found) {
                left.entry(*dir).or_default().insert(name.clone(), *found);
            }
        }
        for (dir, entries) in &self.synced {
            for (name, found) in entries {
                let is_moved = now.dirs.contains_key(found)
                    && now.dirs.get(dir).and_then(|now| now.get(name)) != Some(found);
                let places = left.values().flat_map(Entries::values).filter(|other| *other == found).count();
                if is_moved && places > 1 {
                    left.entry(*dir).or_default().remove(name);
                }
            }
        }
        left
    }

    fn write(&self, left: &HashMap<Inode, Entries>, now: &Tree, dir: Inode, to: &Path, seed: u64) {
        fs::create_dir_all(to).unwrap();
        for (name, inode) in left.get(&dir).into_iter().flatten() {
            let to = to.join(name);
            if left.contains_key(inode) {
                self.write(left, now, *inode, &to, seed);
            } else {
                fs::write(to, self.bytes(*inode, now, seed)).unwrap();
            }
        }
    }

    fn bytes(&self, inode: Inode, now: &Tree, seed: u64) -> Vec<u8> {
        let there = now.files.get(&inode).map(|path| fs::read(path).unwrap());
        match (there, self.contents.get(&inode)) {
            (Some(bytes), _) if self.open.contains(&inode) => bytes,
            (_, Some(synced)) => synced.clone(),
            // Its length may have arrived, and its bytes have not.
            (there, None) if seed % 2 == 1 => vec![0; there.unwrap_or_default().len()],
            (_, None) => Vec::new(),
        }
    }
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
}

/// Does `work` in `root` and calls `check` with images of power cuts: before every sync, and after it was acknowledged.
/// Answers how many: in the long run about 200 for each sync.
#[track_caller]
fn cut_everywhere<T>(
    root: &Path,
    work: impl FnOnce() -> T,
    check: impl Fn(&Path, bool, &str) + 'static,
) -> u64 {
    let seeds = if std::env::var_os("TELOS_LONG").is_some() { 200 } else { 6 };
    let disk = Rc::new(RefCell::new(Disk::new(root)));
    let made = Rc::new(RefCell::new(0));
    let cut = {
        let (disk, made) = (Rc::clone(&disk), Rc::clone(&made));
        Rc::new(move |is_done: bool, what: &str| {
            for seed in 0..seeds {
                let image = tempfile::tempdir().unwrap();
                disk.borrow().cut(seed, image.path());
                check(image.path(), is_done, &format!("{what}, seed {seed}"));
                *made.borrow_mut() += 1;
            }
        })
    };
    let before_each = Rc::clone(&cut);
    let root = root.to_path_buf();
    WATCHER.set(Some(Box::new(move |path: &Path| {
        if path.starts_with(&root) {
            before_each(false, &format!("before {} is synced", path.display()));
            disk.borrow_mut().sync(path);
        }
    })));
    let answer = work();
    WATCHER.set(None);
    cut(true, "acknowledged");
    drop(answer);
    made.take()
}

fn open(dir: &Path, what: &str) -> Store {
    Store::open(dir, StoreOptions::default()).unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

fn commit(store: &Store, work: impl FnOnce(&mut Unit)) {
    let mut unit = store.begin();
    work(&mut unit);
    store.decide(unit, Vote::default()).wait().unwrap();
}

fn release(digest: Digest) -> ReleaseRecord {
    ReleaseRecord {
        component: ComponentId::operator(),
        digest,
        version: "0.1.0".into(),
        descriptor: Json::null(),
        contract: String::new(),
        imports: vec![],
        limits: Json::null(),
        source: String::new(),
        state: ReleaseState::Staged,
        installed_at_ms: 0,
        verdict: None,
    }
}

/// A named object, a value, a blob and a release that names it.
fn add(store: &Store, text: &str) {
    let digest = store.put_blob(text.as_bytes()).unwrap();
    commit(store, |unit| {
        let id = unit.create(ComponentId::operator(), 1, vec![]).unwrap();
        unit.bind(&ObjectName::new(text).unwrap(), id).unwrap();
        unit.set_slot(id, "a", Slot::Value(Json::parse("1").unwrap())).unwrap();
        unit.put_release(release(digest)).unwrap();
    });
}

/// Names of the objects of a store that is whole, blobs included; restores' own rows are left out.
#[track_caller]
fn says(dir: &Path, what: &str) -> Vec<String> {
    let report = Store::verify(dir).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(report.is_clean(), "{what}: {:?}", report.problems);
    let store = open(dir, what);
    let names = store.begin().names("", "", 100).unwrap();
    names.into_iter().map(|(name, _)| name.to_string()).collect()
}

#[test]
fn a_new_store_is_there_once_a_commit_in_it_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/home/store");
    let disk = Rc::new(RefCell::new(Disk::new(root.path())));
    let told = Rc::clone(&disk);
    let below = root.path().to_path_buf();
    WATCHER.set(Some(Box::new(move |path: &Path| {
        if path.starts_with(&below) {
            told.borrow_mut().sync(path);
        }
    })));
    // By whoever makes the home, without a sync.
    fs::create_dir_all(root.path().join("new/home")).unwrap();
    let store = open(&dir, "new");
    add(&store, "first");
    WATCHER.set(None);
    // redb syncs the database itself.
    disk.borrow_mut().open.insert(inode(&dir.join("objects.redb")));
    for seed in 0..50 {
        let image = tempfile::tempdir().unwrap();
        disk.borrow().cut(seed, image.path());
        assert_eq!(says(&image.path().join("new/home/store"), &format!("seed {seed}")), ["first"]);
    }
    drop(store);
}

#[test]
fn a_blob_is_whole_once_a_commit_that_names_it_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let store = open(&dir, "first");
    add(&store, "old");
    let made = cut_everywhere(
        root.path(),
        || add(&store, "new"),
        |image, is_done, what| {
            let found = says(&image.join("store"), what);
            assert!(found == ["new", "old"] || (!is_done && found == ["old"]), "{what}: {found:?}");
        },
    );
    assert!(made > 10);
}

#[test]
fn a_backup_is_whole_under_its_name_or_absent_and_there_once_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("store"), "first");
    ["one", "two"].iter().for_each(|text| add(&store, text));
    let to = root.path().join("far/away/backup");
    let made = cut_everywhere(
        root.path(),
        || store.backup(&to, BackupOptions::default(), &mut |_| ()).unwrap(),
        |image, is_done, what| {
            let to = image.join("far/away/backup");
            if is_done || to.exists() {
                let checked = Store::check_backup(&to, &mut |_| ());
                checked.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
            assert_eq!(says(&image.join("store"), what), ["one", "two"], "{what}");
        },
    );
    assert!(made > 30);
}

#[test]
fn a_restore_leaves_the_old_store_or_the_new_one_and_the_new_one_once_acknowledged() {
    for is_there in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let (dir, from) = (root.path().join("far/away/store"), root.path().join("backup"));
        let old = is_there.then_some(vec!["kept".to_owned(), "later".to_owned()]);
        let source = if is_there { dir.clone() } else { root.path().join("elsewhere") };
        let store = open(&source, "first");
        add(&store, "kept");
        store.backup(&from, BackupOptions::default(), &mut |_| ()).unwrap();
        add(&store, "later");
        drop(store);
        let made = cut_everywhere(
            root.path(),
            || Store::restore(&from, &dir, RestoreOptions::default(), &mut |_| ()).unwrap(),
            move |image, is_done, what| {
                let dir = image.join("far/away/store");
                let checked = Store::check_backup(&image.join("backup"), &mut |_| ());
                checked.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                if !is_done && old.is_none() && !dir.exists() {
                    return;
                }
                let found = says(&dir, what);
                let is_old = old.as_ref().map_or(found.is_empty(), |old| found == *old);
                assert!(found == ["kept"] || (!is_done && is_old), "{what}: {found:?}");
            },
        );
        assert!(made > 30);
    }
}

#[test]
fn a_rewritten_file_is_the_old_one_or_the_new_one() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("store"), "first");
    ["one", "two"].iter().for_each(|text| add(&store, text));
    let made = cut_everywhere(
        root.path(),
        || store.rewrite(&mut |_| ()).unwrap(),
        |image, _, what| assert_eq!(says(&image.join("store"), what), ["one", "two"], "{what}"),
    );
    assert!(made > 10);
}

#[test]
fn a_drafted_store_is_the_old_one_or_the_new_one_with_its_backup_and_the_new_one_once_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    add(&open(&dir, "first"), "old");
    let draft = || {
        let mut draft = Draft::begin(&dir, &DraftOptions::default(), &mut |_| ()).unwrap();
        let id = draft.create(ComponentId::operator()).unwrap();
        draft.bind(&ObjectName::new("new").unwrap(), id).unwrap();
        let (kind, subject, detail) = ("test.drafted".into(), "store".into(), serde_json::Value::Null);
        let fact = DraftFact { kind, subject, detail, evolver: Digest::of(b"a test") };
        draft.seal(fact, &mut |_| ()).unwrap()
    };
    let made = cut_everywhere(root.path(), draft, |image, is_done, what| {
        let found = says(&image.join("store"), what);
        assert!(found == ["new", "old"] || (!is_done && found == ["old"]), "{what}: {found:?}");
        let is_backup = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with("store.before-evolve-") && !name.contains(".partial-")
        };
        let entries = fs::read_dir(image).unwrap().map(|entry| entry.unwrap());
        let backups: Vec<_> = entries.filter(|entry| is_backup(&entry.file_name())).collect();
        for backup in &backups {
            let checked = Store::check_backup(&backup.path(), &mut |_| ());
            checked.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
        assert!(found == ["old"] || backups.len() == 1, "{what}: {backups:?}");
    });
    assert!(made > 30);
}

/// A simulator that finds nothing proves nothing.
#[test]
fn what_was_not_synced_is_lost_in_some_image_and_what_was_is_in_all() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("old"), "old").unwrap();
    let mut disk = Disk::new(root.path());
    let write = |name: &str| fs::write(root.path().join(name), name).unwrap();
    ["synced", "listed", "neither"].iter().for_each(|name| write(name));
    disk.sync(&root.path().join("synced"));
    fs::rename(root.path().join("synced"), root.path().join("renamed")).unwrap();
    let images = |disk: &Disk| -> Vec<BTreeMap<String, String>> {
        let image = |seed| {
            let image = tempfile::tempdir().unwrap();
            disk.cut(seed, image.path());
            let entries = fs::read_dir(image.path()).unwrap().map(|entry| entry.unwrap().path());
            let text = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            entries
                .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), text(&path)))
                .collect()
        };
        (0..40).map(image).collect()
    };
    let found = images(&disk);
    assert!(found.iter().all(|image| image["old"] == "old"));
    for name in ["listed", "neither", "renamed"] {
        let there = found.iter().filter(|image| image.contains_key(name)).count();
        assert!((1..40).contains(&there), "{name} is there {there} times");
    }
    disk.sync(root.path());
    let found = images(&disk);
    assert!(found.iter().all(|image| image["renamed"] == "synced" && image["listed"] != "listed"));
}
