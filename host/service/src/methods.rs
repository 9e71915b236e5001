//! The methods a host answers over the bridge, by noun. Each turns JSON into one call of a part, and its outcome back.
//!
//! Peers that are not operators may send messages and look; everything that changes plugins, grants or objects
//! directly is for operators. Whatever changes something is decided under the call's number, since clients resend open
//! calls after a crash: it happens once, and a resend is answered from the decision.

mod audit;
mod forge;
mod forget;
mod host;
mod journal;
mod memory;
mod object;
mod past;
mod plugin;
mod release;
mod store;
mod vitals;

use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::Value;
use telos_bridge::{Call, CancelReason, CancelToken, Effect, PppGauge, Reply, Role, RpcError, Service};
use telos_forge::Workshop;
use telos_inference::Minds;
use telos_journal::Journal;
use telos_kernel::{Failure, Kernel, ObjectError, SwapError};
use telos_store::{DedupeKey, SessionId, Store};

use crate::arrivals::Arrivals;
use crate::elsewhere::Elsewhere;
use crate::gate::Gate;
use crate::home::Home;
use crate::isolating::TrialProcess;
use crate::turnstile::{Turn, Turnstile};

/// Every method.
const METHODS: [&str; 46] = [
    "host.info",
    "host.vitals",
    "object.send",
    "object.list",
    "object.show",
    "object.new",
    "object.set",
    "object.unname",
    "object.forget",
    "object.history",
    "plugin.list",
    "plugin.info",
    "plugin.check",
    "plugin.install",
    "plugin.swap",
    "plugin.rollback",
    "plugin.remove",
    "plugin.history",
    "plugin.grant",
    "plugin.revoke",
    "plugin.top",
    "plugin.quarantine",
    "plugin.lift",
    "plugin.export",
    "release.plan",
    "release.apply",
    "store.verify",
    "store.backup",
    "store.rewrite",
    "store.stats",
    "store.refused",
    "audit.list",
    "journal.verify",
    "journal.tail",
    "memory.search",
    "memory.stats",
    "memory.archive",
    "memory.verify",
    "forge.history",
    "forge.show",
    "forge.approve",
    "forge.reject",
    "forge.reopen",
    "forge.retire",
    "forge.try",
    "forge.policy",
];

/// The parts that methods speak to.
#[derive(Clone)]
pub(crate) struct Methods {
    home: Home,
    store: Store,
    journal: Arc<Journal>,
    kernel: Kernel,
    minds: Arc<Minds>,
    arrivals: Arc<Arrivals>,
    elsewhere: Elsewhere,
    workshop: Arc<Workshop>,
    gate: Gate,
    isolation: Option<Arc<TrialProcess>>,
    turnstile: Turnstile,
    /// Of the bare pair, where there is one.
    bare: Option<PppGauge>,
    /// Fires when the host begins to stop: what goes on for ever ends then.
    stopping: CancelToken,
    started: Instant,
}

/// The parts, as whoever starts them has them.
pub(crate) struct SpokenTo<'a> {
    pub(crate) home: &'a Home,
    pub(crate) store: &'a Store,
    pub(crate) journal: &'a Arc<Journal>,
    pub(crate) kernel: &'a Kernel,
    pub(crate) minds: &'a Arc<Minds>,
    pub(crate) arrivals: &'a Arc<Arrivals>,
    pub(crate) elsewhere: &'a Elsewhere,
    pub(crate) workshop: &'a Arc<Workshop>,
    pub(crate) gate: &'a Gate,
    pub(crate) isolation: Option<&'a Arc<TrialProcess>>,
}

impl Methods {
    pub(crate) fn new(spoken: &SpokenTo<'_>) -> Self {
        let SpokenTo { home, store, journal, kernel, minds, arrivals, elsewhere, workshop, gate, isolation } =
            *spoken;
        Self {
            home: home.clone(),
            store: store.clone(),
            journal: Arc::clone(journal),
            kernel: kernel.clone(),
            minds: Arc::clone(minds),
            arrivals: Arc::clone(arrivals),
            elsewhere: elsewhere.clone(),
            workshop: Arc::clone(workshop),
            gate: gate.clone(),
            isolation: isolation.cloned(),
            turnstile: Turnstile::default(),
            bare: None,
            stopping: CancelToken::default(),
            started: Instant::now(),
        }
    }

    /// What goes on for ever ends with this.
    pub(crate) fn until(self, stopping: &CancelToken) -> Self {
        Self { stopping: stopping.clone(), ..self }
    }

    /// With the counters of a bare pair.
    pub(crate) fn with_bare(self, bare: Option<PppGauge>) -> Self {
        Self { bare, ..self }
    }

    async fn answer(&self, call: &Call, turn: Option<Turn>, reply: &Arc<Reply>) -> Result<Value, RpcError> {
        if !is_open_to_all(&call.method) && call.role != Role::Operator {
            return Err(match METHODS.contains(&call.method.as_str()) {
                true => denied(format!("`{}` is for operators", call.method)),
                false => no_such_method(&call.method),
            });
        }
        match call.method.as_str() {
            "host.info" => self.host_info(),
            "host.vitals" => Ok(self.host_vitals()),
            "object.send" => self.object_send(call, turn, reply).await,
            "object.list" => self.object_list(params(call)?),
            "object.show" => self.object_show(call),
            "object.new" => self.object_new(call).await,
            "object.set" => self.object_set(call).await,
            "object.unname" => self.object_unname(call).await,
            "object.forget" => self.object_forget(reply, params(call)?).await,
            "object.history" => self.object_history(params(call)?),
            "plugin.list" => self.plugin_list(),
            "plugin.info" => self.plugin_info(params(call)?),
            "plugin.check" => self.plugin_check(params(call)?).await,
            "plugin.install" => self.plugin_install(call).await,
            "plugin.swap" => self.plugin_swap(call).await,
            "plugin.rollback" => self.plugin_rollback(call).await,
            "plugin.remove" => self.plugin_remove(call).await,
            "plugin.history" => self.plugin_history(params(call)?),
            "plugin.grant" => self.plugin_grant(call).await,
            "plugin.revoke" => self.plugin_revoke(call).await,
            "plugin.top" => Ok(self.plugin_top()),
            "plugin.quarantine" => self.plugin_quarantine(),
            "plugin.lift" => self.plugin_lift(call).await,
            "plugin.export" => self.plugin_export(params(call)?).await,
            "release.plan" => self.release_plan(params(call)?).await,
            "release.apply" => self.release_apply(call).await,
            "store.verify" => self.store_verify(reply).await,
            "store.backup" => self.store_backup(reply, params(call)?).await,
            "store.rewrite" => self.store_rewrite(reply).await,
            "store.stats" => self.store_stats(),
            "store.refused" => Ok(self.store_refused(params(call)?)),
            "audit.list" => self.audit_list(params(call)?),
            "journal.verify" => self.journal_verify(params(call)?).await,
            "journal.tail" => self.journal_tail(call, reply).await,
            "memory.search" => self.memory_search(call).await,
            "memory.stats" => Ok(self.memory_stats()),
            "memory.archive" => self.memory_archive(reply, params(call)?).await,
            "memory.verify" => self.memory_verify(reply).await,
            "forge.history" => Ok(self.forge_history()),
            "forge.show" => self.forge_show(params(call)?),
            "forge.approve" => self.forge_approve(params(call)?).await,
            "forge.reject" => self.forge_reject(params(call)?),
            "forge.reopen" => self.forge_reopen(params(call)?),
            "forge.retire" => self.forge_retire(params(call)?).await,
            "forge.try" => self.forge_try(params(call)?).await,
            "forge.policy" => self.forge_policy(params(call)?),
            unknown => Err(no_such_method(unknown)),
        }
    }

    /// The kernel for a change that this call asks for.
    fn deciding(&self, call: &Call) -> Kernel {
        self.kernel.for_request(dedupe_key(call))
    }
}

/// The call's number, under which whatever it changes is decided once.
fn dedupe_key(call: &Call) -> DedupeKey {
    DedupeKey {
        session: SessionId { client: call.session.client, incarnation: call.session.incarnation },
        number: call.number,
        acked_through: call.acked_through,
    }
}

/// What only an operator may do, said to somebody else.
fn denied(message: impl Into<String>) -> RpcError {
    let next = "ask an operator to do it, or to let your key in with `telos keys allow NAME PUBLICKEY --role operator`";
    RpcError::new("denied", Effect::None, message).with_next(next)
}

fn no_such_method(method: &str) -> RpcError {
    RpcError::new("no-such-method", Effect::None, format!("there is no method `{method}`"))
        .with_code(-32_601)
        .with_next("use a `telos` of the same version as the host")
}

fn is_open_to_all(method: &str) -> bool {
    matches!(
        method,
        "host.info" | "object.send" | "object.list" | "object.show" | "plugin.list" | "plugin.info"
    )
}

impl Service for Methods {
    fn call(&self, call: Call, reply: Reply) {
        let methods = self.clone();
        // Taken here, where calls still come one after another.
        let turn = (call.method == "object.send").then(|| self.turnstile.arrive(call.session));
        tokio::spawn(async move {
            reply.accepted();
            let reply = Arc::new(reply);
            let outcome = tokio::select! {
                outcome = methods.answer(&call, turn, &reply) => outcome,
                () = given_up(&call) => Err(cancelled()),
            };
            match Arc::try_unwrap(reply) {
                Ok(reply) => reply.finish(outcome),
                // A stream sink of the call may outlive it by a moment, on the thread that stops its guest.
                Err(shared) => finish_when_alone(shared, outcome).await,
            }
        });
    }
}

/// Nobody wants the answer any more, or the host has waited for it as long as a stop may: then the client asks the next
/// one. A passed deadline is no such reason: the kernel keeps deadlines itself, and says whether the effect happened.
async fn given_up(call: &Call) {
    call.cancelled.cancelled().await;
    if call.cancelled.reason() == Some(CancelReason::Deadline) {
        std::future::pending::<()>().await;
    }
}

async fn finish_when_alone(mut shared: Arc<Reply>, outcome: Result<Value, RpcError>) {
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        match Arc::try_unwrap(shared) {
            Ok(reply) => return reply.finish(outcome),
            Err(still) => shared = still,
        }
    }
}

fn cancelled() -> RpcError {
    RpcError::new("cancelled", Effect::Unknown, "the call was cancelled before it was answered")
}

fn params<T: DeserializeOwned>(call: &Call) -> Result<T, RpcError> {
    serde_json::from_value(call.params.clone()).map_err(|error| {
        let message = format!("the parameters of `{}` do not fit: {error}", call.method);
        RpcError::new("invalid-params", Effect::None, message).with_code(-32_602)
    })
}

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new("invalid", Effect::None, message.into())
}

fn message_error(failure: &Failure) -> RpcError {
    let mut error = RpcError::new(failure.kind(), effect(failure.effect()), failure.to_string());
    error.data.next = failure.next_step();
    error.data.incident = failure.incident();
    error
}

fn swap_error(error: SwapError) -> RpcError {
    let mut told = RpcError::new(error.kind(), effect(error.effect()), error.to_string());
    told.data.next = error.next_step();
    told
}

fn object_error(error: ObjectError) -> RpcError {
    let mut told = RpcError::new(error.kind(), effect(error.effect()), error.to_string());
    told.data.next = error.next_step();
    told
}

fn effect(effect: telos_kernel::Effect) -> Effect {
    match effect {
        telos_kernel::Effect::None => Effect::None,
        telos_kernel::Effect::Committed => Effect::Committed,
        telos_kernel::Effect::Unknown => Effect::Unknown,
    }
}

fn read_error(error: impl std::fmt::Display) -> RpcError {
    RpcError::new("store", Effect::None, format!("the store cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_methods_is_what_is_answered() {
        let source = include_str!("methods.rs");
        let arms =
            source.lines().filter_map(|line| line.trim_start().strip_prefix('"')?.split_once("\" => "));
        let arms: Vec<&str> = arms.map(|(name, _)| name).collect();
        assert_eq!(arms, METHODS);
    }
}
