//! Bare frames: what is an address, what is a signal, what is content. Total: any frames give a meaning or none.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::frame::{FRAME_BYTES_MAX, FRAMES_MAX, MESSAGE_BYTES_MAX};
use crate::pool::{JobId, Size};

/// The signal of a worker that begins a conversation.
pub(super) const READY: &[u8] = &[1];
/// The signal of either side that it is there.
pub(super) const HEARTBEAT: &[u8] = &[2];
/// Address frames that a request may carry; each proxy on its way adds one.
const ADDRESSES_MAX: usize = 8;
/// How long an address may be, as in ZeroMQ.
const ADDRESS_BYTES_MAX: usize = 255;

/// The content of a request or a reply: one frame or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) Vec<Bytes>);

impl Size for Content {
    fn size(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

/// Names one attempt at one request, in one run of a queue; the address that a worker is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptToken {
    pub(super) run: u64,
    pub(super) job: JobId,
    pub(super) attempt: u32,
}

impl AttemptToken {
    const BYTES: usize = 20;

    pub(super) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::BYTES);
        bytes.put_u64(self.run);
        bytes.put_u64(self.job.0);
        bytes.put_u32(self.attempt);
        bytes.freeze()
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        Some(Self { run: bytes.get_u64(), job: JobId(bytes.get_u64()), attempt: bytes.get_u32() })
    }
}

/// What somebody asks, and the way back to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Addresses, which may be none, and the empty frame that ends them.
    pub(super) envelope: Vec<Bytes>,
    pub(super) content: Content,
}

impl Request {
    /// Any message with an empty frame before its content, within the bounds of our own frames.
    pub(super) fn decode(mut frames: Vec<Bytes>) -> Option<Self> {
        if !is_bounded(&frames) {
            return None;
        }
        let end = frames.iter().position(Bytes::is_empty)?;
        let content = frames.split_off(end + 1);
        let is_address = |frame: &Bytes| frame.len() <= ADDRESS_BYTES_MAX;
        let is_request = end <= ADDRESSES_MAX && frames.iter().all(is_address) && !content.is_empty();
        is_request.then_some(Self { envelope: frames, content: Content(content) })
    }

    pub(super) fn encode(envelope: Vec<Bytes>, content: Content) -> Vec<Bytes> {
        let mut frames = envelope;
        frames.extend(content.0);
        frames
    }
}

/// What a worker says to a queue of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkerSaid {
    Ready,
    Heartbeat,
    /// `token` is none when the address is no token at all.
    Reply {
        token: Option<AttemptToken>,
        content: Content,
    },
}

impl WorkerSaid {
    pub(super) fn decode(frames: Vec<Bytes>) -> Option<Self> {
        if let [signal] = &frames[..] {
            return match &signal[..] {
                READY => Some(Self::Ready),
                HEARTBEAT => Some(Self::Heartbeat),
                _ => None,
            };
        }
        let Request { envelope, content } = Request::decode(frames)?;
        let token = match &envelope[..] {
            [address, _] => AttemptToken::decode(address),
            _ => None,
        };
        Some(Self::Reply { token, content })
    }
}

/// What a queue says to a worker of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueueSaid {
    Heartbeat,
    Request(Request),
}

impl QueueSaid {
    pub(super) fn decode(frames: Vec<Bytes>) -> Option<Self> {
        match &frames[..] {
            [signal] if &signal[..] == HEARTBEAT => Some(Self::Heartbeat),
            [_] => None,
            _ => Request::decode(frames).map(Self::Request),
        }
    }
}

fn is_bounded(frames: &[Bytes]) -> bool {
    frames.len() <= FRAMES_MAX
        && frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX)
        && frames.iter().map(Bytes::len).sum::<usize>() <= MESSAGE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(texts: &[&'static str]) -> Vec<Bytes> {
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
    }

    #[track_caller]
    fn check(message: &[&'static str], envelope: &[&'static str], content: &[&'static str]) {
        let request = Request::decode(frames(message));
        let expected = Request { envelope: frames(envelope), content: Content(frames(content)) };
        assert_eq!(request, Some(expected));
    }

    #[test]
    fn the_first_empty_frame_ends_the_addresses() {
        check(&["", "hello"], &[""], &["hello"]);
        check(&["a", "b", "", "x", "y"], &["a", "b", ""], &["x", "y"]);
        check(&["", ""], &[""], &[""]);
        check(&["", "", "x"], &[""], &["", "x"]);
    }

    #[test]
    fn what_has_no_content_or_no_end_of_its_addresses_is_malformed() {
        let long = "a".repeat(256);
        let long: &'static str = Box::leak(long.into_boxed_str());
        for message in [&[][..], &["x"], &[""], &["a", ""], &["x", "y"], &[long, "", "x"]] {
            assert_eq!(Request::decode(frames(message)), None, "{message:?}");
        }
        let deep = [vec!["a"; ADDRESSES_MAX + 1], vec!["", "x"]].concat();
        assert_eq!(Request::decode(frames(&deep)), None);
        let many = [vec![""], vec!["x"; FRAMES_MAX]].concat();
        assert_eq!(Request::decode(frames(&many)), None);
        let large = vec![Bytes::new(), Bytes::from(vec![0; FRAME_BYTES_MAX + 1])];
        assert_eq!(Request::decode(large), None);
        let large = [vec![Bytes::new()], vec![Bytes::from(vec![0; FRAME_BYTES_MAX]); 5]].concat();
        assert_eq!(Request::decode(large), None);
    }

    #[test]
    fn a_worker_says_ready_or_heartbeat_or_echoes_its_address() {
        assert_eq!(WorkerSaid::decode(frames(&["\u{1}"])), Some(WorkerSaid::Ready));
        assert_eq!(WorkerSaid::decode(frames(&["\u{2}"])), Some(WorkerSaid::Heartbeat));
        assert_eq!(WorkerSaid::decode(frames(&["\u{3}"])), None);
        let token = AttemptToken { run: 7, job: JobId(9), attempt: 2 };
        let reply = vec![token.encode(), Bytes::new(), Bytes::from_static(b"x")];
        let content = Content(frames(&["x"]));
        assert_eq!(
            WorkerSaid::decode(reply),
            Some(WorkerSaid::Reply { token: Some(token), content: content.clone() })
        );
        for strange in [&["", "x"][..], &["who", "", "x"], &["a", "b", "", "x"]] {
            let said = WorkerSaid::decode(frames(strange));
            assert_eq!(said, Some(WorkerSaid::Reply { token: None, content: content.clone() }));
        }
        assert_eq!(QueueSaid::decode(frames(&["\u{1}"])), None, "a queue never says READY");
    }

    proptest! {
        #[test]
        fn any_frames_decode_or_do_not(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..70)) {
            let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            WorkerSaid::decode(frames.clone());
            QueueSaid::decode(frames.clone());
            if let Some(Request { envelope, content }) = Request::decode(frames.clone()) {
                prop_assert_eq!(Request::encode(envelope, content), frames);
            }
        }
    }
}
