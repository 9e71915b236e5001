//! Components that no toolchain makes: what they do, they do before anybody calls them, or ask for before they are made.

use telos_kernel::{Granting, InstallRequest, SwapError};
use telos_tests::{TestKernel, guest};
use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentImportSection, ComponentSection, ComponentTypeRef,
    ComponentTypeSection, Function, FunctionSection, HeapType, InstanceSection, InstanceType, Instruction,
    MemorySection, MemoryType, Module, ModuleSection, RefType, StartSection, TableSection, TableType,
    TypeSection,
};

use super::{assert_unharmed, resident_mib};

/// What is refused before an instance of it is made, whatever it would do.
const TOO_MUCH: &str = "it asks for more than an instance may have";

async fn install(kernel: &TestKernel, bytes: Vec<u8>) -> Result<(), SwapError> {
    let request =
        InstallRequest { source: "made.wasm".into(), grants: Granting::All, ..InstallRequest::default() };
    kernel.kernel.install(bytes, request).await.map(drop)
}

/// What is made so is refused with these words, and costs the host nothing.
async fn check(made: &[(&str, Vec<u8>, &str)]) {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let before = resident_mib();
    for (what, bytes, said) in made {
        let refused = install(&kernel, bytes.clone()).await.unwrap_err().to_string();
        assert!(refused.contains(said), "{what}: {refused}");
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB");
    assert_unharmed(&kernel).await;
}

/// The twin, which is made of this module as well, so many times.
fn twin_with(module: &Module, times: usize) -> Vec<u8> {
    let mut bytes = guest("twin");
    let index = core_modules(&bytes);
    let mut instances = InstanceSection::new();
    for _ in 0..times {
        instances.instantiate(index, std::iter::empty::<(&str, wasm_encoder::ModuleArg)>());
    }
    ModuleSection(module).append_to_component(&mut bytes);
    instances.append_to_component(&mut bytes);
    bytes
}

/// How many core modules a component has: its sections of that kind.
fn core_modules(component: &[u8]) -> u32 {
    const CORE_MODULE: u8 = 1;
    let (mut at, mut modules) = (8, 0);
    while at < component.len() {
        modules += u32::from(component[at] == CORE_MODULE);
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] < 0x80 {
                break;
            }
        }
        at += 1 + size;
    }
    modules
}

/// A module with a table and these instructions, which run before anybody calls anything.
fn starting(entries: u64, instructions: &[Instruction]) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut start = Function::new([]);
    for instruction in instructions.iter().chain([&Instruction::End]) {
        start.instruction(instruction);
    }
    let mut code = CodeSection::new();
    code.function(&start);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&table(entries));
    module.section(&StartSection { function_index: 0 }).section(&code);
    module
}

fn table(entries: u64) -> TableSection {
    let mut tables = TableSection::new();
    let element_type = RefType::FUNCREF;
    tables.table(TableType { element_type, table64: false, minimum: entries, maximum: None, shared: false });
    tables
}

fn with_memory(pages: u64) -> Module {
    let mut memories = MemorySection::new();
    let memory =
        MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None };
    memories.memory(memory);
    let mut module = Module::new();
    module.section(&memories);
    module
}

/// Adds a thousand entries to its table for as long as it gets them, then goes on like `then`.
fn growing(then: Instruction<'static>) -> Module {
    let grow = [
        Instruction::Loop(BlockType::Empty),
        Instruction::RefNull(HeapType::FUNC),
        Instruction::I32Const(1_000),
        Instruction::TableGrow(0),
        Instruction::I32Const(-1),
        Instruction::I32Ne,
        Instruction::BrIf(0),
        Instruction::End,
        then,
    ];
    starting(0, &grow)
}

fn spinning() -> Module {
    starting(0, &[Instruction::Loop(BlockType::Empty), Instruction::Br(0), Instruction::End])
}

#[tokio::test]
async fn one_that_spins_before_it_starts_is_refused() {
    check(&[
        ("spins", twin_with(&spinning(), 1), "its describe() used up its 100000000 units of fuel"),
        ("traps", twin_with(&starting(0, &[Instruction::Unreachable]), 1), "its describe() failed"),
    ])
    .await;
}

#[tokio::test]
async fn tables_have_an_end() {
    check(&[
        ("is made with too large a table", twin_with(&starting(20_001, &[]), 1), TOO_MUCH),
        (
            "grows one until it breaks",
            twin_with(&growing(Instruction::Unreachable), 1),
            "its describe() asked for more than",
        ),
    ])
    .await;
}

#[tokio::test]
async fn one_that_takes_all_the_table_it_gets_serves() {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    install(&kernel, twin_with(&growing(Instruction::Nop), 1)).await.unwrap();
    for asked in 0..1_200 {
        assert_eq!(
            kernel.send("twin", "asked", serde_json::Value::Null).await.unwrap(),
            0,
            "message {asked}"
        );
    }
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn parts_and_memories_have_an_end() {
    const PAGES_OF_A_GIBIBYTE: u64 = 1 << 14;
    check(&[
        ("a hundred instances", twin_with(&Module::new(), 100), TOO_MUCH),
        ("more than fit into a component", twin_with(&Module::new(), 5_000), "it does not compile"),
        ("ten memories", twin_with(&with_memory(1), 10), TOO_MUCH),
        ("a gibibyte", twin_with(&with_memory(PAGES_OF_A_GIBIBYTE), 1), TOO_MUCH),
        ("many tables", twin_with(&starting(1, &[]), 9), TOO_MUCH),
    ])
    .await;
}

/// A component that imports these, and is nothing else.
fn importing(names: &[&str]) -> Vec<u8> {
    let mut types = ComponentTypeSection::new();
    types.instance(&InstanceType::new());
    let mut imports = ComponentImportSection::new();
    for name in names {
        imports.import(*name, ComponentTypeRef::Instance(0));
    }
    let mut component = Component::new();
    component.section(&types).section(&imports);
    component.finish()
}

#[tokio::test]
async fn an_import_of_everything_is_refused_by_name() {
    const INERT: [&str; 3] =
        ["wasi:sockets/tcp@0.2.6", "wasi:filesystem/types@0.2.6", "wasi:cli/environment@0.2.6"];
    let with = |more: &'static str| importing(&[&INERT[..], &[more]].concat());
    check(&[
        ("http", with("wasi:http/outgoing-handler@0.2.6"), "imports `wasi:http/outgoing-handler@0.2.6`"),
        ("a stranger's", with("acme:missiles/launch@1.0.0"), "imports `acme:missiles/launch@1.0.0`"),
        ("unknown ones of ours", with("telos:host/missiles@0.1.0"), "imports `telos:host/missiles@0.1.0`"),
        ("tomorrow's", with("telos:host/storage@9.0.0"), "needs contract telos:host@9.0.0"),
        ("nothing else", importing(&INERT), "it does not fit the contract"),
    ])
    .await;
}
