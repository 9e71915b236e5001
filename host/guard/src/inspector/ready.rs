//! READY: the one command, read strictly and written anew.

use crate::refusal::Refusal;

/// Sockets that may talk to a ROUTER here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Dealer,
    Req,
}

/// The peer's socket, as its READY names it. Its other properties, an Identity among them, say nothing here.
pub(super) fn judge(command: &[u8]) -> Result<Socket, Refusal> {
    let mut rest = command.strip_prefix(b"\x05READY").ok_or(Refusal::Ready)?;
    let mut kind = None;
    while !rest.is_empty() {
        let (name, value, after) = property(rest).ok_or(Refusal::Ready)?;
        // Names are told apart without regard to case.
        if name.eq_ignore_ascii_case(b"Socket-Type") && kind.replace(value).is_some() {
            return Err(Refusal::Ready);
        }
        rest = after;
    }
    match kind.ok_or(Refusal::Ready)? {
        b"DEALER" => Ok(Socket::Dealer),
        b"REQ" => Ok(Socket::Req),
        _ => Err(Refusal::SocketType),
    }
}

/// The READY that the ROUTER gets: the socket's type and nothing else, so that it names the route itself.
pub(super) fn of(kind: Socket) -> Vec<u8> {
    let kind: &[u8] = match kind {
        Socket::Dealer => b"DEALER",
        Socket::Req => b"REQ",
    };
    let length = [0, 0, 0, u8::try_from(kind.len()).unwrap_or_default()];
    let command = [b"\x05READY\x0bSocket-Type", &length[..], kind].concat();
    let bytes = u8::try_from(command.len()).unwrap_or_default();
    [&[super::COMMAND, bytes][..], &command].concat()
}

/// Name, value and what follows; `None` when it is cut off or has no name.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    (!name.is_empty()).then_some((name, value, rest))
}
