//! `telos up`: runs a host in the foreground until it is told to stop.

mod supervised;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use telos_bridge::{Endpoint, PppConfig};
use telos_service::{
    Bundle, Check, CheckState, CrewConfig, GenerationMode, Home, Host, HostConfig, InferenceTerms,
    OnEvolving, Pace, ProbationTerms, WorkerRole,
};
use telos_store::{StoreOptions, VectorEngine};

use crate::command::{absolute, models_dir};
use crate::error::{CommandError, refused, usage};
use crate::output::{Output, Paint};
use crate::stop::{StopSignal, parent_gone};

/// Arguments of `telos up`.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// A directory to watch for plugins, besides HOME/plugins; may be given several times.
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,

    /// The directory of the plugins that come with the host [default: `plugins` beside the executable].
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,

    /// Listen on loopback TCP with a token instead of the private socket.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    tcp: Option<SocketAddr>,

    /// Let bare Paranoid Pirate clients connect here, as unix:PATH or tcp:127.0.0.1:PORT. No token protects it.
    #[arg(long, value_name = "ENDPOINT", requires = "ppp_backend")]
    ppp_frontend: Option<Endpoint>,

    /// Let bare Paranoid Pirate workers connect here.
    #[arg(long, value_name = "ENDPOINT", requires = "ppp_frontend")]
    ppp_backend: Option<Endpoint>,
    /// Also open a port for other machines, behind a guard; `telos keys allow` says whose keys may come in.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    listen: Option<SocketAddr>,

    /// The most that the database file may take [default: 16384].
    #[arg(long, value_name = "MIB")]
    database_mib: Option<u64>,

    /// The most that one component may store, its past included [default: a quarter of the database's].
    #[arg(long, value_name = "MIB")]
    storage_owner_mib: Option<u64>,

    /// The most that releases and other blobs may take [default: 4096].
    #[arg(long, value_name = "MIB")]
    blob_mib: Option<u64>,

    /// The most that vectors of one component may take in memory, graphs included [default: 256].
    #[arg(long, value_name = "MIB")]
    vector_owner_mib: Option<u64>,

    /// The most that vectors of all components may take [default: 1024].
    #[arg(long, value_name = "MIB")]
    vector_mib: Option<u64>,

    /// What builds graphs over many vectors: diskann or hnsw. Each start may choose anew.
    #[arg(long, value_name = "ENGINE", default_value_t)]
    vector_engine: VectorEngine,

    /// How long earlier states of objects can be read [default: 30].
    #[arg(long, value_name = "DAYS")]
    history_days: Option<u32>,

    /// What to do for plugins whose state is of an earlier generation than their own.
    #[arg(long, value_enum, default_value_t = Generations::Evolve)]
    generations: Generations,

    /// How often peers of the bridge beat; 10 to 60,000 [default: 1000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(10..=60_000))]
    heartbeat_ms: Option<u32>,

    /// So many missed beats, and a peer is gone; 1 to 1,000 [default: 3].
    #[arg(long, value_name = "BEATS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    liveness: Option<u32>,

    /// How long a new release serves on probation at least [default: 600].
    #[arg(long, value_name = "SECONDS")]
    probation_s: Option<u64>,

    /// How many messages it answers on probation at least [default: 200].
    #[arg(long, value_name = "N")]
    probation_messages: Option<u64>,

    /// Tokens a minute that one component may have minds read and generate [default: 60000].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    inference_tokens: Option<u32>,

    /// Requests to minds that one component may have under way [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    inference_requests: Option<u32>,

    /// Workers to start with the host, each a process of its own: minds and trials run there, and not in the host.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=16))]
    workers: u8,

    /// Start the host again when it dies.
    #[arg(long)]
    supervise: bool,

    /// End when standard input ends, as whoever started it does.
    #[arg(long, hide = true)]
    with_parent: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address and a port are asked for, as in 127.0.0.1:7441 or [::]:7441".to_owned())
}

/// See [`GenerationMode`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Generations {
    /// Carry the state over and let them serve; one that fails leaves everything as it was.
    Evolve,
    /// Try it with every object, tell how it went, and change nothing.
    Check,
    /// Carry over only the state of plugins that could not serve otherwise.
    Minimum,
}

impl From<Generations> for GenerationMode {
    fn from(asked: Generations) -> Self {
        match asked {
            Generations::Evolve => Self::Evolve,
            Generations::Check => Self::Check,
            Generations::Minimum => Self::Minimum,
        }
    }
}

impl Up {
    fn ppp(&self) -> Result<Option<PppConfig>, CommandError> {
        let (Some(frontend), Some(backend)) = (self.ppp_frontend.clone(), self.ppp_backend.clone()) else {
            return Ok(None);
        };
        // A port 0 is another one each time.
        let is_any = matches!(&frontend, Endpoint::Tcp(address) if address.port() == 0);
        if frontend == backend && !is_any {
            let message = format!("bare clients and bare workers cannot share one endpoint, {frontend}");
            return Err(usage(message, "name another endpoint with --ppp-backend"));
        }
        Ok(Some(PppConfig::new(frontend, backend)))
    }

    fn pace(&self) -> Pace {
        let pace = Pace::default();
        Pace {
            heartbeat: self.heartbeat_ms.map_or(pace.heartbeat, |ms| Duration::from_millis(ms.into())),
            liveness: self.liveness.unwrap_or(pace.liveness),
        }
    }

    fn probation(&self) -> ProbationTerms {
        let terms = ProbationTerms::default();
        ProbationTerms {
            time: self.probation_s.map_or(terms.time, Duration::from_secs),
            messages: self.probation_messages.unwrap_or(terms.messages),
            ..terms
        }
    }

    fn inference(&self) -> InferenceTerms {
        let terms = InferenceTerms::default();
        InferenceTerms {
            tokens_per_minute: self.inference_tokens.unwrap_or(terms.tokens_per_minute),
            requests_max: self.inference_requests.unwrap_or(terms.requests_max),
        }
    }

    fn store_options(&self) -> StoreOptions {
        let mut options = StoreOptions { vector_engine: self.vector_engine, ..StoreOptions::default() };
        let quotas = [
            (self.database_mib, &mut options.database_bytes_max),
            (self.blob_mib, &mut options.blob_bytes_max),
            (self.vector_owner_mib, &mut options.vector_bytes_per_owner_max),
            (self.vector_mib, &mut options.vector_bytes_max),
        ];
        for (mib, quota) in quotas {
            *quota = mib.map_or(*quota, |mib| mib.saturating_mul(1 << 20));
        }
        let quarter = options.database_bytes_max / 4;
        options.stored_bytes_per_owner_max =
            self.storage_owner_mib.map_or(quarter, |mib| mib.saturating_mul(1 << 20));
        if let Some(days) = self.history_days {
            options.retention.age = Duration::from_secs(u64::from(days) * 24 * 3_600);
        }
        options
    }
}

/// Starts, says so, and serves until it is told to stop; under supervision, in a process that is started again.
pub(crate) async fn run(up: Up, home: &Path, output: &Output) -> Result<ExitCode, CommandError> {
    match up.supervise {
        true => supervised::run(home, output).await,
        false => serve(up, home, output).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn serve(up: Up, home: &Path, output: &Output) -> Result<(), CommandError> {
    let start = Instant::now();
    let mut stop = StopSignal::new()?;
    let home_path = home;
    let home = Home::at(home);
    let (store, ppp) = (up.store_options(), up.ppp()?);
    let (probation, inference, pace) = (up.probation(), up.inference(), up.pace());
    let bundle = match up.bundle.or_else(bundle_beside_executable) {
        Some(directory) => Bundle::read(&absolute(&directory)?)
            .map_err(|cause| refused(cause, "mend or remove that file"))?,
        None => Bundle::default(),
    };
    let models = models_dir(home.root());
    let plugins = up.plugins.iter().map(|directory| absolute(directory)).collect::<Result<_, _>>()?;
    let config = HostConfig {
        home,
        plugins,
        bundle,
        models,
        tcp: up.tcp,
        ppp,
        listen: up.listen,
        store,
        generations: up.generations.into(),
        on_evolving: Some(show_progress(*output)),
        probation,
        inference,
        pace,
        engine: None,
        program: Some(std::env::current_exe()?),
        crew: crew(up.workers, home_path)?,
    };
    let started = tokio::select! {
        started = Host::start(config) => started,
        () = stop.wait() => {
            output.note("stopped before it was ready");
            return Ok(());
        }
    };
    let host = started.map_err(|error| error.to_rpc())?;
    output.progress("");
    output.result(&announcement(&host, start), render)?;
    tokio::select! {
        () = stop.wait() => {}
        () = parent_gone(up.with_parent) => {}
    }
    output.note("stopping");
    host.stop().await;
    Ok(())
}

fn crew(workers: u8, home: &Path) -> Result<Option<CrewConfig>, CommandError> {
    if workers == 0 {
        return Ok(None);
    }
    let arguments = vec!["--home".into(), home.as_os_str().to_owned()];
    let (workers, program) = (workers.into(), std::env::current_exe()?);
    Ok(Some(CrewConfig { workers, program, arguments, roles: WorkerRole::available() }))
}

/// A line that the next one replaces.
fn show_progress(output: Output) -> OnEvolving {
    std::sync::Arc::new(move |evolving| output.progress(&evolving.to_string()))
}

/// None when no plugins come with the executable; a directory that was named is read whether it holds any or not.
fn bundle_beside_executable() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.join("plugins");
    beside.join("bundle.toml").exists().then_some(beside)
}

fn announcement(host: &Host, start: Instant) -> Value {
    let checks = host.checks();
    json!({
        "ready": is_ready(&checks),
        "home": host.home().root().display().to_string(),
        "endpoint": host.endpoint().to_string(),
        "ppp": host.ppp().map(|ppp| json!({
            "frontend": ppp.frontend().to_string(),
            "backend": ppp.backend().to_string(),
        })),
        "remote": host.remote(),
        "elapsed_ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        "checks": checks,
        "generations": host.evolutions(),
        "try": try_this(host),
    })
}

fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != CheckState::Failed)
}

fn try_this(host: &Host) -> String {
    match host.personas().first() {
        Some(persona) => format!("telos chat {persona}"),
        None => "telos send counter increment".into(),
    }
}

fn render(ready: &Value, paint: Paint) -> String {
    let mut text = String::new();
    for check in ready["checks"].as_array().into_iter().flatten() {
        let state = check["state"].as_str().unwrap_or_default();
        let mark = paint.word(state, if state == "ok" { "✓" } else { "✗" });
        let cause = check["cause"].as_str().unwrap_or_default();
        text.push_str(&format!("{mark} {}: {cause}\n", check["check"].as_str().unwrap_or_default()));
        if let Some(next) = check["do_this"].as_str() {
            text.push_str(&format!("  next: {next}\n"));
        }
    }
    let field = |name: &str| ready[name].as_str().unwrap_or_default();
    let word = if ready["ready"] == true { "ready" } else { "not ready" };
    let remote = ready["remote"].as_str().map(|remote| format!("  remote {remote}")).unwrap_or_default();
    text.push_str(&format!(
        "{word}  home {}  endpoint {}{remote}  try: {}\n",
        field("home"),
        field("endpoint"),
        field("try")
    ));
    if let (Some(frontend), Some(backend)) =
        (ready["ppp"]["frontend"].as_str(), ready["ppp"]["backend"].as_str())
    {
        text.push_str(&format!("bare Paranoid Pirate  clients {frontend}  workers {backend}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Asked {
        #[command(flatten)]
        up: Up,
    }

    #[test]
    fn every_quota_that_is_asked_for_is_set_and_no_other() {
        let options = |flags: &[&str]| {
            let asked = Asked::try_parse_from(std::iter::once(&"up").chain(flags)).unwrap();
            let options = asked.up.store_options();
            let StoreOptions { database_bytes_max, blob_bytes_max, vector_bytes_max, .. } = options;
            let owners = [options.vector_bytes_per_owner_max, options.stored_bytes_per_owner_max];
            ([database_bytes_max, blob_bytes_max, vector_bytes_max], owners)
        };
        let ([database, blobs, vectors], [owner, stored]) = options(&[]);
        assert_eq!(stored, database / 4);
        let small = 4 << 20;
        // No component fills the database alone, however small that is.
        assert_eq!(options(&["--database-mib", "4"]), ([small, blobs, vectors], [owner, small / 4]));
        assert_eq!(options(&["--blob-mib", "4"]), ([database, small, vectors], [owner, stored]));
        assert_eq!(options(&["--vector-owner-mib", "4"]), ([database, blobs, vectors], [small, stored]));
        assert_eq!(options(&["--storage-owner-mib", "4"]), ([database, blobs, vectors], [owner, small]));
        assert_eq!(options(&["--vector-mib", "4"]), ([database, blobs, small], [owner, stored]));
    }

    #[test]
    fn vectors_are_searched_by_the_engine_that_is_asked_for() {
        let engine = |flags: &[&str]| {
            let asked = Asked::try_parse_from(std::iter::once(&"up").chain(flags));
            asked.map(|asked| asked.up.store_options().vector_engine)
        };
        assert_eq!(engine(&[]).unwrap(), VectorEngine::default());
        assert_eq!(engine(&["--vector-engine", "hnsw"]).unwrap(), VectorEngine::Hnsw);
        assert!(engine(&["--vector-engine", "flat"]).is_err());
    }

    #[test]
    fn a_bare_pair_has_both_endpoints_or_none() {
        let ppp = |flags: &[&str]| {
            let asked = Asked::try_parse_from(std::iter::once(&"up").chain(flags));
            asked.map(|asked| {
                asked.up.ppp().unwrap().map(|pair| (pair.frontend.to_string(), pair.backend.to_string()))
            })
        };
        assert_eq!(ppp(&[]).unwrap(), None);
        let pair = ["--ppp-frontend", "ipc:///f", "--ppp-backend", "tcp:127.0.0.1:0"];
        assert_eq!(ppp(&pair).unwrap(), Some(("unix:/f".into(), "tcp:127.0.0.1:0".into())));
        assert!(ppp(&pair[..2]).is_err() && ppp(&pair[2..]).is_err());
        assert!(ppp(&["--ppp-frontend", "tcp:0.0.0.0:1", "--ppp-backend", "tcp:127.0.0.1:0"]).is_err());
    }

    #[test]
    fn a_bare_pair_has_two_endpoints() {
        let refusal = |endpoint: &str| {
            let flags = ["up", "--ppp-frontend", endpoint, "--ppp-backend", endpoint];
            Asked::try_parse_from(flags).unwrap().up.ppp().err().map(|error| error.to_string())
        };
        assert!(refusal("ipc:///a").unwrap().contains("cannot share one endpoint, unix:/a"));
        assert_eq!(refusal("tcp:127.0.0.1:0"), None);
    }

    #[test]
    fn an_address_that_is_none_comes_with_an_example() {
        for flag in ["--listen", "--tcp"] {
            let refusal = Asked::try_parse_from(["up", flag, "foo"]).err().unwrap().to_string();
            assert!(refusal.contains("as in 127.0.0.1:7441"), "{refusal}");
        }
    }

    #[test]
    fn an_open_port_is_part_of_the_ready_line() {
        let text = render(
            &json!({"ready": true, "home": "/h", "endpoint": "unix:/s", "remote": "noise:1.2.3.4:5/ab", "try": "x"}),
            Paint::default(),
        );
        assert_eq!(text, "ready  home /h  endpoint unix:/s  remote noise:1.2.3.4:5/ab  try: x\n");
    }

    #[test]
    fn checks_come_with_marks_and_next_steps_and_one_ready_line() {
        let text = render(
            &json!({"ready": true, "home": "/h", "endpoint": "unix:/h/run/host.sock", "try": "telos chat babs", "checks": [
                {"check": "store", "state": "ok", "cause": "open at position 3", "do_this": null},
                {"check": "mind", "state": "degraded", "cause": "x is not on this machine", "do_this": "`telos model pull x`"},
            ]}),
            Paint::default(),
        );
        assert_eq!(
            text,
            "✓ store: open at position 3\n✗ mind: x is not on this machine\n  next: `telos model pull x`\n\
             ready  home /h  endpoint unix:/h/run/host.sock  try: telos chat babs\n"
        );
    }
}
