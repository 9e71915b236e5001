//! Behaviours that ask for more are tried in a process of their own: one for each, ended and thrown away.
//!
//! ```text
//! telos trial           stdin: module, code, order, component     stdout: what holds it, then what came of it
//! telos trial --probe   stdout: what holds it, and what of it was tried and refused
//! ```
//! Each part is a length of four bytes, little-endian, and so many bytes. The child confines itself when it has the
//! code, which is this host's, and reads the candidate afterwards. Its standard input stays open until it ends: when
//! the host dies, so does the child.

pub(crate) mod cell;
mod ending;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use telos_forge::{Confinement, Isolation};
use telos_kernel::{TrialOrder, Tryout};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use ending::Ending;

/// Processor time of one trial, seconds: a candidate that loops for each message of it is found out before.
pub const TRIAL_CPU_S_MAX: u64 = 60;
/// Memory that one trial may write to: what a behaviour may have, the engine, and every answer.
pub const TRIAL_MEMORY_BYTES_MAX: u64 = 512 << 20;
/// How long one trial may take, on a machine that others use as well.
const TRIAL_TIME: Duration = Duration::from_secs(120);
/// Trials at once; the next waits for one of them.
const TRIALS_MAX: usize = 4;
/// Largest part that is taken from a child.
const PART_BYTES_MAX: u32 = 64 << 20;
/// Longest complaint that is told.
const COMPLAINT_BYTES_MAX: u64 = 4_096;
/// What of the environment a child has: where libraries are, where they do not lie beside the program.
const ENVIRONMENT: [&str; 3] = ["LD_LIBRARY_PATH", "PATH", "SystemRoot"];

/// What a child found that it cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What holds it.
    pub confinement: Confinement,
    /// What it tried, and the system's refusal; none where it could.
    pub tried: Vec<(String, Option<String>)>,
}

impl Probe {
    /// What it could do although that should be refused.
    pub(crate) fn allowed(&self) -> Vec<&str> {
        let allowed = self.tried.iter().filter(|(_, refusal)| refusal.is_none());
        allowed.map(|(what, _)| what.as_str()).collect()
    }
}

/// Tries by starting a program that does.
pub(crate) struct TrialProcess {
    program: PathBuf,
    places: Semaphore,
    probed: OnceLock<Result<Probe, String>>,
}

impl TrialProcess {
    /// By this program, which must know `trial`.
    pub(crate) fn by(program: PathBuf) -> Self {
        Self { program, places: Semaphore::new(TRIALS_MAX), probed: OnceLock::new() }
    }

    /// What holds a trial on this machine, as one said that tried to get out. Asked once.
    pub(crate) fn probe(&self) -> &Result<Probe, String> {
        self.probed.get_or_init(|| {
            let told = |error: String| format!("{}: {error}", self.program.display());
            let mut command = std::process::Command::new(&self.program);
            let output = command.args(["trial", "--probe"]).env_clear().envs(environment()).output();
            let output = output.map_err(|error| told(error.to_string()))?;
            serde_json::from_slice(&output.stdout).map_err(|_| told(format!("ended with {}", output.status)))
        })
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("trial")
            .env_clear()
            .envs(environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

#[async_trait]
impl Isolation for TrialProcess {
    async fn try_out(&self, order: &TrialOrder, code: &[u8]) -> (Tryout, Option<Confinement>) {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        match self.start() {
            Ok(child) => run(child, order, code).await,
            Err(error) => {
                let cause = format!("no process for a trial could be started: {error}; try again");
                (Tryout::Hindered(cause), None)
            }
        }
    }
}

fn environment() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// What a child said, as far as it came.
#[derive(Default)]
struct Said {
    confinement: Option<Confinement>,
    tryout: Option<Tryout>,
}

async fn run(mut child: Child, order: &TrialOrder, code: &[u8]) -> (Tryout, Option<Confinement>) {
    let mut said = Said::default();
    let ended = tokio::time::timeout(TRIAL_TIME, converse(&mut child, order, code, &mut said)).await;
    let ending = match (said.tryout, ended) {
        (Some(tryout), _) => {
            // It has nothing left to say, and whatever it still does is nobody's.
            let _ = child.kill().await;
            return (tryout, said.confinement);
        }
        (None, Err(_)) => {
            let _ = child.kill().await;
            Ending::TooLong
        }
        (None, Ok(complaint)) => match child.wait().await {
            Ok(status) => Ending::of(status, &complaint),
            Err(error) => Ending::Lost(error.to_string()),
        },
    };
    (ending.told(said.confinement.is_some()), said.confinement)
}

/// Answers what it complained of, once it has said everything, or ended.
async fn converse(child: &mut Child, order: &TrialOrder, code: &[u8], said: &mut Said) -> String {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let asked = async {
        if let Some(mut stdin) = stdin {
            // It may end before it has read everything; then its end says why.
            let _ = ask(&mut stdin, order, code).await;
            // Its input stays open until it has answered.
            std::future::pending::<()>().await;
        }
    };
    let heard = async {
        let Some(mut stdout) = stdout else { return };
        said.confinement = part(&mut stdout).await.and_then(|part| serde_json::from_slice(&part).ok());
        said.tryout = part(&mut stdout).await.and_then(|part| serde_json::from_slice(&part).ok());
    };
    tokio::select! {
        () = heard => {}
        () = asked => {}
    }
    let mut complaint = Vec::new();
    if said.tryout.is_none()
        && let Some(stderr) = stderr
    {
        let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint).await;
    }
    String::from_utf8_lossy(&complaint).into_owned()
}

async fn ask(to: &mut (impl AsyncWrite + Unpin), order: &TrialOrder, code: &[u8]) -> std::io::Result<()> {
    let text = serde_json::to_vec(order)?;
    for part in [order.module.as_bytes(), code, &text, &order.component] {
        let length = u32::try_from(part.len()).map_err(std::io::Error::other)?;
        to.write_all(&length.to_le_bytes()).await?;
        to.write_all(part).await?;
    }
    to.flush().await
}

/// The next part; none when there is no more, or it is longer than any that is taken.
async fn part(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_u32_le().await.ok().filter(|length| *length <= PART_BYTES_MAX)?;
    let mut part = Vec::new();
    let read = from.take(length.into()).read_to_end(&mut part).await.ok()?;
    (read == length as usize).then_some(part)
}

#[cfg(all(test, unix))]
mod tests;
