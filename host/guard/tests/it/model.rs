//! What the inspector should do, over a whole stream at once, and written for no other purpose.

use crate::stream::ours;

const MIB: usize = 1 << 20;

/// What passes, and for what the stream is refused.
pub(crate) fn judge(stream: &[u8]) -> (Vec<u8>, Option<&'static str>) {
    let mut passed = Vec::new();
    let refused = walk(stream, &mut passed).unwrap_or(None);
    (passed, refused)
}

/// `None` where the stream just ends.
fn walk(mut rest: &[u8], passed: &mut Vec<u8>) -> Option<Option<&'static str>> {
    let greeting = take(&mut rest, 64)?;
    if greeting[0] != 0xff || greeting[9] != 0x7f {
        return Some(Some("greeting"));
    }
    if greeting[10] < 3 {
        return Some(Some("version"));
    }
    if greeting[12..32] != *b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" || greeting[32] != 0 {
        return Some(Some("mechanism"));
    }
    passed.extend(&ours()[..64]);

    let (flags, _, bytes) = header(&mut rest)?;
    if flags & 0xfd != 4 || bytes == 0 || bytes > 512 {
        return Some(Some("ready"));
    }
    let command = take(&mut rest, usize::try_from(bytes).unwrap())?;
    match socket_of(command) {
        None => return Some(Some("ready")),
        Some(b"DEALER") => passed.extend(&ours()[64..]),
        Some(b"REQ") => passed.extend(b"\x04\x18\x05READY\x0bSocket-Type\0\0\0\x03REQ"),
        Some(_) => return Some(Some("socket-type")),
    }

    let (mut frames, mut total) = (0, 0);
    loop {
        match rest.first()? {
            flags if flags & !7 != 0 => return Some(Some("flags")),
            flags if flags & 4 != 0 => return Some(Some("command")),
            _ => {}
        }
        let (flags, raw, bytes) = header(&mut rest)?;
        if bytes > 4 * MIB as u64 {
            return Some(Some("frame-bytes"));
        }
        let bytes = usize::try_from(bytes).unwrap();
        (frames, total) = (frames + 1, total + bytes);
        if frames > 64 {
            return Some(Some("frames"));
        }
        if total > 16 * MIB {
            return Some(Some("message-bytes"));
        }
        passed.extend(raw);
        passed.extend(&rest[..bytes.min(rest.len())]);
        take(&mut rest, bytes)?;
        if flags & 1 == 0 {
            (frames, total) = (0, 0);
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

/// Flags, the header itself, and the length.
fn header<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8], u64)> {
    let flags = *rest.first()?;
    let raw = take(rest, if flags & 2 == 0 { 2 } else { 9 })?;
    let bytes = raw[1..].iter().fold(0, |length, byte| (length << 8) + u64::from(*byte));
    Some((flags, raw, bytes))
}

fn socket_of(command: &[u8]) -> Option<&[u8]> {
    let mut rest = command.strip_prefix(b"\x05READY")?;
    let mut sockets = Vec::new();
    while !rest.is_empty() {
        let name = take(&mut rest, 1)?[0];
        let name = take(&mut rest, usize::from(name))?;
        let value = u32::from_be_bytes(take(&mut rest, 4)?.try_into().unwrap());
        let value = take(&mut rest, usize::try_from(value).unwrap())?;
        if name.is_empty() {
            return None;
        }
        if name.eq_ignore_ascii_case(b"socket-type") {
            sockets.push(value);
        }
    }
    if let [socket] = sockets[..] { Some(socket) } else { None }
}
