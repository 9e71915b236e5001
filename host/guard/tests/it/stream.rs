//! Streams of ZMTP as peers write them, honest and hostile.

use telos_bridge::{FRAME_BYTES_MAX, FRAMES_MAX};

/// As libzmq writes it: a padding that is not zero, and 3.1.
pub(crate) fn greeting() -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    greeting.extend(b"NULL");
    greeting.resize(64, 0);
    greeting
}

pub(crate) fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let name_length = [u8::try_from(name.len()).unwrap()];
    let value_length = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&name_length[..], name.as_bytes(), &value_length, value].concat()
}

/// A READY of a DEALER with this identity.
pub(crate) fn ready(identity: &[u8]) -> Vec<u8> {
    let properties = [property("Socket-Type", b"DEALER"), property("Identity", identity)].concat();
    command("READY", &properties)
}

pub(crate) fn command(name: &str, rest: &[u8]) -> Vec<u8> {
    let body = [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), rest].concat();
    [header(4, body.len() as u64), body].concat()
}

/// A header as short as it can be.
pub(crate) fn header(flags: u8, bytes: u64) -> Vec<u8> {
    match u8::try_from(bytes) {
        Ok(bytes) => vec![flags, bytes],
        Err(_) => long_header(flags, bytes),
    }
}

pub(crate) fn long_header(flags: u8, bytes: u64) -> Vec<u8> {
    [&[flags | 2][..], &bytes.to_be_bytes()].concat()
}

pub(crate) fn message(frames: &[&[u8]]) -> Vec<u8> {
    let last = frames.len() - 1;
    let encode = |(index, frame): (usize, &&[u8])| {
        [header(u8::from(index < last), frame.len() as u64), frame.to_vec()].concat()
    };
    frames.iter().enumerate().flat_map(encode).collect()
}

/// What the inspector passes on in the place of a greeting and a DEALER's READY.
pub(crate) fn ours() -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0];
    greeting.extend(b"NULL");
    greeting.resize(64, 0);
    [greeting, command("READY", &property("Socket-Type", b"DEALER"))].concat()
}

/// Greeting and READY of a peer, and then this.
fn opened(rest: Vec<u8>) -> Vec<u8> {
    [greeting(), ready(b""), rest].concat()
}

fn greeted(rest: Vec<u8>) -> Vec<u8> {
    [greeting(), rest].concat()
}

fn spoilt(place: usize, byte: u8) -> Vec<u8> {
    let mut greeting = greeting();
    greeting[place] = byte;
    greeting
}

/// Streams by name, and for what they are refused; `None`: they are honest.
pub(crate) fn cases() -> Vec<(String, Vec<u8>, Option<&'static str>)> {
    let frame = FRAME_BYTES_MAX as u64;
    let mut cases: Vec<(String, Vec<u8>, Option<&'static str>)> = [
        ("honest", opened(message(&[b"", b"hello", &[7; 300]])), None),
        ("honest-long-form", opened([long_header(0, 3), b"abc".to_vec()].concat()), None),
        ("honest-empty-frames", opened([header(1, 0), header(1, 0), header(0, 0)].concat()), None),
        ("honest-identity", [greeting(), ready(b"W1"), message(&[b"x"])].concat(), None),
        ("honest-64-frames", opened(message(&[&b"x"[..]; FRAMES_MAX])), None),
        ("honest-largest-frame-begins", opened(header(0, frame)), None),
        (
            "http",
            b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: nobody\r\nAccept: */*\r\n\r\n".to_vec(),
            Some("greeting"),
        ),
        ("zeros", vec![0; 200], Some("greeting")),
        ("half-a-signature", spoilt(9, 0x7e), Some("greeting")),
        ("zmtp-1", spoilt(10, 0), Some("version")),
        ("zmtp-2", spoilt(10, 2), Some("version")),
        ("curve", spoilt(12, b'C'), Some("mechanism")),
        ("null-and-more", spoilt(16, b'X'), Some("mechanism")),
        ("as-server", spoilt(32, 1), Some("mechanism")),
        ("message-first", greeted(message(&[b"x"])), Some("ready")),
        ("ready-with-more", greeted([vec![5], ready(b"")[1..].to_vec()].concat()), Some("ready")),
        ("ready-empty", greeted(header(4, 0)), Some("ready")),
        ("ready-too-long", greeted(header(4, 513)), Some("ready")),
        ("ready-bomb", greeted(long_header(4, 1 << 62)), Some("ready")),
        ("ready-without-socket", greeted(command("READY", &property("Identity", b"x"))), Some("ready")),
        (
            "ready-cut-off",
            greeted(command("READY", &property("Socket-Type", b"DEALER")[..15])),
            Some("ready"),
        ),
        ("ready-value-bomb", greeted(command("READY", b"\x01a\xff\xff\xff\xff")), Some("ready")),
        ("ready-nameless", greeted(command("READY", &property("", b"x"))), Some("ready")),
        (
            "ready-twice-a-socket",
            greeted(command("READY", &property("Socket-Type", b"DEALER").repeat(2))),
            Some("ready"),
        ),
        ("hello-of-plain", greeted(command("HELLO", b"\x05admin\x06secret")), Some("ready")),
        ("socket-pub", greeted(command("READY", &property("socket-type", b"PUB"))), Some("socket-type")),
        (
            "socket-router",
            greeted(command("READY", &property("Socket-Type", b"ROUTER"))),
            Some("socket-type"),
        ),
        ("ready-again", opened(ready(b"")), Some("command")),
        ("ping", opened(command("PING", b"\0\x0ahello")), Some("command")),
        ("command-in-a-message", opened([header(1, 1), b"x".to_vec(), vec![5, 0]].concat()), Some("command")),
        ("reserved-bits", opened(vec![0x08]), Some("flags")),
        ("all-bits", opened(vec![0xff]), Some("flags")),
        ("frame-over-by-one", opened(header(0, frame + 1)), Some("frame-bytes")),
        ("65-frames", opened(message(&[&b"x"[..]; FRAMES_MAX + 1])), Some("frames")),
        ("1-m-frames", opened([1, 0].repeat(1_000_000)), Some("frames")),
    ]
    .into_iter()
    .map(|(name, stream, refused)| (name.to_owned(), stream, refused))
    .collect();
    // Length bombs from 1 GiB to the sign bit and past it.
    cases.extend(
        (30..64).map(|bit| (format!("bomb-{bit}"), opened(long_header(0, 1 << bit)), Some("frame-bytes"))),
    );
    cases.push(("bomb-all".into(), opened(long_header(1, u64::MAX)), Some("frame-bytes")));
    cases
}

/// Five frames of 4 MiB: too large to be a file.
pub(crate) fn message_bomb() -> Vec<u8> {
    let frame = [header(1, FRAME_BYTES_MAX as u64), vec![0; FRAME_BYTES_MAX]].concat();
    opened(frame.repeat(5))
}
