//! What an author's block says, checked.
//!
//! Everything the host would refuse when the component is installed, and that can be known now, is an error here:
//! malformed names, two selectors of one name, an example that expects two things.

use std::collections::BTreeSet;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Attribute, Error, ImplItem, ImplItemFn, ItemImpl, LitStr, Meta, Result};

use crate::settings::Settings;

/// A component: the author's block without our attributes, and what they said.
pub(crate) struct Plugin {
    pub(crate) item: ItemImpl,
    /// The variant of `lifecycle.kind`.
    pub(crate) kind: Ident,
    /// None: the package's name.
    pub(crate) id: Option<LitStr>,
    /// None: the package's version.
    pub(crate) version: Option<LitStr>,
    pub(crate) generation: u32,
    pub(crate) summary: String,
    pub(crate) slots: Vec<Slot>,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) evolve: Option<Ident>,
    pub(crate) devolve: Option<Ident>,
}

/// A declared value slot.
pub(crate) struct Slot {
    pub(crate) name: LitStr,
    pub(crate) summary: String,
    /// JSON tokens.
    pub(crate) default: Option<TokenStream>,
}

/// A message the component understands.
pub(crate) struct Selector {
    pub(crate) function: Ident,
    pub(crate) has_arguments: bool,
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) read_only: bool,
    /// JSON Schema tokens.
    pub(crate) arguments: TokenStream,
    /// JSON Schema tokens.
    pub(crate) returns: TokenStream,
    pub(crate) examples: Vec<Example>,
}

/// A promised answer; every field but the names is JSON tokens.
pub(crate) struct Example {
    pub(crate) name: LitStr,
    pub(crate) before: TokenStream,
    pub(crate) arguments: TokenStream,
    /// Operation and answer, in order.
    pub(crate) recordings: Vec<(String, TokenStream)>,
    pub(crate) expect: Expectation,
    pub(crate) after: TokenStream,
}

/// What must come out of an example.
pub(crate) enum Expectation {
    Value(TokenStream),
    Schema(TokenStream),
    Refusal,
}

/// Reads the attribute's settings and its block.
///
/// # Errors
/// At the token that is wrong, saying what belongs there.
pub(crate) fn read(settings: TokenStream, item: TokenStream) -> Result<Plugin> {
    let item: ItemImpl = syn::parse2(item).map_err(|error| {
        Error::new(error.span(), format!("#[plugin] belongs on an `impl` block of selectors: {error}"))
    })?;
    let mut plugin = empty(item);
    read_options(&mut plugin, syn::parse2(settings)?)?;
    read_block(&mut plugin)?;
    read_functions(&mut plugin)?;
    if plugin.selectors.is_empty() {
        return Err(Error::new_spanned(
            &plugin.item.self_ty,
            "a plugin needs at least one #[selector] function",
        ));
    }
    Ok(plugin)
}

fn empty(item: ItemImpl) -> Plugin {
    Plugin {
        item,
        kind: format_ident!("Behaviour"),
        id: None,
        version: None,
        generation: 1,
        summary: String::new(),
        slots: Vec::new(),
        selectors: Vec::new(),
        evolve: None,
        devolve: None,
    }
}

fn read_options(plugin: &mut Plugin, settings: Settings) -> Result<()> {
    for setting in settings.0 {
        match setting.key.to_string().as_str() {
            "kind" => plugin.kind = kind(&setting.word()?)?,
            "id" => plugin.id = Some(setting.text()?),
            "version" => plugin.version = Some(version(setting.text()?)?),
            "generation" => plugin.generation = generation(&setting.number()?)?,
            _ => return Err(setting.error("is not a setting of #[plugin]: kind, id, version, generation")),
        }
    }
    check_id(plugin)
}

fn kind(word: &Ident) -> Result<Ident> {
    match word.to_string().as_str() {
        "behaviour" => Ok(format_ident!("Behaviour")),
        "persona" => Ok(format_ident!("Persona")),
        "curator" => Ok(format_ident!("Curator")),
        _ => Err(Error::new_spanned(word, "a plugin's kind is behaviour, persona or curator")),
    }
}

fn version(text: LitStr) -> Result<LitStr> {
    match semver::Version::parse(&text.value()) {
        Ok(_) => Ok(text),
        Err(error) => {
            Err(Error::new_spanned(&text, format!("`{}` is no semantic version: {error}", text.value())))
        }
    }
}

fn generation(number: &syn::LitInt) -> Result<u32> {
    match number.base10_parse() {
        Ok(0) | Err(_) => Err(Error::new_spanned(number, "generations are counted from 1")),
        Ok(generation) => Ok(generation),
    }
}

/// The id is known now, even when it is the package's name.
fn check_id(plugin: &Plugin) -> Result<()> {
    let (id, place) = match &plugin.id {
        Some(id) => (id.value(), id.span()),
        None => (std::env::var("CARGO_PKG_NAME").unwrap_or_default(), proc_macro2::Span::call_site()),
    };
    let is_id = (1..=64).contains(&id.len())
        && id.starts_with(|first: char| first.is_ascii_lowercase())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_id {
        return Ok(());
    }
    Err(Error::new(
        place,
        format!(
            "`{id}` is no component id: 1 to 64 lower-case letters, digits and `-`, first a letter; say #[plugin(id = \"...\")]"
        ),
    ))
}

fn read_block(plugin: &mut Plugin) -> Result<()> {
    plugin.summary = summary(&plugin.item.attrs);
    for attribute in take(&mut plugin.item.attrs, &["slot"]) {
        let slot = read_slot(&attribute)?;
        if plugin.slots.iter().any(|other| other.name.value() == slot.name.value()) {
            return Err(Error::new_spanned(&slot.name, "this slot is declared twice"));
        }
        plugin.slots.push(slot);
    }
    Ok(())
}

fn read_slot(attribute: &Attribute) -> Result<Slot> {
    let (mut name, mut summary, mut default) = (None, String::new(), None);
    for setting in settings(attribute)?.0 {
        match setting.key.to_string().as_str() {
            "name" => name = Some(setting.text()?),
            "summary" => summary = setting.text()?.value(),
            "default" => default = Some(setting.json()?),
            _ => return Err(setting.error("is not a setting of #[slot]: name, default, summary")),
        }
    }
    let name = name.ok_or_else(|| Error::new_spanned(attribute, "a slot needs `name = \"...\"`"))?;
    if !(1..=128).contains(&name.value().len()) {
        return Err(Error::new_spanned(&name, "slot names have 1 to 128 bytes"));
    }
    Ok(Slot { name, summary, default })
}

fn read_functions(plugin: &mut Plugin) -> Result<()> {
    let mut names = BTreeSet::new();
    for item in &mut plugin.item.items {
        let ImplItem::Fn(function) = item else { continue };
        let marks = take(&mut function.attrs, &["selector", "example", "evolve", "devolve"]);
        let Some((first, rest)) = marks.split_first() else {
            continue;
        };
        match (first.path().get_ident().map(Ident::to_string).as_deref(), rest) {
            (Some("selector"), examples) => {
                let selector = read_selector(function, first, examples)?;
                if !names.insert(selector.name.clone()) {
                    return Err(Error::new_spanned(
                        &function.sig.ident,
                        format!("two selectors are called `{}`", selector.name),
                    ));
                }
                plugin.selectors.push(selector);
            }
            (Some("evolve"), []) => plugin.evolve = Some(function.sig.ident.clone()),
            (Some("devolve"), []) => plugin.devolve = Some(function.sig.ident.clone()),
            _ => {
                return Err(Error::new_spanned(
                    first,
                    "#[selector] comes first, #[example] after it; #[evolve] and #[devolve] stand alone",
                ));
            }
        }
    }
    Ok(())
}

fn read_selector(function: &ImplItemFn, mark: &Attribute, examples: &[Attribute]) -> Result<Selector> {
    let mut selector = Selector {
        function: function.sig.ident.clone(),
        has_arguments: has_arguments(function)?,
        name: function.sig.ident.to_string(),
        summary: summary(&function.attrs),
        read_only: false,
        arguments: quote!(true),
        returns: quote!(true),
        examples: examples.iter().map(read_example).collect::<Result<_>>()?,
    };
    for setting in settings(mark)?.0 {
        match setting.key.to_string().as_str() {
            "read_only" => {
                setting.flag()?;
                selector.read_only = true;
            }
            "name" => selector.name = setting.text()?.value(),
            "arguments" => selector.arguments = setting.json()?,
            "returns" => selector.returns = setting.json()?,
            _ => {
                return Err(
                    setting.error("is not a setting of #[selector]: read_only, name, arguments, returns")
                );
            }
        }
    }
    check_name(&selector.name, mark)?;
    Ok(selector)
}

/// One parameter is the receiver; a second is the arguments.
fn has_arguments(function: &ImplItemFn) -> Result<bool> {
    match (function.sig.receiver(), function.sig.inputs.len()) {
        (None, 1) => Ok(false),
        (None, 2) => Ok(true),
        _ => Err(Error::new_spanned(
            &function.sig,
            "a selector takes `this: &Receiver` and, if it needs them, `arguments: T`; it has no `self`, since nothing lives in a plugin",
        )),
    }
}

fn check_name(name: &str, place: &Attribute) -> Result<()> {
    let is_name = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_name {
        return Ok(());
    }
    Err(Error::new_spanned(place, format!("`{name}` is no selector: 1 to 64 letters, digits, `-` and `_`")))
}

fn read_example(attribute: &Attribute) -> Result<Example> {
    if !attribute.path().is_ident("example") {
        return Err(Error::new_spanned(attribute, "after #[selector] only #[example] follows"));
    }
    let mut name = None;
    let mut expect = Vec::new();
    let (mut before, mut arguments, mut after) = (quote!({}), quote!(null), quote!({}));
    let mut recordings = Vec::new();
    for setting in settings(attribute)?.0 {
        match setting.key.to_string().as_str() {
            "name" => name = Some(setting.text()?),
            "before" => before = setting.object()?,
            "after" => after = setting.object()?,
            "arguments" => arguments = setting.json()?,
            "returns" => expect.push(Expectation::Value(setting.json()?)),
            "schema" => expect.push(Expectation::Schema(setting.json()?)),
            "refused" => {
                setting.flag()?;
                expect.push(Expectation::Refusal);
            }
            operation @ ("generate" | "embed" | "send" | "recall") => {
                recordings.push((operation.to_owned(), setting.json()?));
            }
            _ => return Err(setting.error("is not a setting of #[example]: name, before, arguments, returns, schema, refused, after, generate, embed, send, recall")),
        }
    }
    let name = name.ok_or_else(|| Error::new_spanned(attribute, "an example needs `name = \"...\"`"))?;
    match (expect.pop(), expect.is_empty()) {
        (Some(expect), true) => Ok(Example { name, before, arguments, recordings, expect, after }),
        _ => Err(Error::new_spanned(
            attribute,
            "an example expects exactly one of `returns`, `schema` and `refused`",
        )),
    }
}

fn settings(attribute: &Attribute) -> Result<Settings> {
    match &attribute.meta {
        Meta::Path(_) => Ok(Settings(Vec::new())),
        _ => attribute.parse_args(),
    }
}

/// Moves the attributes with these names out, in order.
fn take(attributes: &mut Vec<Attribute>, names: &[&str]) -> Vec<Attribute> {
    attributes.extract_if(.., |attribute| names.iter().any(|name| attribute.path().is_ident(name))).collect()
}

/// The first paragraph of a doc comment, on one line.
fn summary(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                Some(text.value().trim().to_owned())
            }
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> =
        lines.skip_while(String::is_empty).take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}
