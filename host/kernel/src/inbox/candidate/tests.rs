//! Goal: what is read is what was seen at rest, whoever swaps it meanwhile; nothing outside is read, nothing waits.
//! Method: swaps between the look and the reading, one at a time, and a thread that swaps all the while.

use std::fs;
use std::path::PathBuf;

use super::*;

fn only(directory: &Path) -> (Directory, Seen) {
    let opened = Directory::open(directory).unwrap();
    let mut seen = opened.scan().unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    (opened, seen.remove(0))
}

/// A directory with one file at rest, and what a look at it saw.
fn at_rest() -> (tempfile::TempDir, PathBuf, Directory, Seen) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.wasm");
    fs::write(&path, "x").unwrap();
    let (opened, seen) = only(home.path());
    (home, path, opened, seen)
}

/// It is tried again later: what was seen is not what is there.
#[track_caller]
fn is_not_read(opened: &Directory, seen: &Seen, reason: &str) {
    let refusal = opened.read(seen).map(|read| read.bytes);
    let Err(CandidateError::Unreadable(cause)) = refusal else { panic!("{refusal:?}") };
    assert!(cause.contains("a.wasm ") && cause.contains(reason), "{cause}");
}

#[test]
fn a_component_of_exactly_the_bound_is_read() {
    let home = tempfile::tempdir().unwrap();
    fs::File::create(home.path().join("a.wasm")).unwrap().set_len(COMPONENT_BYTES_MAX as u64).unwrap();
    let (opened, seen) = only(home.path());
    assert_eq!(opened.read(&seen).unwrap().bytes.len(), COMPONENT_BYTES_MAX);
}

#[test]
fn a_file_that_changed_after_the_look_is_not_read() {
    let (_home, path, opened, seen) = at_rest();
    fs::File::create(&path).unwrap().set_len(3 << 30).unwrap();
    is_not_read(&opened, &seen, "at most 67108864");
    fs::write(&path, "other").unwrap();
    is_not_read(&opened, &seen, "changed while it was read");
    fs::remove_file(&path).unwrap();
    is_not_read(&opened, &seen, "is not there any more");
    fs::create_dir(&path).unwrap();
    is_not_read(&opened, &seen, "is a folder");
}

#[test]
fn a_manifest_that_changed_after_the_look_is_not_read_with_the_component_of_before() {
    let home = tempfile::tempdir().unwrap();
    let plugin = home.path().join("counter");
    fs::create_dir(&plugin).unwrap();
    fs::write(plugin.join("plugin.toml"), "id = \"counter\"\n").unwrap();
    fs::write(plugin.join("a.wasm"), "x").unwrap();
    let (opened, seen) = only(home.path());
    assert_eq!(opened.read(&seen).unwrap().manifest.unwrap().id, "counter");
    fs::write(plugin.join("plugin.toml"), "id = \"counting\"\n").unwrap();
    assert!(matches!(opened.read(&seen), Err(CandidateError::Unreadable(_))));
}

#[test]
fn a_misspelt_key_and_what_is_no_text_are_named() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.wasm"), "x").unwrap();
    for (text, reason) in [(&b"id = \"x\"\nmemroy = 5\n"[..], "memroy"), (b"id = \"\xff\"", "is not UTF-8")] {
        fs::write(home.path().join("plugin.toml"), text).unwrap();
        let refusal = read_path(home.path()).unwrap_err().to_string();
        assert!(refusal.contains(reason) && refusal.contains("plugin.toml"), "{refusal}");
    }
}

#[test]
fn a_path_of_an_operator_is_read_whatever_it_is_called_or_refused_in_a_sentence() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::write(at("NUL.wasm"), "x").unwrap();
    assert_eq!(read_path(&at("NUL.wasm")).unwrap().bytes, b"x");
    fs::write(at("x.txt"), "x").unwrap();
    fs::create_dir(at("y.wasm")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::File::create(at("z.wasm")).unwrap().set_len(3 << 30).unwrap();
    for (name, reason) in [
        ("x.txt", "is neither a .wasm file nor a folder"),
        ("empty", "is neither a .wasm file nor a folder"),
        ("missing.wasm", "cannot be read"),
        ("y.wasm", "is a folder"),
        ("z.wasm", "at most 67108864"),
    ] {
        let refusal = read_path(&at(name)).unwrap_err().to_string();
        assert!(refusal.contains(&format!("{name} ")) && refusal.contains(reason), "{refusal}");
    }
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const SECRET: &str = "secret = \"not for the directory\"";

    fn pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn a_pipe_or_a_link_in_the_place_of_a_file_after_the_look_is_not_read_and_keeps_nobody_waiting() {
        let (home, path, opened, seen) = at_rest();
        fs::remove_file(&path).unwrap();
        pipe(&path);
        is_not_read(&opened, &seen, "is not a regular file");
        fs::remove_file(&path).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path().join("secret"), &path).unwrap();
        is_not_read(&opened, &seen, "leads out of the directory");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        is_not_read(&opened, &seen, "leads out of the directory");
        drop(home);
    }

    #[test]
    fn a_folder_swapped_for_a_link_after_the_look_leads_nobody_out() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for plugin in [home.path().join("counter"), outside.path().join("counter")] {
            fs::create_dir(&plugin).unwrap();
            fs::write(plugin.join("plugin.toml"), "id = \"counter\"\n").unwrap();
            fs::write(plugin.join("a.wasm"), "x").unwrap();
        }
        let (opened, seen) = only(home.path());
        fs::rename(home.path().join("counter"), home.path().join("before")).unwrap();
        symlink(outside.path().join("counter"), home.path().join("counter")).unwrap();
        let refusal = opened.read(&seen).unwrap_err().to_string();
        assert!(refusal.contains("leads out of the directory"), "{refusal}");
    }

    #[test]
    fn links_to_what_an_operator_names_are_followed_and_links_out_of_a_folder_are_not() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("counter")).unwrap();
        fs::write(at("counter/plugin.toml"), "id = \"counter\"\n").unwrap();
        fs::write(at("built.wasm"), "x").unwrap();
        fs::copy(at("built.wasm"), at("counter/a.wasm")).unwrap();
        symlink(at("built.wasm"), at("link.wasm")).unwrap();
        symlink(at("counter"), at("folder")).unwrap();
        assert_eq!(read_path(&at("link.wasm")).unwrap().bytes, b"x");
        assert!(read_path(&at("folder")).unwrap().manifest.is_some());
        fs::remove_file(at("counter/a.wasm")).unwrap();
        symlink("../built.wasm", at("counter/a.wasm")).unwrap();
        let refusal = read_path(&at("folder")).unwrap_err().to_string();
        assert!(refusal.contains("a.wasm ") && refusal.contains("copy the file in"), "{refusal}");
        pipe(&at("pipe.wasm"));
        for (path, reason) in [(at("pipe.wasm"), "is not a regular file"), ("/dev/zero".into(), "is neither")]
        {
            let refusal = read_path(&path).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
        symlink("/dev/zero", at("zero.wasm")).unwrap();
        let refusal = read_path(&at("zero.wasm")).unwrap_err().to_string();
        assert!(refusal.contains("is not a regular file"), "{refusal}");
    }

    /// Ends the other thread with this one, also where an assertion failed.
    struct OnEnd<'d>(&'d AtomicBool);

    impl Drop for OnEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// What a thread puts in the place of a file, over and over: the file, a link out to a secret, a pipe, nothing; and
    /// in the place of its folder: the folder, a link out.
    fn swap_until(done: &AtomicBool, home: &Path, outside: &Path) {
        let plugin = home.join("counter");
        let aside = home.parent().unwrap();
        while !done.load(Ordering::Relaxed) {
            for file in [home.join("a.wasm"), plugin.join("a.wasm"), plugin.join("plugin.toml")] {
                let name = file.file_name().unwrap();
                symlink(outside.join(name), aside.join("link")).unwrap();
                fs::rename(aside.join("link"), &file).unwrap();
                fs::rename(aside.join("pipe"), &file).unwrap();
                fs::rename(&file, aside.join("pipe")).unwrap();
                write_aged(&aside.join("file"), &inside(name));
                fs::rename(aside.join("file"), &file).unwrap();
            }
            fs::rename(&plugin, aside.join("plugin")).unwrap();
            symlink(outside, &plugin).unwrap();
            fs::remove_file(&plugin).unwrap();
            fs::rename(aside.join("plugin"), &plugin).unwrap();
        }
    }

    /// All files are of the same age, so that those inside and outside look alike at rest.
    fn write_aged(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }

    /// As long as its namesake outside, for the same reason.
    fn inside(name: &std::ffi::OsStr) -> String {
        match name == "plugin.toml" {
            true => format!("{:<width$}", "id = \"counter\"", width = SECRET.len()),
            false => "x".repeat(SECRET.len()),
        }
    }

    /// What a reading brought: `None` where it was refused. The secret is in neither bytes nor refusal.
    #[track_caller]
    fn without_secret(read: Result<Candidate, CandidateError>) -> Option<()> {
        let told = match read {
            Ok(candidate) => {
                assert!(!candidate.bytes.starts_with(b"secret"), "bytes from outside");
                return Some(());
            }
            Err(error) => error.to_string(),
        };
        assert!(!told.contains("not for the directory"), "{told}");
        None
    }

    #[test]
    fn whoever_swaps_files_while_they_are_read_gets_nothing_from_outside_and_stops_nobody() {
        let place = tempfile::tempdir().unwrap();
        let (home, outside) = (place.path().join("plugins"), place.path().join("outside"));
        for folder in [home.join("counter"), outside.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        for name in ["a.wasm", "plugin.toml"] {
            write_aged(&outside.join(name), SECRET);
            write_aged(&home.join("counter").join(name), &inside(name.as_ref()));
        }
        write_aged(&home.join("a.wasm"), &inside("a.wasm".as_ref()));
        pipe(&place.path().join("pipe"));
        let done = AtomicBool::new(false);
        let (mut read, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            let _ends = OnEnd(&done);
            scope.spawn(|| swap_until(&done, &home, &outside));
            let opened = Directory::open(&home).unwrap();
            for _ in 0..2_000 {
                for seen in opened.scan().unwrap() {
                    match without_secret(opened.read(&seen)) {
                        Some(()) => read += 1,
                        None => refused += 1,
                    }
                }
            }
        });
        assert!(read > 0 && refused > 0, "the race was none: {read} read, {refused} refused");
    }
}
