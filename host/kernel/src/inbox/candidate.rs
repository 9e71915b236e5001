//! A candidate read from disk: the bytes are read once, and everything later is about these bytes.

use std::io;
use std::path::Path;

use super::Seen;
use super::directory::{Directory, open_named, trouble};
use super::name::{self, shown};
use super::opened::{CHANGED, Opened, Stamp};
use crate::examine::COMPONENT_BYTES_MAX;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};

/// A component and what its author says of it.
#[derive(Debug)]
pub struct Candidate {
    /// The component.
    pub bytes: Vec<u8>,
    /// Its manifest.
    pub manifest: Option<Manifest>,
}

/// Why a candidate was not read: one sentence that names the file, the trouble and what to do.
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

impl Directory {
    /// Reads a candidate that has come to rest: what is read is as old and as large as what was seen, or nothing is.
    ///
    /// # Errors
    /// [`CandidateError`].
    pub fn read(&self, seen: &Seen) -> Result<Candidate, CandidateError> {
        if let Some(problem) = &seen.problem {
            return Err(CandidateError::Malformed(problem.clone()));
        }
        let mut stamps = seen.stamp.iter();
        let manifest = seen.manifest.as_deref().map(|path| self.read_manifest(path, stamps.next()));
        let manifest = manifest.transpose()?;
        let bytes = self.read_at_rest(&seen.path, stamps.next(), COMPONENT_BYTES_MAX)?;
        Ok(Candidate { bytes, manifest })
    }

    fn read_manifest(&self, path: &Path, at_rest: Option<&Stamp>) -> Result<Manifest, CandidateError> {
        let malformed = |problem: &str| CandidateError::Malformed(said(path, problem));
        let bytes = self.read_at_rest(path, at_rest, MANIFEST_BYTES_MAX)?;
        let text =
            String::from_utf8(bytes).map_err(|_| malformed("is not UTF-8; write it anew, or remove it"))?;
        Manifest::parse(&text).map_err(|error| {
            CandidateError::Malformed(format!("{}: {}", shown(path), one_line(&error.to_string())))
        })
    }

    fn read_at_rest(
        &self,
        path: &Path,
        at_rest: Option<&Stamp>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, CandidateError> {
        let unreadable = |problem: String| CandidateError::Unreadable(said(path, &problem));
        let opened = self.open_file(self.place_of(path)).map_err(|error| unreadable(vanished_or(&error)))?;
        let problem = opened.problem(bytes_max);
        let has_changed = at_rest != Some(&opened.stamp());
        match problem.or_else(|| has_changed.then(|| CHANGED.to_owned())) {
            Some(problem) => Err(unreadable(problem)),
            None => opened.read(bytes_max).map_err(unreadable),
        }
    }
}

/// Reads a component or the folder around it, as `plugin install` is given one. The path is the operator's, and links on
/// the way are followed; links in the folder are followed as long as they stay in it.
///
/// # Errors
/// [`CandidateError`].
pub fn read_path(path: &Path) -> Result<Candidate, CandidateError> {
    let Ok(folder) = Directory::open(path) else { return read_component(path) };
    let seen = folder.as_plugin().ok_or_else(|| neither(path))?;
    folder.read(&seen)
}

fn read_component(path: &Path) -> Result<Candidate, CandidateError> {
    let cannot =
        |error: io::Error| CandidateError::Unreadable(said(path, &format!("cannot be read: {error}")));
    let opened: Opened = open_named(path).map_err(cannot)?;
    if !path.file_name().is_some_and(name::is_wasm) {
        return Err(neither(path));
    }
    let bytes = opened.read(COMPONENT_BYTES_MAX);
    let bytes = bytes.map_err(|problem| CandidateError::Unreadable(said(path, &problem)))?;
    Ok(Candidate { bytes, manifest: None })
}

fn neither(path: &Path) -> CandidateError {
    CandidateError::Malformed(said(path, "is neither a .wasm file nor a folder with a plugin.toml"))
}

/// Not there any more, where it was seen a moment ago.
fn vanished_or(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there any more; copy it in again".into(),
        _ => trouble(error),
    }
}

fn said(path: &Path, problem: &str) -> String {
    format!("{} {problem}", shown(path))
}

fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    name::escaped(&lines.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
