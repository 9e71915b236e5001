//! The `#[plugin]` attribute: an `impl` block of selectors becomes a component.
//!
//! Three steps, each pure: `settings` reads `key = value` lists, `model` checks the block and says at compile time
//! what the host would otherwise refuse at install, `expand` writes the code. Authors read the documentation of
//! `telos_sdk`; nothing here is meant to be used without it.

mod expand;
mod model;
mod settings;
#[cfg(test)]
mod tests;

/// Makes the `impl` block's selectors a component; see the crate documentation of `telos_sdk`.
///
/// On the block: `kind = behaviour | persona | curator` (behaviour), `id = "..."` (the package name),
/// `version = "..."` (the package version), `generation = 1`. Beside it, any number of
/// `#[slot(name = "...", default = JSON, summary = "...")]`. The block's doc comment is the summary.
///
/// On a function: `#[selector]`, with any of `read_only`, `name = "..."`, `arguments = SCHEMA`, `returns = SCHEMA`;
/// then any number of `#[example(name = "...", before = {..}, arguments = JSON, returns = JSON | schema = SCHEMA |
/// refused, after = {..})]`, where `send = JSON`, `generate = JSON`, `embed = JSON` and `recall = JSON` record host
/// answers in order. `#[evolve]` and `#[devolve]` mark the functions that carry state between generations.
#[proc_macro_attribute]
pub fn plugin(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    model::read(arguments.into(), item.into())
        .map_or_else(|error| error.to_compile_error(), |model| expand::component(&model))
        .into()
}
