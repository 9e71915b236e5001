//! The code a plugin's block becomes: the block itself, `impl Plugin`, and on wasm the component's exports.

use proc_macro2::TokenStream;
use quote::quote;

use crate::model::{Example, Expectation, Plugin, Selector, Slot};

/// The whole expansion.
pub(crate) fn component(plugin: &Plugin) -> TokenStream {
    let item = &plugin.item;
    let name = &plugin.item.self_ty;
    let describe = describe(plugin);
    let answer = answer(&plugin.selectors);
    let evolve = plugin.evolve.iter().map(|function| carry(&quote!(evolve), function));
    let devolve = plugin.devolve.iter().map(|function| carry(&quote!(devolve), function));
    quote! {
        #item

        impl ::telos_sdk::Plugin for #name {
            #describe
            #answer
            #(#evolve)*
            #(#devolve)*
        }

        // Natively a plugin is only compiled and unit-tested; the exports' symbol names mean nothing to an ELF linker.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = ::telos_sdk::Component<#name>;
            ::telos_sdk::bindings::export!(Component with_types_in ::telos_sdk::bindings);
        };

        // So that what only an export calls is no dead code natively either.
        #[cfg(not(target_arch = "wasm32"))]
        const _: ::telos_sdk::plugin::Answer = <#name as ::telos_sdk::Plugin>::answer;
    }
}

fn describe(plugin: &Plugin) -> TokenStream {
    let Plugin { kind, generation, summary, .. } = plugin;
    let id = plugin.id.as_ref().map_or_else(|| quote!(env!("CARGO_PKG_NAME")), |id| quote!(#id));
    let version =
        plugin.version.as_ref().map_or_else(|| quote!(env!("CARGO_PKG_VERSION")), |text| quote!(#text));
    let slots = plugin.slots.iter().map(slot);
    let selectors = plugin.selectors.iter().map(selector);
    quote! {
        fn describe() -> ::telos_sdk::descriptor::Descriptor {
            ::telos_sdk::descriptor::Descriptor {
                id: #id.into(),
                version: #version.into(),
                kind: ::telos_sdk::descriptor::Kind::#kind,
                summary: #summary.into(),
                generation: #generation,
                slots: ::std::vec![#(#slots),*],
                selectors: ::std::vec![#(#selectors),*],
            }
        }
    }
}

fn slot(slot: &Slot) -> TokenStream {
    let Slot { name, summary, .. } = slot;
    let default = match slot.default.as_ref().map(json) {
        Some(text) => quote!(::std::option::Option::Some(#text)),
        None => quote!(::std::option::Option::None),
    };
    quote!(::telos_sdk::descriptor::Slot { name: #name.into(), summary: #summary.into(), default: #default })
}

fn selector(selector: &Selector) -> TokenStream {
    let Selector { name, summary, read_only, .. } = selector;
    let (arguments, returns) = (json(&selector.arguments), json(&selector.returns));
    let examples = selector.examples.iter().map(example);
    quote! {
        ::telos_sdk::descriptor::Selector {
            name: #name.into(),
            summary: #summary.into(),
            arguments: #arguments,
            returns: #returns,
            read_only: #read_only,
            examples: ::std::vec![#(#examples),*],
        }
    }
}

fn example(example: &Example) -> TokenStream {
    let name = &example.name;
    let (before, after) = (slot_values(&example.before), slot_values(&example.after));
    let arguments = json(&example.arguments);
    let recordings = example.recordings.iter().map(|(operation, answer)| {
        let answer = json(answer);
        quote!(::telos_sdk::descriptor::Recording { operation: #operation.into(), answer: #answer })
    });
    let expect = expectation(&example.expect);
    quote! {
        ::telos_sdk::descriptor::Example {
            name: #name.into(),
            before: #before,
            arguments: #arguments,
            recordings: ::std::vec![#(#recordings),*],
            expect: #expect,
            after: #after,
        }
    }
}

fn expectation(expect: &Expectation) -> TokenStream {
    match expect {
        Expectation::Value(value) => {
            let value = json(value);
            quote!(::telos_sdk::descriptor::Expectation::Value(#value))
        }
        Expectation::Schema(schema) => {
            let schema = json(schema);
            quote!(::telos_sdk::descriptor::Expectation::Schema(#schema))
        }
        Expectation::Refusal => quote!(::telos_sdk::descriptor::Expectation::Refusal),
    }
}

fn slot_values(object: &TokenStream) -> TokenStream {
    quote!(::telos_sdk::descriptor::slot_values(::telos_sdk::json!(#object)))
}

fn json(tokens: &TokenStream) -> TokenStream {
    quote!(::telos_sdk::json!(#tokens).to_string())
}

fn answer(selectors: &[Selector]) -> TokenStream {
    let arms = selectors.iter().map(|selector| {
        let Selector { name, function, .. } = selector;
        if selector.has_arguments {
            quote!(#name => ::telos_sdk::plugin::answer_with(this, arguments, Self::#function))
        } else {
            quote!(#name => ::telos_sdk::plugin::answer(this, Self::#function))
        }
    });
    quote! {
        fn answer(
            this: &::telos_sdk::Receiver,
            selector: &str,
            arguments: &str,
        ) -> ::std::result::Result<::std::string::String, ::telos_sdk::Failure> {
            match selector {
                #(#arms,)*
                _ => ::std::result::Result::Err(::telos_sdk::Failure::UnknownSelector),
            }
        }
    }
}

fn carry(way: &TokenStream, function: &proc_macro2::Ident) -> TokenStream {
    quote! {
        fn #way(
            slots: ::telos_sdk::descriptor::Slots,
            from: u32,
            to: u32,
        ) -> ::std::result::Result<::telos_sdk::descriptor::Slots, ::telos_sdk::descriptor::EvolveError> {
            Self::#function(slots, from, to)
        }
    }
}
