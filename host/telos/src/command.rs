//! The command line: every command and its arguments, and which file does it.
//!
//! A new command is one module, one line in [`Command`] and one in [`run`].

mod audit;
mod bridge;
mod chat;
mod compile;
mod doctor;
mod forge;
mod journal;
mod keys;
mod memory;
mod model;
mod object;
mod plugin;
mod release;
mod send;
mod store;
mod top;
mod trial;
mod up;
mod vitals;
mod worker;
mod worker_ppp;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use telos_bridge::Endpoint;
use telos_guard::Remote;
use telos_service::Home;

use crate::connection::{Connection, Far, Reach};
use crate::error::{CommandError, usage};
use crate::output::Output;

/// TelOS: a plugin host for systems that rewrite themselves.
#[derive(Debug, Parser)]
#[command(name = "telos", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Where the host keeps everything [default: ~/.telos].
    #[arg(long, global = true, env = "TELOS_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,

    /// Print JSON: one value, or one a line for streams.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How long to wait for a host that has fallen silent, in seconds.
    #[arg(long, global = true, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) patience_s: u64,

    /// Ask the host behind this open port, noise:ADDRESS:PORT/KEY, instead of the one at the home; needs --key. A worker
    /// also takes a local endpoint, unix:PATH or tcp:127.0.0.1:PORT.
    #[arg(long, global = true, value_name = "PLACE")]
    pub(crate) connect: Option<Place>,

    /// The private key to show there, made by `telos keys new`.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a host.
    Up(Box<up::Up>),
    /// Send a message to an object and print the answer.
    Send(send::Send),
    /// Talk with a persona, line by line.
    Chat(chat::Chat),
    /// Look at objects, make and change them.
    #[command(subcommand)]
    Object(object::Object),
    /// Look at plugins, install and exchange them.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Exchange several plugins at once.
    #[command(subcommand)]
    Release(release::Release),
    /// Look at behaviour that is made for messages nobody understands, and decide about it.
    #[command(subcommand)]
    Forge(forge::Forge),
    /// Search what is remembered.
    #[command(subcommand)]
    Memory(memory::Memory),
    /// Read the journal.
    #[command(subcommand)]
    Journal(journal::Journal),
    /// List decisions: swaps, grants, installs.
    Audit(audit::Audit),
    /// Check whether the host is well, and say what to do.
    Doctor,
    /// Check, copy, restore, rewrite and count the whole store.
    #[command(subcommand)]
    Store(store::Store),
    /// List and fetch minds.
    #[command(subcommand)]
    Model(model::Model),
    /// Show who is connected, what workers do, and what the bridge has seen.
    Vitals(vitals::Vitals),
    /// Do work for a host: minds and trials in a process of their own.
    Worker(worker::WorkerArguments),
    /// What a host starts to compile a component; nobody types this.
    #[command(hide = true)]
    Compile(compile::Compile),
    /// What a host starts to try one behaviour; nobody types this.
    #[command(hide = true)]
    Trial(trial::Trial),
    /// Say whose keys may come in through an open port.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Carry local ZeroMQ programs to a host on another machine.
    #[command(subcommand)]
    Bridge(bridge::Bridge),
}

impl Command {
    /// What it does here, at the home, and to no host elsewhere; `None` when it asks a host.
    fn local_work(&self) -> Option<&'static str> {
        match self {
            Command::Up(_) => Some("runs a host here"),
            Command::Model(_) => Some("works with the minds of this machine"),
            Command::Keys(_) => Some("works with the keys of this home"),
            Command::Store(store) => store.local_work(),
            _ => None,
        }
    }
}

/// Where a host is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Behind an open port.
    Far(Remote),
    /// On this machine.
    Near(Endpoint),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("noise:") {
            return text.parse().map(Self::Far).map_err(|error: telos_guard::RemoteError| error.to_string());
        }
        text.parse().map(Self::Near).map_err(|error: telos_bridge::EndpointError| error.to_string())
    }
}

/// Runs the command; the code is 0 unless the command's answer is a no that was printed as its result.
pub(crate) fn run(arguments: Arguments, output: &Output) -> Result<ExitCode, CommandError> {
    if let Command::Compile(compile) = &arguments.command {
        return Ok(compile::run(compile));
    }
    if let Command::Trial(trial) = &arguments.command {
        return Ok(trial::run(trial));
    }
    let home = home(arguments.home)?;
    let near = match &arguments.connect {
        Some(Place::Near(endpoint)) => Some(endpoint.clone()),
        _ => None,
    };
    let far = far(arguments.connect, arguments.key, &arguments.command)?;
    let patience = Duration::from_secs(arguments.patience_s);
    let reach = Reach { home: &home, far: far.as_ref(), patience };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        survive_file_size_limit()?;
        match arguments.command {
            Command::Up(up) => up::run(*up, &home, output).await,
            Command::Doctor => doctor::run(reach, output).await,
            Command::Store(store) => store::run(store, reach, output).await,
            Command::Journal(journal) => journal::run(journal, reach, output).await,
            Command::Keys(keys) => keys::run(&keys, &home, output).map(|()| ExitCode::SUCCESS),
            Command::Bridge(bridge) => {
                bridge::run(&bridge, reach.far, output).await.map(|()| ExitCode::SUCCESS)
            }
            Command::Model(model) => model::run(&model, &home, output).map(|()| ExitCode::SUCCESS),
            Command::Worker(worker) => {
                worker::run(worker, reach, near, output).await.map(|()| ExitCode::SUCCESS)
            }
            command => {
                let host = Connection::open(reach, output).await?;
                let done = run_with(command, &host, output).await;
                host.close().await;
                done
            }
        }
    })
}

/// The host elsewhere that was asked for, when the command is one to ask a host.
fn far(connect: Option<Place>, key: Option<PathBuf>, command: &Command) -> Result<Option<Far>, CommandError> {
    if let (Command::Worker(worker), Some(_)) = (command, &connect)
        && worker.is_bare()
    {
        let next = "leave out --connect for a bare queue, or --ppp for a TelOS host";
        return Err(usage("a worker works for one place: --ppp or --connect", next));
    }
    let (remote, key) = match (connect, key) {
        (None, None) => return Ok(None),
        (Some(Place::Near(_)), None) if matches!(command, Command::Worker(_)) => return Ok(None),
        (Some(Place::Near(_)), _) => {
            let next = "name the home of that host with --home DIR";
            return Err(usage("only a worker, without a key, connects to a local endpoint", next));
        }
        (Some(Place::Far(remote)), Some(key)) => (remote, key),
        (Some(Place::Far(_)), None) => {
            let next = "add --key FILE; `telos keys new` makes one, and the host's operator allows it";
            return Err(usage("--connect needs the key to show there", next));
        }
        (None, Some(_)) => {
            let next = "add --connect noise:ADDRESS:PORT/KEY, as the host prints it when it is ready";
            return Err(usage("--key is for a host elsewhere, and none is named", next));
        }
    };
    match command.local_work() {
        Some(work) => Err(usage(format!("this command {work}"), "leave out --connect and --key")),
        None => Ok(Some(Far { remote, key })),
    }
}

/// A file that may not grow any more fails the write, as a full disk does, and does not end the process. The handler
/// stays for as long as that lives.
#[cfg(unix)]
fn survive_file_size_limit() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}

#[cfg(not(unix))]
fn survive_file_size_limit() -> std::io::Result<()> {
    Ok(())
}

/// What needs a running host.
async fn run_with(command: Command, host: &Connection, output: &Output) -> Result<ExitCode, CommandError> {
    match command {
        Command::Send(send) => send::run(send, host, output).await?,
        Command::Chat(chat) => chat::run(chat, host, output).await?,
        Command::Object(object) => return object::run(object, host, output).await,
        Command::Plugin(plugin) => return plugin::run(plugin, host, output).await,
        Command::Release(release) => return release::run(release, host, output).await,
        Command::Forge(forge) => return forge::run(forge, host, output).await,
        Command::Memory(memory) => return memory::run(memory, host, output).await,
        Command::Audit(audit) => audit::run(audit, host, output).await?,
        Command::Vitals(vitals) => vitals::run(vitals, host, output).await?,
        Command::Compile(_)
        | Command::Trial(_)
        | Command::Up(_)
        | Command::Doctor
        | Command::Store(_)
        | Command::Journal(_)
        | Command::Model(_)
        | Command::Worker(_)
        | Command::Keys(_)
        | Command::Bridge(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Where minds are: `TELOS_MODELS_DIR`, else HOME/models.
fn models_dir(home: &Path) -> PathBuf {
    let given = std::env::var_os("TELOS_MODELS_DIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| Home::at(home).models(), PathBuf::from)
}

/// The given home, else `~/.telos`; absolute, since a host and its cache know no working directory, and UTF-8, since
/// the endpoint file, the journal and every answer name it as text.
fn home(given: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    let default = || std::env::home_dir().map(|home| home.join(".telos"));
    let home = given.filter(|home| !home.as_os_str().is_empty()).or_else(default);
    let home = home.ok_or_else(|| {
        usage("there is no home directory to put .telos in", "say where with --home DIR or TELOS_HOME")
    })?;
    let home = absolute(&home)?;
    match home.to_str() {
        Some(_) => Ok(home),
        None => Err(not_utf8(&home, "name another home with --home DIR or TELOS_HOME")),
    }
}

/// A path that does not depend on the working directory: the host has another, and what it writes down outlives ours.
fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let what = format!("cannot find {}", path.display());
    std::path::absolute(path).map_err(|source| CommandError::File { what, source })
}

/// An absolute path as the text in which it travels to the host.
fn told_path(path: &Path) -> Result<String, CommandError> {
    let path = absolute(path)?;
    let text = path.to_str().map(ToOwned::to_owned);
    text.ok_or_else(|| not_utf8(&path, "rename it, or name it through a link"))
}

fn not_utf8(path: &Path, next: &str) -> CommandError {
    usage(format!("the path {} is not UTF-8", path.display()), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[track_caller]
    pub(super) fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("telos").chain(line.split_whitespace()))
    }

    #[track_caller]
    fn check_refused(line: &str, kind: ErrorKind) {
        let error = parse(line).unwrap_err();
        assert_eq!(error.kind(), kind, "{line}");
        if kind != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "send counter increment {\"by\":2} --stream --deadline-ms 500",
            "send counter get --at-least-once",
            "chat",
            "chat babs",
            "object list",
            "object list --prefix babs/ --after babs/a --limit 5",
            "object show counter",
            "object new mine --parent counter --parent other",
            "object set mine count 3",
            "object set mine count --remove",
            "object unname mine",
            "object history mine --limit 3 --before 40",
            "object show mine --as-of 12",
            "object show mine --as-of 2026-11-22T23:01:51Z",
            "object forget mine babs/alice --yes --detach --no-rewrite",
            "store verify",
            "store backup ./copy",
            "store restore ./copy --force",
            "store rewrite",
            "store stats",
            "plugin list",
            "plugin info counter",
            "plugin check ./counter.wasm",
            "plugin install ./counter.wasm --grant all",
            "plugin swap counter 0.2.0",
            "plugin swap counter 0.3.0 --force --no-return",
            "plugin rollback counter",
            "plugin remove counter",
            "plugin history counter",
            "plugin grant counter inference vectors",
            "plugin grant counter --all",
            "plugin revoke counter inference",
            "up --heartbeat-ms 50 --liveness 5 --probation-s 1 --probation-messages 2",
            "plugin top --watch",
            "journal verify --swaps",
            "release apply ./set.toml --plan",
            "plugin quarantine list",
            "forge try ./sum.js --examples ./sum.json --selector sum --uses messaging",
            "forge history",
            "forge show 3",
            "forge approve 3",
            "forge reject 3 --why no",
            "forge reopen 3",
            "forge retire 3",
            "forge policy",
            "forge policy --object list auto",
            "plugin quarantine lift counter 0.2.0",
            "memory search babs notes hello -k 3",
            "memory search babs notes --vector [0.1,0.2]",
            "memory stats",
            "journal tail --lines 5 --follow --severity warn --event journal.",
            "audit --after 3 --before 90 --limit 10 --subject counter",
            "doctor",
            "keys new laptop --out ./laptop.key",
            "keys allow laptop 8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a --role client",
            "keys list",
            "keys revoke laptop",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn home_and_json_stand_before_or_after_the_command() {
        for line in ["--home /h --json doctor", "doctor --json --home /h"] {
            let arguments = parse(line).unwrap();
            assert_eq!((arguments.home, arguments.json), (Some("/h".into()), true));
        }
    }

    #[test]
    fn a_worker_works_for_one_place() {
        for line in ["worker --ppp ipc:///q --connect unix:/s", "--connect unix:/s worker --ppp ipc:///q"] {
            let Arguments { connect, key, command, .. } = parse(line).unwrap();
            let refusal = far(connect, key, &command).unwrap_err();
            assert_eq!(refusal.exit_code(), 2);
            assert!(refusal.to_string().contains("--ppp or --connect"), "{refusal}");
        }
    }

    #[test]
    fn a_relative_home_becomes_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(home(Some("relative".into())).unwrap(), here.join("relative"));
        assert_eq!(home(Some("/h".into())).unwrap(), Path::new("/h"));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_utf8_is_wrong_usage_and_no_panic() {
        let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"/h\xff".to_vec());
        let path = PathBuf::from(name);
        let refusal = home(Some(path.clone())).unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        assert!(refusal.to_text().contains("is not UTF-8"), "{}", refusal.to_text());
        assert_eq!(told_path(&path).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn wrong_usage_is_refused_before_anything_is_asked() {
        check_refused("send counter", ErrorKind::MissingRequiredArgument);
        check_refused("object set mine count", ErrorKind::MissingRequiredArgument);
        check_refused("object set mine count 3 --remove", ErrorKind::ArgumentConflict);
        check_refused("plugin grant counter", ErrorKind::MissingRequiredArgument);
        check_refused("plugin grant counter vectors --all", ErrorKind::ArgumentConflict);
        check_refused("plugin install x.wasm --grant some", ErrorKind::InvalidValue);
        check_refused("memory search babs notes", ErrorKind::MissingRequiredArgument);
        check_refused("memory search babs notes hello -k 0", ErrorKind::ValueValidation);
        check_refused("journal tail --severity loud", ErrorKind::InvalidValue);
        check_refused("send counter get --deadline-ms 0", ErrorKind::ValueValidation);
        check_refused("fly", ErrorKind::InvalidSubcommand);
    }
}
