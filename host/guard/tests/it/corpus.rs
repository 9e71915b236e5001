//! The corpus that fuzzing starts from: what is in it is replayed here, and holds every case of the table.

use std::fs;
use std::path::PathBuf;

use crate::inspector::check;
use crate::stream::cases;

/// Longer cases are only in the table.
const FILE_BYTES_MAX: usize = 64 * 1024;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/inspector")
}

/// With `TELOS_WRITE_CORPUS=1` it writes the files instead.
#[test]
fn every_case_of_the_table_is_in_the_corpus() {
    let is_writing = std::env::var_os("TELOS_WRITE_CORPUS").is_some();
    for (name, stream, _) in cases().into_iter().filter(|(_, stream, _)| stream.len() <= FILE_BYTES_MAX) {
        let path = corpus().join(&name);
        if is_writing {
            fs::create_dir_all(corpus()).unwrap();
            fs::write(&path, &stream).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(found == stream, "{name} is another; write it with TELOS_WRITE_CORPUS=1");
    }
}

#[test]
fn everything_in_the_corpus_is_judged_as_by_the_model() {
    let files: Vec<PathBuf> = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 60, "{} files", files.len());
    files.iter().for_each(|file| check(&fs::read(file).unwrap()));
}
