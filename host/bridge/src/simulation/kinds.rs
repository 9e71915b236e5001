//! The kinds of histories.

use super::trouble::{Kind, Stroke};

/// Everything at once.
pub(super) const ROUGH: Kind = Kind {
    name: "rough",
    clients: 2..5,
    workers: 1..5,
    trouble_ms: 40_000,
    calls: 5..30,
    orders: 5..30,
    patience_ms: 200..30_000,
    is_rough: true,
    has_doubts: true,
    has_tempers: true,
    is_calm: false,
    blows: &[
        (Stroke::KillHost, 2),
        (Stroke::StopHost, 2),
        (Stroke::KillPeer, 1),
        (Stroke::DrainWorker, 1),
        (Stroke::CutLine, 1),
        (Stroke::SeverLine, 1),
        (Stroke::Part, 1),
        (Stroke::PauseHost, 1),
        (Stroke::PausePeer, 1),
        (Stroke::Sleep, 1),
        (Stroke::Impostor, 1),
        (Stroke::Liar, 2),
        (Stroke::WallJump, 2),
    ],
};

/// Commits whose fate nobody knows, and workers that come and go.
pub(super) const DOUBTS: Kind = Kind {
    name: "doubts",
    is_rough: false,
    has_tempers: false,
    workers: 2..5,
    orders: 2..8,
    // Longer than all that is asked takes one worker.
    patience_ms: 100_000..140_000,
    blows: &[(Stroke::DrainWorker, 2)],
    ..ROUGH
};

/// Hosts that are stopped as they should be.
pub(super) const STOPS: Kind =
    Kind { name: "stops", has_doubts: false, blows: &[(Stroke::StopHost, 3)], ..DOUBTS };

/// Nothing disturbs anybody, but that some workers are stuck, and that machines sleep.
pub(super) const CALM: Kind = Kind {
    name: "calm",
    is_rough: false,
    has_doubts: false,
    is_calm: true,
    patience_ms: 5_000..60_000,
    blows: &[
        (Stroke::DrainWorker, 1),
        (Stroke::Sleep, 2),
        (Stroke::Impostor, 1),
        (Stroke::Liar, 2),
        (Stroke::WallJump, 2),
    ],
    ..ROUGH
};

/// One direction of some lines is dead for a while, and nothing else is wrong.
pub(super) const PARTED: Kind =
    Kind { name: "parted", has_tempers: false, blows: &[(Stroke::Part, 1)], ..CALM };

/// Clients and workers die, and nothing else is wrong.
pub(super) const DEATHS: Kind =
    Kind { name: "deaths", has_tempers: false, blows: &[(Stroke::KillPeer, 2)], ..CALM };

/// Many clients and workers, and a host that dies.
pub(super) const CROWD: Kind = Kind {
    name: "crowd",
    clients: 1_000..1_001,
    workers: 100..101,
    trouble_ms: 12_000,
    calls: 0..3,
    orders: 0..3,
    is_rough: false,
    has_doubts: false,
    blows: &[(Stroke::KillHost, 2), (Stroke::PauseHost, 1)],
    ..ROUGH
};
