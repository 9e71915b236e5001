//! A directory of editions, one of which serves. Its name is in a file of its own, and renaming that is the switch.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::Verify;
use crate::directory;
use crate::edition::{Edition, open};
use crate::error::{FileError, ShelfError};
use crate::manifest::MANIFEST;

const CURRENT: &str = "CURRENT";
const TEMPORARY: &str = "CURRENT.tmp";
const PREFIX: &str = "edition-";
/// Editions have numbers below this one.
const NUMBERS_END: u64 = u64::MAX / 2;
/// Longer than any name of an edition.
const NAME_MAX: u64 = 64;

/// A directory of editions. One process at a time works in it; its owner sees to that.
pub struct Shelf {
    dir: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// The highest number that was given out.
    last: u64,
    /// What somebody reads or builds.
    claims: Vec<(u64, Weak<dyn Send + Sync>)>,
}

/// Where a new edition is built. It is not collected before this is dropped.
pub struct Place {
    number: u64,
    path: PathBuf,
    _claim: Arc<()>,
}

impl Place {
    /// The edition's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A directory that is not there yet.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Shelf {
    /// Opens a shelf, and makes it where there is none.
    ///
    /// # Errors
    /// [`ShelfError::File`].
    pub fn open(dir: &Path) -> Result<Shelf, ShelfError> {
        ShelfError::at(dir, directory::make_all(dir))?;
        let last = numbers(dir)?.into_iter().max().unwrap_or(0);
        Ok(Shelf { dir: dir.into(), state: Mutex::new(State { last, claims: Vec::new() }) })
    }

    /// The edition that serves; none before the first was published.
    ///
    /// # Errors
    /// [`ShelfError::Current`] when the file names no edition. Publishing one mends that.
    pub fn current(&self) -> Result<Option<u64>, ShelfError> {
        let path = self.dir.join(CURRENT);
        let file = match File::open(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => ShelfError::at(&path, opened)?,
        };
        if path.is_dir() {
            return Err(ShelfError::Current { path });
        }
        let mut name = String::new();
        let number = match file.take(NAME_MAX).read_to_string(&mut name) {
            Err(cause) if cause.kind() != io::ErrorKind::InvalidData => {
                return Err(ShelfError::file(&path, cause));
            }
            Err(_) => None,
            Ok(_) => name.strip_suffix('\n').and_then(number_of),
        };
        number.map(Some).ok_or(ShelfError::Current { path })
    }

    /// Where the next edition is built. Numbers ascend.
    ///
    /// # Errors
    /// [`ShelfError::File`].
    pub fn next(&self) -> Result<Place, ShelfError> {
        self.next_after(0)
    }

    /// The same with a number above another, which was given to an edition that may be gone.
    ///
    /// # Errors
    /// [`ShelfError::File`], [`ShelfError::Numbers`].
    pub fn next_after(&self, number: u64) -> Result<Place, ShelfError> {
        let mut state = self.state();
        // Somebody may have removed it since.
        ShelfError::at(&self.dir, directory::make_all(&self.dir))?;
        // One that CURRENT names may be gone; its number is not given to another.
        let current = self.current().ok().flatten().unwrap_or(0);
        let there = numbers(&self.dir)?.into_iter().max().unwrap_or(0);
        let next = state.last.max(current).max(there).max(number).checked_add(1);
        let next = next.filter(|next| *next < NUMBERS_END).ok_or(ShelfError::Numbers { number })?;
        state.last = next;
        let claim = Arc::new(());
        let number = state.last;
        state.claim(number, &claim);
        Ok(Place { number, path: self.path(number), _claim: claim })
    }

    /// Opens an edition. It is not collected while anybody holds it.
    ///
    /// # Errors
    /// [`ShelfError::Open`]; another edition, or none, has to serve.
    pub fn edition(&self, number: u64, verify: Verify) -> Result<Arc<Edition>, ShelfError> {
        let claim = Arc::new(());
        self.state().claim(number, &claim);
        let edition = Arc::new(open(&self.path(number), verify)?);
        self.state().claim(number, &edition);
        Ok(edition)
    }

    /// Opens the edition that serves; none before the first was published. It is not collected meanwhile.
    ///
    /// # Errors
    /// As [`Shelf::current`] and [`Shelf::edition`].
    pub fn serving(&self, verify: Verify) -> Result<Option<Arc<Edition>>, ShelfError> {
        let claim = Arc::new(());
        let current = {
            let mut state = self.state();
            let current = self.current()?;
            current.inspect(|number| state.claim(*number, &claim))
        };
        current.map(|number| self.edition(number, verify)).transpose()
    }

    /// Lets an edition serve, durably. Whoever holds another goes on reading that.
    ///
    /// # Errors
    /// [`ShelfError::Open`] when it is not whole. After [`ShelfError::File`] either may be current:
    /// [`Shelf::current`] says which.
    pub fn publish(&self, number: u64) -> Result<(), ShelfError> {
        let claim = Arc::new(());
        let mut state = self.state();
        state.claim(number, &claim);
        open(&self.path(number), Verify::Quick)?;
        let (current, temporary) = (self.dir.join(CURRENT), self.dir.join(TEMPORARY));
        // That it is there is safe before it is named.
        ShelfError::at(&self.dir, directory::sync(&self.dir))?;
        ShelfError::at(
            &temporary,
            directory::write_synced(&temporary, format!("{PREFIX}{number}\n").as_bytes()),
        )?;
        fail::fail_point!("archive::current-before-rename");
        if current.is_dir() {
            ShelfError::at(&current, fs::remove_dir_all(&current))?;
        }
        ShelfError::at(&current, fs::rename(&temporary, &current))?;
        fail::fail_point!("archive::current-after-rename");
        ShelfError::at(&self.dir, directory::sync(&self.dir))?;
        fail::fail_point!("archive::published");
        Ok(())
    }

    /// Lets no edition serve, durably; they are there until they are collected.
    ///
    /// # Errors
    /// [`ShelfError::File`].
    pub fn withdraw(&self) -> Result<(), ShelfError> {
        let _state = self.state();
        self.remove_current()
    }

    /// Removes an edition, whole or not, and whoever reads it: he goes on where the system lets him. None serves
    /// afterwards when this one did.
    ///
    /// # Errors
    /// [`ShelfError::File`], and some of it is still there.
    pub fn delete(&self, number: u64) -> Result<(), ShelfError> {
        let _state = self.state();
        if self.current().is_ok_and(|current| current == Some(number)) {
            self.remove_current()?;
        }
        let path = self.path(number);
        match remove(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(ShelfError::file(&path, cause));
            }
            _ => {}
        }
        ShelfError::at(&self.dir, directory::sync(&self.dir))
    }

    /// The editions that are there, whole or not, in order.
    ///
    /// # Errors
    /// [`ShelfError::File`].
    pub fn editions(&self) -> Result<Vec<u64>, ShelfError> {
        numbers(&self.dir)
    }

    /// Removes every edition, whole or not, that is neither current nor kept, and that nobody reads or builds. Answers
    /// which were removed. What else somebody put there is left alone.
    ///
    /// # Errors
    /// [`ShelfError::Current`] while nobody knows which serves; [`ShelfError::File`], and the rest is still there.
    pub fn collect(&self, keep: &[u64]) -> Result<Vec<u64>, ShelfError> {
        let mut state = self.state();
        let current = self.current()?;
        state.claims.retain(|(_, claim)| claim.strong_count() > 0);
        let is_claimed = |number: &u64| state.claims.iter().any(|(claimed, _)| claimed == number);
        let mut removed = numbers(&self.dir)?;
        removed.retain(|number| Some(*number) != current && !keep.contains(number) && !is_claimed(number));
        for number in &removed {
            let path = self.path(*number);
            ShelfError::at(&path, remove(&path))?;
        }
        let temporary = self.dir.join(TEMPORARY);
        ShelfError::at(&temporary, directory::remove(&temporary))?;
        ShelfError::at(&self.dir, directory::sync(&self.dir))?;
        fail::fail_point!("archive::collected");
        Ok(removed)
    }

    fn remove_current(&self) -> Result<(), ShelfError> {
        let current = self.dir.join(CURRENT);
        // A directory of that name names nothing, and is in the way.
        let removed =
            if current.is_dir() { fs::remove_dir_all(&current) } else { directory::remove(&current) };
        ShelfError::at(&current, removed)?;
        ShelfError::at(&self.dir, directory::sync(&self.dir))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number}"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn claim<T: Send + Sync + 'static>(&mut self, number: u64, by: &Arc<T>) {
        self.claims.retain(|(_, claim)| claim.strong_count() > 0);
        let claim: Weak<T> = Arc::downgrade(by);
        self.claims.push((number, claim));
    }
}

/// The manifest first: half an edition must not look like one.
fn remove(path: &Path) -> io::Result<()> {
    fail::fail_point!("archive::collect-before-remove");
    directory::remove(&path.join(MANIFEST))?;
    directory::sync(path)?;
    fail::fail_point!("archive::collect-manifest-removed");
    fs::remove_dir_all(path)
}

/// Editions that have a directory, whole or not, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, ShelfError> {
    let mut numbers = Vec::new();
    for entry in ShelfError::at(dir, fs::read_dir(dir))? {
        let entry = ShelfError::at(dir, entry)?;
        if entry.path().is_dir() {
            numbers.extend(entry.file_name().to_str().and_then(number_of));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn number_of(name: &str) -> Option<u64> {
    let number: u64 = name.strip_prefix(PREFIX)?.parse().ok()?;
    // One past that was given by nobody, and none would come after it.
    (number < NUMBERS_END && format!("{PREFIX}{number}") == name).then_some(number)
}
