use std::str::FromStr;

use proc_macro2::TokenStream;

use crate::{expand, model};

const SELECTOR: &str = "impl A { #[selector] fn a(this: &Receiver) -> Result<u8, Failure> { Ok(1) } }";

fn read(settings: &str, item: &str) -> syn::Result<model::Plugin> {
    model::read(TokenStream::from_str(settings).unwrap(), TokenStream::from_str(item).unwrap())
}

/// The block is refused, in words that contain `expected`.
#[track_caller]
fn check_refused(settings: &str, item: &str, expected: &str) {
    let Err(error) = read(settings, item) else { panic!("was taken") };
    assert!(error.to_string().contains(expected), "{error}");
}

/// A selector function with these attributes is refused.
#[track_caller]
fn check_attributes_refused(attributes: &str, expected: &str) {
    check_refused("", &SELECTOR.replace("#[selector]", attributes), expected);
}

#[test]
fn the_block_keeps_the_authors_functions_and_loses_our_attributes() {
    let plugin =
        read("", &SELECTOR.replace("fn a", "#[example(name = \"x\", returns = 1)] #[inline] fn a")).unwrap();
    let code = expand::component(&plugin).to_string();
    assert!(code.contains("# [inline] fn a (this : & Receiver)"), "{code}");
    assert!(!code.contains("[selector]") && !code.contains("[example"), "{code}");
    syn::parse_str::<syn::File>(&code).unwrap();
}

#[test]
fn id_and_version_are_the_packages_unless_given() {
    let code = expand::component(&read("", SELECTOR).unwrap()).to_string();
    assert!(code.contains(r#"id : env ! ("CARGO_PKG_NAME")"#), "{code}");
    let code = expand::component(&read(r#"id = "b", version = "2.0.0""#, SELECTOR).unwrap()).to_string();
    assert!(code.contains(r#"id : "b" . into () , version : "2.0.0" . into ()"#), "{code}");
}

#[test]
fn settings_of_the_plugin_are_checked() {
    check_refused(r#"id = "A""#, SELECTOR, "`A` is no component id");
    check_refused(&format!("id = \"a{}\"", "b".repeat(64)), SELECTOR, "is no component id");
    check_refused("kind = daemon", SELECTOR, "behaviour, persona or curator");
    check_refused("kind = \"persona\"", SELECTOR, "`kind` needs a word");
    check_refused("generation = 0", SELECTOR, "counted from 1");
    check_refused("generation = 4294967296", SELECTOR, "counted from 1");
    check_refused("name = \"a\"", SELECTOR, "not a setting of #[plugin]");
    check_refused("id =", SELECTOR, "needs a value");
    check_refused("", "fn a() {}", "belongs on an `impl` block");
    check_refused("", "impl A { fn a() {} }", "at least one #[selector]");
}

#[test]
fn versions_are_semantic() {
    assert!(read(r#"version = "1.0.0-rc.1+build.5""#, SELECTOR).is_ok());
    for version in ["1", "1.0", "01.0.0", "1.0.0-", "v1.0.0"] {
        check_refused(&format!("version = \"{version}\""), SELECTOR, "no semantic version");
    }
}

#[test]
fn slots_are_checked() {
    check_refused("", &format!("#[slot(default = 0)] {SELECTOR}"), "needs `name");
    check_refused("", &format!("#[slot(name = \"\")] {SELECTOR}"), "1 to 128 bytes");
    check_refused("", &format!("#[slot(name = \"a\", size = 1)] {SELECTOR}"), "not a setting of #[slot]");
    check_refused("", &format!("#[slot(name = \"a\")] #[slot(name = \"a\")] {SELECTOR}"), "declared twice");
}

#[test]
fn selectors_are_checked() {
    check_attributes_refused("#[selector(name = \"a b\")]", "`a b` is no selector");
    check_attributes_refused("#[selector(read_only = true)]", "is a flag");
    check_attributes_refused("#[selector(pure)]", "not a setting of #[selector]");
    check_attributes_refused("#[example(name = \"x\", returns = 1)]", "#[selector] comes first");
    check_attributes_refused("#[selector] #[evolve]", "only #[example] follows");
    check_refused("", "impl A { #[selector] fn a(&self) {} }", "it has no `self`");
    check_refused("", "impl A { #[selector] fn a() {} }", "takes `this: &Receiver`");
    check_refused(
        "",
        "impl A { #[selector] fn a(t: &R) {} #[selector(name = \"a\")] fn b(t: &R) {} }",
        "two selectors are called `a`",
    );
}

#[test]
fn examples_are_checked() {
    check_attributes_refused("#[selector] #[example(returns = 1)]", "needs `name");
    check_attributes_refused("#[selector] #[example(name = \"x\")]", "exactly one of");
    check_attributes_refused("#[selector] #[example(name = \"x\", returns = 1, refused)]", "exactly one of");
    check_attributes_refused(
        "#[selector] #[example(name = \"x\", before = 1, refused)]",
        "JSON object of slots",
    );
    check_attributes_refused(
        "#[selector] #[example(name = \"x\", answer = 1)]",
        "not a setting of #[example]",
    );
    check_attributes_refused("#[selector] #[example(name = \"x\", returns)]", "JSON after `=`");
}
