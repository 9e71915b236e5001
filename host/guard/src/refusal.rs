//! Why somebody was turned away or cut off: one reason, one name, one count.

use std::collections::BTreeMap;

use telos_bridge::{FRAME_BYTES_MAX, FRAMES_MAX, Fault, MESSAGE_BYTES_MAX, Role};

use crate::inspector::READY_BYTES_MAX;

/// Why the guard closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// As many peers as the guard takes.
    #[error("{allowed} peers are connected; no more are taken")]
    Crowded {
        /// How many that is.
        allowed: usize,
    },
    /// As many peers from one address as the guard takes.
    #[error("{allowed} peers of this address are connected; no more are taken")]
    CrowdedAddress {
        /// How many that is.
        allowed: usize,
    },
    /// As many peers with one key as the guard takes.
    #[error("{allowed} peers with this key are connected; no more are taken")]
    CrowdedKey {
        /// How many that is.
        allowed: usize,
    },
    /// Newcomers pressed in, and this was the oldest that had not proved who it is.
    #[error("{allowed} handshakes were under way; the oldest made room for a newer one")]
    Displaced {
        /// How many may be under way.
        allowed: usize,
    },
    /// Who it is, or that it speaks ZMTP, was not shown in time.
    #[error("no whole greeting within {allowed_ms} ms")]
    Late {
        /// How long it had.
        allowed_ms: u64,
    },
    /// The handshake is not one with this host's key.
    #[error("the handshake is not one with this host's key")]
    Handshake,
    /// The key is not on the list, or not any more.
    #[error("the key is not on this host's list")]
    UnknownKey,
    /// The list cannot be read, so nobody is on it.
    #[error("this host cannot read its list of keys")]
    NoList,
    /// The private side of this role does not answer.
    #[error("this host has no door for the role {}", role.as_str())]
    NoDoor {
        /// The role that the key grants.
        role: Role,
    },
    /// The key was taken off the list, or grants another role now.
    #[error("the key was revoked, or its role was changed")]
    Revoked,
    /// A record is not one that the other end of the handshake sealed.
    #[error("a record of {found} bytes is not one of this connection")]
    Record {
        /// Its length.
        found: usize,
    },
    /// Nothing was heard.
    #[error("nothing was heard for {allowed_ms} ms")]
    Silent {
        /// How long it had.
        allowed_ms: u64,
    },
    /// Nothing was read.
    #[error("nothing was read for {allowed_ms} ms")]
    Stalled {
        /// How long it had.
        allowed_ms: u64,
    },
    /// The first 64 bytes are no greeting of ZMTP.
    #[error("the greeting is not one of ZMTP")]
    Greeting,
    /// An older protocol.
    #[error("ZMTP {found}; 3 or newer is spoken here")]
    Version {
        /// Its major number.
        found: u8,
    },
    /// Another mechanism than NULL: who comes in has proved who it is already.
    #[error("the greeting asks for another mechanism than NULL")]
    Mechanism,
    /// The command that must come first is another, or malformed, or too long.
    #[error("the first command is not a READY of at most {READY_BYTES_MAX} bytes")]
    Ready,
    /// Neither a DEALER nor a REQ: nothing else may talk to a ROUTER here.
    #[error("the socket is neither a DEALER nor a REQ")]
    SocketType,
    /// A command after READY.
    #[error("a command after READY")]
    Command,
    /// Bits that mean nothing.
    #[error("frame flags {found:#04x} mean nothing")]
    Flags {
        /// All eight.
        found: u8,
    },
    /// One frame is too long.
    #[error("a frame of {found} bytes; at most {FRAME_BYTES_MAX} are taken")]
    FrameBytes {
        /// What its header says.
        found: u64,
    },
    /// All frames of a message together are too long.
    #[error("a message of {found} bytes; at most {MESSAGE_BYTES_MAX} are taken")]
    MessageBytes {
        /// What its headers say so far.
        found: u64,
    },
    /// A message of too many frames.
    #[error("a message of more than {FRAMES_MAX} frames")]
    Frames,
    /// Too much of unfinished messages, all peers together.
    #[error("unfinished messages of all peers together may take {allowed} bytes")]
    Room {
        /// How much that is.
        allowed: usize,
    },
}

impl Refusal {
    /// The reason's name, by which it is counted.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crowded { .. } => "crowded",
            Self::CrowdedAddress { .. } => "crowded-address",
            Self::CrowdedKey { .. } => "crowded-key",
            Self::Displaced { .. } => "displaced",
            Self::Late { .. } => "late",
            Self::Handshake => "handshake",
            Self::UnknownKey => "unknown-key",
            Self::NoList => "no-list",
            Self::NoDoor { .. } => "no-door",
            Self::Revoked => "revoked",
            Self::Record { .. } => "record",
            Self::Silent { .. } => "silent",
            Self::Stalled { .. } => "stalled",
            Self::Greeting => "greeting",
            Self::Version { .. } => "version",
            Self::Mechanism => "mechanism",
            Self::Ready => "ready",
            Self::SocketType => "socket-type",
            Self::Command => "command",
            Self::Flags { .. } => "flags",
            Self::FrameBytes { .. } => "frame-bytes",
            Self::MessageBytes { .. } => "message-bytes",
            Self::Frames => "frames",
            Self::Room { .. } => "room",
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoList => Fault::Operator,
            Self::NoDoor { .. } => Fault::Host,
            _ => Fault::Peer,
        }
    }
}

/// Counters since the guard began to listen, except the first two, which are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardStats {
    /// Handshakes under way.
    pub pending: usize,
    /// Peers with a door open.
    pub connections: usize,
    /// Connections that were taken from the port, whatever became of them.
    pub arrived: u64,
    /// Those that proved who they are and were let in.
    pub admitted: u64,
    /// Those that hung up before that, without anything wrong.
    pub ghosts: u64,
    /// Those that were refused or cut off, by [`Refusal::name`].
    pub refused: BTreeMap<&'static str, u64>,
}

impl GuardStats {
    /// How many were refused or cut off for this reason.
    #[must_use]
    pub fn refused_for(&self, name: &str) -> u64 {
        self.refused.get(name).copied().unwrap_or(0)
    }
}
