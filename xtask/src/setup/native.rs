//! What building llama.cpp and its bindings needs: a C++ compiler, make, cmake and libclang.
//!
//! A C compiler brings none of them, and neither does cmake bring make when only what it depends on is installed.
//! cmake and libclang also come as Python wheels, for whoever may not install packages; pip, which Python does not
//! always bring, fetches those wheels and later the models.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Tools, install_packages, runs};
use crate::phase::{ask, execute};

/// In the order in which they are asked for.
const NEEDS: [Need; 5] = [
    Need { name: "a C++ compiler", package: "g++", is_there: has_cxx, has_wheel: false },
    Need { name: "make", package: "make", is_there: has_make, has_wheel: false },
    Need { name: "cmake", package: "cmake", is_there: has_cmake, has_wheel: true },
    Need { name: "libclang", package: "libclang-dev", is_there: has_libclang, has_wheel: true },
    Need { name: "pip", package: "python3-pip", is_there: has_pip, has_wheel: false },
];

/// The digests are those of the wheels for Linux on x86-64 and on ARM, and for Windows; pip takes no other.
const CMAKE_WHEEL: Wheel = Wheel {
    package: "cmake",
    version: "3.31.6",
    holds: "cmake/data/bin",
    sha256: [
        "1c8b05df0602365da91ee6a3336fe57525b137706c4ab5675498f662ae1dbcec",
        "42d9883b8958da285d53d5f69d40d9650c2d1bcf922d82b3ebdceb2b3a7d4521",
        "bbaed969cef3c427f4f17591feb28db4ae595e3a4bbd45cb35522cee14df6a32",
    ],
};
const LIBCLANG_WHEEL: Wheel = Wheel {
    package: "libclang",
    version: "18.1.1",
    holds: "clang/native",
    sha256: [
        "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b",
        "54dda940a4a0491a9d1532bf071ea3ef26e6dbaf03b5000ed94dd7174e8f9592",
        "4dd2d3b82fab35e2bf9ca717d7b63ac990a3519c7e312f19fa8e86dcc712f7fb",
    ],
};

/// Folders where bindgen looks for libclang by itself, each searched two folders deep.
const LIBRARY_FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
const LIBRARY_DEPTH: usize = 2;

/// Something that has to be on the machine.
struct Need {
    name: &'static str,
    /// The Debian package that brings it.
    package: &'static str,
    is_there: fn() -> bool,
    has_wheel: bool,
}

/// A Python wheel that carries a native tool.
struct Wheel {
    package: &'static str,
    version: &'static str,
    /// The folder inside the wheel that children must be told about.
    holds: &'static str,
    /// One for each platform.
    sha256: [&'static str; 3],
}

/// Finds or brings them all; wheels go below `folder`.
///
/// # Errors
/// When something is neither there nor to be had; the message says what to install, and how.
pub(super) fn prepare(folder: &Path) -> Result<Tools> {
    if let missing @ [_, ..] = missing().as_slice() {
        install_packages(&packages(missing));
    }
    check_needs(&missing())?;
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

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.is_there)()).collect()
}

fn packages(needs: &[&Need]) -> Vec<&'static str> {
    needs.iter().map(|need| need.package).collect()
}

/// Passes when the rest can be had without the system's package manager. Without pip there are no wheels; with
/// everything else there, it is missed only where a model is fetched, which says so.
fn check_needs(missing: &[&Need]) -> Result<()> {
    let needs_wheel = missing.iter().any(|need| need.has_wheel);
    let is_needed = |need: &Need| !need.has_wheel && (need.package != "python3-pip" || needs_wheel);
    if !missing.iter().any(|need| is_needed(need)) {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.name).collect();
    bail!(
        "not found: {}; install what is missing (on Debian, as root: `apt-get install --yes {}`), then run this again",
        names.join(", "),
        packages(missing).join(" ")
    )
}

/// Where Windows has a compiler, it has both under other names, and cmake finds them.
fn has_cxx() -> bool {
    cfg!(windows) || std::env::var_os("CXX").is_some() || runs("c++")
}

fn has_make() -> bool {
    cfg!(windows) || std::env::var_os("CMAKE_GENERATOR").is_some() || runs("make")
}

fn has_cmake() -> bool {
    runs("cmake")
}

fn has_pip() -> bool {
    ask("python3", &["-m", "pip", "--version"]).is_some()
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
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        let requirements = partial.join("requirements.txt");
        fs::write(&requirements, self.requirement())
            .with_context(|| format!("cannot write {}", requirements.display()))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]);
        pip.env("PIP_ROOT_USER_ACTION", "ignore").arg("--target").arg(&partial);
        execute(pip.args(["--require-hashes", "--requirement"]).arg(&requirements))?;
        fs::rename(&partial, installed)
            .with_context(|| format!("cannot move a wheel to {}", installed.display()))
    }

    /// A line of a requirements file; pip refuses any other wheel before unpacking it.
    fn requirement(&self) -> String {
        let hashes: String = self.sha256.iter().map(|digest| format!(" --hash=sha256:{digest}")).collect();
        format!("{}=={}{hashes}\n", self.package, self.version)
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

    fn refusal(packages: &[&str]) -> Option<String> {
        let missing: Vec<_> = NEEDS.iter().filter(|need| packages.contains(&need.package)).collect();
        check_needs(&missing).err().map(|error| error.to_string())
    }

    #[test]
    fn what_no_wheel_brings_is_asked_for_in_one_sentence_with_its_command() {
        let fresh = refusal(&["g++", "make", "cmake", "libclang-dev", "python3-pip"]).unwrap();
        assert!(fresh.starts_with("not found: a C++ compiler, make, cmake, libclang, pip;"), "{fresh}");
        assert!(fresh.contains("`apt-get install --yes g++ make cmake libclang-dev python3-pip`"), "{fresh}");
        assert!(refusal(&["make"]).unwrap().contains("`apt-get install --yes make`"));
        assert!(
            refusal(&["cmake", "python3-pip"]).unwrap().contains("cmake python3-pip`"),
            "no pip, no wheel"
        );
    }

    #[test]
    fn what_a_wheel_brings_is_not_asked_for() {
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&["cmake", "libclang-dev"]), None);
        assert_eq!(refusal(&["python3-pip"]), None, "only models need it then");
    }

    #[test]
    fn a_wheel_is_asked_for_with_its_digests() {
        let requirement = CMAKE_WHEEL.requirement();
        assert!(requirement.starts_with("cmake==3.31.6 --hash=sha256:"), "{requirement}");
        for wheel in [CMAKE_WHEEL, LIBCLANG_WHEEL] {
            let digests = wheel.sha256;
            assert!(digests.iter().all(|digest| digest.len() == 64), "{digests:?}");
            assert_eq!(wheel.requirement().matches("--hash=sha256:").count(), digests.len());
        }
    }
}
