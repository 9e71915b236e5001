//! The engine as a component that imports some of the contract and exports it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction, Module, RawSection,
    TypeSection,
};
use wasmparser::{FuncType, Parser, Payload, TypeRef};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::sets::{ALWAYS, OPTIONAL};

const PACKAGE: &str = "telos:host";
const VERSION: &str = "0.1.0";

/// The module without what bindings say of a world, and without names.
pub(crate) fn without_metadata(module: &[u8]) -> Result<Vec<u8>> {
    let mut stripped = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Some((id, range)) = payload.as_section()
            && !matches!(payload, Payload::CustomSection(_))
        {
            stripped.section(&RawSection { id, data: &module[range] });
        }
    }
    Ok(stripped.finish())
}

/// A component over the module that imports what every behaviour does and these. The module's other imports lead to
/// functions that trap.
pub(crate) fn component(module: &[u8], wit: &Path, uses: &[&str]) -> Result<Vec<u8>> {
    let mut described = module.to_vec();
    let (resolve, world) = world(wit, uses)?;
    embed_component_metadata(&mut described, &resolve, world, StringEncoding::UTF8)?;
    let mut encoder = ComponentEncoder::default().module(&described)?.validate(true);
    for interface in OPTIONAL.iter().filter(|interface| !uses.contains(interface)) {
        let name = qualified(interface);
        encoder = encoder.adapter(&name, &traps(module, &name)?)?;
    }
    encoder.encode().with_context(|| format!("a component that uses {uses:?} cannot be encoded"))
}

fn world(wit: &Path, uses: &[&str]) -> Result<(Resolve, wit_parser::WorldId)> {
    let mut resolve = Resolve::default();
    resolve.push_dir(wit)?;
    let imports: String =
        ALWAYS.iter().chain(uses).map(|interface| format!("  import {};\n", qualified(interface))).collect();
    let text = format!(
        "package telos:behaviour;\nworld behaviour {{\n{imports}  export {};\n  export {};\n}}\n",
        qualified("lifecycle"),
        qualified("handler")
    );
    let package = resolve.push_str("behaviour.wit", &text)?;
    let world = resolve.select_world(&[package], Some("behaviour"))?;
    Ok((resolve, world))
}

fn qualified(interface: &str) -> String {
    format!("{PACKAGE}/{interface}@{VERSION}")
}

/// A module that has every function which `module` imports from a place, each a trap.
fn traps(module: &[u8], place: &str) -> Result<Vec<u8>> {
    let (mut types, mut functions, mut exports, mut code) =
        (TypeSection::new(), FunctionSection::new(), ExportSection::new(), CodeSection::new());
    for (index, (name, kind)) in (0..).zip(imported(module, place)?) {
        let values = |values: &[wasmparser::ValType]| values.iter().map(value).collect::<Result<Vec<_>>>();
        types.ty().function(values(kind.params())?, values(kind.results())?);
        functions.function(index);
        exports.export(&name, ExportKind::Func, index);
        let mut body = Function::new([]);
        body.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
        code.function(&body);
    }
    let mut traps = Module::new();
    traps.section(&types).section(&functions).section(&exports).section(&code);
    Ok(traps.finish())
}

fn value(kind: &wasmparser::ValType) -> Result<wasm_encoder::ValType> {
    wasm_encoder::ValType::try_from(*kind).map_err(|_| anyhow::anyhow!("{kind} is no plain value"))
}

fn imported(module: &[u8], place: &str) -> Result<BTreeMap<String, FuncType>> {
    let (mut types, mut found) = (Vec::new(), BTreeMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for kind in section.into_iter_err_on_gc_types() {
                    types.push(kind?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if let (true, TypeRef::Func(kind)) = (import.module == place, import.ty) {
                        found.insert(Cow::from(import.name).into_owned(), types[kind as usize].clone());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
