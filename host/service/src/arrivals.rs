//! What comes through plugin directories and the bundle: scanned, brought to the kernel, and its fate written down.
//!
//! The bundle is a directory beside the executable whose `bundle.toml` vouches for digests: what it vouches for is
//! granted what it lists. Otherwise it is a plugin directory like any other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Deserialize;
use telos_kernel::inbox::{self, Candidate, Fate, Inbox, InboxEntry, Seen};
use telos_kernel::{Granting, InstallRequest, Kernel, Swapped};
use telos_store::Digest;

/// What the executable's own plugins are granted, by digest.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    directory: Option<PathBuf>,
    grants: BTreeMap<String, Vec<String>>,
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
    #[expect(dead_code, reason = "for people; the digest is what counts")]
    file: PathBuf,
    digest: String,
    #[serde(default)]
    grants: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in a directory; a directory without `bundle.toml` is an empty bundle.
    ///
    /// # Errors
    /// One sentence that names the file and the trouble.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let path = directory.join("bundle.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        let file: BundleFile =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let grants = file.plugin.into_iter().map(|plugin| (plugin.digest, plugin.grants)).collect();
        Ok(Self { directory: Some(directory.to_owned()), grants })
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

/// Watches plugin directories.
pub(crate) struct Arrivals {
    kernel: Kernel,
    bundle: Bundle,
    directories: Vec<PathBuf>,
    inbox: Mutex<Inbox>,
}

impl Arrivals {
    pub(crate) fn new(kernel: Kernel, bundle: Bundle, mut directories: Vec<PathBuf>) -> Arc<Self> {
        directories.extend(bundle.directory.clone());
        Arc::new(Self { kernel, bundle, directories, inbox: Mutex::default() })
    }

    pub(crate) fn entries(&self) -> Vec<InboxEntry> {
        self.inbox.lock().entries()
    }

    /// Takes in what is there already, before the host calls itself ready.
    ///
    /// Files are taken to be at rest: nothing can have been half copied by a host that did not run.
    pub(crate) async fn take_in_present(self: &Arc<Self>) {
        let scanned = self.scan().await;
        let start = Instant::now();
        self.inbox.lock().observe(scanned.clone(), start);
        let ready = self.inbox.lock().observe(scanned, start + inbox::QUIET);
        self.bring(ready).await;
    }

    /// Watches until the host stops.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(inbox::SCAN_INTERVAL).await;
            let scanned = self.scan().await;
            let ready = self.inbox.lock().observe(scanned, Instant::now());
            self.bring(ready).await;
        }
    }

    async fn scan(&self) -> Vec<Seen> {
        let directories = self.directories.clone();
        let scan = move || directories.iter().flat_map(|directory| scan_or_say(directory)).collect();
        tokio::task::spawn_blocking(scan).await.unwrap_or_default()
    }

    async fn bring(&self, ready: Vec<Seen>) {
        for seen in ready {
            let fate = self.bring_one(&seen).await;
            self.inbox.lock().note(&seen.path, fate);
        }
    }

    async fn bring_one(&self, seen: &Seen) -> Fate {
        let path = seen.path.display().to_string();
        let reading = seen.clone();
        let candidate = tokio::task::spawn_blocking(move || inbox::read_candidate(&reading)).await;
        let candidate = match candidate.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(candidate) => candidate,
            Err(cause) => return self.refuse(&path, Digest::of(path.as_bytes()), cause).await,
        };
        let digest = Digest::of(&candidate.bytes);
        if self.kernel.is_consumed(&path, digest).unwrap_or(false) {
            let cause = "these bytes were taken in before".into();
            return Fate { state: "consumed", cause, component: self.kernel.component_of(digest) };
        }
        let request = self.request(seen, digest, &candidate);
        match self.kernel.install(candidate.bytes, request).await {
            Ok(swapped) => fate(&swapped),
            Err(error) => self.refuse(&path, digest, error.to_string()).await,
        }
    }

    fn request(&self, seen: &Seen, digest: Digest, candidate: &Candidate) -> InstallRequest {
        let path = seen.path.display().to_string();
        let manifest = candidate.manifest.as_ref();
        let asked = manifest.map(|manifest| manifest.limits).unwrap_or_default();
        let is_vouched_for = self.bundle.vouches_for(&seen.path, digest);
        InstallRequest {
            source: path.clone(),
            manifest_id: manifest.map(|manifest| manifest.id.clone()),
            limits: if is_vouched_for { asked } else { asked.only_lowered() },
            grants: self.bundle.granting(digest),
            consumed: Some(path),
            rivals: self.rivals(&seen.path),
        }
    }

    /// What the other files of the same directory hold: two files with one component make neither of them the one.
    fn rivals(&self, path: &Path) -> BTreeMap<String, String> {
        let is_beside = |entry: &InboxEntry| entry.path != path && entry.path.parent() == path.parent();
        let held = |entry: InboxEntry| Some((entry.component?, entry.path.display().to_string()));
        self.entries().into_iter().filter(is_beside).filter_map(held).collect()
    }

    async fn refuse(&self, path: &str, digest: Digest, cause: String) -> Fate {
        // When even that cannot be written, the cause still shows in the listing and the file is tried again later.
        let _ = self.kernel.refuse(path, digest, &cause).await;
        Fate { state: "refused", cause, component: None }
    }
}

fn fate(swapped: &Swapped) -> Fate {
    let component = Some(swapped.id.to_string());
    if swapped.state == "staged" {
        let needs = swapped.missing_grants.join(" ");
        let cause = format!("staged: needs grants; `telos plugin grant {} {needs}`", swapped.id);
        return Fate { state: "waiting", cause, component };
    }
    Fate { state: "consumed", cause: format!("{} {} serves", swapped.id, swapped.version), component }
}

/// A directory that cannot be listed is said once per scan, to people; the others go on.
fn scan_or_say(directory: &Path) -> Vec<Seen> {
    inbox::scan(directory).unwrap_or_else(|error| {
        tracing::warn!(directory = %directory.display(), %error, "plugin directory cannot be listed");
        Vec::new()
    })
}
