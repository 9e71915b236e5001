//! `key = value, flag, ...` lists, where a value is any tokens up to the next comma: JSON mostly.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, LitInt, LitStr, Result, Token};

/// One `key = value`, or a flag, whose value has no tokens.
pub(crate) struct Setting {
    pub(crate) key: Ident,
    value: TokenStream,
}

/// The settings of one attribute, in the order written.
pub(crate) struct Settings(pub(crate) Vec<Setting>);

impl Setting {
    /// The value as a string literal.
    pub(crate) fn text(&self) -> Result<LitStr> {
        self.parse("a string in quotes")
    }

    /// The value as a whole number.
    pub(crate) fn number(&self) -> Result<LitInt> {
        self.parse("a whole number")
    }

    /// The value as a bare word.
    pub(crate) fn word(&self) -> Result<Ident> {
        self.parse("a word")
    }

    /// The value as JSON tokens, not yet checked: `json!` does that.
    pub(crate) fn json(&self) -> Result<TokenStream> {
        if self.value.is_empty() {
            return Err(self.error("needs a value: JSON after `=`"));
        }
        Ok(self.value.clone())
    }

    /// The value as the tokens of one JSON object.
    pub(crate) fn object(&self) -> Result<TokenStream> {
        let mut tokens = self.value.clone().into_iter();
        match (tokens.next(), tokens.next()) {
            (Some(TokenTree::Group(group)), None) if group.delimiter() == proc_macro2::Delimiter::Brace => {
                Ok(quote!(#group))
            }
            _ => Err(self.error("needs a JSON object of slots: {\"slot\": value}")),
        }
    }

    /// Checks that this is a flag.
    pub(crate) fn flag(&self) -> Result<()> {
        if self.value.is_empty() { Ok(()) } else { Err(self.error("is a flag and takes no value")) }
    }

    /// An error at the key that names it.
    pub(crate) fn error(&self, what: &str) -> Error {
        Error::new(self.key.span(), format!("`{}` {what}", self.key))
    }

    fn parse<T: Parse>(&self, wanted: &str) -> Result<T> {
        syn::parse2(self.value.clone()).map_err(|_| self.error(&format!("needs {wanted}")))
    }
}

impl Parse for Settings {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut settings = Vec::new();
        while !input.is_empty() {
            settings.push(setting(input)?);
            if input.is_empty() {
                break;
            }
            input.parse::<Token![,]>()?;
        }
        Ok(Self(settings))
    }
}

fn setting(input: ParseStream<'_>) -> Result<Setting> {
    let key = input.parse()?;
    let mut value = TokenStream::new();
    if input.parse::<Option<Token![=]>>()?.is_some() {
        while !input.is_empty() && !input.peek(Token![,]) {
            value.extend([input.parse::<TokenTree>()?]);
        }
        if value.is_empty() {
            return Err(Error::new_spanned(&key, format!("`{key} =` needs a value")));
        }
    }
    Ok(Setting { key, value })
}
