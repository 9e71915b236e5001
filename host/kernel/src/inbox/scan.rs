//! One look at a plugin directory: what in it could be a plugin, how large and how old, and what is wrong with it.
//!
//! A look reads manifests, since they name components, and no component. It is bounded whatever lies there, and says
//! what it left out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::Seen;
use super::directory::{Directory, is_loop, trouble};
use super::name;
use super::opened::{FOLDER, Opened, Stamp};
use crate::examine::COMPONENT_BYTES_MAX;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};

/// Entries looked at in one directory, and in each folder of it: each costs a handful of system calls, four times a
/// second. What lies past it is left unseen, and a row says so.
pub(super) const ENTRIES_MAX: usize = 1_024;

/// Entries of all folders together that one look lists; a folder past it has a row that says so.
const FOLDER_ENTRIES_MAX: usize = 16_384;

/// Bytes of all manifests together that one look reads: over a thousand ordinary ones. One past it has a row that says
/// so.
const MANIFESTS_BYTES_MAX: u64 = 8 << 20;

impl Directory {
    /// Everything in it that could be a plugin, by name.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn scan(&self) -> io::Result<Vec<Seen>> {
        let listing = self.list(Path::new(""), ENTRIES_MAX)?;
        let mut look = Look::at(self);
        let mut seen: Vec<Seen> = listing.names.iter().filter_map(|name| look.entry(name)).collect();
        if listing.is_cut {
            let problem = format!(
                "holds more than {ENTRIES_MAX} entries, and only so many are looked at; remove what is no plugin, or \
                 move plugins to another directory"
            );
            seen.push(look.wrong(Path::new(""), &problem));
        }
        Ok(seen)
    }

    /// The plugin that the directory itself is; none without a manifest in it.
    pub(super) fn as_plugin(&self) -> Option<Seen> {
        Look::at(self).folder(Path::new(""))
    }
}

/// A look under way, and how much of it is left.
struct Look<'d> {
    directory: &'d Directory,
    folder_entries: usize,
    manifest_bytes: u64,
}

/// A place inside, and what is wrong with what is there.
type Wrong = (PathBuf, String);

impl<'d> Look<'d> {
    fn at(directory: &'d Directory) -> Self {
        Self { directory, folder_entries: FOLDER_ENTRIES_MAX, manifest_bytes: MANIFESTS_BYTES_MAX }
    }

    fn entry(&mut self, name: &OsStr) -> Option<Seen> {
        let place = Path::new(name);
        if let Some(problem) = name::problem(name) {
            return self.misnamed(place, problem);
        }
        match self.directory.opens_as_folder(place) {
            Ok(true) => self.folder(place),
            Ok(false) if name::is_wasm(name) => self.component(place),
            Ok(false) => None,
            Err(error) => self.unopened(place, &error),
        }
    }

    /// What bears a plugin's name is opened no further than to see whether it is a folder with a manifest.
    fn misnamed(&self, place: &Path, problem: &str) -> Option<Seen> {
        let could_be = name::is_wasm(place.as_os_str()) || self.directory.holds(&place.join(MANIFEST));
        could_be.then(|| self.wrong(place, problem))
    }

    fn component(&self, place: &Path) -> Option<Seen> {
        match self.directory.open_file(place) {
            Ok(component) => Some(Seen {
                problem: component.problem(COMPONENT_BYTES_MAX).map(|problem| self.said(place, &problem)),
                ..self.seen(place, vec![component.stamp()])
            }),
            Err(error) => self.unopened(place, &error),
        }
    }

    /// What cannot be opened and is no plugin's by its name may be a folder. A link that leads out might be one; one
    /// that leads nowhere is not.
    fn unopened(&self, place: &Path, error: &io::Error) -> Option<Seen> {
        let leads_nowhere = error.kind() == io::ErrorKind::NotFound || is_loop(error);
        let could_be = name::is_wasm(place.as_os_str()) || !leads_nowhere;
        (could_be && self.is_still_there(place, error)).then(|| self.wrong(place, &trouble(error)))
    }

    fn folder(&mut self, folder: &Path) -> Option<Seen> {
        let place = folder.join(MANIFEST);
        let manifest = match self.directory.open_file(&place) {
            Ok(manifest) => manifest,
            Err(error) if self.is_still_there(&place, &error) => {
                return Some(self.wrong(&place, &trouble(&error)));
            }
            // A folder that is named like a component is reported as what is wrong with that component.
            Err(_) => {
                let path = self.directory.path_of(folder);
                let is_wasm = path.file_name().is_some_and(name::is_wasm);
                return is_wasm.then(|| self.wrong(folder, FOLDER));
            }
        };
        let of_manifest = manifest.stamp();
        Some(match self.component_beside(folder, &place, manifest) {
            Ok((component, opened)) => Seen {
                manifest: Some(self.directory.path_of(&place)),
                problem: opened.problem(COMPONENT_BYTES_MAX).map(|problem| self.said(&component, &problem)),
                ..self.seen(&component, vec![of_manifest, opened.stamp()])
            },
            Err((place, problem)) => Seen { stamp: vec![of_manifest], ..self.wrong(&place, &problem) },
        })
    }

    /// The component that a folder's manifest is about, open.
    fn component_beside(
        &mut self,
        folder: &Path,
        place: &Path,
        manifest: Opened,
    ) -> Result<(PathBuf, Opened), Wrong> {
        let at_manifest = |problem: String| (place.to_owned(), problem);
        let named = self.component_named(manifest).map_err(at_manifest)?;
        let name = match &named {
            Some(name) => OsString::from(name),
            None => self.only_component(folder).map_err(at_manifest)?,
        };
        let component = folder.join(&name);
        if let Some(problem) = name::problem(&name) {
            return Err((component, problem.into()));
        }
        match (self.directory.open_file(&component), named) {
            (Ok(opened), _) => Ok((component, opened)),
            (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                Err(at_manifest(not_beside(&name)))
            }
            (Err(error), _) => Err((component, trouble(&error))),
        }
    }

    /// The component that a manifest names, if it does. What is wrong with its text is said when it is read as a
    /// candidate.
    fn component_named(&mut self, manifest: Opened) -> Result<Option<String>, String> {
        if let Some(problem) = manifest.problem(MANIFEST_BYTES_MAX) {
            return Err(problem);
        }
        let (bytes, _) = manifest.stamp();
        self.manifest_bytes = self.manifest_bytes.checked_sub(bytes).ok_or_else(|| {
            format!(
                "is past the {MANIFESTS_BYTES_MAX} bytes of manifests that are read at one look; make manifests \
                 smaller, or move plugins to another directory"
            )
        })?;
        let text = manifest.read(MANIFEST_BYTES_MAX).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let named = text.and_then(|text| Manifest::parse(&text).ok()?.wasm);
        match named {
            Some(name) if Path::new(&name).file_name() != Some(OsStr::new(&name)) => Err(not_beside(&name)),
            named => Ok(named),
        }
    }

    fn only_component(&mut self, folder: &Path) -> Result<OsString, String> {
        let names_max = ENTRIES_MAX.min(self.folder_entries);
        let listing = self.directory.list(folder, names_max);
        let listing = listing.map_err(|error| {
            format!("is in a folder that cannot be listed: {error}; mend that, or remove it")
        })?;
        self.folder_entries -= listing.names.len();
        if listing.is_cut {
            let more = "is among more entries than are looked at; name the component with `wasm = ...`, or remove them";
            return Err(more.into());
        }
        let mut components: Vec<OsString> =
            listing.names.into_iter().filter(|name| name::is_wasm(name)).collect();
        match (components.pop(), components.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err("has no .wasm file beside it; copy one in, or remove the folder".into()),
            (Some(_), others) => Err(format!(
                "has {} .wasm files beside it; name one with `wasm = ...`, or remove the others",
                others + 1
            )),
        }
    }

    /// What has vanished since the listing is no candidate; a link that leads nowhere is still there.
    fn is_still_there(&self, place: &Path, error: &io::Error) -> bool {
        error.kind() != io::ErrorKind::NotFound || self.directory.holds(place)
    }

    fn seen(&self, place: &Path, stamp: Vec<Stamp>) -> Seen {
        let directory = self.directory.path().to_owned();
        Seen { directory, path: self.directory.path_of(place), manifest: None, stamp, problem: None }
    }

    fn wrong(&self, place: &Path, problem: &str) -> Seen {
        Seen { problem: Some(self.said(place, problem)), ..self.seen(place, Vec::new()) }
    }

    fn said(&self, place: &Path, problem: &str) -> String {
        format!("{} {problem}", name::shown(&self.directory.path_of(place)))
    }
}

/// What makes a folder a plugin.
const MANIFEST: &str = "plugin.toml";

fn not_beside(name: &str) -> String {
    format!("names `{}`, which is not a file beside it; name one that is, or copy it in", name::escaped(name))
}

#[cfg(test)]
mod tests;
