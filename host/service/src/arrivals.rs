//! What comes through plugin directories and the bundle: scanned, brought to the kernel, and its fate written down.
//!
//! The bundle is a directory beside the executable whose `bundle.toml` vouches for digests: what it vouches for is
//! granted what it lists, and gets the limits it asks for. Otherwise it is a plugin directory like any other, whose
//! manifests may only lower limits: whoever can drop a file there is not the operator who answers for the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Deserialize;
use telos_journal::{Line, Severity};
use telos_kernel::inbox::{
    self, Again, Candidate, CandidateError, Directory, Fate, Inbox, InboxEntry, Seen, Taken, shown,
};
use telos_kernel::{Granting, InstallRequest, Kernel, Limits, ReleaseStanding, SwapError, Swapped};
use telos_store::{Digest, ReleaseRecord, Store};

/// Candidates of one directory that are brought between two looks: each may take a whole trial, and what others dropped
/// elsewhere waits for them.
const BROUGHT_AT_ONCE: usize = 4;

/// What the executable's own plugins are granted, by digest.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    directory: Option<PathBuf>,
    /// A directory without `bundle.toml`.
    absent: Option<PathBuf>,
    grants: BTreeMap<String, Vec<String>>,
    /// Where the bytes of each digest are said to be.
    files: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleFile {
    #[serde(default)]
    plugin: Vec<BundledPlugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BundledPlugin {
    /// For people, and to bring lost bytes back; the digest is what counts.
    file: PathBuf,
    digest: String,
    #[serde(default)]
    grants: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in a directory; a directory without `bundle.toml` is an empty bundle, and the host's checks say
    /// so.
    ///
    /// # Errors
    /// One sentence that names the file and the trouble.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let path = directory.join("bundle.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { absent: Some(directory.to_owned()), ..Self::default() });
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        let file: BundleFile =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut bundle = Self { directory: Some(directory.to_owned()), ..Self::default() };
        for BundledPlugin { file, digest, grants } in file.plugin {
            bundle.files.insert(digest.clone(), directory.join(file));
            bundle.grants.insert(digest, grants);
        }
        Ok(bundle)
    }

    /// Puts back what the store has lost, or finds damaged, of the releases that come with the host, before anybody
    /// loads them. Answers what was, a line each; what cannot be put back shows among the checks. Cost: reads the
    /// bundled releases.
    pub(crate) fn bring_back(&self, store: &Store) -> Vec<Line> {
        let releases = store.releases(None).unwrap_or_default();
        let lost = |release: &ReleaseRecord| !matches!(store.blob(&release.digest), Ok(Some(_)));
        let bundled = releases.into_iter().filter_map(|release| {
            let file = self.files.get(&release.digest.to_string())?;
            Some((release, file)).filter(|(release, _)| lost(release))
        });
        bundled.filter_map(|(release, file)| bring_back_one(store, &release, file)).collect()
    }

    /// Whether the bundle answers for a file: it is the pinned one, in the bundle's own directory, where also the
    /// manifest beside it is the bundle's.
    fn vouches_for(&self, path: &Path, digest: Digest) -> bool {
        let is_inside = self.directory.as_ref().is_some_and(|directory| path.starts_with(directory));
        is_inside && self.grants.contains_key(&digest.to_string())
    }

    fn granting(&self, digest: Digest) -> Granting {
        match self.grants.get(&digest.to_string()) {
            Some(interfaces) => Granting::These(interfaces.clone()),
            None => Granting::Nothing,
        }
    }
}

fn bring_back_one(store: &Store, release: &ReleaseRecord, file: &Path) -> Option<Line> {
    let bytes = inbox::read_path(file).ok().map(|candidate| candidate.bytes);
    let bytes = bytes.filter(|bytes| Digest::of(bytes) == release.digest)?;
    store.put_blob(&bytes).ok()?;
    let ReleaseRecord { component, version, digest, .. } = release;
    let body = format!(
        "the store had lost the bytes of {component} {version}; they are back from {}",
        file.display()
    );
    let line = Line::new(Severity::Warn, "store.blob-restored", body);
    Some(line.with("plugin", component.as_str()).with("digest", digest.to_string()))
}

/// Watches plugin directories.
pub(crate) struct Arrivals {
    kernel: Kernel,
    store: Store,
    bundle: Bundle,
    directories: Vec<PathBuf>,
    inbox: Mutex<Inbox>,
}

impl Arrivals {
    pub(crate) fn new(
        kernel: Kernel,
        store: Store,
        bundle: Bundle,
        mut directories: Vec<PathBuf>,
    ) -> Arc<Self> {
        directories.extend(bundle.directory.clone());
        Arc::new(Self { kernel, store, bundle, directories, inbox: Mutex::default() })
    }

    /// Everything in the directories, and how it stands now: what was taken in may have been granted, replaced or
    /// removed since. A few point reads for each.
    pub(crate) fn entries(&self) -> Vec<InboxEntry> {
        let mut entries = self.inbox.lock().entries();
        entries.iter_mut().for_each(|entry| self.bring_up_to_date(entry));
        entries
    }

    fn bring_up_to_date(&self, entry: &mut InboxEntry) {
        let (Some(component), Some(taken)) = (&entry.component, &entry.taken) else { return };
        if let Some((state, cause)) = self.standing(component, taken) {
            (entry.state, entry.cause) = (state, cause);
        }
    }

    /// State and cause of a release; none when the store cannot be read, which it says elsewhere.
    fn standing(&self, component: &str, taken: &Taken) -> Option<(&'static str, String)> {
        let (version, standing) = self.kernel.standing(component, taken.digest).ok().flatten()?;
        Some(told(component, &version, &standing, taken.note.as_deref()))
    }

    /// Directories that cannot be watched, with the cause. The home's own is made at the start.
    pub(crate) fn unwatched(&self) -> Vec<(PathBuf, String)> {
        let trouble = |directory: &PathBuf| {
            let looked = Directory::open(directory).and_then(|open| open.scan()).err();
            looked.map(|error| (directory.clone(), error.to_string()))
        };
        self.directories.iter().filter_map(trouble).collect()
    }

    /// The bundle that was named and is none.
    pub(crate) fn absent_bundle(&self) -> Option<&Path> {
        self.bundle.absent.as_deref()
    }

    /// Takes in what is there already, before the host calls itself ready.
    ///
    /// Files are taken to be at rest: nothing can have been half copied by a host that did not run.
    pub(crate) async fn take_in_present(self: &Arc<Self>) {
        let (opened, scanned) = self.scan().await;
        let start = Instant::now();
        self.inbox.lock().observe(scanned.clone(), start);
        let ready = self.inbox.lock().observe(scanned, start + inbox::QUIET);
        self.bring(&opened, ready).await;
    }

    /// Watches until the host stops.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(inbox::SCAN_INTERVAL).await;
            let (opened, scanned) = self.scan().await;
            let ready = self.inbox.lock().observe_some(scanned, Instant::now(), BROUGHT_AT_ONCE);
            self.bring(&opened, ready).await;
        }
    }

    /// The directories, open, and what is in them: what is ready is read from the same handles.
    async fn scan(&self) -> (Vec<Arc<Directory>>, Vec<Seen>) {
        let directories = self.directories.clone();
        let scan = move || directories.iter().filter_map(|directory| scan_or_say(directory)).collect();
        let scanned: Vec<(Arc<Directory>, Vec<Seen>)> =
            tokio::task::spawn_blocking(scan).await.unwrap_or_default();
        let (opened, seen): (Vec<_>, Vec<_>) = scanned.into_iter().unzip();
        (opened, seen.into_iter().flatten().collect())
    }

    /// Brings what is ready of the scan that opened these directories.
    async fn bring(&self, opened: &[Arc<Directory>], ready: Vec<Seen>) {
        for seen in ready {
            let Some(directory) = opened.iter().find(|open| open.path() == seen.directory) else { continue };
            let fate = self.bring_one(directory, &seen).await;
            self.inbox.lock().note(&seen.path, fate, Instant::now());
        }
    }

    async fn bring_one(&self, directory: &Arc<Directory>, seen: &Seen) -> Fate {
        let path = shown(&seen.path);
        let (directory, reading) = (Arc::clone(directory), seen.clone());
        let candidate = tokio::task::spawn_blocking(move || directory.read(&reading)).await;
        let candidate = match candidate {
            Ok(Ok(candidate)) => candidate,
            Ok(Err(CandidateError::Unreadable(cause))) => return waiting(cause, Again::Later),
            Ok(Err(malformed)) => return self.refuse(path, None, malformed.to_string()).await,
            Err(error) => return waiting(error.to_string(), Again::Later),
        };
        let digest = Digest::of(&candidate.bytes);
        if let Some(fate) = self.fate_before(&path, digest) {
            return fate;
        }
        let request = self.request(seen, digest, &candidate);
        let lowered = lowered(&candidate, request.limits);
        match self.kernel.install(candidate.bytes, request).await {
            Ok(swapped) => fate(&swapped, lowered),
            Err(error) => self.failed(path, digest, &error).await,
        }
    }

    /// How these bytes of this path went before, also before the host was started anew.
    fn fate_before(&self, path: &str, digest: Digest) -> Option<Fate> {
        if !self.kernel.is_consumed(path, digest).unwrap_or(false) {
            return None;
        }
        if let Some(cause) = self.refusal(path, digest) {
            return Some(refused(cause));
        }
        let component = self.kernel.component_of(digest);
        let taken = Some(Taken { digest, note: None });
        let cause = "these bytes were taken in from here".into();
        Some(Fate { state: "consumed", cause, component, taken, again: Again::Never })
    }

    /// Why these bytes were refused from this path, as its audit row says; none when they became a release.
    fn refusal(&self, path: &str, digest: Digest) -> Option<String> {
        if self.kernel.component_of(digest).is_some() {
            return None;
        }
        let digest = digest.to_string();
        let refusals = self.store.audit_between(0, u64::MAX, 1, |row| {
            row.kind == "plugin.refused" && row.subject == path && row.detail["digest"] == digest.as_str()
        });
        refusals.ok()?.first()?.detail["cause"].as_str().map(Into::into)
    }

    fn request(&self, seen: &Seen, digest: Digest, candidate: &Candidate) -> InstallRequest {
        let path = shown(&seen.path);
        let asked = InstallRequest::of(path.clone(), candidate.manifest.as_ref());
        let is_vouched_for = self.bundle.vouches_for(&seen.path, digest);
        InstallRequest {
            limits: if is_vouched_for { asked.limits } else { asked.limits.only_lowered() },
            grants: self.bundle.granting(digest),
            consumed: Some(path),
            rivals: self.rivals(&seen.path),
            ..asked
        }
    }

    /// What the other files of the same directory hold: two files with one component make neither of them the one.
    fn rivals(&self, path: &Path) -> BTreeMap<String, String> {
        let is_beside = |entry: &InboxEntry| entry.path != path && entry.path.parent() == path.parent();
        let held = |entry: InboxEntry| Some((entry.component?, shown(&entry.path)));
        self.inbox.lock().entries().into_iter().filter(is_beside).filter_map(held).collect()
    }

    /// Bytes at fault are refused for good; what the files or this host's version are at fault for is refused until
    /// they change, or the next start; everything else waits.
    async fn failed(&self, path: String, digest: Digest, error: &SwapError) -> Fate {
        match error {
            error if error.is_of_the_bytes() => self.refuse(path, Some(digest), error.to_string()).await,
            SwapError::Examine { error: cause, .. } if cause.is_of_the_moment() => {
                waiting(error.to_string(), Again::Later)
            }
            SwapError::Examine { .. } | SwapError::Identity { .. } | SwapError::Version { .. } => {
                self.refuse(path, None, error.to_string()).await
            }
            SwapError::Rival { .. } => waiting(error.to_string(), Again::WhenOthersChange),
            _ => waiting(error.to_string(), Again::Later),
        }
    }

    async fn refuse(&self, path: String, consumed: Option<Digest>, cause: String) -> Fate {
        // When even that cannot be written, the cause still shows in the listing and the file is tried again later.
        let _ = self.kernel.refuse(path, consumed, cause.clone()).await;
        refused(cause)
    }
}

fn refused(cause: String) -> Fate {
    Fate { state: "refused", cause, component: None, taken: None, again: Again::Never }
}

fn waiting(cause: String, again: Again) -> Fate {
    Fate { state: "waiting", cause, component: None, taken: None, again }
}

/// What a manifest asked for beyond the defaults and did not get; none when it got what it asked for.
fn lowered(candidate: &Candidate, given: Limits) -> Option<String> {
    let asked = candidate.manifest.as_ref()?.limits;
    (asked != given).then(|| {
        format!(
            "with {} MiB and {} ms, not the {} MiB and {} ms it asks for; `telos plugin install` raises limits",
            given.memory_mib, given.cpu_ms, asked.memory_mib, asked.cpu_ms
        )
    })
}

fn fate(swapped: &Swapped, lowered: Option<String>) -> Fate {
    let id = swapped.id.to_string();
    let standing = match (&swapped.cause, swapped.state == "staged") {
        (Some(waits), _) => ReleaseStanding::WaitsForStart(waits.clone()),
        (None, true) => ReleaseStanding::NeedsGrants(swapped.missing_grants.clone()),
        (None, false) => ReleaseStanding::Serves,
    };
    let (state, cause) = told(&id, &swapped.version, &standing, lowered.as_deref());
    let taken = Some(Taken { digest: swapped.digest, note: lowered });
    Fate { state, cause, component: Some(id), taken, again: Again::Never }
}

/// How a release stands, in the inbox's words.
fn told(id: &str, version: &str, standing: &ReleaseStanding, note: Option<&str>) -> (&'static str, String) {
    match standing {
        ReleaseStanding::Serves => {
            let note = note.map_or_else(String::new, |note| format!(", {note}"));
            ("consumed", format!("{id} {version} serves{note}"))
        }
        ReleaseStanding::NeedsGrants(needs) if needs.is_empty() => {
            ("waiting", format!("staged: granted; `telos plugin swap {id} {version}` lets it serve"))
        }
        ReleaseStanding::NeedsGrants(needs) => {
            ("waiting", format!("staged: needs grants; `telos plugin grant {id} {}`", needs.join(" ")))
        }
        // Taken in; why it does not serve yet is told beside its component.
        ReleaseStanding::WaitsForStart(waits) => ("consumed", format!("{id} {version} is staged: {waits}")),
        ReleaseStanding::Kept(Some(serving)) => {
            ("consumed", format!("{id} {version} was taken in; {serving} serves"))
        }
        _ => ("consumed", format!("{id} {version} was taken in; no release of {id} serves")),
    }
}

/// A directory that is not there is an empty one. One that cannot be listed is said once per scan, to people; the
/// others go on.
fn scan_or_say(directory: &Path) -> Option<(Arc<Directory>, Vec<Seen>)> {
    let scanned = Directory::open(directory).and_then(|open| Ok((open.scan()?, open)));
    let said = |error: &std::io::Error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            tracing::warn!(directory = %directory.display(), %error, "plugin directory cannot be listed");
        }
    };
    scanned.inspect_err(said).ok().map(|(seen, open)| (Arc::new(open), seen))
}
