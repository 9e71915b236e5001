//! Copies of the whole store that a restore or a migration left in the home. Never here: deleting them.

use std::path::Path;

/// How the names of such copies begin, behind the store's own.
const BEGINNINGS: [&str; 2] = ["store.before-restore-", "store.before-evolve-"];
/// Directories below one another in a store are fewer.
const DEPTH_MAX: usize = 8;

/// What lies beside the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeptCopies {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// The copies in a home and what they take. Lists their directories; what cannot be looked at counts nothing.
pub(crate) fn kept_copies(home: &Path) -> KeptCopies {
    let mut kept = KeptCopies::default();
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if BEGINNINGS.iter().any(|beginning| name.to_string_lossy().starts_with(beginning)) {
            kept.count += 1;
            kept.bytes += bytes_in(&entry.path(), DEPTH_MAX);
        }
    }
    kept
}

fn bytes_in(directory: &Path, depth: usize) -> u64 {
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() && depth > 0 => bytes_in(&entry.path(), depth - 1),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_the_store_count_with_all_that_is_below_them() {
        let home = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = home.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; bytes]).unwrap();
        };
        write("store/objects.redb", 1_000);
        assert_eq!(kept_copies(home.path()), KeptCopies::default());
        write("store.before-restore-17/objects.redb", 30);
        write("store.before-restore-17/blobs/ab/cd", 4);
        write("store.before-evolve-18/objects.redb", 500);
        write("store.mine/objects.redb", 7);
        assert_eq!((kept_copies(home.path()).count, kept_copies(home.path()).bytes > 533), (2, true));
    }
}
