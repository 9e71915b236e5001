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
pub(crate) struct Gate(Arc<Mutex<Option<Guard>>>);

impl Gate {
    /// Opens the port; behind it are [`doors`].
    pub(crate) async fn open(
        &self,
        listen: SocketAddr,
        home: &Home,
        journal: &Journal,
    ) -> Result<(), GuardError> {
        let guard = Guard::start(GuardConfig {
            listen,
            keys: Keys::at(home.keys()),
            doors: doors(home),
            limits: GuardLimits::default(),
            on_refusal: Some(write_down(journal)),
        });
        *self.0.lock() = Some(guard.await?);
        Ok(())
    }

    /// How peers spell it.
    pub(crate) fn remote(&self) -> Option<String> {
        self.0.lock().as_ref().map(|guard| guard.remote().to_string())
    }

    /// Nothing without a port.
    pub(crate) fn check(&self) -> Option<Check> {
        let gate = self.0.lock();
        let guard = gate.as_ref()?;
        Some(Check::ok("guard", format!("{}{}", guard.remote(), told(&guard.stats()))))
    }

    /// Closes the port, and waits until every connection through it is closed.
    pub(crate) async fn close(&self) {
        let guard = self.0.lock().take();
        if let Some(guard) = guard {
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
