//! clang and llvm-ar, which compile the C of the JavaScript engine to wasm.
//!
//! The version on record is looked for first; any other does as well. GNU's `ar` writes no index of wasm objects, and
//! gcc knows no wasm.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{install_packages, runs};
use crate::phase::ask;

/// A clang, and the archiver that goes with it.
pub(crate) struct Compiler {
    clang: String,
    ar: String,
    /// As it calls itself: `Debian clang version 14.0.6`.
    pub(crate) version: String,
}

impl Compiler {
    /// Tells a build to use it for the engine's target, and to write down no path of this machine: an assertion in C
    /// then names its file alone.
    pub(crate) fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("CC_wasm32_unknown_unknown", &self.clang).env("AR_wasm32_unknown_unknown", &self.ar);
        command.env("CFLAGS_wasm32_unknown_unknown", "-D__FILE__=__FILE_NAME__ -Wno-builtin-macro-redefined")
    }

    /// Its version's number alone: `14.0.6`.
    pub(crate) fn number(&self) -> &str {
        number(&self.version)
    }
}

/// Finds or brings one, that of `version` before any other.
///
/// # Errors
/// When there is none and it cannot be brought; the message says what to install.
pub(super) fn prepare(version: &str) -> Result<Compiler> {
    let major = version.split('.').next().unwrap_or(version);
    let of_version = [format!("clang-{major}"), format!("llvm-{major}")];
    for packages in [[&*of_version[0], &*of_version[1]], ["clang", "llvm"]] {
        if found(major).is_none() {
            install_packages(&packages);
        }
    }
    let Some((clang, ar)) = found(major) else {
        bail!(
            "not found: clang and llvm-ar; install them (on Debian, as root: `apt-get install --yes clang llvm`), then \
             run this again"
        );
    };
    let told = ask(&clang, &["--version"]).with_context(|| format!("{clang} does not say its version"))?;
    let version = told.lines().next().unwrap_or_default().to_owned();
    Ok(Compiler { clang, ar, version })
}

fn found(major: &str) -> Option<(String, String)> {
    let either =
        |name: &str| [format!("{name}-{major}"), name.to_owned()].into_iter().find(|name| runs(name));
    Some((either("clang")?, either("llvm-ar")?))
}

fn number(version: &str) -> &str {
    let mut words = version.split_whitespace().skip_while(|word| *word != "version");
    let word = words.nth(1).unwrap_or(version);
    word.split_once(|c: char| !c.is_ascii_digit() && c != '.').map_or(word, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_number_whoever_packed_it() {
        for version in [
            "Debian clang version 14.0.6",
            "clang version 14.0.6",
            "Ubuntu clang version 14.0.6-1ubuntu1.1",
            "clang version 14.0.6 (https://github.com/llvm/llvm-project f28c006a5895)",
        ] {
            assert_eq!(number(version), "14.0.6", "{version}");
        }
    }
}
