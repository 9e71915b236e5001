//! The contract, and how a behaviour is handed over.

#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: ["../../../wit", "wit"],
    world: "telos:engine-js/engine",
    pub_export_macro: true,
    default_bindings_module: "crate::bindings",
    generate_all,
});
