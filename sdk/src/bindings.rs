//! Generated from `wit/`, world `persona`: the only file that names contract paths.
//!
//! Functions that a plugin never calls leave no import in its component, so the widest world serves every plugin.
//! Use the typed modules instead: these names follow the contract and change with it.

#![allow(missing_docs, reason = "generated; the contract's own documentation is in wit/")]
#![allow(unsafe_code, reason = "generated: the canonical ABI moves values through linear memory")]
#![allow(unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: "../wit",
    world: "persona",
    pub_export_macro: true,
    default_bindings_module: "telos_sdk::bindings",
    additional_derives: [PartialEq],
});
