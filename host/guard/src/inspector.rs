//! What of a peer's bytes may reach the ROUTER: a ZMTP stream is judged frame by frame before it is passed on.
//!
//! ```text
//! greeting   64 bytes                 judged; ours is passed on in its place
//! READY      one command, bounded     judged; ours is passed on in its place, without the peer's Identity
//! messages   headers are judged       passed on unchanged, as soon as the header is judged
//! ```
//! So the first byte of a peer's own that the ROUTER sees belongs to a message, and no peer can take over the route of
//! another by naming it. What is passed on, and the verdict, do not depend on how the stream is cut into pieces.
//! At most [`READY_BYTES_MAX`] bytes are held; work is linear in the bytes.
//!
//! Never here: sockets, clocks, keys.
//!
//! # Source
//! ZMTP 3.0, rfc.zeromq.org/spec/23; 3.1 (spec/37) is answered as 3.0.

mod ready;

use telos_bridge::{FRAME_BYTES_MAX, FRAMES_MAX, MESSAGE_BYTES_MAX};

use crate::refusal::Refusal;

/// The longest READY command; real ones have about 40 bytes.
pub const READY_BYTES_MAX: usize = 512;

/// How long every greeting is.
const GREETING_BYTES: usize = 64;
/// Flags, and a length of eight bytes.
const LONG_HEADER_BYTES: usize = 9;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Judges one peer's stream.
#[derive(Debug)]
pub struct Inspector {
    stage: Stage,
    /// Of a greeting, a READY or a header, while it is not whole.
    held: Vec<u8>,
    message: Message,
    refused: Option<Refusal>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    ReadyHeader,
    Ready { bytes: usize },
    Header,
    Body { left: usize, is_last: bool },
}

/// The message that is under way, as its headers tell it.
#[derive(Debug, Default)]
struct Message {
    frames: usize,
    bytes: usize,
}

/// A whole frame header.
struct Header {
    flags: u8,
    bytes: u64,
}

impl Default for Inspector {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspector {
    /// One for a stream of which nothing was seen.
    #[must_use]
    pub fn new() -> Self {
        let held = Vec::with_capacity(READY_BYTES_MAX);
        Self { stage: Stage::Greeting, held, message: Message::default(), refused: None }
    }

    /// Takes the stream's next bytes and appends to `passed` what may go on: at most as many, and a greeting and a
    /// READY of ours.
    ///
    /// # Errors
    /// [`Refusal`], once and for ever: what was passed on until then is everything before the offence.
    pub fn step(&mut self, mut bytes: &[u8], passed: &mut Vec<u8>) -> Result<(), Refusal> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        while !bytes.is_empty() {
            self.advance(&mut bytes, passed).inspect_err(|refusal| self.refused = Some(*refusal))?;
        }
        Ok(())
    }

    /// Whether greeting and READY are behind.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Header | Stage::Body { .. })
    }

    /// What the ROUTER holds, or will, of a message that is not whole: what its headers promise so far.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.message.bytes
    }

    fn advance(&mut self, bytes: &mut &[u8], passed: &mut Vec<u8>) -> Result<(), Refusal> {
        match self.stage {
            Stage::Greeting => self.take_greeting(bytes, passed),
            Stage::ReadyHeader => self.take_ready_header(bytes),
            Stage::Ready { bytes: wanted } => self.take_ready(wanted, bytes, passed),
            Stage::Header => self.take_header(bytes, passed),
            Stage::Body { left, is_last } => {
                let body = split(bytes, left);
                passed.extend_from_slice(body);
                self.go_on_after(left - body.len(), is_last);
                Ok(())
            }
        }
    }

    fn take_greeting(&mut self, bytes: &mut &[u8], passed: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.hold(bytes, GREETING_BYTES) {
            judge_greeting(&self.held)?;
            self.held.clear();
            passed.extend_from_slice(&greeting());
            self.stage = Stage::ReadyHeader;
        }
        Ok(())
    }

    fn take_ready_header(&mut self, bytes: &mut &[u8]) -> Result<(), Refusal> {
        let Some(header) = self.hold_header(bytes) else { return Ok(()) };
        let wanted = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        if header.flags & !LONG != COMMAND || !(1..=READY_BYTES_MAX).contains(&wanted) {
            return Err(Refusal::Ready);
        }
        self.held.clear();
        self.stage = Stage::Ready { bytes: wanted };
        Ok(())
    }

    fn take_ready(&mut self, wanted: usize, bytes: &mut &[u8], passed: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.hold(bytes, wanted) {
            let kind = ready::judge(&self.held)?;
            self.held.clear();
            passed.extend(ready::of(kind));
            self.stage = Stage::Header;
        }
        Ok(())
    }

    fn take_header(&mut self, bytes: &mut &[u8], passed: &mut Vec<u8>) -> Result<(), Refusal> {
        // The flags alone may be offence enough; their sender need not be waited for.
        let flags = self.held.first().or(bytes.first()).copied().unwrap_or_default();
        judge_flags(flags)?;
        let Some(header) = self.hold_header(bytes) else { return Ok(()) };
        let frame = self.message.add(header.bytes)?;
        passed.extend_from_slice(&self.held);
        self.held.clear();
        self.go_on_after(frame, flags & MORE == 0);
        Ok(())
    }

    /// What follows when so much of a frame is still to come.
    fn go_on_after(&mut self, left: usize, is_last: bool) {
        self.stage = if left > 0 { Stage::Body { left, is_last } } else { Stage::Header };
        if left == 0 && is_last {
            self.message = Message::default();
        }
    }

    /// Holds bytes until there are so many; whether there are.
    fn hold(&mut self, bytes: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held.len());
        self.held.extend_from_slice(split(bytes, missing));
        self.held.len() >= wanted
    }

    /// Holds bytes until they are a whole header.
    fn hold_header(&mut self, bytes: &mut &[u8]) -> Option<Header> {
        let flags = *self.held.first().or(bytes.first())?;
        let wanted = if flags & LONG == 0 { 2 } else { LONG_HEADER_BYTES };
        if !self.hold(bytes, wanted) {
            return None;
        }
        let bytes = self.held.iter().skip(1).fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(Header { flags, bytes })
    }
}

impl Message {
    /// Counts a frame that its header announces; its length when it is allowed.
    fn add(&mut self, found: u64) -> Result<usize, Refusal> {
        let frame = usize::try_from(found).unwrap_or(usize::MAX);
        if frame > FRAME_BYTES_MAX {
            return Err(Refusal::FrameBytes { found });
        }
        self.frames += 1;
        self.bytes += frame;
        if self.frames > FRAMES_MAX {
            return Err(Refusal::Frames);
        }
        if self.bytes > MESSAGE_BYTES_MAX {
            return Err(Refusal::MessageBytes { found: self.bytes as u64 });
        }
        Ok(frame)
    }
}

/// The first bytes, at most so many, taken off.
fn split<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (first, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    first
}

/// Signature, version, mechanism, and that it is no server of a mechanism; padding and filler say nothing.
fn judge_greeting(greeting: &[u8]) -> Result<(), Refusal> {
    let [0xff, _, _, _, _, _, _, _, _, 0x7f, version, _minor, rest @ ..] = greeting else {
        return Err(Refusal::Greeting);
    };
    if *version < 3 {
        return Err(Refusal::Version { found: *version });
    }
    if !rest.starts_with(&mechanism()) || rest.get(mechanism().len()) != Some(&0) {
        return Err(Refusal::Mechanism);
    }
    Ok(())
}

fn judge_flags(flags: u8) -> Result<(), Refusal> {
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(Refusal::Flags { found: flags });
    }
    if flags & COMMAND != 0 {
        return Err(Refusal::Command);
    }
    Ok(())
}

/// `NULL`, padded.
fn mechanism() -> [u8; 20] {
    let mut mechanism = [0; 20];
    mechanism[..4].copy_from_slice(b"NULL");
    mechanism
}

/// The greeting that the ROUTER gets, whatever the peer's was.
fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..32].copy_from_slice(&mechanism());
    greeting
}
