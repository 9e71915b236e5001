//! A behaviour's component: a template, and behind it a module that hands the behaviour to the engine when it starts.
//!
//! ```text
//! template               the engine as an import, the contract's interfaces, lowered and lifted
//! boot module            passive data: the behaviour; start: memory of the engine, copy, `boot`, or a trap
//! boot instance          given the engine's instance
//! ```
//! Adding at the end numbers nothing anew. Equal behaviours give equal bytes. Pure.

#[cfg(test)]
mod tests;

use wasm_encoder::{
    BlockType, CodeSection, Component, DataCountSection, DataSection, EntityType, Function, FunctionSection,
    ImportSection, InstanceSection, Instruction, MemArg, MemoryType, Module, ModuleArg, ModuleSection,
    StartSection, TypeSection, ValType,
};

use crate::behaviour::Behaviour;
use crate::engine::{Engine, Template};

/// Largest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 128 << 10;
/// Largest behaviour with what it says of itself, in bytes: the descriptor's bound in the contract, and the source.
const BEHAVIOUR_BYTES_MAX: usize = (256 << 10) + 2 * SOURCE_BYTES_MAX;

/// How a behaviour begins as JSON; nothing of a boot module before it does.
const BEGINNING: &[u8] = br#"{"descriptor":"#;
/// How the boot module calls the engine's instance.
const ENGINE: &str = "engine";
/// Bytes before the sections of a component.
const HEADER_BYTES: usize = 8;

/// Why a behaviour has no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// Too much source.
    #[error("the source is {0} bytes; at most {SOURCE_BYTES_MAX}")]
    SourceTooLarge(usize),
    /// Too much of everything.
    #[error("the behaviour is {0} bytes with what it says of itself; at most {BEHAVIOUR_BYTES_MAX}")]
    TooLarge(usize),
    /// There is no component for such interfaces.
    #[error("a behaviour cannot use {0}; there are inference, messaging and vectors")]
    NoSuchInterface(String),
    /// It cannot be written as JSON.
    #[error("the behaviour cannot be written down: {0}")]
    Unwritten(String),
}

/// The component of a behaviour.
///
/// # Errors
/// [`AssembleError`].
pub fn assemble(engine: &Engine, behaviour: &Behaviour) -> Result<Vec<u8>, AssembleError> {
    let Written { template, text, length } = written(engine, behaviour)?;
    Ok(complete(template, text.as_bytes(), length))
}

/// A behaviour as the engine takes it, and the component that lacks only it.
pub(crate) struct Written<'e> {
    pub(crate) template: &'e Template,
    pub(crate) text: String,
    length: u32,
}

/// # Errors
/// [`AssembleError`].
pub(crate) fn written<'e>(engine: &'e Engine, behaviour: &Behaviour) -> Result<Written<'e>, AssembleError> {
    if behaviour.source.len() > SOURCE_BYTES_MAX {
        return Err(AssembleError::SourceTooLarge(behaviour.source.len()));
    }
    let template = engine
        .template(&behaviour.uses)
        .ok_or_else(|| AssembleError::NoSuchInterface(behaviour.uses.join(", ")))?;
    let text =
        serde_json::to_string(behaviour).map_err(|error| AssembleError::Unwritten(error.to_string()))?;
    match u32::try_from(text.len()) {
        Ok(length) if text.len() <= BEHAVIOUR_BYTES_MAX => Ok(Written { template, text, length }),
        _ => Err(AssembleError::TooLarge(text.len())),
    }
}

/// The behaviour in a component that is what this engine's [`assemble`] makes of it; none for any other bytes, however
/// alike.
pub fn taken_apart(engine: &Engine, component: &[u8]) -> Option<Behaviour> {
    let template = engine.templates.iter().find(|template| component.starts_with(template.bytes))?;
    // A template may be the beginning of no other, so what follows is the boot module: its data is its last section.
    let rest = component.get(template.bytes.len()..)?;
    let from = rest.windows(BEGINNING.len()).position(|bytes| bytes == BEGINNING)?;
    let mut behaviours = serde_json::Deserializer::from_slice(rest.get(from..)?).into_iter::<Behaviour>();
    let behaviour = behaviours.next()?.ok()?;
    (assemble(engine, &behaviour).ok()?.as_slice() == component).then_some(behaviour)
}

fn complete(template: &Template, behaviour: &[u8], length: u32) -> Vec<u8> {
    let mut added = Component::new();
    added.section(&ModuleSection(&boot_module(behaviour, length)));
    let mut instances = InstanceSection::new();
    instances.instantiate(template.modules, [(ENGINE, ModuleArg::Instance(template.engine))]);
    added.section(&instances);
    let added = added.finish();
    [template.bytes, added.get(HEADER_BYTES..).unwrap_or_default()].concat()
}

/// Copies the behaviour into memory of the engine and calls `boot`; an error there is a trap here, since whoever made
/// this component has had the engine say what it thinks of the behaviour before.
fn boot_module(behaviour: &[u8], length: u32) -> Module {
    const REALLOC: u32 = 0;
    const BOOT: u32 = 1;
    let length = i32::from_ne_bytes(length.to_ne_bytes());
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    let memory =
        MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
    imports.import(ENGINE, "memory", EntityType::Memory(memory));
    imports.import(ENGINE, "cabi_realloc", EntityType::Function(0));
    imports.import(ENGINE, "boot", EntityType::Function(1));
    let mut functions = FunctionSection::new();
    functions.function(2);
    let at = 0;
    let mut start = Function::new([(1, ValType::I32)]);
    for instruction in [
        Instruction::I32Const(0),
        Instruction::I32Const(0),
        Instruction::I32Const(1),
        Instruction::I32Const(length),
        Instruction::Call(REALLOC),
        Instruction::LocalTee(at),
        Instruction::I32Const(0),
        Instruction::I32Const(length),
        Instruction::MemoryInit { mem: 0, data_index: 0 },
        Instruction::LocalGet(at),
        Instruction::I32Const(length),
        Instruction::Call(BOOT),
        // The answer's first byte: 0 is well.
        Instruction::I32Load8U(MemArg { offset: 0, align: 0, memory_index: 0 }),
        Instruction::If(BlockType::Empty),
        Instruction::Unreachable,
        Instruction::End,
        Instruction::End,
    ] {
        start.instruction(&instruction);
    }
    let mut code = CodeSection::new();
    code.function(&start);
    let mut data = DataSection::new();
    data.passive(behaviour.iter().copied());
    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&functions)
        .section(&StartSection { function_index: 2 })
        .section(&DataCountSection { count: 1 })
        .section(&code)
        .section(&data);
    module
}
