//! `telos bridge`: a way to a host elsewhere for programs that speak plain ZeroMQ.

use clap::Subcommand;
use serde_json::{Value, json};
use telos_bridge::Endpoint;
use telos_guard::Proxy;

use crate::connection::{Far, not_let_in, read_key, tell_failure};
use crate::error::{CommandError, refused, usage};
use crate::output::{Output, Paint, field};
use crate::stop::StopSignal;

/// Commands about the way to hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum Bridge {
    /// Listen here, and carry every connection to the host that --connect names, with the key that --key names.
    Proxy {
        /// Where local programs connect: unix:PATH, or tcp:127.0.0.1:PORT for everybody on this machine.
        #[arg(long, value_name = "ENDPOINT")]
        listen: Endpoint,
    },
}

/// Runs in the foreground until it is told to stop.
pub(crate) async fn run(
    Bridge::Proxy { listen }: &Bridge,
    far: Option<&Far>,
    output: &Output,
) -> Result<(), CommandError> {
    let Some(Far { remote, key }) = far else {
        let next = "add --connect noise:ADDRESS:PORT/KEY and --key FILE";
        return Err(usage("a proxy needs to know where to, and with which key", next));
    };
    let mut stop = StopSignal::new()?;
    let key = read_key(key)?;
    let role = telos_guard::greet(remote, &key).await.map_err(not_let_in)?;
    let proxy = Proxy::listen(listen.clone(), remote.clone(), key, Some(tell_failure(*output))).await;
    let proxy = proxy.map_err(|error| refused(error.to_string(), "choose another --listen"))?;
    let ready = json!({
        "ready": true,
        "endpoint": proxy.endpoint().to_string(),
        "remote": remote.to_string(),
        "role": role.as_str(),
    });
    output.result(&ready, render)?;
    stop.wait().await;
    output.note("stopping");
    Ok(())
}

fn render(ready: &Value, _: Paint) -> String {
    let [endpoint, remote, role] = ["endpoint", "remote", "role"].map(|name| field(ready, name));
    format!("ready  {endpoint} leads to {remote} as {role}\n")
}
