//! Native frames: one ZeroMQ message is a header frame, and for some kinds a JSON payload in further frames.
//!
//! Big-endian integers, nothing optional, nothing after the last field. A channel is one run of serials in both
//! directions; a frame of another channel is void. `serial` numbers what one side says within the channel;
//! `received` is the last serial that the sender of the frame has taken from the other side.
//!
//! ```text
//! client to host
//! 11 HELLO      protocol u8, client u128, incarnation u64, run u64, channel u64, received u64, role u8, token 0|32 bytes
//! 12 HEARTBEAT  channel u64, received u64, acked_through u64, beat u64 (the last one heard)
//! 13 REQUEST    channel u64, serial u64, received u64, number u64, acked_through u64, remaining_ms u32, attempt u32  + payload
//! 14 CANCEL     channel u64, serial u64, received u64, number u64
//! 15 ACK        channel u64, received u64
//! 16 BYE
//! 17 PAUSE      channel u64, serial u64, received u64, number u64 (its reader fell behind: send it no more chunks)
//! 18 RESUME     channel u64, serial u64, received u64, number u64 (its reader caught up)
//! 19 ORDER      as REQUEST, then class u8, lease_ms u32 (0: none), service                              + payload
//! worker to host
//! 01 READY      channel u64, serial u64, received u64, credit u16, services, separated by commas
//! 03 DRAIN      channel u64, serial u64, received u64
//! 06 PROGRESS   channel u64, serial u64, received u64, job u64, attempt u32
//! 07 GIVE BACK  channel u64, serial u64, received u64, job u64, attempt u32                             + payload
//! 09 PIECE      channel u64, serial u64, received u64, job u64, attempt u32, index u64                  + payload
//! 0a DONE       channel u64, serial u64, received u64, job u64, attempt u32                             + payload
//! 0b FAILED     channel u64, serial u64, received u64, job u64, attempt u32                             + payload
//! host to worker
//! 04 JOB        channel u64, serial u64, received u64, job u64, attempt u32, remaining_ms u32, lease_ms u32, service + payload
//! 08 RECALL     channel u64, serial u64, received u64, job u64, attempt u32
//! 0d HOLD       channel u64, serial u64, received u64, job u64, attempt u32 (whoever reads it fell behind)
//! 0e GO ON      channel u64, serial u64, received u64, job u64, attempt u32 (and caught up)
//! host to client
//! 21 WELCOME    protocol u8, incarnation u64, run u64, channel u64, received u64, heartbeat_ms u32, role u8
//! 22 HEARTBEAT  channel u64, received u64, beat u64 (rising)
//! 23 ACCEPTED   channel u64, serial u64, received u64, number u64
//! 24 CHUNK      channel u64, serial u64, received u64, number u64, attempt u32, index u64                + payload
//! 25 RESET      channel u64, serial u64, received u64, number u64, attempt u32
//! 26 RESULT     channel u64, serial u64, received u64, number u64                                        + payload
//! 27 ERROR      channel u64, serial u64, received u64, number u64                                        + payload
//! 28 ACK        channel u64, received u64
//! 29 REFUSED    refusal u8                                                                               + payload
//! 2a BYE
//! ```
//! A payload longer than [`FRAME_BYTES_MAX`] continues in the next frame. Workers also say HELLO, HEARTBEAT, ACK and
//! BYE, and hear what answers them. Decoders are total: any bytes give a frame or a [`FrameError`], and nothing is allocated beyond what arrived.

mod fields;
mod work;

use bytes::{BufMut, Bytes, BytesMut};

use crate::pool::{Class, ServiceName};
use crate::service::{Fault, Role};
use crate::token::Token;

use fields::Fields;
use work::{class_to_byte, decode_class};

pub(crate) use work::{JobBody, WorkerBody, WorkerReport, is_service_name};

/// The longest single frame.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest message, all frames together.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most frames in a message, the routing frame not counted.
pub const FRAMES_MAX: usize = 64;
/// What a payload may have, so that its message keeps within [`MESSAGE_BYTES_MAX`] with any header.
pub(crate) const MESSAGE_PAYLOAD_MAX: usize = MESSAGE_BYTES_MAX - 128;
/// The protocol we speak. 2 added PAUSE and RESUME; 3 workers and orders.
pub(crate) const PROTOCOL: u8 = 3;

/// Why bytes are not a frame of ours.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// No frame, or an empty header.
    #[error("an empty message")]
    Empty,
    /// More frames than allowed.
    #[error("a message of {found} frames; at most {FRAMES_MAX} are taken")]
    Frames {
        /// How many came.
        found: usize,
    },
    /// One frame is too long.
    #[error("a frame of {found} bytes; at most {FRAME_BYTES_MAX} are taken")]
    FrameBytes {
        /// How long it is.
        found: usize,
    },
    /// All together are too long.
    #[error("a message of {found} bytes; at most {MESSAGE_BYTES_MAX} are taken")]
    MessageBytes {
        /// How long they are.
        found: usize,
    },
    /// The first byte names no kind for this direction.
    #[error("frame kind {found:#04x} is not known")]
    Kind {
        /// The byte.
        found: u8,
    },
    /// The header has another length than its kind.
    #[error("frame kind {kind:#04x} with a header of {found} bytes, which is not its length")]
    Length {
        /// The kind.
        kind: u8,
        /// How long the header is.
        found: usize,
    },
    /// A field has a value that nothing means.
    #[error("frame kind {kind:#04x}: field {field} is {found}")]
    Field {
        /// The kind.
        kind: u8,
        /// Which field.
        field: &'static str,
        /// What it holds.
        found: u8,
    },
    /// A payload where none belongs, or none where one belongs.
    #[error("frame kind {kind:#04x} with a payload of {found} frames")]
    Payload {
        /// The kind.
        kind: u8,
        /// How many payload frames came.
        found: usize,
    },
}

impl FrameError {
    /// Always the other end.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Peer
    }

    /// Whether the message was understood but is too large.
    pub(crate) fn is_size(self) -> bool {
        matches!(self, Self::Frames { .. } | Self::FrameBytes { .. } | Self::MessageBytes { .. })
    }
}

/// How a client introduces itself, on every new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) protocol: u8,
    pub(crate) client: u128,
    /// 0 on first contact.
    pub(crate) incarnation: u64,
    /// Of the host that was last heard; 0 when none.
    pub(crate) run: u64,
    /// Of that host; 0 when none.
    pub(crate) channel: u64,
    pub(crate) received: u64,
    pub(crate) role: Role,
    pub(crate) token: Option<[u8; Token::BYTES]>,
}

/// The host's answer to HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) protocol: u8,
    pub(crate) incarnation: u64,
    pub(crate) run: u64,
    /// One per life of a session in the host. Another one than in HELLO: serials start at 1 on both sides, and the
    /// client says everything again.
    pub(crate) channel: u64,
    pub(crate) received: u64,
    pub(crate) heartbeat_ms: u32,
    /// What was granted; never more than the endpoint allows.
    pub(crate) role: Role,
}

/// Why the host does not go on with a peer, or with one of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Say HELLO first: the host does not know this connection.
    Stranger,
    /// The token is wrong or missing.
    Token,
    /// The protocol is not spoken here.
    Protocol,
    /// As many sessions as the host takes; come back later.
    Full,
    /// The message was not understood, and not acted on.
    Malformed,
    /// The message was too large, and not acted on.
    TooLarge,
    /// The peer's role does not say such things.
    Role,
}

/// Where a frame belongs: its channel, and what its sender has taken from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) channel: u64,
    pub(crate) received: u64,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToHost {
    Hello(Hello),
    Heartbeat { at: Place, acked_through: u64, beat: u64 },
    Said { at: Place, serial: u64, body: ClientBody },
    Ack { at: Place },
    Bye,
}

/// What a client says within a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientBody {
    Request {
        number: u64,
        acked_through: u64,
        remaining_ms: u32,
        attempt: u32,
        /// For a worker; none: for the host itself.
        order: Option<OrderTerms>,
        payload: Bytes,
    },
    Cancel {
        number: u64,
    },
    Pace {
        number: u64,
        is_paused: bool,
    },
    Work(WorkerBody),
}

impl ClientBody {
    pub(crate) fn payload_len(&self) -> usize {
        match self {
            Self::Request { payload, .. } => payload.len(),
            Self::Work(body) => body.payload_len(),
            Self::Cancel { .. } | Self::Pace { .. } => 0,
        }
    }
}

/// What a client asks of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderTerms {
    pub(crate) service: ServiceName,
    pub(crate) class: Class,
    /// How long a worker may go without a sign of progress; 0: until the deadline.
    pub(crate) lease_ms: u32,
}

/// What a host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToClient {
    Welcome(Welcome),
    Heartbeat { at: Place, beat: u64 },
    Said { at: Place, serial: u64, body: HostBody },
    Ack { at: Place },
    Refused { refusal: Refusal, payload: Bytes },
    Bye,
}

/// What a host says within a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostBody {
    Accepted { number: u64 },
    Chunk { number: u64, attempt: u32, index: u64, payload: Bytes },
    Reset { number: u64, attempt: u32 },
    Result { number: u64, payload: Bytes },
    Error { number: u64, payload: Bytes },
    Work(JobBody),
}

impl HostBody {
    pub(crate) fn payload_len(&self) -> usize {
        match self {
            Self::Chunk { payload, .. } | Self::Result { payload, .. } | Self::Error { payload, .. } => {
                payload.len()
            }
            Self::Accepted { .. } | Self::Reset { .. } => 0,
            Self::Work(body) => body.payload_len(),
        }
    }

    /// Of the request that it answers; none for a worker's job.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Accepted { number }
            | Self::Chunk { number, .. }
            | Self::Reset { number, .. }
            | Self::Result { number, .. }
            | Self::Error { number, .. } => Some(*number),
            Self::Work(_) => None,
        }
    }
}

mod kind {
    pub(super) const READY: u8 = 0x01;
    pub(super) const DRAIN: u8 = 0x03;
    pub(super) const JOB: u8 = 0x04;
    pub(super) const PROGRESS: u8 = 0x06;
    pub(super) const GIVE_BACK: u8 = 0x07;
    pub(super) const RECALL: u8 = 0x08;
    pub(super) const PIECE: u8 = 0x09;
    pub(super) const DONE: u8 = 0x0a;
    pub(super) const FAILED: u8 = 0x0b;
    pub(super) const HOLD: u8 = 0x0d;
    pub(super) const GO_ON: u8 = 0x0e;
    pub(super) const HELLO: u8 = 0x11;
    pub(super) const HEARTBEAT: u8 = 0x12;
    pub(super) const REQUEST: u8 = 0x13;
    pub(super) const CANCEL: u8 = 0x14;
    pub(super) const ACK: u8 = 0x15;
    pub(super) const BYE: u8 = 0x16;
    pub(super) const PAUSE: u8 = 0x17;
    pub(super) const RESUME: u8 = 0x18;
    pub(super) const ORDER: u8 = 0x19;
    pub(super) const WELCOME: u8 = 0x21;
    pub(super) const HOST_HEARTBEAT: u8 = 0x22;
    pub(super) const ACCEPTED: u8 = 0x23;
    pub(super) const CHUNK: u8 = 0x24;
    pub(super) const RESET: u8 = 0x25;
    pub(super) const RESULT: u8 = 0x26;
    pub(super) const ERROR: u8 = 0x27;
    pub(super) const HOST_ACK: u8 = 0x28;
    pub(super) const REFUSED: u8 = 0x29;
    pub(super) const HOST_BYE: u8 = 0x2a;
}

impl ToHost {
    /// The frames of one message.
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let mut header = BytesMut::with_capacity(96);
        let payload = match self {
            Self::Hello(hello) => encode_hello(&mut header, hello),
            Self::Heartbeat { at, acked_through, beat } => {
                put(&mut header, kind::HEARTBEAT, &[at.channel, at.received, *acked_through, *beat])
            }
            Self::Said { at, serial, body } => encode_client_body(&mut header, *at, *serial, body),
            Self::Ack { at } => put(&mut header, kind::ACK, &[at.channel, at.received]),
            Self::Bye => put(&mut header, kind::BYE, &[]),
        };
        join(header, payload)
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`FrameError`], for anything but exactly what `encode` writes.
    pub(crate) fn decode(frames: &[Bytes]) -> Result<Self, FrameError> {
        let mut fields = Fields::open(frames)?;
        let decoded = match fields.kind {
            kind::HELLO => Self::Hello(decode_hello(&mut fields)?),
            kind::HEARTBEAT => {
                Self::Heartbeat { at: fields.place()?, acked_through: fields.u64()?, beat: fields.u64()? }
            }
            kind::REQUEST | kind::CANCEL | kind::PAUSE | kind::RESUME | kind::ORDER => {
                let (at, serial) = fields.place_of_said()?;
                Self::Said { at, serial, body: decode_client_body(&mut fields)? }
            }
            kind::READY | kind::DRAIN | kind::PROGRESS | kind::GIVE_BACK | kind::PIECE..=kind::FAILED => {
                let (at, serial) = fields.place_of_said()?;
                Self::Said { at, serial, body: ClientBody::Work(WorkerBody::decode(&mut fields)?) }
            }
            kind::ACK => Self::Ack { at: fields.place()? },
            kind::BYE => Self::Bye,
            found => return Err(FrameError::Kind { found }),
        };
        fields.close()?;
        Ok(decoded)
    }
}

impl ToClient {
    /// The frames of one message.
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let mut header = BytesMut::with_capacity(64);
        let payload = match self {
            Self::Welcome(welcome) => encode_welcome(&mut header, welcome),
            Self::Heartbeat { at, beat } => {
                put(&mut header, kind::HOST_HEARTBEAT, &[at.channel, at.received, *beat])
            }
            Self::Said { at, serial, body } => encode_host_body(&mut header, *at, *serial, body),
            Self::Ack { at } => put(&mut header, kind::HOST_ACK, &[at.channel, at.received]),
            Self::Refused { refusal, payload } => {
                header.put_u8(kind::REFUSED);
                header.put_u8(refusal.to_byte());
                Some(payload.clone())
            }
            Self::Bye => put(&mut header, kind::HOST_BYE, &[]),
        };
        join(header, payload)
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`FrameError`], for anything but exactly what `encode` writes.
    pub(crate) fn decode(frames: &[Bytes]) -> Result<Self, FrameError> {
        let mut fields = Fields::open(frames)?;
        let decoded = match fields.kind {
            kind::WELCOME => Self::Welcome(decode_welcome(&mut fields)?),
            kind::HOST_HEARTBEAT => Self::Heartbeat { at: fields.place()?, beat: fields.u64()? },
            kind::ACCEPTED..=kind::ERROR => {
                let (at, serial) = fields.place_of_said()?;
                Self::Said { at, serial, body: decode_host_body(&mut fields)? }
            }
            kind::JOB | kind::RECALL | kind::HOLD | kind::GO_ON => {
                let (at, serial) = fields.place_of_said()?;
                Self::Said { at, serial, body: HostBody::Work(JobBody::decode(&mut fields)?) }
            }
            kind::HOST_ACK => Self::Ack { at: fields.place()? },
            kind::REFUSED => {
                Self::Refused { refusal: decode_refusal(&mut fields)?, payload: fields.payload()? }
            }
            kind::HOST_BYE => Self::Bye,
            found => return Err(FrameError::Kind { found }),
        };
        fields.close()?;
        Ok(decoded)
    }
}

impl Refusal {
    const ALL: [Self; 7] = [
        Self::Stranger,
        Self::Token,
        Self::Protocol,
        Self::Full,
        Self::Malformed,
        Self::TooLarge,
        Self::Role,
    ];

    fn to_byte(self) -> u8 {
        match self {
            Self::Stranger => 1,
            Self::Token => 2,
            Self::Protocol => 3,
            Self::Full => 4,
            Self::Malformed => 5,
            Self::TooLarge => 6,
            Self::Role => 7,
        }
    }
}

fn role_to_byte(role: Role) -> u8 {
    match role {
        Role::Client => 1,
        Role::Worker => 2,
        Role::Operator => 3,
    }
}

fn decode_role(fields: &mut Fields<'_>) -> Result<Role, FrameError> {
    let found = fields.u8()?;
    [Role::Client, Role::Worker, Role::Operator]
        .into_iter()
        .find(|role| role_to_byte(*role) == found)
        .ok_or(FrameError::Field { kind: fields.kind, field: "role", found })
}

fn decode_refusal(fields: &mut Fields<'_>) -> Result<Refusal, FrameError> {
    let found = fields.u8()?;
    Refusal::ALL.into_iter().find(|refusal| refusal.to_byte() == found).ok_or(FrameError::Field {
        kind: fields.kind,
        field: "refusal",
        found,
    })
}

/// A header of u64 fields only, without payload.
fn put(header: &mut BytesMut, kind: u8, fields: &[u64]) -> Option<Bytes> {
    header.put_u8(kind);
    for field in fields {
        header.put_u64(*field);
    }
    None
}

fn encode_hello(header: &mut BytesMut, hello: &Hello) -> Option<Bytes> {
    header.put_u8(kind::HELLO);
    header.put_u8(hello.protocol);
    header.put_u128(hello.client);
    for field in [hello.incarnation, hello.run, hello.channel, hello.received] {
        header.put_u64(field);
    }
    header.put_u8(role_to_byte(hello.role));
    if let Some(token) = &hello.token {
        header.put_slice(token);
    }
    None
}

fn decode_hello(fields: &mut Fields<'_>) -> Result<Hello, FrameError> {
    Ok(Hello {
        protocol: fields.u8()?,
        client: fields.u128()?,
        incarnation: fields.u64()?,
        run: fields.u64()?,
        channel: fields.u64()?,
        received: fields.u64()?,
        role: decode_role(fields)?,
        token: fields.rest_as_token()?,
    })
}

fn encode_welcome(header: &mut BytesMut, welcome: &Welcome) -> Option<Bytes> {
    header.put_u8(kind::WELCOME);
    header.put_u8(welcome.protocol);
    for field in [welcome.incarnation, welcome.run, welcome.channel, welcome.received] {
        header.put_u64(field);
    }
    header.put_u32(welcome.heartbeat_ms);
    header.put_u8(role_to_byte(welcome.role));
    None
}

fn decode_welcome(fields: &mut Fields<'_>) -> Result<Welcome, FrameError> {
    Ok(Welcome {
        protocol: fields.u8()?,
        incarnation: fields.u64()?,
        run: fields.u64()?,
        channel: fields.u64()?,
        received: fields.u64()?,
        heartbeat_ms: fields.u32()?,
        role: decode_role(fields)?,
    })
}

fn encode_client_body(header: &mut BytesMut, at: Place, serial: u64, body: &ClientBody) -> Option<Bytes> {
    match body {
        ClientBody::Request { number, acked_through, remaining_ms, attempt, order, payload } => {
            let kind = if order.is_some() { kind::ORDER } else { kind::REQUEST };
            put(header, kind, &[at.channel, serial, at.received, *number, *acked_through]);
            header.put_u32(*remaining_ms);
            header.put_u32(*attempt);
            if let Some(terms) = order {
                header.put_u8(class_to_byte(terms.class));
                header.put_u32(terms.lease_ms);
                header.put_slice(terms.service.as_bytes());
            }
            Some(payload.clone())
        }
        ClientBody::Work(body) => body.encode(header, at, serial),
        ClientBody::Cancel { number } => {
            put(header, kind::CANCEL, &[at.channel, serial, at.received, *number])
        }
        ClientBody::Pace { number, is_paused } => {
            let kind = if *is_paused { kind::PAUSE } else { kind::RESUME };
            put(header, kind, &[at.channel, serial, at.received, *number])
        }
    }
}

fn decode_client_body(fields: &mut Fields<'_>) -> Result<ClientBody, FrameError> {
    let number = fields.u64()?;
    Ok(match fields.kind {
        kind::CANCEL => ClientBody::Cancel { number },
        kind::PAUSE => ClientBody::Pace { number, is_paused: true },
        kind::RESUME => ClientBody::Pace { number, is_paused: false },
        kind => ClientBody::Request {
            number,
            acked_through: fields.u64()?,
            remaining_ms: fields.u32()?,
            attempt: fields.u32()?,
            order: if kind == kind::ORDER { Some(decode_terms(fields)?) } else { None },
            payload: fields.payload()?,
        },
    })
}

fn decode_terms(fields: &mut Fields<'_>) -> Result<OrderTerms, FrameError> {
    Ok(OrderTerms {
        class: decode_class(fields)?,
        lease_ms: fields.u32()?,
        service: fields.rest_as_service()?,
    })
}

fn encode_host_body(header: &mut BytesMut, at: Place, serial: u64, body: &HostBody) -> Option<Bytes> {
    let common = [at.channel, serial, at.received, body.number().unwrap_or_default()];
    match body {
        HostBody::Work(body) => body.encode(header, at, serial),
        HostBody::Accepted { .. } => put(header, kind::ACCEPTED, &common),
        HostBody::Chunk { attempt, index, payload, .. } => {
            put(header, kind::CHUNK, &common);
            header.put_u32(*attempt);
            header.put_u64(*index);
            Some(payload.clone())
        }
        HostBody::Reset { attempt, .. } => {
            put(header, kind::RESET, &common);
            header.put_u32(*attempt);
            None
        }
        HostBody::Result { payload, .. } => {
            put(header, kind::RESULT, &common);
            Some(payload.clone())
        }
        HostBody::Error { payload, .. } => {
            put(header, kind::ERROR, &common);
            Some(payload.clone())
        }
    }
}

fn decode_host_body(fields: &mut Fields<'_>) -> Result<HostBody, FrameError> {
    let number = fields.u64()?;
    Ok(match fields.kind {
        kind::ACCEPTED => HostBody::Accepted { number },
        kind::CHUNK => HostBody::Chunk {
            number,
            attempt: fields.u32()?,
            index: fields.u64()?,
            payload: fields.payload()?,
        },
        kind::RESET => HostBody::Reset { number, attempt: fields.u32()? },
        kind::RESULT => HostBody::Result { number, payload: fields.payload()? },
        _ => HostBody::Error { number, payload: fields.payload()? },
    })
}

fn join(header: BytesMut, payload: Option<Bytes>) -> Vec<Bytes> {
    let mut frames = vec![header.freeze()];
    let Some(mut rest) = payload else { return frames };
    while rest.len() > FRAME_BYTES_MAX {
        frames.push(rest.split_to(FRAME_BYTES_MAX));
    }
    frames.push(rest);
    frames
}

#[cfg(test)]
mod tests;
