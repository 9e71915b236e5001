//! The guard before an open port, when one was asked for.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use telos_bridge::{Door, Endpoint, Role};
use telos_guard::{Guard, GuardConfig, GuardError, GuardLimits, GuardStats, Keys, OnRefusal, Turned};
use telos_journal::{Journal, Line, Rate, Severity};

use crate::checks::Check;
use crate::home::Home;

/// None while there is no open port.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Option<(Guard, Keys)>>>);

impl Gate {
    /// Opens the port; behind it are [`doors`].
    pub(crate) async fn open(
        &self,
        listen: SocketAddr,
        home: &Home,
        journal: &Journal,
    ) -> Result<(), GuardError> {
        let keys = Keys::at(home.keys());
        let guard = Guard::start(GuardConfig {
            listen,
            keys: keys.clone(),
            doors: doors(home),
            limits: GuardLimits::default(),
            on_refusal: Some(write_down(journal)),
        });
        *self.0.lock() = Some((guard.await?, keys));
        Ok(())
    }

    /// How peers spell it.
    pub(crate) fn remote(&self) -> Option<String> {
        self.0.lock().as_ref().map(|(guard, _)| guard.remote().to_string())
    }

    /// Nothing without a port.
    pub(crate) fn check(&self) -> Option<Check> {
        let gate = self.0.lock();
        let (guard, keys) = gate.as_ref()?;
        let stands = format!("{}{}", guard.remote(), told(&guard.stats()));
        Some(match keys.allowed() {
            Ok(_) => Check::ok("guard", stands),
            Err(cause) => {
                let next = "mend what it names; then whoever is on the list may come in again";
                Check::degraded("guard", format!("everybody is refused: {cause}; {stands}"), next)
            }
        })
    }

    /// Closes the port, and waits until every connection through it is closed.
    pub(crate) async fn close(&self) {
        let guard = self.0.lock().take();
        if let Some((guard, _)) = guard {
            guard.stop().await;
        }
    }
}

/// The bridge's private side: one socket for each role, since the socket is what bounds the role.
pub(crate) fn doors(home: &Home) -> Vec<Door> {
    let door = |role: Role| Door { endpoint: Endpoint::Unix(home.door(role.as_str())), role_max: role };
    Role::ALL.map(door).to_vec()
}

fn told(stats: &GuardStats) -> String {
    let reasons: Vec<String> =
        stats.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let refused = if reasons.is_empty() { "nobody".to_owned() } else { reasons.join(", ") };
    format!("; {} connected, {} let in, refused: {refused}", stats.connections, stats.admitted)
}

/// A line for whoever was turned away; the guard tells a flood of them now and then.
fn write_down(journal: &Journal) -> OnRefusal {
    let producer = journal.producer("guard", Rate::HOST);
    Arc::new(move |turned| {
        producer.record(&line(turned));
    })
}

fn line(turned: &Turned) -> Line {
    let Turned { address, name, refusal, untold } = turned;
    let whose = name.as_deref().map(|name| format!(" with the key {name}")).unwrap_or_default();
    Line::new(Severity::Warn, "guard.refused", format!("{address}{whose}: {refusal}"))
        .with("address", address.to_string())
        .with("reason", refusal.name())
        .with("untold", *untold)
}

#[cfg(all(test, unix))]
mod tests {
    use telos_journal::JournalConfig;

    use super::*;
    use crate::checks::CheckState;

    #[tokio::test]
    async fn a_list_of_keys_that_cannot_be_read_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        home.prepare().unwrap();
        let journal = Journal::open(home.journal(), JournalConfig::default()).unwrap();
        let gate = Gate::default();
        gate.open(SocketAddr::from(([127, 0, 0, 1], 0)), &home, &journal).await.unwrap();
        assert_eq!(gate.check().unwrap().state, CheckState::Ok);
        std::fs::write(home.keys().join("allowed.toml"), "no list").unwrap();
        let check = gate.check().unwrap();
        assert_eq!(check.state, CheckState::Degraded);
        assert!(check.cause.starts_with("everybody is refused: list of keys"), "{}", check.cause);
        gate.close().await;
    }
}
