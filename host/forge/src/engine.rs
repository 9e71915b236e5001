//! The engine that this host carries.

/// The JavaScript engine, and the components that are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine {
    /// Under which name components import it: its hash is part of it.
    pub name: &'static str,
    /// What its C code was compiled with.
    pub c_compiler: &'static str,
    /// The version of rustc that compiled the rest.
    pub rustc: &'static str,
    /// Its core module.
    pub module: &'static [u8],
    /// A component without behaviour for each set of interfaces.
    pub templates: &'static [Template],
}

/// A component that lacks only its behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    pub(crate) bytes: &'static [u8],
    /// Interfaces of the contract that it imports besides those of every behaviour, sorted.
    pub uses: &'static [&'static str],
    pub(crate) modules: u32,
    pub(crate) engine: u32,
}

static ENGINE: Option<Engine> = include!(concat!(env!("OUT_DIR"), "/engine.rs"));

/// The engine; none in a host that was built without one.
pub fn engine() -> Option<&'static Engine> {
    ENGINE.as_ref()
}

impl Engine {
    /// The template for exactly these interfaces, in any order.
    pub fn template(&self, uses: &[String]) -> Option<&Template> {
        let mut uses: Vec<&str> = uses.iter().map(String::as_str).collect();
        uses.sort_unstable();
        uses.dedup();
        self.templates.iter().find(|template| template.uses == uses)
    }
}
