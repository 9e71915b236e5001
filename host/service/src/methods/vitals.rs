//! `host.vitals`: who is connected, what workers do, and what the bridge has seen.

use serde_json::{Value, json};
use telos_bridge::{Lease, PeerInfo, PppGauge, PppStats, Stats, WorkerState};

use super::Methods;
use crate::worker::process_of;

impl Methods {
    pub(super) fn host_vitals(&self) -> Value {
        let (peers, stats) = self.elsewhere.presence().unwrap_or_default();
        json!({
            "peers": peers.iter().map(peer).collect::<Vec<_>>(),
            "bridge": counters(&stats, self.elsewhere.timed_out()),
            "ppp": self.bare.as_ref().and_then(PppGauge::read).map(|stats| bare_counters(&stats)),
            "dispatch": self.kernel.dispatch_stats(),
        })
    }
}

fn peer(peer: &PeerInfo) -> Value {
    json!({
        "session": crate::journaling::session_label(peer.session),
        "role": peer.role.as_str(),
        "calls": peer.calls,
        "unacked_messages": peer.unacked_messages,
        "unacked_bytes": peer.unacked_bytes,
        "waiting_messages": peer.waiting_messages,
        "waiting_bytes": peer.waiting_bytes,
        "silent_ms": u64::try_from(peer.silent.as_millis()).unwrap_or(u64::MAX),
        "worker": peer.worker.as_ref().map(|worker| json!({
            "services": worker.services.iter().filter(|name| process_of(name).is_none()).collect::<Vec<_>>(),
            "process": worker.services.iter().find_map(|name| process_of(name)),
            "credit": worker.credit,
            "in_hand": worker.in_hand,
            "leases": worker.leases.iter().map(lease).collect::<Vec<_>>(),
            "state": state(worker.state),
        })),
    })
}

fn lease(lease: &Lease) -> Value {
    json!({
        "job": lease.job,
        "attempt": lease.attempt,
        "service": lease.service,
        "remaining_ms": u64::try_from(lease.remaining.as_millis()).unwrap_or(u64::MAX),
    })
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Ready => "ready",
        WorkerState::Busy => "busy",
        WorkerState::Draining => "draining",
        WorkerState::Suspect => "suspect",
    }
}

/// `timed_out`: orders of the host itself that no worker answered in time.
fn counters(stats: &Stats, timed_out: u64) -> Value {
    json!({
        "sessions": stats.sessions,
        "calls": stats.calls,
        "workers": stats.workers,
        "orders_waiting": stats.orders_waiting,
        "orders_in_hand": stats.orders_in_hand,
        "dispatched": stats.dispatched,
        "repeats": stats.repeats,
        "replies": stats.replies,
        "dropped_replies": stats.dropped_replies,
        "expired": stats.expired,
        "reconnects": stats.reconnects,
        "slow_readers": stats.slow_readers,
        "malformed": stats.malformed,
        "refused": stats.refused,
        "overdue": stats.overdue,
        "given": stats.given,
        "redispatched": stats.redispatched,
        "fenced": stats.fenced,
        "dismissed": stats.dismissed,
        "dead_letters": stats.dead_letters,
        "orders_timed_out": timed_out,
    })
}

fn bare_counters(stats: &PppStats) -> Value {
    json!({
        "clients": stats.clients,
        "workers": stats.workers,
        "waiting": stats.waiting,
        "in_hand": stats.in_hand,
        "calls": stats.calls,
        "requests": stats.requests,
        "dispatched": stats.dispatched,
        "repeats": stats.repeats,
        "replies": stats.replies,
        "unwanted": stats.unwanted,
        "given": stats.given,
        "redispatched": stats.redispatched,
        "fenced": stats.fenced,
        "unanswered": stats.unanswered,
        "refused": stats.refused,
        "malformed": stats.malformed,
        "strangers": stats.strangers,
        "expired": stats.expired,
        "dismissed": stats.dismissed,
        "slow_readers": stats.slow_readers,
    })
}
