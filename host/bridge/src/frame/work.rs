//! The frames of workers: PPP+, the Paranoid Pirate with identity, credit, attempts and leases.
//!
//! A worker is a session like a client's: its identity is the session's, its heartbeats and farewell are HEARTBEAT and
//! BYE, and what follows goes through its channel.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::fields::Fields;
use super::{FrameError, Place, kind, put};
use crate::pool::{Class, ServiceName};

/// The longest name of a service, in bytes.
pub(crate) const SERVICE_NAME_MAX: usize = 64;

/// What a worker says within a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerBody {
    /// It offers services and can have so many jobs in hand. Said again, it changes both.
    Ready { credit: u16, services: Vec<ServiceName> },
    /// It takes no more, and ends what it has.
    Drain,
    /// It says something about the job's attempt.
    Report { job: u64, attempt: u32, report: WorkerReport },
}

/// What a worker says about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerReport {
    Progress,
    Piece {
        index: u64,
        payload: Bytes,
    },
    Done {
        payload: Bytes,
    },
    Failed {
        payload: Bytes,
    },
    /// Not begun, or undone; the payload says why.
    GaveBack {
        payload: Bytes,
    },
}

/// What a host tells a worker within a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobBody {
    Job {
        job: u64,
        attempt: u32,
        remaining_ms: u32,
        lease_ms: u32,
        service: ServiceName,
        payload: Bytes,
    },
    /// The attempt is void: stop, and say so by giving it back.
    Recall {
        job: u64,
        attempt: u32,
    },
    /// Whoever reads its pieces fell behind, or caught up.
    Pace {
        job: u64,
        attempt: u32,
        is_paused: bool,
    },
}

impl WorkerBody {
    pub(crate) fn payload_len(&self) -> usize {
        match self {
            Self::Report { report, .. } => match report {
                WorkerReport::Piece { payload, .. }
                | WorkerReport::Done { payload }
                | WorkerReport::Failed { payload }
                | WorkerReport::GaveBack { payload } => payload.len(),
                WorkerReport::Progress => 0,
            },
            Self::Ready { .. } | Self::Drain => 0,
        }
    }

    pub(super) fn encode(&self, header: &mut BytesMut, at: Place, serial: u64) -> Option<Bytes> {
        let place = [at.channel, serial, at.received];
        match self {
            Self::Ready { credit, services } => {
                put(header, kind::READY, &place);
                header.put_u16(*credit);
                header.put_slice(services.join(",").as_bytes());
                None
            }
            Self::Drain => put(header, kind::DRAIN, &place),
            Self::Report { job, attempt, report } => {
                let (kind, payload) = report.spell();
                put(header, kind, &[at.channel, serial, at.received, *job]);
                header.put_u32(*attempt);
                if let WorkerReport::Piece { index, .. } = report {
                    header.put_u64(*index);
                }
                payload
            }
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, FrameError> {
        match fields.kind {
            kind::READY => Ok(Self::Ready { credit: fields.u16()?, services: fields.rest_as_services()? }),
            kind::DRAIN => Ok(Self::Drain),
            _ => {
                let (job, attempt) = (fields.u64()?, fields.u32()?);
                Ok(Self::Report { job, attempt, report: WorkerReport::decode(fields)? })
            }
        }
    }
}

impl WorkerReport {
    fn spell(&self) -> (u8, Option<Bytes>) {
        match self {
            Self::Progress => (kind::PROGRESS, None),
            Self::Piece { payload, .. } => (kind::PIECE, Some(payload.clone())),
            Self::Done { payload } => (kind::DONE, Some(payload.clone())),
            Self::Failed { payload } => (kind::FAILED, Some(payload.clone())),
            Self::GaveBack { payload } => (kind::GIVE_BACK, Some(payload.clone())),
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, FrameError> {
        Ok(match fields.kind {
            kind::PROGRESS => Self::Progress,
            kind::PIECE => Self::Piece { index: fields.u64()?, payload: fields.payload()? },
            kind::DONE => Self::Done { payload: fields.payload()? },
            kind::FAILED => Self::Failed { payload: fields.payload()? },
            _ => Self::GaveBack { payload: fields.payload()? },
        })
    }
}

impl JobBody {
    pub(crate) fn payload_len(&self) -> usize {
        if let Self::Job { payload, .. } = self { payload.len() } else { 0 }
    }

    pub(super) fn encode(&self, header: &mut BytesMut, at: Place, serial: u64) -> Option<Bytes> {
        match self {
            Self::Job { job, attempt, remaining_ms, lease_ms, service, payload } => {
                put(header, kind::JOB, &[at.channel, serial, at.received, *job]);
                header.put_u32(*attempt);
                header.put_u32(*remaining_ms);
                header.put_u32(*lease_ms);
                header.put_slice(service.as_bytes());
                Some(payload.clone())
            }
            Self::Recall { job, attempt } => {
                put(header, kind::RECALL, &[at.channel, serial, at.received, *job]);
                header.put_u32(*attempt);
                None
            }
            Self::Pace { job, attempt, is_paused } => {
                let kind = if *is_paused { kind::HOLD } else { kind::GO_ON };
                put(header, kind, &[at.channel, serial, at.received, *job]);
                header.put_u32(*attempt);
                None
            }
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, FrameError> {
        let (job, attempt) = (fields.u64()?, fields.u32()?);
        match fields.kind {
            kind::RECALL => return Ok(Self::Recall { job, attempt }),
            kind::HOLD => return Ok(Self::Pace { job, attempt, is_paused: true }),
            kind::GO_ON => return Ok(Self::Pace { job, attempt, is_paused: false }),
            _ => {}
        }
        let (remaining_ms, lease_ms) = (fields.u32()?, fields.u32()?);
        let service = fields.rest_as_service()?;
        Ok(Self::Job { job, attempt, remaining_ms, lease_ms, service, payload: fields.payload()? })
    }
}

pub(super) fn class_to_byte(class: Class) -> u8 {
    match class {
        Class::Idempotent => 1,
        Class::Once => 2,
    }
}

pub(super) fn decode_class(fields: &mut Fields<'_>) -> Result<Class, FrameError> {
    match fields.u8()? {
        1 => Ok(Class::Idempotent),
        2 => Ok(Class::Once),
        found => Err(FrameError::Field { kind: fields.kind, field: "class", found }),
    }
}

/// Whether this may name a service: lowercase letters, digits, `.`, `-` and `_`, 1 to 64 of them.
pub(crate) fn is_service_name(name: &str) -> bool {
    (1..=SERVICE_NAME_MAX).contains(&name.len()) && name.bytes().all(is_name_byte)
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
}
