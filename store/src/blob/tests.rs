use std::fs;
use std::path::Path;

use super::*;

fn files() -> (tempfile::TempDir, Blobs) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = over(dir.path(), limit::BLOBS_BYTES_MAX);
    (dir, blobs)
}

fn over(dir: &Path, bytes_max: u64) -> Blobs {
    Blobs::files(dir.into(), bytes_max).unwrap()
}

#[test]
fn a_blob_is_found_under_its_digest() {
    let (_dir, in_files) = files();
    for blobs in [in_files, Blobs::in_memory(limit::BLOBS_BYTES_MAX)] {
        let digest = blobs.put(b"telos", 0).unwrap();
        assert_eq!(digest, Digest::of(b"telos"));
        assert_eq!(blobs.put(b"telos", 0).unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap().as_deref(), Some(&b"telos"[..]));
        assert!(blobs.has(&digest) && !blobs.has(&Digest::of(b"other")));
        assert!(blobs.get(&Digest::of(b"other")).unwrap().is_none());
        assert_eq!(blobs.bytes(), 5);
    }
}

#[test]
fn a_damaged_file_is_reported_and_put_mends_it() {
    let (dir, blobs) = files();
    let digest = blobs.put(b"telos", 0).unwrap();
    fs::write(file::path_of(dir.path(), &digest), b"tel0s").unwrap();
    assert!(matches!(blobs.get(&digest), Err(BlobError::Damaged { .. })));
    blobs.put(b"telos", 0).unwrap();
    assert!(blobs.get(&digest).unwrap().is_some());
    assert_eq!(blobs.bytes(), 5);
}

#[test]
fn a_blob_past_the_bound_is_refused() {
    let too_long = vec![0; limit::BLOB_BYTES_MAX + 1];
    let blobs = Blobs::in_memory(u64::MAX);
    assert!(matches!(blobs.put(&too_long, 0), Err(BlobError::TooLarge(_))));
}

#[test]
fn blobs_stay_within_their_quota_which_reopening_remembers() {
    let (dir, in_files) = (tempfile::tempdir().unwrap(), |dir: &Path| over(dir, 10));
    for blobs in [in_files(dir.path()), Blobs::in_memory(10)] {
        let first = blobs.put(b"12345678", 0).unwrap();
        let refused = blobs.put(b"abc", 0).unwrap_err();
        assert!(matches!(refused, BlobError::Quota { found: 11, allowed: 10 }), "{refused}");
        assert!(refused.to_string().contains("--blob-mib"), "{refused}");
        blobs.put(b"12345678", 0).unwrap();
        blobs.put(b"ab", 0).unwrap();
        assert_eq!(blobs.bytes(), 10);
        assert!(blobs.get(&first).unwrap().is_some());
    }
    let again = in_files(dir.path());
    assert_eq!(again.bytes(), 10);
    assert!(matches!(again.put(b"x", 0), Err(BlobError::Quota { .. })));
}

#[test]
fn two_threads_that_put_the_same_blob_count_it_once() {
    let (_dir, blobs) = files();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for byte in 0..20_u8 {
                    blobs.put(&[byte; 100], 0).unwrap();
                }
            });
        }
    });
    assert_eq!(blobs.bytes(), 2_000);
}
