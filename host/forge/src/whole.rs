//! A behaviour's component with the engine in it: what any host of the contract takes, ours or not.
//!
//! ```text
//! instrument   the engine, so that it exports all that it may change                    pure
//! boot         the kernel runs it with the behaviour, in an instance that reaches nothing
//! snapshot     the engine again, which begins with what that instance held              pure
//! inline       the template, with that module in the place of its import                pure
//! ```
//! It answers as the behaviour's own component does and starts faster, for a megabyte and a second of compiling; so it
//! is made to be given away, and never kept here.

mod inline;

use telos_kernel::{BootError, Image, Kernel, Number};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

use crate::assemble::{AssembleError, written};
use crate::behaviour::Behaviour;
use crate::engine::{Engine, engine};
use crate::taken_apart;

/// The engine's export that takes a behaviour in: what it is for is over when the component starts.
const BOOT: &str = "boot";

/// What a component that was asked for is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it was installed: it imports the contract alone.
    Kept,
    /// With the engine in it.
    Whole,
}

/// Why there is no component that needs no engine of the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WholeError {
    /// It runs on an engine that is not here.
    #[error("it runs on {0}, which this host does not carry: export it from a host that does")]
    NoEngine(String),
    /// It imports the engine, and this host would have assembled it otherwise.
    #[error("it imports {0}, but not as this host assembles a component: what it starts with cannot be told")]
    NotAssembled(String),
    /// It is no behaviour.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The engine does not take it, or could not be run.
    #[error("the engine does not start with it: {0}")]
    Boot(#[from] BootError),
    /// What the engine holds then cannot be written down.
    #[error("it cannot be put together: {0}")]
    Unwritten(String),
}

/// A component that imports the contract alone: the given one, or where it runs on the engine, what is as good.
///
/// # Errors
/// [`WholeError`].
pub async fn self_contained(kernel: &Kernel, component: Vec<u8>) -> Result<(Form, Vec<u8>), WholeError> {
    let Some(name) = inline::imported_module(&component) else {
        return Ok((Form::Kept, component));
    };
    let engine = engine().filter(|engine| engine.name == name);
    let engine = engine.ok_or_else(|| WholeError::NoEngine(name.clone()))?;
    let behaviour = taken_apart(engine, &component).ok_or(WholeError::NotAssembled(name))?;
    Ok((Form::Whole, whole(kernel, engine, &behaviour).await?))
}

/// The component of a behaviour with the engine in it. Compiles the engine for that when nobody has yet.
///
/// # Errors
/// [`WholeError`].
pub async fn whole(kernel: &Kernel, engine: &Engine, behaviour: &Behaviour) -> Result<Vec<u8>, WholeError> {
    let unwritten = |error: &dyn std::fmt::Display| WholeError::Unwritten(format!("{error:#}"));
    let written = written(engine, behaviour)?;
    let mut wizer = Wizer::new();
    wizer.init_func(BOOT);
    let (context, instrumented) = wizer.instrument(engine.module).map_err(|error| unwritten(&error))?;
    let mut held = Held(kernel.boot_image(instrumented, written.text).await?);
    let module = wizer.snapshot(&context, &mut held).await.map_err(|error| unwritten(&error))?;
    inline::inlined(written.template.bytes, &module).map_err(|error| unwritten(&error))
}

/// What an instance of the instrumented engine held. Names are those that instrumenting gave, so they are there.
struct Held(Image);

impl InstanceState for Held {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        match self.0.number(name) {
            Some(Number::I32(value)) => SnapshotVal::I32(value),
            Some(Number::I64(value)) => SnapshotVal::I64(value),
            Some(Number::F32(bits)) => SnapshotVal::F32(bits),
            Some(Number::F64(bits)) => SnapshotVal::F64(bits),
            None => panic!("the instrumented engine exports no number {name}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.0.memory(name);
        contents(memory.unwrap_or_else(|| panic!("the instrumented engine exports no memory {name}")));
    }
}
