//! From bytes to a release that could serve: what it is, what it imports, what it says of itself.
//!
//! Everything here runs off the serving path and changes nothing. `describe` runs in an instance whose every import
//! traps, with fuel, a second and 64 MiB, twice; its answer is kept with the release and it is never called again.

use std::sync::Arc;

use parking_lot::Mutex;
use telos_store::{ComponentId, Digest};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use crate::code::{Code, EngineKind};
use crate::contract::{CONTRACT_VERSION, FREE_INTERFACES, PACKAGE, PersonaPre};
use crate::core_module::{self, BootError, Image};
use crate::descriptor::{DESCRIPTOR_BYTES_MAX, Descriptor, DescriptorError};
use crate::engine::Engines;
use crate::grant::INTERFACES;
use crate::imports;
use crate::instance::MessageState;
use crate::limits::Limits;
use crate::pure::{DESCRIBE_TIME, Pure, PureError};
use crate::seat::{Loaded, Release};
use crate::tally::Tally;

/// Largest component file.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// Why a file is not a release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// The bytes are something else.
    #[error("it is {0}, not a WebAssembly component; build it with `cargo build --target wasm32-wasip2`")]
    NotAComponent(&'static str),
    /// Too large.
    #[error("it is {bytes} bytes; at most {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes do not validate or compile.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// Compiling it takes more than it may.
    #[error("it does not compile within bounds: {0}")]
    CompileExceeded(String),
    /// It is made of more than an instance may have.
    #[error("it asks for more than an instance may have: {0}")]
    Exceeds(String),
    /// It could not be compiled on this machine, now.
    #[error("it could not be compiled: {0}; try again when this machine has less to do")]
    CompileHindered(String),
    /// It imports what this host has never heard of.
    #[error(
        "it imports `{0}`, which this host does not offer; a plugin may import telos:host interfaces and wasi 0.2"
    )]
    UnknownImport(String),
    /// It was built for a newer contract.
    #[error(
        "it needs contract telos:host@{needed}; this host speaks {CONTRACT_VERSION}: use a host that speaks {needed}"
    )]
    ContractTooNew {
        /// The version it imports.
        needed: String,
    },
    /// It lacks an export of the contract.
    #[error("it does not fit the contract: {0}")]
    Contract(String),
    /// `describe` did not answer.
    #[error("its describe() {0}")]
    Describe(String),
    /// `describe` had no time to answer on this machine, now.
    #[error(
        "its describe() did not end within {DESCRIBE_TIME:?}; try again when this machine has less to do"
    )]
    DescribeSlow,
    /// `describe` could not run on this machine, now.
    #[error("its describe() {0}; try again when this machine has less to do")]
    DescribeHindered(String),
    /// What it describes is not acceptable.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The sandbox that tried it refused it.
    #[error("{cause}")]
    Elsewhere {
        /// Why.
        cause: String,
        /// Every host refuses these bytes, always.
        is_of_the_bytes: bool,
        /// The same bytes may pass in a moment.
        is_of_the_moment: bool,
    },
    /// The sandbox that tried it did not come to an end with it.
    #[error("its trial in a sandbox did not come to an end: {0}")]
    SandboxLost(String),
}

impl ExamineError {
    /// Whether every host refuses these bytes, always. What asks for a newer contract or for something unknown may be
    /// right for the next host, and what this machine was at fault for may pass the next time.
    pub(crate) fn is_of_the_bytes(&self) -> bool {
        if let Self::Elsewhere { is_of_the_bytes, .. } = self {
            return *is_of_the_bytes;
        }
        let is_of_this_host = matches!(
            self,
            Self::ContractTooNew { .. }
                | Self::UnknownImport(_)
                | Self::SandboxLost(_)
                | Self::CompileExceeded(_)
        );
        !is_of_this_host && !self.is_of_the_moment()
    }

    /// Whether this machine had too little time, memory or room just now: the same bytes may pass in a moment.
    pub fn is_of_the_moment(&self) -> bool {
        let is_of_the_moment = matches!(self, Self::Elsewhere { is_of_the_moment: true, .. });
        is_of_the_moment
            || matches!(self, Self::DescribeSlow | Self::DescribeHindered(_) | Self::CompileHindered(_))
    }
}

/// Largest component whose [`Learned`] is kept: what is larger would hold much memory for a moment's gain.
const LEARNED_BYTES_MAX: usize = 1 << 20;

/// Links components against this host's contract, for both engines.
pub(crate) struct Examiner {
    code: Code,
    loaded: Loaded,
    /// Of the bytes that were asked last: whoever tries a candidate installs it next.
    learned: Mutex<Option<Learned>>,
    serving: Mutex<Linker<MessageState>>,
    metered: Mutex<Linker<MessageState>>,
}

/// What bytes are, on the metered engine, and what they say of themselves.
#[derive(Clone)]
struct Learned {
    digest: Digest,
    component: ComponentId,
    descriptor: Descriptor,
    imports: Vec<String>,
    pre: PersonaPre<MessageState>,
}

/// A candidate, examined.
pub(crate) struct Examined {
    pub(crate) release: Arc<Release>,
    /// The same component on the metered engine, for its trials.
    pub(crate) on_trial: Arc<Release>,
}

impl Examiner {
    pub(crate) fn new(code: Code) -> wasmtime::Result<Self> {
        let serving = imports::linker(code.engine(EngineKind::Serving))?;
        let metered = imports::linker(code.engine(EngineKind::Metered))?;
        let (loaded, learned) = (Loaded::default(), Mutex::default());
        Ok(Self { code, loaded, learned, serving: serving.into(), metered: metered.into() })
    }

    /// Releases whose code is loaded: those that serve, and those that messages under way still hold.
    pub(crate) fn loaded(&self) -> usize {
        self.loaded.others()
    }

    pub(crate) fn engines(&self) -> &Engines {
        self.code.engines()
    }

    /// Examines bytes that nobody has vouched for. Slow: compiles twice, describes twice; half of it when they are the
    /// bytes that were tried last.
    pub(crate) async fn examine(
        &self,
        bytes: &[u8],
        limits: Limits,
        serves_on: EngineKind,
    ) -> Result<Examined, ExamineError> {
        let on_trial = self.on_trial(bytes, limits).await?;
        let pre = match serves_on {
            EngineKind::Metered => on_trial.pre.clone(),
            EngineKind::Serving => self.link(serves_on, &self.code.component(serves_on, bytes)?)?,
        };
        let release = Release {
            component: on_trial.component.clone(),
            digest: on_trial.digest,
            descriptor: on_trial.descriptor.clone(),
            imports: on_trial.imports.clone(),
            limits: on_trial.limits,
            pre,
            tally: Tally::default(),
            _loaded: self.loaded.clone(),
        };
        Ok(Examined { release: Arc::new(release), on_trial })
    }

    /// The first half of [`Self::examine`]: what the bytes are, ready to be tried and not to serve.
    pub(crate) async fn on_trial(&self, bytes: &[u8], limits: Limits) -> Result<Arc<Release>, ExamineError> {
        recognise(bytes)?;
        let Learned { digest, component, descriptor, imports, pre } = self.learned(bytes).await?;
        Ok(Arc::new(Release {
            component,
            digest,
            descriptor,
            imports,
            limits: limits.capped(),
            pre,
            tally: Tally::default(),
            _loaded: self.loaded.clone(),
        }))
    }

    async fn learned(&self, bytes: &[u8]) -> Result<Learned, ExamineError> {
        let digest = Digest::of(bytes);
        if let Some(learned) = self.learned.lock().as_ref().filter(|learned| learned.digest == digest) {
            return Ok(learned.clone());
        }
        let learned = self.learn(bytes, digest).await?;
        if bytes.len() <= LEARNED_BYTES_MAX {
            *self.learned.lock() = Some(learned.clone());
        }
        Ok(learned)
    }

    async fn learn(&self, bytes: &[u8], digest: Digest) -> Result<Learned, ExamineError> {
        let metered = self.code.component(EngineKind::Metered, bytes)?;
        let imports = interfaces(self.code.engine(EngineKind::Metered), &metered)?;
        let descriptor = self.describe(&metered).await?;
        let component =
            ComponentId::new(&descriptor.id).map_err(|error| ExamineError::Contract(error.to_string()))?;
        Ok(Learned { digest, component, descriptor, imports, pre: self.link(EngineKind::Metered, &metered)? })
    }

    /// Links bytes that a stored release vouches for, without asking it anything.
    pub(crate) fn load(
        &self,
        bytes: &[u8],
        descriptor: Descriptor,
        limits: Limits,
        serves_on: EngineKind,
    ) -> Result<Release, ExamineError> {
        let compiled = self.code.component(serves_on, bytes)?;
        Ok(Release {
            component: ComponentId::new(&descriptor.id)
                .map_err(|error| ExamineError::Contract(error.to_string()))?,
            digest: Digest::of(bytes),
            imports: interfaces(self.code.engine(serves_on), &compiled)?,
            limits: limits.capped(),
            pre: self.link(serves_on, &compiled)?,
            tally: Tally::default(),
            _loaded: self.loaded.clone(),
            descriptor,
        })
    }

    /// A component's `lifecycle`, to be called without reaching anything; for bytes that a stored release vouches for.
    pub(crate) fn pure(&self, bytes: &[u8]) -> Result<Pure, ExamineError> {
        self.pure_of(&self.code.component(EngineKind::Metered, bytes)?)
    }

    fn pure_of(&self, component: &Component) -> Result<Pure, ExamineError> {
        let modules = self.code.modules_of(EngineKind::Metered, component)?;
        Pure::new(self.code.engines(), component, &modules).map_err(contract)
    }

    /// Hands text to the `boot` of a core module that components import, and answers what that says of it.
    pub(crate) async fn boot(&self, module: &str, text: &str) -> Result<(), BootError> {
        let hindered = |error: ExamineError| BootError::Hindered(error.to_string());
        let module = self.code.core_module(EngineKind::Metered, module).map_err(hindered)?;
        let _running = self.code.engines().running();
        core_module::boot(self.code.engine(EngineKind::Metered), &module, text).await
    }

    /// What a core module that components import is compiled to, for trials. Slow when nobody has compiled it yet.
    pub(crate) fn module_code(&self, name: &str) -> Result<Vec<u8>, ExamineError> {
        let module = self.code.core_module(EngineKind::Metered, name)?;
        module.serialize().map_err(|error| ExamineError::CompileHindered(format!("{error:#}")))
    }

    /// The same as [`Self::boot`], of a module's bytes, and what its instance holds afterwards.
    pub(crate) async fn boot_image(&self, module: &[u8], text: &str) -> Result<Image, BootError> {
        let hindered = |error: ExamineError| BootError::Hindered(error.to_string());
        let module = self.code.module(EngineKind::Metered, module).map_err(hindered)?;
        let _running = self.code.engines().running();
        core_module::boot_image(self.code.engine(EngineKind::Metered), &module, text).await
    }

    fn link(
        &self,
        kind: EngineKind,
        component: &Component,
    ) -> Result<PersonaPre<MessageState>, ExamineError> {
        let modules = self.code.modules_of(kind, component)?;
        let linker = match kind {
            EngineKind::Serving => &self.serving,
            EngineKind::Metered => &self.metered,
        };
        let mut linker = linker.lock();
        // Those of another component may be there already, under the same names and the same.
        linker.allow_shadowing(true);
        core_module::define(&mut linker, &modules).map_err(contract)?;
        let pre = linker.instantiate_pre(component).map_err(contract)?;
        PersonaPre::new(pre).map_err(contract)
    }

    async fn describe(&self, component: &Component) -> Result<Descriptor, ExamineError> {
        let pure = self.pure_of(component)?;
        let told = |error: PureError| match error {
            PureError::Time(_) => ExamineError::DescribeSlow,
            PureError::Host(_) => ExamineError::DescribeHindered(error.to_string()),
            error => ExamineError::Describe(error.to_string()),
        };
        let first = pure.describe().await.map_err(told)?;
        let second = pure.describe().await.map_err(told)?;
        let text = format!("{first:?}");
        if text != format!("{second:?}") {
            return Err(ExamineError::Describe(
                "answered differently the second time; it must be pure".into(),
            ));
        }
        if text.len() > DESCRIPTOR_BYTES_MAX {
            let refusal = format!("answered {} bytes; at most {DESCRIPTOR_BYTES_MAX}", text.len());
            return Err(ExamineError::Describe(refusal));
        }
        Ok(Descriptor::from_contract(first)?)
    }
}

fn contract(error: wasmtime::Error) -> ExamineError {
    ExamineError::Contract(format!("{error:#}"))
}

/// The first bytes tell a component (layer 1) from a core module (layer 0) and from anything else.
fn recognise(bytes: &[u8]) -> Result<(), ExamineError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(ExamineError::TooLarge { bytes: bytes.len() });
    }
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err(ExamineError::NotAComponent("a core WebAssembly module"))
        }
        [] => Err(ExamineError::NotAComponent("an empty file")),
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] => Err(ExamineError::NotAComponent("native code")),
        _ => Err(ExamineError::NotAComponent("some other kind of file")),
    }
}

/// The contract interfaces a component imports, sorted; refuses what this host does not offer.
fn interfaces(engine: &Engine, component: &Component) -> Result<Vec<String>, ExamineError> {
    let kind = component.component_type();
    let mut interfaces = Vec::new();
    for (name, import) in kind.imports(engine) {
        // A core module reaches nothing but what the component gives it.
        if !matches!(import.ty, ComponentItem::Module(_))
            && let Some(interface) = interface(name)?
        {
            interfaces.push(interface);
        }
    }
    interfaces.sort();
    Ok(interfaces)
}

fn interface(import: &str) -> Result<Option<String>, ExamineError> {
    if import.starts_with("wasi:") && !import.starts_with("wasi:http") {
        return Ok(None);
    }
    let unknown = || ExamineError::UnknownImport(import.to_owned());
    let (name, version) =
        import.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')).ok_or_else(unknown)?;
    if version != CONTRACT_VERSION {
        return Err(ExamineError::ContractTooNew { needed: version.to_owned() });
    }
    if FREE_INTERFACES.contains(&name) {
        return Ok(None);
    }
    if INTERFACES.contains(&name) { Ok(Some(name.to_owned())) } else { Err(unknown()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_told_apart() {
        let refusal = |bytes: &[u8]| recognise(bytes).unwrap_err().to_string();
        assert!(refusal(b"").contains("an empty file"));
        assert!(refusal(b"\0asm\x01\0\0\0").contains("a core WebAssembly module"));
        assert!(refusal(b"\x7fELF....").contains("native code"));
        assert!(refusal(b"#!/bin/sh\n").contains("some other kind of file"));
        assert!(recognise(b"\0asm\x0d\0\x01\0").is_ok());
    }

    #[test]
    fn what_this_machine_wants_for_is_no_fault_of_the_bytes() {
        for error in [ExamineError::DescribeSlow, ExamineError::DescribeHindered("had no slot".into())] {
            assert!(error.is_of_the_moment() && !error.is_of_the_bytes(), "{error}");
        }
        let trapped = ExamineError::Describe("failed: unreachable".into());
        assert!(trapped.is_of_the_bytes() && !trapped.is_of_the_moment());
    }

    #[test]
    fn imports_are_read_by_their_names() {
        assert_eq!(interface("telos:host/storage@0.1.0").unwrap().as_deref(), Some("storage"));
        assert_eq!(interface("telos:host/types@0.1.0").unwrap(), None);
        assert_eq!(interface("wasi:cli/environment@0.2.3").unwrap(), None);
        assert!(interface("telos:host/storage@0.9.0").unwrap_err().to_string().contains("telos:host@0.9.0"));
        assert!(interface("acme:missiles/launch@1.0.0").unwrap_err().to_string().contains("acme:missiles"));
        assert!(interface("telos:host/missiles@0.1.0").is_err());
    }
}
