//! Child processes that die where they are told, at the k-th pass of a failpoint by `abort`; and some that have no room.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::random::{Random, is_long};

const PLACE: &str = "TELOS_STORE_DEATH_PLACE";
const POINT: &str = "TELOS_STORE_DEATH_POINT";

/// Runs the test `child` of this binary over `place`, to die at a pass of a failpoint. Answers whether it died
/// there; false: it passed the point less often, and finished.
pub(crate) fn dies(child: &str, place: &Path, point: &str, pass: u64) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([child, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PLACE, place).env(POINT, format!("{point} {pass}"));
    let end = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    // 101 is a test that failed, as opposed to a process that aborted.
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

/// Calls `check` after a death at every point and pass of it, in copies of what `make` makes of seed 0; each point is met
/// at least once. In the long run also once at every point in copies of what it makes of 199 other seeds, at a pass by
/// chance.
#[track_caller]
pub(crate) fn at_every_step<T>(
    child: &str,
    points: &[&str],
    mut make: impl FnMut(u64) -> T,
    prepare: impl Fn(&T) -> tempfile::TempDir,
    mut check: impl FnMut(&T, &Path, &str),
) {
    let (mut passes, mut deaths) = (Vec::new(), 0);
    let mut die = |made: &T, point: &str, pass: u64, seed: u64| {
        let place = prepare(made);
        let has_died = dies(child, place.path(), point, pass);
        check(made, place.path(), &format!("{point}, pass {pass}, seed {seed}, died: {has_died}"));
        has_died
    };
    let made = make(0);
    for point in points {
        let last = (1..=if is_long() { 40 } else { 2 }).take_while(|pass| die(&made, point, *pass, 0)).last();
        passes.push(last.unwrap_or_else(|| panic!("{point} was never met")));
        deaths += last.unwrap_or_default();
    }
    for seed in 1..seeds() {
        let (made, mut random) = (make(seed), Random::new(seed));
        for (point, passes) in points.iter().zip(&passes) {
            deaths += u64::from(die(&made, point, 1 + random.below(*passes), seed));
        }
    }
    println!("{child}: {deaths} deaths at {} points", points.len());
}

/// How many seeds each point dies with.
pub(crate) fn seeds() -> u64 {
    if is_long() { 200 } else { 1 }
}

/// In the child: the place to work in, with the death arranged; none when this process is no child.
pub(crate) fn place() -> Option<std::path::PathBuf> {
    let place = std::env::var_os(PLACE)?;
    if let Ok(point) = std::env::var(POINT) {
        let (name, pass) = point.split_once(' ').unwrap();
        let left = AtomicU64::new(pass.parse().unwrap());
        let die_in_time = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                std::process::abort();
            }
        };
        fail::cfg_callback(name, die_in_time).unwrap();
    }
    Some(place.into())
}

/// A step that no test dies at is not proven.
#[test]
fn every_failpoint_is_named_by_a_test() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rust_below = |dir: &str| {
        let files = crate::whole::files(&crate_dir.join(dir)).into_iter();
        files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
    };
    let read = |file: std::path::PathBuf| std::fs::read_to_string(file).unwrap();
    let tests: String = rust_below("tests/it").map(read).collect();
    let source: String = rust_below("src").map(read).collect();
    let points = source.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut met = 0;
    for point in points {
        assert!(tests.contains(&format!("\"{point}\"")), "{point} is met by no test");
        met += 1;
    }
    assert!(met > 40, "{met}");
}
