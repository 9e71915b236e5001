//! The tree keeps its promises: arrows, absences, names, and documents that know every folder.
//!
//! Most invariants of the design are absences, and an absence is lost by one line that nobody notices. Rules
//! are tables at the top; each check collects every breach before it fails, and says what to do about it.

mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use tree::{Source, names, uses_crate};

/// Which of our crates each folder may depend on, for building and for testing alike. `*` is one folder.
const ARROWS: [(&str, &[&str]); 21] = [
    ("store/archive", &[]),
    ("store/graph", &[]),
    ("store", &["telos-archive", "telos-graph"]),
    ("host/bridge", &[]),
    ("host/forge", &["telos-kernel", "telos-store"]),
    ("host/forge/*", &[]),
    ("host/guard", &["telos-bridge"]),
    ("host/inference", &[]),
    ("host/journal", &[]),
    ("host/kernel", &["telos-store"]),
    ("host/migration", &["telos-store"]),
    ("host/service", &PARTS),
    ("host/telos", &HOST),
    ("sdk", &["telos-sdk-macros"]),
    ("sdk/macros", &[]),
    ("plugins/*", &["telos-sdk"]),
    ("tests", &HOST),
    ("tests/bench", &BENCHES),
    ("tests/*", &HOST),
    ("tests/guests/*", &["telos-sdk"]),
    ("xtask", &[]),
];
/// What makes up a host; none of them knows another, but the kernel and migrations the store, the guard the
/// bridge, and the forge the kernel.
const PARTS: [&str; 8] = [
    "telos-bridge",
    "telos-forge",
    "telos-guard",
    "telos-inference",
    "telos-journal",
    "telos-kernel",
    "telos-migration",
    "telos-store",
];
const HOST: [&str; 9] = [
    "telos-bridge",
    "telos-forge",
    "telos-guard",
    "telos-inference",
    "telos-journal",
    "telos-kernel",
    "telos-migration",
    "telos-service",
    "telos-store",
];

/// Benchmarks also use the tests' fixtures, and measure graphs alone.
const BENCHES: [&str; 10] = [
    "telos-bridge",
    "telos-forge",
    "telos-graph",
    "telos-inference",
    "telos-journal",
    "telos-kernel",
    "telos-migration",
    "telos-service",
    "telos-store",
    "telos-tests",
];

/// Dependencies with a home: (crate, folders whose manifests may list it, paths whose code may name it).
const HOMES: [(&str, &[&str], &[&str]); 26] = [
    ("redb", &["store", "tests/bench"], &["store/", "tests/bench/"]),
    ("diskann", &GRAPHS, &GRAPH_FILES),
    ("diskann-disk", &["store/archive"], &["store/archive/src/disk_graph.rs"]),
    ("diskann-providers", &["store/archive"], &["store/archive/src/disk_graph.rs"]),
    ("diskann-utils", &["store/archive"], &["store/archive/src/disk_graph.rs"]),
    ("diskann-vector", &GRAPHS, &GRAPH_FILES),
    ("hnsw_rs", &["store/graph"], &["store/graph/src/hnsw.rs"]),
    (
        "zeromq",
        &["host/bridge", "host/guard", "tests/bench"],
        // Tests speak against it, and the benchmark of the bridge measures it bare.
        &[
            "host/bridge/src/socket/zeromq.rs",
            "host/bridge/tests/",
            "host/guard/tests/",
            "tests/bench/src/bin/bridge/bare.rs",
        ],
    ),
    ("omq-tokio", &["host/bridge"], &["host/bridge/src/socket/omq.rs"]),
    ("cap-std", &["host/kernel"], &["host/kernel/src/inbox/directory.rs"]),
    ("snow", &["host/guard"], &["host/guard/src/noise.rs"]),
    ("llama-cpp-2", &["host/inference"], &["host/inference/src/llama.rs"]),
    ("llama-cpp-sys-2", &["host/inference"], &["host/inference/src/llama.rs"]),
    // What builds the engine runs it once.
    (
        "wasmtime",
        &[ENGINE_BUILD, "host/kernel", "tests", "tests/bench"],
        &["host/forge/engine-build/src/wizen.rs", "host/kernel/", "tests/"],
    ),
    (
        "wasmtime-wizer",
        &["host/forge", ENGINE_BUILD],
        &["host/forge/src/whole.rs", "host/forge/engine-build/src/wizen.rs"],
    ),
    ("wasmtime-wasi", &["host/kernel", "tests/bench"], &["host/kernel/", "tests/bench/"]),
    ("wit-bindgen", &["host/forge/engine-js", "sdk"], &["host/forge/engine-js/src/bindings.rs", "sdk/src/"]),
    ("wit-component", &[ENGINE_BUILD], &["host/forge/engine-build/"]),
    ("wit-parser", &[ENGINE_BUILD], &["host/forge/engine-build/"]),
    (
        "wasm-encoder",
        &["host/forge", ENGINE_BUILD, "tests"],
        &[
            "host/forge/src/assemble.rs",
            "host/forge/src/whole/inline.rs",
            "host/forge/engine-build/",
            "tests/it/hostile/made.rs",
        ],
    ),
    (
        "wasmparser",
        &["host/forge", ENGINE_BUILD],
        &[
            "host/forge/src/assemble/tests.rs",
            "host/forge/src/whole/inline.rs",
            "host/forge/engine-build/",
            "host/forge/fuzz/",
        ],
    ),
    ("rquickjs", &["host/forge/engine-js"], &["host/forge/engine-js/src/"]),
    ("jsonschema", &["host/forge", "host/kernel"], &["host/forge/src/workshop/trial.rs", "host/kernel/"]),
    ("mlua", &["host/migration"], &["host/migration/src/lua"]),
    ("landlock", &["host/telos"], &["host/telos/src/confine/linux.rs"]),
    ("seccompiler", &["host/telos"], &["host/telos/src/confine/linux.rs"]),
];

/// What makes the JavaScript engine and the templates, when a host is built.
const ENGINE_BUILD: &str = "host/forge/engine-build";

/// Where graphs of vectors are built: in memory and on disk.
const GRAPHS: [&str; 2] = ["store/archive", "store/graph"];
const GRAPH_FILES: [&str; 2] = ["store/archive/src/disk_graph.rs", "store/graph/src/vamana.rs"];

/// Files that decide and do nothing else: whatever moves in them comes in as an argument.
const PURE: [&str; 35] = [
    "host/forge/src/gate.rs",
    "host/forge/src/layer.rs",
    "host/forge/src/policy.rs",
    "host/forge/src/spec.rs",
    "host/forge/src/ticket.rs",
    "host/bridge/src/channel.rs",
    "host/bridge/src/client.rs",
    "host/bridge/src/client/silence.rs",
    "host/bridge/src/worker.rs",
    "host/bridge/src/pool.rs",
    "host/bridge/src/pool/view.rs",
    "host/bridge/src/link.rs",
    "host/bridge/src/frame.rs",
    "host/bridge/src/ppp/calls.rs",
    "host/bridge/src/ppp/envelope.rs",
    "host/bridge/src/ppp/queue.rs",
    "host/bridge/src/ppp/worker.rs",
    "host/bridge/src/queue.rs",
    "host/bridge/src/queue/session.rs",
    "host/bridge/src/rpc.rs",
    "host/forge/engine-build/src/sets.rs",
    "host/forge/engine-build/src/thin.rs",
    "host/forge/src/assemble.rs",
    "host/forge/src/behaviour.rs",
    "host/forge/src/whole/inline.rs",
    "host/guard/src/census.rs",
    "host/guard/src/greeting.rs",
    "host/guard/src/hush.rs",
    "host/guard/src/inspector.rs",
    "host/guard/src/inspector/ready.rs",
    "host/kernel/src/inbox.rs",
    "host/kernel/src/inbox/name.rs",
    "host/inference/src/catalogue.rs",
    "host/inference/src/residency.rs",
    "host/kernel/src/budget.rs",
];
const IMPURE: [&str; 12] = [
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "rand",
    "socket",
    "tokio",
    "zeromq",
    "UnixStream",
    "TcpStream",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Past this, look for a second noun; the report lists such files. Past twice this, the test fails.
const LINES_TO_REPORT: usize = 600;

#[test]
fn every_crate_depends_only_on_what_its_arrow_allows() {
    let mut breaches = Vec::new();
    for (folder, package) in packages() {
        let Some(allowed) = arrow_of(&folder) else {
            breaches.push(format!("{folder}: a crate without an arrow; add its row to ARROWS"));
            continue;
        };
        let ours = dependencies(&package).into_iter().filter(|(_, is_ours)| *is_ours);
        breaches.extend(ours.filter(|(name, _)| !allowed.contains(&name.as_str())).map(|(name, _)| {
            format!("{folder} -> {name}: not an arrow of the design; allowed: {allowed:?}")
        }));
    }
    refuse(&breaches);
}

#[test]
fn heavy_dependencies_stay_in_their_home() {
    let mut breaches = Vec::new();
    for (folder, package) in packages() {
        for (name, _) in dependencies(&package) {
            let home = HOMES.iter().find(|(heavy, ..)| *heavy == name);
            if let Some((_, folders, _)) = home.filter(|(_, folders, _)| !folders.contains(&folder.as_str()))
            {
                breaches.push(format!("{folder}/Cargo.toml lists {name}, whose home is {folders:?}"));
            }
        }
    }
    for source in sources() {
        for (name, _, paths) in HOMES {
            if !paths.iter().any(|path| source.path.starts_with(path)) {
                let module = name.replace('-', "_");
                breaches.extend(
                    source
                        .lines_where(|code| uses_crate(code, &module))
                        .map(|place| format!("{place} names {name}, which only {paths:?} may")),
                );
            }
        }
    }
    refuse(&breaches);
}

#[test]
fn pure_files_have_no_clock_socket_thread_or_chance() {
    let sources = sources();
    let mut breaches = Vec::new();
    for path in PURE {
        match sources.iter().find(|source| source.path == path) {
            None => breaches.push(format!("{path} is gone; if it moved, move its row in PURE")),
            Some(source) => breaches.extend(impurities(source)),
        }
    }
    refuse(&breaches);
}

/// Names that are a role in the host's contract, which whoever serves under that name has: who is asked for a behaviour.
const ROLES: [(&str, &str); 1] = [("host/forge/src/workshop/architect.rs", "\"architect\"")];

#[test]
fn host_code_never_names_a_plugin() {
    let plugins: Vec<String> = tree::folders("plugins").iter().map(|name| format!("\"{name}\"")).collect();
    assert!(!plugins.is_empty(), "plugins/ holds nothing");
    let is_role = |path: &str, plugin: &str| ROLES.contains(&(path, plugin));
    let names_one =
        |path: &str, code: &str| plugins.iter().any(|plugin| code.contains(plugin) && !is_role(path, plugin));
    let breaches = sources()
        .into_iter()
        .filter(|source| {
            source.path.starts_with("host/") && source.path.contains("/src/") && !source.is_test()
        })
        .flat_map(|source| {
            source
                .without_tests()
                .lines_where(|code| names_one(&source.path, code))
                .map(|place| format!("{place} names a plugin; behaviour is reached by message only"))
                .collect::<Vec<_>>()
        })
        .collect::<Vec<_>>();
    refuse(&breaches);
}

#[test]
fn names_say_what_is_inside() {
    let mut breaches = Vec::new();
    for source in sources() {
        let path = Path::new(&source.path);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if stem == "mod" {
            breaches.push(format!("{}: a module is foo.rs beside foo/", source.path));
        }
        if EMPTY_NAMES.contains(&stem.as_ref()) {
            breaches.push(format!("{}: name it after what it holds", source.path));
        }
        for (file, twin) in [("unix", "windows"), ("windows", "unix")] {
            if stem == file && !tree::root().join(path.with_file_name(format!("{twin}.rs"))).is_file() {
                breaches.push(format!("{}: has no {twin}.rs beside it", source.path));
            }
        }
    }
    for (folder, package) in packages() {
        let name = package["name"].as_str().unwrap_or_default();
        if name.split('-').any(|word| EMPTY_NAMES.contains(&word)) {
            breaches.push(format!("{folder}: no crate is called {name}"));
        }
    }
    refuse(&breaches);
}

#[test]
fn nothing_is_ignored_or_left_for_later() {
    let forbidden = ["#[ignore", "#[should_panic", "todo!(", "unimplemented!(", "dbg!("];
    let breaches: Vec<String> = sources()
        .iter()
        .flat_map(|source| source.lines_where(|code| forbidden.iter().any(|word| code.contains(word))))
        .map(|place| format!("{place}: one of {forbidden:?}"))
        .collect();
    refuse(&breaches);
}

#[test]
fn every_misbehaving_guest_has_a_test_of_its_name() {
    let plain = |text: &str| text.replace('_', "-").to_lowercase();
    let tests: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.starts_with("tests/it/"))
        .map(|source| plain(&source.text))
        .collect();
    let breaches: Vec<String> = tree::folders("tests/guests")
        .iter()
        .filter(|guest| !tests.iter().any(|test| test.contains(&plain(guest))))
        .map(|guest| format!("tests/guests/{guest}: no test in tests/it names it"))
        .collect();
    refuse(&breaches);
}

#[test]
fn documents_know_every_top_level_folder() {
    let mut breaches = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = tree::read(document);
        let folders = tree::folders("").into_iter().filter(|folder| !tree::is_ignored_by_git(folder));
        breaches.extend(
            folders
                .filter(|folder| !text.contains(&format!("{folder}/")))
                .map(|folder| format!("{document} does not say what {folder}/ is for")),
        );
    }
    refuse(&breaches);
}

#[test]
fn files_hold_one_noun() {
    let mut long: Vec<(usize, String)> = sources()
        .into_iter()
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LINES_TO_REPORT)
        .collect();
    long.sort_unstable_by(|one, other| other.cmp(one));
    let report: Vec<String> = long.iter().map(|(lines, path)| format!("{path}: {lines} lines")).collect();
    eprintln!("past {LINES_TO_REPORT} lines, look for a second noun:\n{}", report.join("\n"));
    assert!(long.iter().all(|(lines, _)| *lines <= 2 * LINES_TO_REPORT), "too long:\n{}", report.join("\n"));
}

fn impurities(source: &Source) -> Vec<String> {
    let code = source.without_tests();
    IMPURE
        .iter()
        .flat_map(|word| {
            code.lines_where(|line| names(line, word))
                .map(|place| format!("{place} uses {word}; a pure file takes it as an argument"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Members as (folder inside the root, cargo's description).
fn packages() -> BTreeMap<String, Value> {
    let root = tree::root();
    let Some(Value::Array(packages)) = tree::metadata().get_mut("packages").map(Value::take) else {
        panic!("cargo metadata lists no packages");
    };
    packages
        .into_iter()
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
            let folder = manifest.parent().and_then(|folder| folder.strip_prefix(&root).ok());
            (tree::slashed(folder.unwrap_or(manifest)), package)
        })
        .collect()
}

/// Dependencies of all kinds as (name, is it one of ours).
fn dependencies(package: &Value) -> Vec<(String, bool)> {
    let listed = package["dependencies"].as_array().into_iter().flatten();
    listed
        .map(|found| (found["name"].as_str().unwrap_or_default().to_owned(), found["path"].is_string()))
        .collect()
}

fn arrow_of(folder: &str) -> Option<&'static [&'static str]> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(stem) => folder.strip_prefix(stem).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => folder == pattern,
    };
    ARROWS.into_iter().find(|(pattern, _)| matches(pattern)).map(|(_, allowed)| allowed)
}

/// Every source file but these rules, which spell out what they forbid.
fn sources() -> Vec<Source> {
    let mut sources = tree::sources();
    sources.retain(|source| !source.path.starts_with("tests/it/tidy"));
    assert!(sources.len() > 20, "found {} source files: the walk is broken", sources.len());
    sources
}

#[track_caller]
fn refuse(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches:\n  {}", breaches.len(), breaches.join("\n  "));
}
