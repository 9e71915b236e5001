//! Compiled code: who compiles, where it is kept, and what is loaded.
//!
//! ```text
//! sealed    in the cache under our key, for these bytes and this engine     loaded
//! broken    in the cache, but not as it was sealed                          told, removed, compiled anew
//! compiled  by the host's compiler, a process of its own where it has one   sealed, kept, loaded
//! ```
//! Loading compiled code is running it: whoever could write into the cache could run what they like in the host. So
//! each entry is sealed by a key that is not in the cache's directory, over its name as well, so that entries cannot
//! change places. What is loaded is the bytes whose seal was checked, never the file again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fmt, fs, io};

use parking_lot::Mutex;
use serde_json::Map;
use telos_store::Digest;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::core_module::{self, CoreModulesSeat, Loaded};
use crate::engine::{self, Engines};
use crate::examine::ExamineError;
use crate::seams::{JournalLine, JournalSink, Severity};

/// Bytes of a seal key.
pub const SEAL_KEY_BYTES: usize = 32;

const SEAL_BYTES: usize = blake3::OUT_LEN;
/// The most that the cache keeps; what was used longest ago goes first.
const CACHE_BYTES_MAX: u64 = 512 << 20;
const SUFFIX: &str = ".code";

/// The engines that code is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Runs released components.
    Serving,
    /// Runs trials, and releases that somebody forged: everything `Serving` does, and fuel.
    Metered,
}

impl EngineKind {
    /// As programs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Metered => "metered",
        }
    }
}

impl std::str::FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Serving, Self::Metered].into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is no engine; there are `serving` and `metered`"))
    }
}

/// Why bytes have no compiled code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The bytes do not validate or compile.
    #[error("{0}")]
    Refused(String),
    /// Compiling them took more than it may.
    #[error("{0}")]
    Exceeded(String),
    /// This machine could not, now.
    #[error("{0}")]
    Hindered(String),
}

/// Compiles components.
pub trait Compiler: Send + Sync {
    /// Code for one engine, as [`precompile`] makes it. May take as long as it takes; never called on the serving path.
    ///
    /// # Errors
    /// [`CompileError`].
    fn compile(&self, kind: EngineKind, bytes: &[u8]) -> Result<Vec<u8>, CompileError>;
}

/// A host's compiler, if it has one; none compiles in this process.
#[derive(Clone, Default)]
pub struct CompilerSeat(pub Option<Arc<dyn Compiler>>);

impl fmt::Debug for CompilerSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompilerSeat").field(&self.0.is_some()).finish()
    }
}

/// Where compiled code is kept.
#[derive(Clone)]
pub struct CodeCache {
    /// A private directory.
    pub directory: PathBuf,
    /// Seals entries; kept elsewhere, and from everyone else.
    pub key: [u8; SEAL_KEY_BYTES],
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCache").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Compiles a component, or a core module, for an engine of this version of the host, in this process.
///
/// # Errors
/// [`CompileError::Refused`] for bytes that are no component, [`CompileError::Hindered`] where there is no engine.
pub fn precompile(kind: EngineKind, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    let engine = engine::for_compiling(kind).map_err(|error| CompileError::Hindered(error.to_string()))?;
    compile_with(&engine, bytes)
}

fn compile_with(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    let compiled = match is_core_module(bytes) {
        true => engine.precompile_module(bytes),
        false => engine.precompile_component(bytes),
    };
    compiled.map_err(|error| CompileError::Refused(format!("{error:#}")))
}

/// A core module is layer 0, a component layer 1.
fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

/// Everything compiled that a kernel loads comes through here.
pub(crate) struct Code {
    engines: Arc<Engines>,
    cache: Option<CodeCache>,
    compiler: CompilerSeat,
    journal: Arc<dyn JournalSink>,
    modules: Loaded,
    /// Bytes that the cache keeps, as far as this process knows; none before it looked.
    kept_bytes: Mutex<Option<u64>>,
}

impl Code {
    pub(crate) fn new(
        engines: Arc<Engines>,
        cache: Option<CodeCache>,
        compiler: CompilerSeat,
        modules: CoreModulesSeat,
        journal: Arc<dyn JournalSink>,
    ) -> Self {
        Self {
            engines,
            cache,
            compiler,
            journal,
            modules: Loaded::new(modules),
            kept_bytes: Mutex::new(None),
        }
    }

    pub(crate) fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    pub(crate) fn engine(&self, kind: EngineKind) -> &Engine {
        match kind {
            EngineKind::Serving => &self.engines.serving,
            EngineKind::Metered => &self.engines.metered,
        }
    }

    /// A component, compiled for an engine. Slow when it is not in the cache.
    pub(crate) fn component(&self, kind: EngineKind, bytes: &[u8]) -> Result<Component, ExamineError> {
        self.loaded(kind, bytes, loading::component)
    }

    /// A core module, compiled for an engine. Slow when it is not in the cache.
    pub(crate) fn module(&self, kind: EngineKind, bytes: &[u8]) -> Result<Module, ExamineError> {
        self.loaded(kind, bytes, loading::module)
    }

    /// The core modules that a component imports, by name.
    pub(crate) fn modules_of(
        &self,
        kind: EngineKind,
        component: &Component,
    ) -> Result<Vec<(String, Module)>, ExamineError> {
        let names = core_module::imported_by(self.engine(kind), component);
        names.into_iter().map(|name| Ok((name.clone(), self.core_module(kind, &name)?))).collect()
    }

    /// The core module that components import under a name.
    pub(crate) fn core_module(&self, kind: EngineKind, name: &str) -> Result<Module, ExamineError> {
        self.modules.module(self, kind, name)
    }

    /// Has a core module for trials that another process of this host compiled.
    pub(crate) fn take_in(&self, name: &str, code: &[u8]) -> wasmtime::Result<()> {
        let module = loading::module(self.engine(EngineKind::Metered), code)?;
        // Later there may be no file left to make it in.
        module.initialize_copy_on_write_image()?;
        self.modules.put(EngineKind::Metered, name, module);
        Ok(())
    }

    fn loaded<T>(
        &self,
        kind: EngineKind,
        bytes: &[u8],
        load: impl Fn(&Engine, &[u8]) -> wasmtime::Result<T>,
    ) -> Result<T, ExamineError> {
        let name = self.name(kind, bytes);
        if let Some(code) = self.kept(&name)
            && let Ok(loaded) = load(self.engine(kind), &code)
        {
            return Ok(loaded);
        }
        let code = self.compile(kind, bytes)?;
        self.keep(&name, &code);
        load(self.engine(kind), &code).map_err(|error| unloadable(kind, &code, &error, load))
    }

    fn compile(&self, kind: EngineKind, bytes: &[u8]) -> Result<Vec<u8>, ExamineError> {
        let compiled = match &self.compiler.0 {
            // What this host assembled is small, and none of its code is anybody else's.
            Some(compiler) if !self.modules.is_assembled(bytes) => compiler.compile(kind, bytes),
            _ => compile_with(self.engine(kind), bytes),
        };
        compiled.map_err(|error| match error {
            CompileError::Refused(cause) => ExamineError::Compile(cause),
            CompileError::Exceeded(cause) => ExamineError::CompileExceeded(cause),
            CompileError::Hindered(cause) => ExamineError::CompileHindered(cause),
        })
    }

    /// Differs for other bytes, another engine, and another version of either.
    fn name(&self, kind: EngineKind, bytes: &[u8]) -> String {
        let mut hasher = NameHasher::default();
        std::hash::Hash::hash(&self.engine(kind).precompile_compatibility_hash(), &mut hasher);
        format!("{}-{}-{}{SUFFIX}", kind.as_str(), &hasher.finish()[..16], Digest::of(bytes))
    }

    /// What the cache has under a name, when its seal is ours.
    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        let cache = self.cache.as_ref()?;
        let path = cache.directory.join(name);
        let sealed = fs::read(&path).ok()?;
        match open(&cache.key, name, &sealed) {
            Some(code) => {
                touch(&path);
                Some(code.to_vec())
            }
            None => {
                let _ = fs::remove_file(&path);
                self.tell_broken(&path);
                None
            }
        }
    }

    /// Keeps code. What cannot be kept is compiled again by the next start.
    fn keep(&self, name: &str, code: &[u8]) {
        let Some(cache) = &self.cache else { return };
        let bytes = (SEAL_BYTES + code.len()) as u64;
        let mut kept = self.kept_bytes.lock();
        let written = room(&cache.directory, *kept, bytes).and_then(|before| {
            write(cache, name, code)?;
            *kept = Some(before.saturating_add(bytes));
            Ok(())
        });
        if let Err(error) = written {
            let body = format!("{} does not keep compiled code: {error}", cache.directory.display());
            self.say(Severity::Warn, "cache.unwritten", body);
        }
    }

    fn tell_broken(&self, path: &Path) {
        let body = format!(
            "{} was not as this host sealed it; it was removed, and what it was for is compiled again",
            path.display()
        );
        self.say(Severity::Error, "cache.tampered", body);
    }

    fn say(&self, severity: Severity, event: &'static str, body: String) {
        self.journal.record(JournalLine {
            severity,
            event,
            body,
            trace: None,
            plugin: None,
            attributes: Map::new(),
        });
    }
}

/// Why code cannot be loaded that was just compiled: what loads without a pool asks for more than a slot of one has.
fn unloadable<T>(
    kind: EngineKind,
    code: &[u8],
    error: &wasmtime::Error,
    load: impl Fn(&Engine, &[u8]) -> wasmtime::Result<T>,
) -> ExamineError {
    match engine::without_pool(kind) {
        Ok(engine) if load(&engine, code).is_ok() => ExamineError::Exceeds(format!("{error:#}")),
        _ => ExamineError::CompileHindered(format!("its code cannot be loaded: {error:#}")),
    }
}

/// Code, with the seal before it.
fn seal(key: &[u8; SEAL_KEY_BYTES], name: &str, code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(code);
    hasher.finalize()
}

/// The code in a sealed entry; none when the seal is not ours. The comparison takes the same time wherever they differ.
fn open<'a>(key: &[u8; SEAL_KEY_BYTES], name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (found, code) = sealed.split_first_chunk::<SEAL_BYTES>()?;
    (seal(key, name, code) == blake3::Hash::from_bytes(*found)).then_some(code)
}

fn write(cache: &CodeCache, name: &str, code: &[u8]) -> io::Result<()> {
    let (path, aside) =
        (cache.directory.join(name), cache.directory.join(format!("{name}.{}", std::process::id())));
    let mut sealed = seal(&cache.key, name, code).as_bytes().to_vec();
    sealed.extend_from_slice(code);
    fs::write(&aside, sealed).and_then(|()| fs::rename(&aside, &path)).inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}

/// What is kept, once there is room for so much more. A directory is only looked through by who does not know, or when
/// it is full.
fn room(directory: &Path, kept: Option<u64>, bytes: u64) -> io::Result<u64> {
    match kept {
        Some(kept) if kept.saturating_add(bytes) <= CACHE_BYTES_MAX => Ok(kept),
        _ => make_room(directory, bytes),
    }
}

/// Removes what was used longest ago, until there is room for so much more. Answers what is left.
fn make_room(directory: &Path, bytes: u64) -> io::Result<u64> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            entries.push((
                metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                metadata.len(),
                entry.path(),
            ));
        }
    }
    let mut kept: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
    entries.sort();
    for (_, length, path) in entries {
        if kept.saturating_add(bytes) <= CACHE_BYTES_MAX {
            break;
        }
        fs::remove_file(path)?;
        kept -= length;
    }
    Ok(kept)
}

/// Says that an entry was used.
fn touch(path: &Path) {
    if let Ok(file) = fs::File::options().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Turns what the engine hashes of itself into a name.
#[derive(Default)]
struct NameHasher(blake3::Hasher);

impl NameHasher {
    fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

impl std::hash::Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.0.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The one place where bytes become code that runs.
#[expect(
    unsafe_code,
    reason = "wasmtime cannot tell compiled code from other bytes; who may give it some is argued here"
)]
mod loading {
    use super::{Component, Engine, Module};

    /// `code`: what our compiler has just made, or what was sealed by our key when it had, or what the host that started
    /// this process, the same program, gave it over the pipe that only the two have.
    pub(super) fn component(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are an artifact of this version's `precompile_component`. They come from the compiler of
        // this host, which is this program, and from nowhere else: an entry of the cache is only read with a seal over
        // its name and content by a key that no plugin and no other user can read, and it is the checked bytes that are
        // loaded. Plugins never supply compiled code.
        unsafe { Component::deserialize(engine, code) }
    }

    /// The same for a core module.
    pub(super) fn module(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
        // SAFETY: as for a component; `deserialize` itself tells the two kinds of artifact apart.
        unsafe { Module::deserialize(engine, code) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; SEAL_KEY_BYTES] = [7; SEAL_KEY_BYTES];

    fn cache(directory: &Path) -> CodeCache {
        CodeCache { directory: directory.to_owned(), key: KEY }
    }

    #[test]
    fn a_seal_holds_key_name_and_every_bit() {
        let directory = tempfile::tempdir().unwrap();
        write(&cache(directory.path()), "a.code", b"some code").unwrap();
        let sealed = fs::read(directory.path().join("a.code")).unwrap();
        assert_eq!(open(&KEY, "a.code", &sealed), Some(b"some code".as_slice()));
        assert_eq!(open(&[8; SEAL_KEY_BYTES], "a.code", &sealed), None);
        assert_eq!(open(&KEY, "b.code", &sealed), None, "entries do not change places");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&KEY, "a.code", &flipped), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(open(&KEY, "a.code", &sealed[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn room_is_made_from_what_was_used_longest_ago() {
        let directory = tempfile::tempdir().unwrap();
        for (age, name) in ["new", "older", "oldest"].into_iter().enumerate() {
            let file = fs::File::create(directory.path().join(name)).unwrap();
            file.set_len(200 << 20).unwrap();
            let used = SystemTime::now() - std::time::Duration::from_secs(age as u64 * 60);
            file.set_modified(used).unwrap();
        }
        assert_eq!(room(directory.path(), Some(1), 200 << 20).unwrap(), 1, "who knows of room does not look");
        assert_eq!(room(directory.path(), None, 200 << 20).unwrap(), 200 << 20);
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new"]);
    }
}
