use super::*;

fn files() -> (tempfile::TempDir, Blobs) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::Files { dir: dir.path().into() };
    (dir, blobs)
}

#[test]
fn a_blob_is_found_under_its_digest() {
    for blobs in [files().1, Blobs::in_memory()] {
        let digest = blobs.put(b"telos").unwrap();
        assert_eq!(digest, Digest::of(b"telos"));
        assert_eq!(blobs.put(b"telos").unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap().as_deref(), Some(&b"telos"[..]));
        assert!(blobs.get(&Digest::of(b"other")).unwrap().is_none());
    }
}

#[test]
fn a_damaged_file_is_reported_and_put_mends_it() {
    let (dir, blobs) = files();
    let digest = blobs.put(b"telos").unwrap();
    fs::write(path_of(dir.path(), &digest), b"tel0s").unwrap();
    assert!(matches!(blobs.get(&digest), Err(BlobError::Damaged { .. })));
    blobs.put(b"telos").unwrap();
    assert!(blobs.get(&digest).unwrap().is_some());
}

#[test]
fn a_blob_past_the_bound_is_refused() {
    let too_long = vec![0; limit::BLOB_BYTES_MAX + 1];
    assert!(matches!(Blobs::in_memory().put(&too_long), Err(BlobError::TooLarge(_))));
}
