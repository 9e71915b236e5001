use super::*;

fn public(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

fn fresh() -> (tempfile::TempDir, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::at(dir.path().join("keys"));
    (dir, keys)
}

#[test]
fn keys_are_allowed_listed_in_order_and_revoked() {
    let (_dir, keys) = fresh();
    assert_eq!(keys.allowed().unwrap(), []);
    keys.allow("laptop", public(1), Role::Operator, 10).unwrap();
    let phone = keys.allow("phone.2", public(2), Role::Client, 20).unwrap();
    let names = |keys: &Keys| keys.allowed().unwrap().into_iter().map(|key| key.name).collect::<Vec<_>>();
    assert_eq!(names(&keys), ["laptop", "phone.2"]);
    assert_eq!(keys.read().unwrap().find(&public(2)), Some(&phone));
    assert_eq!(keys.revoke("laptop").unwrap().public, public(1));
    assert_eq!(names(&keys), ["phone.2"]);
    assert_eq!(keys.read().unwrap().find(&public(1)), None);
    assert!(matches!(keys.revoke("laptop"), Err(KeysError::Unknown { .. })));
}

#[test]
fn a_name_or_key_that_is_on_the_list_is_not_taken_twice() {
    let (_dir, keys) = fresh();
    keys.allow("laptop", public(1), Role::Client, 1).unwrap();
    for (name, key) in [("laptop", public(2)), ("other", public(1))] {
        let error = keys.allow(name, key, Role::Operator, 2).unwrap_err();
        assert!(matches!(error, KeysError::Taken { .. }), "{error}");
    }
    assert_eq!(keys.allowed().unwrap().len(), 1);
}

#[test]
fn names_that_could_be_paths_or_the_host_s_own_are_refused() {
    let (_dir, keys) = fresh();
    for name in ["", "host", "../x", ".hidden", "a/b", "A", "é", &"x".repeat(65)] {
        assert!(matches!(keys.create(name, None), Err(KeysError::Name { .. })), "{name}");
        assert!(
            matches!(keys.allow(name, public(1), Role::Client, 1), Err(KeysError::Name { .. })),
            "{name}"
        );
    }
}

#[test]
fn the_host_s_key_is_made_once() {
    let (_dir, keys) = fresh();
    assert_eq!(keys.host_public().unwrap(), None);
    let made = keys.host().unwrap().public();
    assert_eq!((keys.host().unwrap().public(), keys.host_public().unwrap()), (made, Some(made)));
}

#[test]
fn a_list_that_is_damaged_is_told_with_its_place_and_not_taken_for_empty() {
    let (_dir, keys) = fresh();
    keys.allow("laptop", public(1), Role::Client, 1).unwrap();
    let text = std::fs::read_to_string(keys.list_file()).unwrap();
    for damaged in [text.replace("client", "king"), text.replace("0101", "01"), text + "[[kez]]\n"] {
        std::fs::write(keys.list_file(), &damaged).unwrap();
        assert!(matches!(keys.allowed(), Err(KeysError::Content { .. })), "{damaged}");
        assert!(keys.revoke("laptop").is_err());
        assert_eq!(std::fs::read_to_string(keys.list_file()).unwrap(), damaged);
    }
}

#[test]
fn many_at_once_lose_nobody_s_key() {
    let (_dir, keys) = fresh();
    std::thread::scope(|scope| {
        for byte in 1..17 {
            let keys = &keys;
            scope.spawn(move || keys.allow(&format!("key-{byte}"), public(byte), Role::Client, 1).unwrap());
        }
    });
    assert_eq!(keys.allowed().unwrap().len(), 16);
}

#[cfg(unix)]
#[test]
fn list_and_keys_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, keys) = fresh();
    keys.host().unwrap();
    keys.allow("laptop", public(1), Role::Client, 1).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode(&keys.host_file()), mode(&keys.list_file()), mode(&keys.directory)],
        [0o600, 0o600, 0o700]
    );
}

#[test]
fn keys_that_prove_nothing_and_the_hosts_own_are_not_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::at(dir.path().join("keys"));
    let own = keys.host().unwrap().public();
    assert!(matches!(keys.allow("own", own, Role::Client, 0), Err(KeysError::Own { .. })));
    let zero = PublicKey::from_bytes([0; 32]);
    assert!(matches!(keys.allow("zero", zero, Role::Client, 0), Err(KeysError::Weak { .. })));
    assert!(keys.allowed().unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_list_that_others_can_change_lets_nobody_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::at(dir.path().join("keys"));
    keys.allow("a", PrivateKey::generate().unwrap().public(), Role::Client, 0).unwrap();
    let (list, directory) = (dir.path().join("keys/allowed.toml"), dir.path().join("keys"));
    for (path, open, shut) in [(&list, 0o620, 0o600), (&directory, 0o702, 0o700)] {
        let set = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(open);
        let error = keys.allowed().unwrap_err();
        assert!(matches!(&error, KeysError::Shared { path: named } if named == path), "{error}");
        set(shut);
        assert_eq!(keys.allowed().unwrap().len(), 1);
    }
}
