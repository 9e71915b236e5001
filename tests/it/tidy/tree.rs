//! The checkout as the rules see it: cargo's description, source files, and the words of a line of code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SOURCE_FOLDERS: [&str; 7] = ["store", "host", "sdk", "plugins", "tests", "examples", "xtask"];

/// One Rust file.
pub(crate) struct Source {
    /// Inside the root, with `/` on every system.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Places (`path:line`) of the lines whose code satisfies `is_wanted`; comments are not code.
    pub(crate) fn lines_where(&self, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let lines = self.text.lines().enumerate();
        lines
            .filter(move |(_, line)| is_wanted(code_of(line)))
            .map(|(index, line)| format!("{}:{} `{}`", self.path, index + 1, line.trim()))
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The file up to its first inline test module.
    pub(crate) fn without_tests(&self) -> Source {
        let text = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        Source { path: self.path.clone(), text }
    }
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// What `cargo metadata --no-deps` says.
pub(crate) fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Every Rust file of the project.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in SOURCE_FOLDERS {
        collect(&root().join(folder), &mut found);
    }
    found
}

/// A text file inside the root.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// Names of the folders directly in `folder` (inside the root) that hold any file and are not hidden.
pub(crate) fn folders(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = entries(&root().join(folder))
        .into_iter()
        .filter(|path| path.is_dir() && holds_file(path))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    names
}

/// Whether the root's `.gitignore` names this top-level folder.
pub(crate) fn is_ignored_by_git(folder: &str) -> bool {
    read(".gitignore").lines().any(|line| line.trim_matches('/') == folder)
}

/// A path with `/` between its parts.
pub(crate) fn slashed(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Whether the code holds `word` with no letter, digit or `_` on either side.
pub(crate) fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Whether the code names a crate: as a path, or in a `use`.
pub(crate) fn uses_crate(code: &str, module: &str) -> bool {
    let is_import = code.trim_start().trim_start_matches("pub ").starts_with("use ");
    names(code, module) && (is_import || code.contains(&format!("{module}::")))
}

fn code_of(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(start, _)| !line[..*start].ends_with(':'));
    comment.map_or(line, |(start, _)| &line[..start])
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for path in entries(folder) {
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = slashed(path.strip_prefix(root()).unwrap_or(&path));
            found.push(Source { text: read(&inside), path: inside });
        }
    }
}

fn holds_file(folder: &Path) -> bool {
    entries(folder).iter().any(|path| path.is_file() || (path.is_dir() && holds_file(path)))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

#[test]
fn words_are_whole_and_comments_are_not_code() {
    assert!(names("use rand::Rng;", "rand"));
    assert!(names("let now = Instant::now();", "Instant::now"));
    assert!(!names("let operand = strand;", "rand"));
    assert!(!names("is_rand_", "rand"));
    assert!(uses_crate("    pub use redb as storage;", "redb"));
    assert!(uses_crate("fn f() -> redb::Result<()> {", "redb"));
    assert!(!uses_crate("let text = \"redb decides\";", "redb"));
    assert_eq!(code_of("let x = 1; // tokio"), "let x = 1; ");
    assert_eq!(code_of("let url = \"https://a\";"), "let url = \"https://a\";");
    assert_eq!(code_of("//! tokio"), "");
}

#[test]
fn places_name_path_and_line() {
    let source = Source { path: "a/b.rs".into(), text: "one\ntwo\n#[cfg(test)]\nmod tests {\ntwo\n}".into() };
    assert_eq!(source.lines_where(|code| code == "two").count(), 2);
    let places: Vec<String> = source.without_tests().lines_where(|code| code == "two").collect();
    assert_eq!(places, ["a/b.rs:2 `two`"]);
}
