use super::*;
use crate::Catalogue;

/// A directory with a file, and a mind whose file that is.
fn fixture(content: &[u8]) -> (tempfile::TempDir, Mind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, content).unwrap();
    let sha256 = digest(&path, 0, &mut |_| ()).unwrap();
    let template = Catalogue::bundled().minds()[0].clone();
    let file_bytes = content.len() as u64;
    (dir, Mind { file: "model.gguf".into(), file_bytes, sha256, sources: vec![], ..template })
}

#[test]
fn digest_is_sha256() {
    // FIPS 180-2, appendix B.1.
    let (_dir, mind) = fixture(b"abc");
    assert_eq!(mind.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_right_file_is_fetched_without_any_source() {
    let (dir, mind) = fixture(b"weights");
    let fetched = fetch(&mind, dir.path(), &mut |_| panic!("nothing to do")).unwrap();
    assert_eq!(fetched, Fetched { path: dir.path().join("model.gguf"), bytes: 7, was_present: true });
}

#[test]
fn an_absent_or_short_file_without_source_says_so() {
    let (dir, mind) = fixture(b"weights");
    fs::write(dir.path().join("model.gguf"), b"weight").unwrap();
    assert!(!is_present(&mind, dir.path()));
    assert!(matches!(check(&mind, dir.path(), &mut |_| ()), Err(FetchError::Absent { bytes: 7, .. })));
    assert!(matches!(fetch(&mind, dir.path(), &mut |_| ()), Err(FetchError::NoSource { .. })));
}

#[test]
fn a_changed_file_of_the_right_size_is_refused_despite_its_stamp() {
    let (dir, mind) = fixture(b"weights");
    let path = check(&mind, dir.path(), &mut |_| ()).unwrap();
    assert_eq!(stamped(&path).as_ref(), Some(&mind.sha256));
    fs::write(&path, b"Weights").unwrap();
    let later = SystemTime::now() + Duration::from_secs(2);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert!(matches!(check(&mind, dir.path(), &mut |_| ()), Err(FetchError::Digest { .. })));
}

#[test]
fn a_stamp_spares_the_reading_but_verify_reads_anyway() {
    let (dir, mind) = fixture(b"weights");
    let path = check(&mind, dir.path(), &mut |_| ()).unwrap();
    let stamped = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"Weights").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(stamped).unwrap();
    assert!(check(&mind, dir.path(), &mut |_| ()).is_ok(), "size, time and digest of the stamp hold");
    assert!(matches!(verify(&mind, dir.path(), &mut |_| ()), Err(FetchError::Digest { .. })));
}

#[test]
fn a_file_found_to_be_damaged_is_known_as_such_until_it_changes() {
    let (dir, mind) = fixture(b"weights");
    let path = dir.path().join("model.gguf");
    fs::write(&path, b"Weights").unwrap();
    assert!(is_present(&mind, dir.path()) && !is_damaged(&mind, dir.path()), "nobody has read it");
    for _ in 0..2 {
        let told = check(&mind, dir.path(), &mut |_| ()).unwrap_err().to_string();
        let pull = format!("`telos model pull {}`", mind.name);
        assert!(told.contains(path.to_str().unwrap()) && told.contains(&pull), "{told}");
        assert!(is_damaged(&mind, dir.path()));
    }
    fs::write(&path, b"weights").unwrap();
    let later = SystemTime::now() + Duration::from_secs(2);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert!(!is_damaged(&mind, dir.path()));
    assert!(check(&mind, dir.path(), &mut |_| ()).is_ok() && !is_damaged(&mind, dir.path()));
}

#[test]
fn only_old_working_directories_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join(".fetch-old"), dir.path().join(".fetch-new"));
    fs::create_dir(&old).unwrap();
    fs::create_dir(&new).unwrap();
    let long_ago = SystemTime::now() - ABANDONED_AFTER * 2;
    File::open(&old).unwrap().set_modified(long_ago).unwrap();
    remove_abandoned(dir.path());
    assert!(!old.exists() && new.exists());
}
