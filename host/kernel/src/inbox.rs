//! The plugin directory as an inbox: a file that has come to rest is a candidate, once.
//!
//! The store's release table is the truth; the directory only brings news. Deciding is pure: [`Inbox::observe`] is
//! given what a scan saw and says which candidates are ready. A path triggers when it holds other bytes than those it
//! was last dealt with, also before a restart; deleting a file does nothing. What waits for something else than itself is handed out again: a
//! rival when another file changed, the rest after a while.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::examine::COMPONENT_BYTES_MAX;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};

mod regular;

/// A candidate must not have changed for this long: a copy in progress is not a candidate.
pub const QUIET: Duration = Duration::from_millis(500);

/// How often the directories are scanned.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(250);

/// What waits is handed out again after this; twice that the next time, and so on.
const AGAIN_MIN: Duration = Duration::from_secs(5);

/// The longest pause before what waits is handed out again: an operator who mended something waits no longer.
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// Files looked at in one directory; more are left unseen and said so.
const ENTRIES_MAX: usize = 1_024;

/// One thing in a plugin directory that could be a plugin: a wasm file, or a folder with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The component file; for a folder without one, the manifest.
    pub path: PathBuf,
    /// The manifest beside it, if any.
    pub manifest: Option<PathBuf>,
    /// Sizes and times of all files concerned: what must not change.
    pub stamp: Vec<(u64, Option<SystemTime>)>,
    /// What is wrong with it already, such as no component in the folder.
    pub problem: Option<String>,
}

/// What the inbox says of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxEntry {
    /// The component file.
    pub path: PathBuf,
    /// `waiting`, `refused` or `consumed`.
    pub state: &'static str,
    /// Why, and what to do.
    pub cause: String,
    /// The component it holds, once that is known.
    pub component: Option<String>,
}

/// How a candidate went.
pub struct Fate {
    /// `waiting`, `refused` or `consumed`.
    pub state: &'static str,
    /// Why, and what to do.
    pub cause: String,
    /// The component it holds, if it got that far.
    pub component: Option<String>,
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
        if self.has_changed(&scan) {
            for known in self.known.values_mut().filter(|known| known.again == Again::WhenOthersChange) {
                known.is_handed_out = false;
            }
        }
        let present: Vec<PathBuf> = scan.iter().map(|seen| seen.path.clone()).collect();
        self.known.retain(|path, _| present.contains(path));
        scan.into_iter().filter_map(|seen| self.observe_one(seen, now)).collect()
    }

    /// Notes how a candidate went.
    pub fn note(&mut self, path: &Path, fate: Fate, now: Instant) {
        if let Some(known) = self.known.get_mut(path) {
            known.again = fate.again;
            known.since = now;
            known.entry.state = fate.state;
            known.entry.cause = fate.cause;
            known.entry.component = fate.component;
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

    fn observe_one(&mut self, seen: Seen, now: Instant) -> Option<Seen> {
        let known = self.known.entry(seen.path.clone()).or_insert_with(|| Known::new(seen.clone(), now));
        if known.seen != seen {
            *known = Known::new(seen, now);
            return None;
        }
        if !known.is_due(now) {
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

/// A candidate read from disk: the bytes are read once, and everything later is about these bytes.
pub struct Candidate {
    /// The component.
    pub bytes: Vec<u8>,
    /// Its manifest.
    pub manifest: Option<Manifest>,
}

/// Why a candidate was not read: one sentence that names the file and the trouble.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// The files do not make a candidate; only changing them helps.
    #[error("{0}")]
    Malformed(String),
    /// A file could not be read now.
    #[error("{0}")]
    Unreadable(String),
}

/// Reads a candidate that has come to rest.
///
/// # Errors
/// [`CandidateError`].
pub fn read_candidate(seen: &Seen) -> Result<Candidate, CandidateError> {
    if let Some(problem) = &seen.problem {
        return Err(CandidateError::Malformed(problem.clone()));
    }
    let manifest = seen.manifest.as_deref().map(read_manifest).transpose()?;
    let bytes =
        regular::read(&seen.path, COMPONENT_BYTES_MAX).map_err(|error| cannot_read(&seen.path, &error))?;
    Ok(Candidate { bytes, manifest })
}

/// Reads a component or the folder around it, as `plugin install` is given one.
///
/// # Errors
/// [`CandidateError`].
pub fn read_path(path: &Path) -> Result<Candidate, CandidateError> {
    let cannot = |error: io::Error| cannot_read(path, &error);
    let about = std::fs::metadata(path).map_err(cannot)?;
    let seen = if about.is_dir() { folder(path).map_err(cannot)? } else { file(path).map_err(cannot)? };
    match seen {
        Some(seen) => read_candidate(&seen),
        None => {
            let neither =
                format!("{} is neither a .wasm file nor a folder with a plugin.toml", path.display());
            Err(CandidateError::Malformed(neither))
        }
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, CandidateError> {
    let text = regular::read_text(path, MANIFEST_BYTES_MAX).map_err(|error| cannot_read(path, &error))?;
    let refused = |error: toml::de::Error| {
        CandidateError::Malformed(format!("{}: {}", path.display(), one_line(&error.to_string())))
    };
    Manifest::parse(&text).map_err(refused)
}

fn cannot_read(path: &Path, error: &io::Error) -> CandidateError {
    CandidateError::Unreadable(format!("{} cannot be read: {error}", path.display()))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Everything in a directory that could be a plugin. A directory that is not there is an empty one.
///
/// # Errors
/// When the directory cannot be listed.
pub fn scan(directory: &Path) -> io::Result<Vec<Seen>> {
    let listing = match std::fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut seen = Vec::new();
    for entry in listing.take(ENTRIES_MAX) {
        let path = entry?.path();
        // A file that vanishes between listing and looking is no candidate, and no error.
        let found = if path.is_dir() { folder(&path) } else { file(&path) };
        seen.extend(found.ok().flatten());
    }
    seen.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(seen)
}

fn file(path: &Path) -> io::Result<Option<Seen>> {
    if !is_wasm(path) {
        return Ok(None);
    }
    let about = std::fs::metadata(path)?;
    let problem = regular::problem(&about, COMPONENT_BYTES_MAX).map(|problem| name(path, &problem));
    Ok(Some(Seen { path: path.to_owned(), manifest: None, stamp: vec![stamp(&about)], problem }))
}

fn folder(path: &Path) -> io::Result<Option<Seen>> {
    let manifest = path.join("plugin.toml");
    let about_manifest = match std::fs::metadata(&manifest) {
        Ok(about) => about,
        // A folder that is named like a component is reported as what is wrong with that component.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return file(path),
        Err(error) => return Err(error),
    };
    let component = match regular::problem(&about_manifest, MANIFEST_BYTES_MAX) {
        Some(problem) => Err(name(&manifest, &problem)),
        None => component_in(path, &manifest)?,
    };
    let component = match component {
        Ok(component) => component,
        Err(problem) => {
            let stamp = vec![stamp(&about_manifest)];
            return Ok(Some(Seen { path: manifest, manifest: None, stamp, problem: Some(problem) }));
        }
    };
    let about = std::fs::metadata(&component)?;
    let stamp = vec![stamp(&about_manifest), stamp(&about)];
    let problem = regular::problem(&about, COMPONENT_BYTES_MAX).map(|problem| name(&component, &problem));
    Ok(Some(Seen { path: component, manifest: Some(manifest), stamp, problem }))
}

fn is_wasm(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm")
}

fn name(path: &Path, problem: &str) -> String {
    format!("{} {problem}", path.display())
}

/// The component file that a folder's manifest is about.
fn component_in(path: &Path, manifest: &Path) -> io::Result<Result<PathBuf, String>> {
    let text = regular::read_text(manifest, MANIFEST_BYTES_MAX);
    let named = text.ok().and_then(|text| Manifest::parse(&text).ok()?.wasm);
    if let Some(name) = named {
        let is_plain = Path::new(&name).components().count() == 1 && !name.starts_with("..");
        let component = path.join(&name);
        return Ok(match is_plain && component.exists() {
            true => Ok(component),
            false => Err(format!("{} names `{name}`, which is not a file beside it", manifest.display())),
        });
    }
    let mut components = Vec::new();
    for entry in std::fs::read_dir(path)?.take(ENTRIES_MAX) {
        let path = entry?.path();
        if is_wasm(&path) {
            components.push(path);
        }
    }
    Ok(match components.len() {
        1 => Ok(components.remove(0)),
        0 => Err(format!("{} has no .wasm file beside it", manifest.display())),
        several => Err(format!(
            "{} has {several} .wasm files beside it; name one with `wasm = ...`",
            manifest.display()
        )),
    })
}

fn stamp(about: &Metadata) -> (u64, Option<SystemTime>) {
    (about.len(), about.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, bytes: u64) -> Seen {
        Seen { path: path.into(), manifest: None, stamp: vec![(bytes, None)], problem: None }
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

    fn waits(again: Again) -> Fate {
        Fate { state: "waiting", cause: "a test says so".into(), component: None, again }
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

    #[test]
    fn a_folder_needs_one_component() {
        let home = tempfile::tempdir().unwrap();
        let plugin = home.path().join("counter");
        std::fs::create_dir(&plugin).unwrap();
        std::fs::write(plugin.join("plugin.toml"), "id = \"counter\"\n").unwrap();
        let only = |seen: Vec<Seen>| seen.into_iter().next().unwrap();
        let problem = only(scan(home.path()).unwrap()).problem.unwrap();
        assert!(problem.contains("has no .wasm file"), "{problem}");
        std::fs::write(plugin.join("a.wasm"), "x").unwrap();
        assert_eq!(only(scan(home.path()).unwrap()).problem, None);
        std::fs::write(plugin.join("b.wasm"), "x").unwrap();
        assert!(only(scan(home.path()).unwrap()).problem.unwrap().contains("2 .wasm files"));
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("plugin.toml"), "id = \"x\"\nmemroy = 5\n").unwrap();
        std::fs::write(home.path().join("x.wasm"), "x").unwrap();
        let Err(refusal) = read_path(home.path()) else { panic!("accepted") };
        assert!(refusal.to_string().contains("memroy"), "{refusal}");
    }

    fn only(directory: &Path) -> Seen {
        let mut seen = scan(directory).unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// What is in a directory is refused, and the reason names the file and says what to do.
    #[track_caller]
    fn refused(directory: &Path, file: &str, reason: &str) {
        let seen = only(directory);
        let Err(refusal) = read_candidate(&seen) else { panic!("{file} was read") };
        let refusal = refusal.to_string();
        assert!(refusal.contains(file) && refusal.contains(reason), "{refusal}");
        assert!(refusal.contains("remove it"), "{refusal}");
    }

    fn sparse(path: &Path, bytes: u64) {
        std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
    }

    #[cfg(unix)]
    fn pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[cfg(unix)]
    fn endless(path: &Path) {
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    }

    #[test]
    fn a_component_past_the_bound_is_refused_unread() {
        let home = tempfile::tempdir().unwrap();
        sparse(&home.path().join("a.wasm"), 3 << 30);
        refused(home.path(), "a.wasm", "is 3221225472 bytes, at most 67108864");
    }

    #[test]
    fn a_component_of_exactly_the_bound_is_read() {
        let home = tempfile::tempdir().unwrap();
        sparse(&home.path().join("a.wasm"), COMPONENT_BYTES_MAX as u64);
        assert_eq!(
            read_candidate(&only(home.path())).map(|read| read.bytes.len()).ok(),
            Some(COMPONENT_BYTES_MAX)
        );
        sparse(&home.path().join("a.wasm"), COMPONENT_BYTES_MAX as u64 + 1);
        refused(home.path(), "a.wasm", "at most 67108864");
    }

    #[test]
    fn a_file_that_outgrew_the_bound_after_the_scan_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.wasm");
        std::fs::write(&path, "x").unwrap();
        let seen = only(home.path());
        sparse(&path, 3 << 30);
        let Err(refusal) = read_candidate(&seen) else { panic!("read") };
        assert!(refusal.to_string().contains("at most 67108864"), "{refusal}");
    }

    #[test]
    fn a_folder_named_like_a_component_is_no_component() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("x.wasm")).unwrap();
        refused(home.path(), "x.wasm", "is a folder");
    }

    #[test]
    fn a_huge_manifest_is_refused_unread() {
        let home = tempfile::tempdir().unwrap();
        let plugin = home.path().join("counter");
        std::fs::create_dir(&plugin).unwrap();
        std::fs::write(plugin.join("a.wasm"), "x").unwrap();
        sparse(&plugin.join("plugin.toml"), 3 << 30);
        refused(home.path(), "plugin.toml", "at most 65536");
        std::fs::remove_file(plugin.join("plugin.toml")).unwrap();
        std::fs::create_dir(plugin.join("plugin.toml")).unwrap();
        refused(home.path(), "plugin.toml", "is a folder");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_without_being_opened() {
        for make in [pipe, endless] {
            let home = tempfile::tempdir().unwrap();
            make(&home.path().join("zz.wasm"));
            refused(home.path(), "zz.wasm", "is not a regular file");
            std::fs::remove_file(home.path().join("zz.wasm")).unwrap();
            let plugin = home.path().join("counter");
            std::fs::create_dir(&plugin).unwrap();
            make(&plugin.join("zz.wasm"));
            std::fs::write(plugin.join("plugin.toml"), "id = \"counter\"\n").unwrap();
            refused(home.path(), "zz.wasm", "is not a regular file");
            std::fs::write(plugin.join("plugin.toml"), "id = \"counter\"\nwasm = \"zz.wasm\"\n").unwrap();
            refused(home.path(), "zz.wasm", "is not a regular file");
            std::fs::remove_file(plugin.join("plugin.toml")).unwrap();
            make(&plugin.join("plugin.toml"));
            refused(home.path(), "plugin.toml", "is not a regular file");
            let Err(refusal) = read_path(&plugin) else { panic!("read") };
            assert!(refusal.to_string().contains("is not a regular file"), "{refusal}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_device_put_in_place_of_a_file_after_the_scan_keeps_nobody_waiting() {
        for make in [pipe, endless] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("a.wasm");
            std::fs::write(&path, "x").unwrap();
            let seen = only(home.path());
            std::fs::remove_file(&path).unwrap();
            make(&path);
            let Err(refusal) = read_candidate(&seen) else { panic!("read") };
            assert!(refusal.to_string().contains("is not a regular file"), "{refusal}");
        }
    }
}
