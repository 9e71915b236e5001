//! A component whose first module is an import instead: the same everywhere else.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use wasm_encoder::{
    Component, ComponentImportSection, ComponentTypeRef, CoreTypeSection, EntityType, MemoryType, ModuleType,
    RawSection,
};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

const MODULE_SECTION: u8 = 1;
const COMPONENT_SECTION: u8 = 4;

/// A thin component, and what whoever adds to its end must know.
pub(crate) struct Thin {
    pub(crate) bytes: Vec<u8>,
    /// Core modules in it, imported and own.
    pub(crate) modules: u32,
    /// The core instance of the engine.
    pub(crate) engine: u32,
}

/// `whole` with an import of this name in the place of its first module, which is `module`. It takes the same place in
/// the order of modules, so nothing else is numbered anew.
pub(crate) fn importing(whole: &[u8], module: &[u8], name: &str) -> Result<Thin> {
    let kind = Kind::of(module)?.encoded()?;
    let (mut thin, mut modules, mut instances, mut engine) = (Component::new(), 0, 0, None);
    let (mut depth, mut past) = (0, 0);
    for payload in Parser::new(0).parse_all(whole) {
        let payload = payload?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ModuleSection { unchecked_range, .. } if depth == 1 => {
                if modules == 0 {
                    let mut types = CoreTypeSection::new();
                    types.ty().module(&kind);
                    thin.section(&types);
                    let mut imports = ComponentImportSection::new();
                    imports.import(name, ComponentTypeRef::Module(0));
                    thin.section(&imports);
                } else {
                    thin.section(&RawSection { id: MODULE_SECTION, data: &whole[unchecked_range.clone()] });
                }
                (modules, past) = (modules + 1, unchecked_range.end);
            }
            Payload::ComponentSection { unchecked_range, .. } if depth == 1 => {
                thin.section(&RawSection { id: COMPONENT_SECTION, data: &whole[unchecked_range.clone()] });
                past = unchecked_range.end;
            }
            Payload::CoreTypeSection(_) if depth == 1 && modules == 0 => {
                bail!("the component has core types before its module; they would be numbered anew");
            }
            Payload::CustomSection(_) => {}
            other => {
                if let (1, Payload::InstanceSection(section)) = (depth, other) {
                    for instance in section.clone() {
                        if let wasmparser::Instance::Instantiate { module_index: 0, .. } = instance? {
                            engine = Some(instances);
                        }
                        instances += 1;
                    }
                }
                if depth == 1
                    && let Some((id, range)) = other.as_section()
                    && range.start >= past
                {
                    thin.section(&RawSection { id, data: &whole[range] });
                }
            }
        }
    }
    let engine = engine.context("the component does not instantiate its first module")?;
    Ok(Thin { bytes: thin.finish(), modules, engine })
}

/// What a module imports and exports.
#[derive(Default)]
struct Kind {
    imports: Vec<(String, String, FuncType)>,
    functions: BTreeMap<String, FuncType>,
    memories: BTreeMap<String, wasmparser::MemoryType>,
}

impl Kind {
    fn of(module: &[u8]) -> Result<Self> {
        let (mut kind, mut types, mut functions, mut memories) =
            (Self::default(), Vec::new(), Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for function in section.into_iter_err_on_gc_types() {
                        types.push(function?);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let TypeRef::Func(number) = import.ty else {
                            bail!("the engine imports something else than a function: {}", import.name);
                        };
                        functions.push(number);
                        let (module, name) = (import.module.to_owned(), import.name.to_owned());
                        kind.imports.push((module, name, types[number as usize].clone()));
                    }
                }
                Payload::FunctionSection(section) => {
                    for number in section {
                        functions.push(number?);
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        memories.push(memory?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let (name, index) = (export.name.to_owned(), export.index as usize);
                        match export.kind {
                            ExternalKind::Func => {
                                kind.functions.insert(name, types[functions[index] as usize].clone());
                            }
                            ExternalKind::Memory => drop(kind.memories.insert(name, memories[index])),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(kind)
    }

    fn encoded(&self) -> Result<ModuleType> {
        let (mut encoded, mut types) = (ModuleType::new(), 0);
        let mut function = |encoded: &mut ModuleType, kind: &FuncType| {
            let values = |values: &[ValType]| {
                let value = |value: &ValType| wasm_encoder::ValType::try_from(*value);
                values.iter().map(value).collect::<Result<Vec<_>, _>>()
            };
            let (Ok(params), Ok(results)) = (values(kind.params()), values(kind.results())) else {
                bail!("the engine has a function of values that are not plain");
            };
            encoded.ty().function(params, results);
            types += 1;
            Ok(EntityType::Function(types - 1))
        };
        for (module, name, kind) in &self.imports {
            let kind = function(&mut encoded, kind)?;
            encoded.import(module, name, kind);
        }
        for (name, kind) in &self.functions {
            let kind = function(&mut encoded, kind)?;
            encoded.export(name, kind);
        }
        for (name, memory) in &self.memories {
            let kind = MemoryType {
                minimum: memory.initial,
                maximum: memory.maximum,
                memory64: memory.memory64,
                shared: memory.shared,
                page_size_log2: memory.page_size_log2,
            };
            encoded.export(name, EntityType::Memory(kind));
        }
        Ok(encoded)
    }
}
