//! Child processes that die where they are told: at the k-th pass of a failpoint, without a word.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const PLACE: &str = "TELOS_ARCHIVE_DEATH_PLACE";
const POINT: &str = "TELOS_ARCHIVE_DEATH_POINT";

/// Runs the test `child` of this binary over `place`, to die at a pass of a failpoint. Answers whether it died
/// there; false: it passed the point less often, and finished.
pub(crate) fn dies(child: &str, place: &Path, point: &str, pass: u64) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([child, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PLACE, place).env(POINT, format!("{point} {pass}"));
    let end = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    // 101 is a test that failed, as opposed to a process that was killed.
    assert_ne!(end.code(), Some(101), "{child} failed at {point}, pass {pass}");
    !end.success()
}

/// Runs the test `child` of this binary over `place` on a full disk, as far as a test may make one: no file may grow past
/// so many blocks of 512 bytes, which the shell sees to.
#[cfg(unix)]
#[track_caller]
pub(crate) fn with_little_room(child: &str, place: &Path, blocks: u64) {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    let output = shell.args([child, "--exact", "--test-threads=1"]).env(PLACE, place).output().unwrap();
    assert!(output.status.success(), "{blocks} blocks: {}", String::from_utf8_lossy(&output.stdout));
}

/// In the child: the place to work in, with the death arranged; none when this process is no child.
pub(crate) fn place() -> Option<PathBuf> {
    let place = std::env::var_os(PLACE)?;
    if let Ok(point) = std::env::var(POINT) {
        let (name, pass) = point.split_once(' ').unwrap();
        let left = AtomicU64::new(pass.parse().unwrap());
        let die_in_time = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                kill();
            }
        };
        fail::cfg_callback(name, die_in_time).unwrap();
    }
    Some(place.into())
}

/// As an operator would; where there is no such thing, as near to it as there is.
fn kill() {
    let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    std::process::abort();
}

/// A step that no test dies at is not proven.
#[test]
fn every_failpoint_is_named_by_a_test() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |dir: &str| -> String {
        let files = std::fs::read_dir(crate_dir.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.is_file()).map(|file| std::fs::read_to_string(file).unwrap()).collect()
    };
    let (source, tests) = (read("src"), read("tests/it"));
    let points: Vec<&str> =
        source.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    for point in &points {
        assert!(tests.contains(&format!("\"{point}\"")), "{point} is met by no test");
    }
    assert!(points.len() > 10, "{points:?}");
}
