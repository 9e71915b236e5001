//! Reading one message, field by field.

use bytes::{Buf as _, Bytes};

use super::work::{is_name_byte, is_service_name};
use super::{FRAME_BYTES_MAX, FRAMES_MAX, FrameError, MESSAGE_BYTES_MAX, Place};
use crate::pool::ServiceName;
use crate::token::Token;

/// A cursor over one message: every read is checked, and `close` insists that nothing is left.
pub(super) struct Fields<'a> {
    pub(super) kind: u8,
    header: &'a [u8],
    header_len: usize,
    payload: &'a [Bytes],
    is_payload_taken: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn open(frames: &'a [Bytes]) -> Result<Self, FrameError> {
        check_sizes(frames)?;
        let (first, payload) = frames.split_first().ok_or(FrameError::Empty)?;
        let (kind, header) = first.split_first().ok_or(FrameError::Empty)?;
        Ok(Self { kind: *kind, header, header_len: first.len(), payload, is_payload_taken: false })
    }

    pub(super) fn close(&self) -> Result<(), FrameError> {
        if !self.header.is_empty() {
            return Err(self.wrong_length());
        }
        if !self.is_payload_taken && !self.payload.is_empty() {
            return Err(FrameError::Payload { kind: self.kind, found: self.payload.len() });
        }
        Ok(())
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.header.try_get_u8().map_err(|_| self.wrong_length())
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.header.try_get_u16().map_err(|_| self.wrong_length())
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.header.try_get_u32().map_err(|_| self.wrong_length())
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.header.try_get_u64().map_err(|_| self.wrong_length())
    }

    pub(super) fn u128(&mut self) -> Result<u128, FrameError> {
        self.header.try_get_u128().map_err(|_| self.wrong_length())
    }

    pub(super) fn place(&mut self) -> Result<Place, FrameError> {
        Ok(Place { channel: self.u64()?, received: self.u64()? })
    }

    pub(super) fn place_of_said(&mut self) -> Result<(Place, u64), FrameError> {
        let (channel, serial, received) = (self.u64()?, self.u64()?, self.u64()?);
        Ok((Place { channel, received }, serial))
    }

    pub(super) fn rest_as_token(&mut self) -> Result<Option<[u8; Token::BYTES]>, FrameError> {
        let rest = std::mem::take(&mut self.header);
        if rest.is_empty() {
            return Ok(None);
        }
        rest.try_into().map(Some).map_err(|_| self.wrong_length())
    }

    pub(super) fn rest_as_service(&mut self) -> Result<ServiceName, FrameError> {
        let rest = std::mem::take(&mut self.header);
        self.read_service(rest)
    }

    /// Any number of them, separated by commas.
    pub(super) fn rest_as_services(&mut self) -> Result<Vec<ServiceName>, FrameError> {
        let rest = std::mem::take(&mut self.header);
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        rest.split(|byte| *byte == b',').map(|name| self.read_service(name)).collect()
    }

    fn read_service(&self, name: &[u8]) -> Result<ServiceName, FrameError> {
        let wrong = |found| FrameError::Field { kind: self.kind, field: "service", found };
        if let Some(byte) = name.iter().find(|byte| !is_name_byte(**byte)) {
            return Err(wrong(*byte));
        }
        let name = std::str::from_utf8(name).ok().filter(|name| is_service_name(name));
        // Too long or empty: the first byte stands for all.
        name.map(ServiceName::from).ok_or(wrong(0))
    }

    /// The payload in one piece; copies only when it came in several.
    pub(super) fn payload(&mut self) -> Result<Bytes, FrameError> {
        self.is_payload_taken = true;
        match self.payload {
            [] => Err(FrameError::Payload { kind: self.kind, found: 0 }),
            [whole] => Ok(whole.clone()),
            parts => Ok(Bytes::from(parts.concat())),
        }
    }

    fn wrong_length(&self) -> FrameError {
        FrameError::Length { kind: self.kind, found: self.header_len }
    }
}

fn check_sizes(frames: &[Bytes]) -> Result<(), FrameError> {
    if frames.len() > FRAMES_MAX {
        return Err(FrameError::Frames { found: frames.len() });
    }
    if let Some(long) = frames.iter().find(|frame| frame.len() > FRAME_BYTES_MAX) {
        return Err(FrameError::FrameBytes { found: long.len() });
    }
    let found = frames.iter().map(Bytes::len).sum();
    if found > MESSAGE_BYTES_MAX {
        return Err(FrameError::MessageBytes { found });
    }
    Ok(())
}
