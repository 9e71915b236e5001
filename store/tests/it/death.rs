//! Child processes that die where they are told: at the k-th pass of a failpoint, by `abort`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PLACE: &str = "TELOS_STORE_DEATH_PLACE";
const POINT: &str = "TELOS_STORE_DEATH_POINT";

/// Runs the test `child` of this binary over `place`, to die at a pass of a failpoint. Answers whether it died
/// there; false: it passed the point less often, and finished.
pub(crate) fn dies(child: &str, place: &Path, point: &str, pass: u32) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([child, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PLACE, place).env(POINT, format!("{point} {pass}"));
    let end = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    // 101 is a test that failed, as opposed to a process that aborted.
    assert_ne!(end.code(), Some(101), "{child} failed at {point}, pass {pass}");
    !end.success()
}

/// Calls `check` after a death at every point, and at every pass of it in the long run; each is met at least once.
#[track_caller]
pub(crate) fn at_every_step(
    child: &str,
    points: &[&str],
    mut prepare: impl FnMut() -> tempfile::TempDir,
    mut check: impl FnMut(&Path, &str),
) {
    let passes_max = if std::env::var_os("TELOS_LONG").is_some() { 40 } else { 2 };
    for point in points {
        for pass in 1..=passes_max {
            let place = prepare();
            let has_died = dies(child, place.path(), point, pass);
            assert!(has_died || pass > 1, "{point} was never met");
            check(place.path(), &format!("{point}, pass {pass}, died: {has_died}"));
            if !has_died {
                break;
            }
        }
    }
}

/// In the child: the place to work in, with the death arranged; none when this process is no child.
pub(crate) fn place() -> Option<std::path::PathBuf> {
    let place = std::env::var_os(PLACE)?;
    if let Ok(point) = std::env::var(POINT) {
        let (name, pass) = point.split_once(' ').unwrap();
        let left = AtomicU32::new(pass.parse().unwrap());
        let die_in_time = move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                std::process::abort();
            }
        };
        fail::cfg_callback(name, die_in_time).unwrap();
    }
    Some(place.into())
}
