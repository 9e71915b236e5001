//! The plugin directory as an inbox: a file that has come to rest is a candidate, once.
//!
//! The store's release table is the truth; the directory only brings news. Deciding is pure: [`Inbox::observe`] is
//! given what a scan saw and says which candidates are ready. A path triggers when it holds other bytes than those it
//! was last dealt with, also before a restart; deleting a file does nothing. What waits for something else than itself is
//! handed out again: a rival when another file changed, the rest after a while.
//!
//! Whoever may write to a plugin directory need not be trusted with what the host may read: `inbox/` opens it once for
//! each look, and everything in it from that handle.

mod candidate;
mod directory;
mod name;
mod opened;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use telos_store::Digest;

pub use candidate::{Candidate, CandidateError, read_path};
pub use directory::Directory;
pub use name::shown;
use opened::Stamp;

/// A candidate must not have changed for this long: a copy in progress is not a candidate.
pub const QUIET: Duration = Duration::from_millis(500);

/// How often the directories are scanned.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(250);

/// What waits is handed out again after this; twice that the next time, and so on.
const AGAIN_MIN: Duration = Duration::from_secs(5);

/// The longest pause before what waits is handed out again: an operator who mended something waits no longer.
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// One thing in a plugin directory that could be a plugin: a wasm file, or a folder with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The plugin directory in which it was seen, as that was named.
    pub directory: PathBuf,
    /// The component file; for a folder without one, the manifest.
    pub path: PathBuf,
    /// The manifest beside it, if any.
    pub manifest: Option<PathBuf>,
    /// Sizes and times of all files concerned: what must not change.
    pub stamp: Vec<Stamp>,
    /// What is wrong with it already, such as no component in the folder.
    pub problem: Option<String>,
}

/// What the inbox says of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxEntry {
    /// The component file, or what else a row is about; as JSON, as [`shown`].
    #[serde(serialize_with = "serialize_shown")]
    pub path: PathBuf,
    /// `waiting`, `refused` or `consumed`.
    pub state: &'static str,
    /// Why, and what to do.
    pub cause: String,
    /// The component it holds, once that is known.
    pub component: Option<String>,
    /// What became of it, when it was taken in: then state and cause depend on how that release stands now.
    #[serde(skip)]
    pub taken: Option<Taken>,
}

/// A release that a candidate became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its bytes.
    pub digest: Digest,
    /// What more is to be said of it while it serves.
    pub note: Option<String>,
}

/// How a candidate went.
pub struct Fate {
    /// `waiting`, `refused` or `consumed`.
    pub state: &'static str,
    /// Why, and what to do.
    pub cause: String,
    /// The component it holds, if it got that far.
    pub component: Option<String>,
    /// The release that it became, if it did.
    pub taken: Option<Taken>,
    /// When it is handed out again, unless it changes before.
    pub again: Again,
}

/// When a candidate is handed out again although it did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Not before it changes.
    Never,
    /// When another candidate changes, comes or goes.
    WhenOthersChange,
    /// After a while, longer each time: 5 s up to 5 min.
    Later,
}

/// What is known of the files in the plugin directories.
#[derive(Default)]
pub struct Inbox {
    known: BTreeMap<PathBuf, Known>,
}

struct Known {
    seen: Seen,
    since: Instant,
    is_handed_out: bool,
    again: Again,
    /// How often it was handed out.
    times: u32,
    entry: InboxEntry,
}

impl Inbox {
    /// Takes in a scan; answers what has come to rest since, each once per change.
    pub fn observe(&mut self, scan: Vec<Seen>, now: Instant) -> Vec<Seen> {
        self.observe_some(scan, now, usize::MAX)
    }

    /// The same, and answers at most so many of each plugin directory: what is beyond them is answered by the next
    /// look, so that a directory full of candidates holds those of others up by no more than these.
    pub fn observe_some(&mut self, scan: Vec<Seen>, now: Instant, of_each: usize) -> Vec<Seen> {
        if self.has_changed(&scan) {
            for known in self.known.values_mut().filter(|known| known.again == Again::WhenOthersChange) {
                known.is_handed_out = false;
            }
        }
        let present: BTreeSet<&PathBuf> = scan.iter().map(|seen| &seen.path).collect();
        self.known.retain(|path, _| present.contains(path));
        let mut handed_out = BTreeMap::<PathBuf, usize>::new();
        let mut ready = Vec::new();
        for seen in scan {
            let of_its_directory = handed_out.entry(seen.directory.clone()).or_default();
            let may_be = *of_its_directory < of_each;
            if let Some(seen) = self.observe_one(seen, now, may_be) {
                *of_its_directory += 1;
                ready.push(seen);
            }
        }
        ready
    }

    /// Notes how a candidate went.
    pub fn note(&mut self, path: &Path, fate: Fate, now: Instant) {
        if let Some(known) = self.known.get_mut(path) {
            known.again = fate.again;
            known.since = now;
            known.entry.state = fate.state;
            known.entry.cause = fate.cause;
            known.entry.component = fate.component;
            known.entry.taken = fate.taken;
        }
    }

    /// Everything in the directories, and how it stands.
    pub fn entries(&self) -> Vec<InboxEntry> {
        self.known.values().map(|known| known.entry.clone()).collect()
    }

    fn has_changed(&self, scan: &[Seen]) -> bool {
        let is_known = |seen: &Seen| self.known.get(&seen.path).is_some_and(|known| known.seen == *seen);
        scan.len() != self.known.len() || !scan.iter().all(is_known)
    }

    fn observe_one(&mut self, seen: Seen, now: Instant, may_be_handed_out: bool) -> Option<Seen> {
        let known = self.known.entry(seen.path.clone()).or_insert_with(|| Known::new(seen.clone(), now));
        if known.seen != seen {
            *known = Known::new(seen, now);
            return None;
        }
        if !may_be_handed_out || !known.is_due(now) {
            return None;
        }
        known.is_handed_out = true;
        known.times = known.times.saturating_add(1);
        Some(known.seen.clone())
    }
}

impl Known {
    fn new(seen: Seen, now: Instant) -> Self {
        let entry = InboxEntry {
            path: seen.path.clone(),
            state: "waiting",
            cause: "it changed less than half a second ago".into(),
            component: None,
            taken: None,
        };
        Self { seen, since: now, is_handed_out: false, again: Again::Never, times: 0, entry }
    }

    /// Whether it has come to rest, or has waited long enough since it was last handed out.
    fn is_due(&self, now: Instant) -> bool {
        let rested = now.saturating_duration_since(self.since);
        match (self.is_handed_out, self.again) {
            (false, _) => rested >= QUIET,
            (true, Again::Later) => {
                let doubled = AGAIN_MIN.saturating_mul(1 << self.times.saturating_sub(1).min(16));
                rested >= doubled.min(AGAIN_MAX)
            }
            (true, _) => false,
        }
    }
}

fn serialize_shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name::shown(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, bytes: u64) -> Seen {
        Seen {
            directory: PathBuf::new(),
            path: path.into(),
            manifest: None,
            stamp: vec![(bytes, None)],
            problem: None,
        }
    }

    #[test]
    fn a_growing_file_is_no_candidate_until_it_rests() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(inbox.observe(vec![seen("a.wasm", 10)], at(0)).is_empty());
        assert!(inbox.observe(vec![seen("a.wasm", 20)], at(400)).is_empty());
        assert!(inbox.observe(vec![seen("a.wasm", 20)], at(800)).is_empty());
        assert_eq!(inbox.observe(vec![seen("a.wasm", 20)], at(901)).len(), 1);
        assert!(inbox.observe(vec![seen("a.wasm", 20)], at(5_000)).is_empty(), "once");
        assert!(inbox.observe(vec![seen("a.wasm", 21)], at(6_000)).is_empty());
        assert_eq!(inbox.observe(vec![seen("a.wasm", 21)], at(6_500)).len(), 1, "again after a change");
    }

    #[test]
    fn a_directory_full_of_candidates_holds_others_up_by_a_few_only() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        let inside = |directory: &str, name: String| Seen {
            directory: directory.into(),
            ..seen(&format!("{directory}/{name}"), 10)
        };
        let full = || (0..10).map(|number| inside("full", format!("{number}.wasm")));
        let scan = || full().chain([inside("other", "x.wasm".into())]).collect::<Vec<_>>();
        inbox.observe_some(scan(), start, 4);
        let mut looks = Vec::new();
        for look in 0..4 {
            let ready = inbox.observe_some(scan(), start + QUIET * (look + 1), 4);
            looks.push(ready.iter().map(|seen| shown(&seen.path)).collect::<Vec<_>>());
        }
        assert_eq!(looks[0], ["full/0.wasm", "full/1.wasm", "full/2.wasm", "full/3.wasm", "other/x.wasm"]);
        assert_eq!(looks.iter().map(Vec::len).collect::<Vec<_>>(), [5, 4, 2, 0]);
    }

    fn waits(again: Again) -> Fate {
        Fate { state: "waiting", cause: "a test says so".into(), component: None, taken: None, again }
    }

    #[test]
    fn a_rival_is_tried_again_when_the_other_file_goes_and_not_before() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let both = || vec![seen("a.wasm", 10), seen("b.wasm", 10)];
        inbox.observe(both(), at(0));
        assert_eq!(inbox.observe(both(), at(600)).len(), 2);
        inbox.note(Path::new("b.wasm"), waits(Again::WhenOthersChange), at(600));
        assert!(inbox.observe(both(), at(900_000)).is_empty());
        assert_eq!(inbox.observe(vec![seen("b.wasm", 10)], at(900_001)).len(), 1, "a.wasm is gone");
        assert!(inbox.observe(vec![seen("b.wasm", 10)], at(900_002)).is_empty(), "once");
    }

    #[test]
    fn what_waits_for_the_host_is_tried_again_at_growing_intervals() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        let scan = || vec![seen("a.wasm", 10)];
        inbox.observe(scan(), start);
        let (mut now, mut pauses) = (start + QUIET, Vec::new());
        assert_eq!(inbox.observe(scan(), now).len(), 1);
        for _ in 0..8 {
            inbox.note(Path::new("a.wasm"), waits(Again::Later), now);
            let noted = now;
            while inbox.observe(scan(), now).is_empty() {
                now += Duration::from_secs(1);
            }
            pauses.push((now - noted).as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_deleted_file_is_forgotten_and_does_nothing() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        inbox.observe(vec![seen("a.wasm", 10)], start);
        assert!(inbox.observe(Vec::new(), start + QUIET).is_empty());
        assert!(inbox.entries().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf8_is_listed() {
        use std::os::unix::ffi::OsStringExt;
        let name = std::ffi::OsString::from_vec(b"x\xff.wasm".to_vec());
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        let seen = Seen { path: PathBuf::from(name), ..seen("", 0) };
        inbox.observe(vec![seen], start);
        let listed = serde_json::to_value(inbox.entries()).unwrap();
        assert_eq!(listed[0]["path"], "x\u{fffd}.wasm");
    }
}
