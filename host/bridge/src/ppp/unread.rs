//! Replies on their way to each client: what a client does not read is bounded, although bare frames acknowledge nothing.
//!
//! A frame is counted until its last copy is gone, which is when it is in the kernel's buffer or its connection has
//! ended. A client that lets more pile up than it may is hung up on: it would else hold memory for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::limits::PppLimits;
use crate::queue::Route;

/// Per client, and only for clients that something is on its way to.
#[derive(Debug, Default)]
pub(super) struct Unread(HashMap<Route, Arc<Pile>>);

#[derive(Debug, Default)]
struct Pile {
    frames: AtomicUsize,
    bytes: AtomicUsize,
}

struct Counted {
    frame: Bytes,
    pile: Arc<Pile>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.pile.frames.fetch_sub(1, Ordering::AcqRel);
        self.pile.bytes.fetch_sub(self.frame.len(), Ordering::AcqRel);
    }
}

impl Unread {
    /// The frames, counted from now on; none when the client has too much unread. A single larger reply goes alone.
    pub(super) fn admit(
        &mut self,
        route: &Route,
        frames: Vec<Bytes>,
        limits: &PppLimits,
    ) -> Option<Vec<Bytes>> {
        let pile = self.0.entry(route.clone()).or_default();
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let (unread_frames, unread_bytes) =
            (pile.frames.load(Ordering::Acquire), pile.bytes.load(Ordering::Acquire));
        let has_room = unread_frames + frames.len() <= limits.client_unread_frames_max
            && unread_bytes + bytes <= limits.client_unread_bytes_max;
        if !has_room && unread_frames > 0 {
            return None;
        }
        pile.frames.fetch_add(frames.len(), Ordering::AcqRel);
        pile.bytes.fetch_add(bytes, Ordering::AcqRel);
        let count = |frame| Bytes::from_owner(Counted { frame, pile: Arc::clone(pile) });
        Some(frames.into_iter().map(count).collect())
    }

    pub(super) fn forget(&mut self, route: &Route) {
        self.0.remove(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_makes_room_and_one_larger_reply_goes_alone() {
        let limits =
            PppLimits { client_unread_bytes_max: 10, client_unread_frames_max: 3, ..PppLimits::default() };
        let (mut unread, route) = (Unread::default(), Route::from_static(b"r"));
        let mut admit =
            |length: usize| unread.admit(&route, vec![Bytes::new(), Bytes::from(vec![0; length])], &limits);
        let first = admit(6);
        assert!(first.is_some() && admit(6).is_none(), "bytes");
        assert!(admit(0).is_none(), "frames");
        drop(first);
        let large = admit(100);
        assert!(large.is_some() && admit(1).is_none());
        drop(large);
        assert!(admit(1).is_some());
    }
}
