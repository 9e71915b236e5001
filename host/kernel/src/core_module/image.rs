//! What an instance of a core module holds, as far as it exports it: enough to begin another one there.

use std::collections::HashMap;

use wasmtime::{AsContextMut, ExternType, Instance, Val};

/// Memories and numbers of an instance, each under the name that its module exports it by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    memories: HashMap<String, Vec<u8>>,
    numbers: HashMap<String, Number>,
}

/// What a global holds; of a fraction its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as WebAssembly names them")]
pub enum Number {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
}

impl Image {
    /// Everything that is in a memory; none without a memory of this name.
    pub fn memory(&self, name: &str) -> Option<&[u8]> {
        self.memories.get(name).map(Vec::as_slice)
    }

    /// What a global holds; none without one of this name that holds a number.
    pub fn number(&self, name: &str) -> Option<Number> {
        self.numbers.get(name).copied()
    }

    pub(super) fn of(mut store: impl AsContextMut, instance: &Instance) -> Self {
        let exports: Vec<(String, wasmtime::Extern)> = instance
            .exports(&mut store)
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect();
        let mut image = Self::default();
        for (name, export) in exports {
            match export.ty(&store) {
                ExternType::Memory(_) => {
                    let memory = export.into_memory().map(|memory| memory.data(&store).to_vec());
                    image.memories.extend(memory.map(|bytes| (name, bytes)));
                }
                ExternType::Global(_) => {
                    let value = export.into_global().map(|global| global.get(&mut store));
                    image.numbers.extend(value.and_then(number).map(|number| (name, number)));
                }
                _ => {}
            }
        }
        image
    }
}

fn number(value: Val) -> Option<Number> {
    match value {
        Val::I32(value) => Some(Number::I32(value)),
        Val::I64(value) => Some(Number::I64(value)),
        Val::F32(bits) => Some(Number::F32(bits)),
        Val::F64(bits) => Some(Number::F64(bits)),
        _ => None,
    }
}
