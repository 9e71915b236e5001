//! A component with a core module in the place of its import of one. Pure.

use wasm_encoder::{Component, RawSection};
use wasmparser::{BinaryReaderError, ComponentTypeRef, Parser, Payload};

const MODULE_SECTION: u8 = 1;
const COMPONENT_SECTION: u8 = 4;

/// The core module that a component imports, if it does.
pub(super) fn imported_module(component: &[u8]) -> Option<String> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                if let Some(name) = section.into_iter().flatten().find_map(module_name) {
                    return Some(name);
                }
            }
            _ => {}
        }
    }
    None
}

/// `template` with `module` in the place of the module that it imports, which is the first of its modules: so nothing is
/// numbered anew. What that import's type was goes with it; a template has no other core types.
pub(super) fn inlined(template: &[u8], module: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let (mut whole, mut depth, mut past) = (Component::new(), 0_usize, 0);
    for payload in Parser::new(0).parse_all(template) {
        let payload = payload?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth != 1 => {}
            Payload::ModuleSection { unchecked_range, .. } => {
                whole.section(&RawSection { id: MODULE_SECTION, data: &template[unchecked_range.clone()] });
                past = unchecked_range.end;
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                whole
                    .section(&RawSection { id: COMPONENT_SECTION, data: &template[unchecked_range.clone()] });
                past = unchecked_range.end;
            }
            Payload::CoreTypeSection(_) | Payload::CustomSection(_) => {}
            Payload::ComponentImportSection(section)
                if section.clone().into_iter().flatten().any(|import| module_name(import).is_some()) =>
            {
                whole.section(&RawSection { id: MODULE_SECTION, data: module });
            }
            other => {
                if let Some((id, range)) = other.as_section().filter(|(_, range)| range.start >= past) {
                    whole.section(&RawSection { id, data: &template[range] });
                }
            }
        }
    }
    Ok(whole.finish())
}

fn module_name(import: wasmparser::ComponentImport<'_>) -> Option<String> {
    matches!(import.ty, ComponentTypeRef::Module(_)).then(|| import.name.name.to_owned())
}
