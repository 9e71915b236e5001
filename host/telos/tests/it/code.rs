//! Goal: compiled code is made in a process of its own and is only loaded as it was sealed, whoever writes into the cache.
//! Method: the real binary, its cache changed in every way.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::running::{Running, guest};

fn entries(running: &Running) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        fs::read_dir(running.path().join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn journal(running: &Running) -> String {
    fs::read_to_string(running.path().join("journal/journal.jsonl")).unwrap()
}

#[test]
fn an_entry_that_is_not_as_it_was_sealed_is_told_and_compiled_anew() {
    let mut running = Running::with_counter();
    running.stop();
    let kept = entries(&running);
    assert_eq!(kept.len(), 2, "one for each engine: {kept:?}");
    let whole: Vec<_> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
    running.start();
    assert!(!journal(&running).contains("cache.tampered"));
    running.stop();
    let flip = |bytes: &[u8]| {
        let mut flipped = bytes.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        flipped
    };
    let serving = kept.iter().position(|path| path.to_str().unwrap().contains("serving-")).unwrap();
    let changes: [(&str, Vec<u8>); 4] = [
        ("flipped", flip(&whole[serving])),
        ("cut short", whole[serving][..100].to_vec()),
        ("empty", Vec::new()),
        ("that of the other engine", whole[1 - serving].clone()),
    ];
    for (round, (how, bytes)) in changes.into_iter().enumerate() {
        fs::write(&kept[serving], bytes).unwrap();
        running.start();
        assert_eq!(running.value("counter", "read"), 0, "{how}");
        assert_eq!(journal(&running).matches("cache.tampered").count(), round + 1, "{how}");
        running.stop();
        assert_eq!(fs::read(&kept[serving]).unwrap().len(), whole[serving].len(), "{how}: it is kept again");
    }
}

#[test]
fn with_another_key_nothing_in_the_cache_is_believed() {
    let mut running = Running::with_counter();
    running.stop();
    fs::write(running.path().join("cache.key"), [1; 32]).unwrap();
    running.start();
    assert_eq!(running.value("counter", "read"), 0);
    assert!(journal(&running).contains("cache.tampered"));
}

fn compile(engine: &str, bytes: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_telos"))
        .args(["compile", "--engine", engine])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

#[test]
fn the_compiler_compiles_and_refuses() {
    let counter = fs::read(guest("counter")).unwrap();
    for engine in ["serving", "metered"] {
        let compiled = compile(engine, &counter);
        assert!(compiled.status.success() && compiled.stdout.len() > counter.len(), "{}", said(&compiled));
    }
    let refused = compile("serving", &counter[..counter.len() / 2]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(!refused.stderr.is_empty() && refused.stdout.is_empty());
}

/// Without the code, which is long.
fn said(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}
