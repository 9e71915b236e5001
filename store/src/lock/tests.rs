use super::*;

#[test]
fn a_lock_is_gone_when_dropped_whoever_else_holds_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirectoryLock::take(dir.path()).unwrap();
    let copy = lock.file.try_clone().unwrap();
    assert!(matches!(DirectoryLock::take(dir.path()), Err(OpenError::InUse { .. })));
    drop(lock);
    DirectoryLock::take(dir.path()).unwrap();
    drop(copy);
}
