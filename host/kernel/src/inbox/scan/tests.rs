//! Goal: whatever lies in a plugin directory is told in one sentence, and only what is inside and regular is looked at.
//! Method: directories as a stranger may fill them; what a look says is what a candidate is refused with.

use std::fs;

use super::*;

/// What one look at a directory sees.
fn look(directory: &Path) -> Vec<Seen> {
    Directory::open(directory).unwrap().scan().unwrap()
}

#[track_caller]
fn only(directory: &Path) -> Seen {
    let mut seen = look(directory);
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

/// The only thing in a directory is refused, and the reason names the file and says what to do, on one line.
#[track_caller]
fn refused(directory: &Path, file: &str, reason: &str) {
    let seen = only(directory);
    let Err(refusal) = Directory::open(directory).unwrap().read(&seen) else { panic!("{file} was read") };
    let refusal = refusal.to_string();
    assert!(refusal.contains(&format!("{file} ")) && refusal.contains(reason), "{refusal}");
    assert!(refusal.contains("remove ") && !refusal.contains('\n'), "{refusal}");
}

fn sparse(path: &Path, bytes: u64) {
    fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

/// A folder with a manifest, and whatever else is written into it.
fn folder(place: &Path, manifest: &str) {
    fs::create_dir_all(place).unwrap();
    fs::write(place.join("plugin.toml"), manifest).unwrap();
}

const COUNTER: &str = "id = \"counter\"\n";

#[test]
fn a_folder_needs_one_component() {
    let home = tempfile::tempdir().unwrap();
    let plugin = home.path().join("counter");
    folder(&plugin, COUNTER);
    refused(home.path(), "plugin.toml", "has no .wasm file");
    fs::write(plugin.join("a.wasm"), "x").unwrap();
    assert_eq!(only(home.path()).problem, None);
    fs::write(plugin.join("b.wasm"), "x").unwrap();
    refused(home.path(), "plugin.toml", "2 .wasm files");
    folder(&plugin, "id = \"counter\"\nwasm = \"b.wasm\"\n");
    assert_eq!(only(home.path()).path, plugin.join("b.wasm"));
}

#[test]
fn a_manifest_names_a_file_beside_it_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("outside"), "x").unwrap();
    for name in ["../outside", "..", ".", "", "missing.wasm", "a/b.wasm", "/etc/passwd", "x/\\ny"] {
        folder(&home.path().join("counter"), &format!("id = \"counter\"\nwasm = \"{name}\"\n"));
        let problem = only(home.path()).problem.unwrap();
        assert!(problem.contains("not a file beside it") && !problem.contains('\n'), "{name}: {problem}");
    }
    folder(&home.path().join("counter"), "id = \"counter\"\nwasm = \"NUL\"\n");
    refused(home.path(), "NUL", "device of Windows");
    folder(&home.path().join("counter"), "id = \"counter\"\nwasm = \"a\\nb\"\n");
    refused(home.path(), "a\\nb", "control character");
}

#[test]
fn a_component_past_the_bound_is_refused_unread() {
    let home = tempfile::tempdir().unwrap();
    sparse(&home.path().join("a.wasm"), 3 << 30);
    refused(home.path(), "a.wasm", "is 3221225472 bytes, at most 67108864");
    sparse(&home.path().join("a.wasm"), COMPONENT_BYTES_MAX as u64 + 1);
    refused(home.path(), "a.wasm", "at most 67108864");
}

#[test]
fn a_folder_named_like_a_component_is_no_component() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("x.wasm")).unwrap();
    refused(home.path(), "x.wasm", "is a folder");
}

#[test]
fn a_huge_manifest_is_refused_unread() {
    let home = tempfile::tempdir().unwrap();
    let plugin = home.path().join("counter");
    folder(&plugin, COUNTER);
    fs::write(plugin.join("a.wasm"), "x").unwrap();
    sparse(&plugin.join("plugin.toml"), 3 << 30);
    refused(home.path(), "plugin.toml", "at most 65536");
    fs::remove_file(plugin.join("plugin.toml")).unwrap();
    fs::create_dir(plugin.join("plugin.toml")).unwrap();
    refused(home.path(), "plugin.toml", "is a folder");
}

#[test]
fn entries_past_the_bound_are_left_out_and_a_row_says_so() {
    let home = tempfile::tempdir().unwrap();
    for number in 0..ENTRIES_MAX {
        fs::write(home.path().join(format!("{number:04}.wasm")), "x").unwrap();
    }
    assert_eq!(look(home.path()).len(), ENTRIES_MAX);
    fs::write(home.path().join("one-more.txt"), "x").unwrap();
    let seen = look(home.path());
    let rows: Vec<&Seen> = seen.iter().filter(|seen| seen.path == home.path()).collect();
    let problem = rows[0].problem.as_deref().unwrap();
    assert!(rows.len() == 1 && problem.contains("more than 1024 entries"), "{problem}");
    assert!(seen.len() == ENTRIES_MAX || seen.len() == ENTRIES_MAX + 1, "{}", seen.len());
}

#[test]
fn entries_of_a_folder_past_the_bound_hide_its_component_unless_it_is_named() {
    let home = tempfile::tempdir().unwrap();
    let plugin = home.path().join("counter");
    folder(&plugin, COUNTER);
    fs::write(plugin.join("a.wasm"), "x").unwrap();
    for number in 0..ENTRIES_MAX {
        fs::write(plugin.join(format!("{number}.txt")), "x").unwrap();
    }
    refused(home.path(), "plugin.toml", "name the component with `wasm = ...`");
    folder(&plugin, "id = \"counter\"\nwasm = \"a.wasm\"\n");
    assert_eq!(only(home.path()).problem, None);
}

#[test]
fn folders_share_a_bound_of_entries_and_of_manifest_bytes_for_one_look() {
    let home = tempfile::tempdir().unwrap();
    for number in 0..3 {
        folder(&home.path().join(number.to_string()), COUNTER);
        fs::write(home.path().join(number.to_string()).join("a.wasm"), "x").unwrap();
    }
    let directory = Directory::open(home.path()).unwrap();
    let problems = |look: Look| {
        let mut look = look;
        let seen = ["0", "1", "2"].map(|name| look.entry(OsStr::new(name)).unwrap());
        seen.map(|seen| seen.problem.unwrap_or_default())
    };
    let few_entries = Look { folder_entries: 5, ..Look::at(&directory) };
    let [first, second, third] = problems(few_entries);
    assert!(first.is_empty() && second.is_empty(), "{first} {second}");
    assert!(third.contains("more entries than are looked at"), "{third}");
    let few_bytes = Look { manifest_bytes: 2 * COUNTER.len() as u64 + 1, ..Look::at(&directory) };
    let [first, second, third] = problems(few_bytes);
    assert!(first.is_empty() && second.is_empty(), "{first} {second}");
    assert!(third.contains("2/plugin.toml is past the 8388608 bytes of manifests"), "{third}");
}

#[test]
fn names_that_windows_cannot_hold_are_refused_whatever_is_behind_them() {
    for name in ["aux.wasm", "NUL.wasm", "COM1.wasm"] {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(name), "x").unwrap();
        refused(home.path(), name, "device of Windows");
    }
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("con"), "no plugin's name").unwrap();
    fs::create_dir(home.path().join("prn")).unwrap();
    assert!(look(home.path()).is_empty());
    folder(&home.path().join("prn"), COUNTER);
    refused(home.path(), "prn", "device of Windows");
}

#[cfg(unix)]
mod on_unix {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    fn socket(path: &Path) {
        UnixListener::bind(path).unwrap();
    }

    #[test]
    fn names_that_would_be_misread_are_listed_escaped_and_refused() {
        for (name, as_shown, reason) in [
            (&b"a\nb.wasm"[..], "a\\nb.wasm", "control character"),
            (b"a\x1b[2J.wasm", "a\\u{1b}[2J.wasm", "control character"),
            (b"x\xff.wasm", "x\u{fffd}.wasm", "not UTF-8"),
            (b"x.wasm ", "x.wasm ", "ends in a dot or a space"),
            (b"x.wasm.", "x.wasm.", "ends in a dot or a space"),
        ] {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join(OsString::from_vec(name.to_vec())), "x").unwrap();
            refused(home.path(), as_shown, reason);
        }
    }

    #[test]
    fn links_that_stay_inside_are_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("0.2.bin"), "x").unwrap();
        symlink("0.2.bin", home.path().join("current")).unwrap();
        symlink("current", home.path().join("x.wasm")).unwrap();
        assert_eq!(only(home.path()).problem, None);
        fs::remove_file(home.path().join("x.wasm")).unwrap();
        let plugin = home.path().join("counter");
        folder(&plugin, COUNTER);
        symlink("../0.2.bin", plugin.join("x.wasm")).unwrap();
        assert_eq!(only(home.path()).problem, None);
        symlink("counter", home.path().join("again")).unwrap();
        symlink(".", home.path().join("itself")).unwrap();
        let seen = look(home.path());
        assert_eq!(
            seen.iter().map(|seen| &seen.path).collect::<Vec<_>>(),
            [&home.path().join("again/x.wasm"), &plugin.join("x.wasm")]
        );
    }

    #[test]
    fn links_that_lead_out_are_refused_wherever_they_end() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("plugins");
        fs::create_dir(&home).unwrap();
        fs::write(place.path().join("secret"), "a secret").unwrap();
        folder(&place.path().join("outside"), COUNTER);
        let absolute = place.path().join("secret");
        fs::write(home.join("inside"), "x").unwrap();
        symlink("../secret", home.join("hop")).unwrap();
        let inside_by_the_root = home.join("inside");
        for target in [absolute.as_path(), "../secret".as_ref(), "../missing".as_ref(), &inside_by_the_root] {
            symlink(target, home.join("x.wasm")).unwrap();
            fs::remove_file(home.join("hop")).unwrap();
            refused(&home, "x.wasm", "leads out of the directory");
            symlink("../secret", home.join("hop")).unwrap();
            fs::remove_file(home.join("x.wasm")).unwrap();
        }
        // What a link out is not looked at for: whether it would have been a plugin.
        refused(&home, "hop", "copy the file in");
        fs::remove_file(home.join("hop")).unwrap();
        symlink("../outside", home.join("counter")).unwrap();
        refused(&home, "counter", "leads out of the directory");
        fs::remove_file(home.join("counter")).unwrap();
        let plugin = home.join("counter");
        fs::create_dir(&plugin).unwrap();
        symlink("../../outside/plugin.toml", plugin.join("plugin.toml")).unwrap();
        fs::write(plugin.join("x.wasm"), "x").unwrap();
        refused(&home, "plugin.toml", "leads out of the directory");
        fs::remove_file(plugin.join("plugin.toml")).unwrap();
        fs::remove_file(plugin.join("x.wasm")).unwrap();
        folder(&plugin, COUNTER);
        symlink("../../secret", plugin.join("x.wasm")).unwrap();
        refused(&home, "x.wasm", "leads out of the directory");
    }

    #[test]
    fn links_that_lead_nowhere_or_to_themselves_are_listed_where_they_bear_a_plugins_name() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("x.wasm");
        for (target, reason) in
            [("missing.wasm", "is a link to a file that is not there"), ("x.wasm", "back to itself")]
        {
            symlink(target, &link).unwrap();
            refused(home.path(), "x.wasm", reason);
            fs::remove_file(&link).unwrap();
            let plugin = home.path().join("counter");
            fs::create_dir_all(&plugin).unwrap();
            let target = target.replace("x.wasm", "plugin.toml");
            symlink(target, plugin.join("plugin.toml")).unwrap();
            refused(home.path(), "counter/plugin.toml", reason);
            fs::remove_dir_all(plugin).unwrap();
        }
        symlink("missing", home.path().join("notes.txt")).unwrap();
        symlink("loop", home.path().join("loop")).unwrap();
        assert!(look(home.path()).is_empty(), "no plugin's name");
    }

    #[test]
    fn pipes_and_sockets_are_refused_and_keep_nobody_waiting() {
        for make in [pipe, socket] {
            let home = tempfile::tempdir().unwrap();
            make(&home.path().join("zz.wasm"));
            refused(home.path(), "zz.wasm", "is not a regular file");
            fs::rename(home.path().join("zz.wasm"), home.path().join("zz")).unwrap();
            symlink("zz", home.path().join("zz.wasm")).unwrap();
            refused(home.path(), "zz.wasm", "is not a regular file");
            fs::remove_file(home.path().join("zz.wasm")).unwrap();
            let plugin = home.path().join("counter");
            folder(&plugin, COUNTER);
            make(&plugin.join("zz.wasm"));
            refused(home.path(), "zz.wasm", "is not a regular file");
            folder(&plugin, "id = \"counter\"\nwasm = \"zz.wasm\"\n");
            refused(home.path(), "zz.wasm", "is not a regular file");
            fs::remove_file(plugin.join("plugin.toml")).unwrap();
            make(&plugin.join("plugin.toml"));
            refused(home.path(), "plugin.toml", "is not a regular file");
        }
    }

    #[test]
    fn a_directory_that_is_swapped_is_still_the_one_that_was_opened() {
        let place = tempfile::tempdir().unwrap();
        let (home, outside) = (place.path().join("plugins"), place.path().join("outside"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(home.join("a.wasm"), "inside").unwrap();
        fs::write(outside.join("a.wasm"), "secret").unwrap();
        let opened = Directory::open(&home).unwrap();
        fs::rename(&home, place.path().join("before")).unwrap();
        symlink(&outside, &home).unwrap();
        let seen = opened.scan().unwrap();
        assert_eq!(opened.read(&seen[0]).unwrap().bytes, b"inside");
    }
}
