//! `telos keys`: key pairs, and the list of those that may come in through an open port; works with and without a host.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};
use telos_bridge::Role;
use telos_guard::{AllowedKey, KeyError, KeysError, PublicKey};
use telos_service::Home;

use crate::error::{CommandError, refused};
use crate::output::{Output, Paint, field, rows, time};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key pair on the machine that is to connect; the private half stays in a file there.
    New {
        /// A name for it: a-z, 0-9, `.`, `_`, `-`.
        name: String,
        /// Where the private key goes [default: HOME/keys/NAME.key].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Let the owner of a key in, on the machine with the host.
    Allow {
        /// A name for it: a-z, 0-9, `.`, `_`, `-`.
        name: String,
        /// The public key that `telos keys new` printed.
        #[arg(value_name = "PUBLICKEY")]
        public: PublicKey,
        /// The most that it may do: client, worker or operator.
        #[arg(long)]
        role: Role,
    },
    /// List the keys that may come in, and the host's own.
    List,
    /// Take a key off the list; a running host closes its connections within seconds.
    Revoke {
        /// The name under which it was allowed.
        name: String,
    },
}

/// Does it to the files in the home.
pub(crate) fn run(keys: &Keys, home: &Path, output: &Output) -> Result<(), CommandError> {
    let known = telos_guard::Keys::at(Home::at(home).keys());
    match keys {
        Keys::New { name, out } => {
            let (public, file) = known.create(name, out.as_deref()).map_err(told)?;
            let made = json!({ "name": name, "public": public, "private_file": file.display().to_string() });
            output.result(&made, render_new)
        }
        Keys::Allow { name, public, role } => {
            let allowed = known.allow(name, *public, *role, now_ms()).map_err(told)?;
            output.result(&row(&allowed), |row, _| {
                format!("{} may come in as {}\n", field(row, "name"), field(row, "role"))
            })
        }
        Keys::List => {
            let (host, allowed) = (known.host_public().map_err(told)?, known.allowed().map_err(told)?);
            let list = json!({ "host": host, "keys": allowed.iter().map(row).collect::<Vec<_>>() });
            output.result(&list, render_list)
        }
        Keys::Revoke { name } => {
            let revoked = known.revoke(name).map_err(told)?;
            output.result(&row(&revoked), |row, _| format!("{} is revoked\n", field(row, "name")))
        }
    }
}

fn row(key: &AllowedKey) -> Value {
    json!({
        "name": key.name,
        "public": key.public,
        "role": key.role.as_str(),
        "added_ms": key.added_ms,
    })
}

fn render_new(made: &Value, _: Paint) -> String {
    let [name, public, file] = ["name", "public", "private_file"].map(|part| field(made, part));
    format!(
        "{public}\nthe private key is in {file}; nobody else needs it\n\
         next, where the host is: `telos keys allow {name} {public} --role client`\n"
    )
}

fn render_list(list: &Value, paint: Paint) -> String {
    let row = |key: &Value| {
        vec![field(key, "name"), field(key, "role"), time(&key["added_ms"]), field(key, "public")]
    };
    let keys: Vec<Vec<String>> = rows(list, "keys").map(row).collect();
    let host = match list["host"].as_str() {
        Some(host) => format!("this host's key  {host}\n"),
        None => "this host has no key yet; `telos up --listen ADDRESS:PORT` makes it\n".to_owned(),
    };
    if keys.is_empty() {
        return host + "nobody may come in through an open port\n";
    }
    host + "\n" + &paint.table(&["name", "role", "added", "public key"], keys)
}

fn told(error: KeysError) -> CommandError {
    let next = match &error {
        KeysError::Unknown { .. } => "`telos keys list` names them",
        KeysError::Taken { .. } => "`telos keys revoke` takes the old one off",
        KeysError::Weak { .. } => "give the key that `telos keys new` printed on the other machine",
        KeysError::Own { .. } => "`telos keys new NAME` on the other machine makes the key to allow",
        KeysError::Shared { .. } => "look who is on the list before you rely on it again: `telos keys list`",
        KeysError::Full => "`telos keys revoke` takes one off",
        KeysError::Name { .. } => "choose another name",
        KeysError::Content { .. } => "mend that line, or move the file away and allow the keys again",
        KeysError::Key(KeyError::Exists { .. }) => "choose another name or file; or move the old one away",
        _ => "mend what it names",
    };
    refused(error.to_string(), next)
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_who_may_come_in_and_the_host_s_own_key() {
        let text = render_list(&json!({"host": null, "keys": []}), Paint::default());
        assert!(text.contains("telos up --listen") && text.contains("nobody"), "{text}");
        let keys = json!([{"name": "laptop", "public": "ab", "role": "client", "added_ms": 0}]);
        let text = render_list(&json!({"host": "cd", "keys": keys}), Paint::default());
        for part in ["cd", "laptop", "client", "ab"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_new_key_comes_with_the_command_that_allows_it() {
        let made = json!({"name": "laptop", "public": "ab", "private_file": "/k"});
        assert!(render_new(&made, Paint::default()).contains("`telos keys allow laptop ab --role client`"));
    }
}
