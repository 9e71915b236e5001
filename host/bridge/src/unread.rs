//! Messages on their way to each peer: what a peer does not read is bounded, whatever it claims to have read.
//!
//! A frame is counted until its last copy is gone, which is when it is in the kernel's buffer or its connection has
//! ended. Acknowledgements are words of the peer's, and bare frames have none: this count neither needs nor believes
//! them. A peer that lets more pile up than it may is hung up on: it would else hold memory for ever, and the `zeromq`
//! crate stops serving everybody when 100,000 messages wait for one peer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::queue::Route;

/// What one peer may leave unread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnreadMost {
    pub(crate) frames: usize,
    /// A single larger message goes alone.
    pub(crate) bytes: usize,
}

/// Per peer, and only for peers that something is on its way to.
#[derive(Debug)]
pub(crate) struct Unread {
    most: UnreadMost,
    piles: HashMap<Route, Arc<Pile>>,
    /// So many piles, and those that have been read are dropped: not every wire tells of every loss.
    look_at: usize,
}

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
    const LOOK_AT_LEAST: usize = 1_024;

    pub(crate) fn new(most: UnreadMost) -> Self {
        Self { most, piles: HashMap::new(), look_at: Self::LOOK_AT_LEAST }
    }

    /// The frames, counted from now on; none when the peer has too much unread. A single larger message goes alone.
    pub(crate) fn admit(&mut self, route: &Route, frames: Vec<Bytes>) -> Option<Vec<Bytes>> {
        self.drop_read();
        let pile = self.piles.entry(route.clone()).or_default();
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let (unread_frames, unread_bytes) =
            (pile.frames.load(Ordering::Acquire), pile.bytes.load(Ordering::Acquire));
        let has_room =
            unread_frames + frames.len() <= self.most.frames && unread_bytes + bytes <= self.most.bytes;
        if !has_room && unread_frames > 0 {
            return None;
        }
        pile.frames.fetch_add(frames.len(), Ordering::AcqRel);
        pile.bytes.fetch_add(bytes, Ordering::AcqRel);
        let count = |frame| Bytes::from_owner(Counted { frame, pile: Arc::clone(pile) });
        Some(frames.into_iter().map(count).collect())
    }

    /// Nothing is on its way to the peer.
    pub(crate) fn is_read(&self, route: &Route) -> bool {
        self.piles.get(route).is_none_or(|pile| pile.frames.load(Ordering::Acquire) == 0)
    }

    pub(crate) fn forget(&mut self, route: &Route) {
        self.piles.remove(route);
    }

    fn drop_read(&mut self) {
        if self.piles.len() >= self.look_at {
            self.piles.retain(|_, pile| pile.frames.load(Ordering::Acquire) > 0);
            self.look_at = (2 * self.piles.len()).max(Self::LOOK_AT_LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_makes_room_and_one_larger_message_goes_alone() {
        let mut unread = Unread::new(UnreadMost { frames: 3, bytes: 10 });
        let route = Route::from_static(b"r");
        let mut admit =
            |length: usize| unread.admit(&route, vec![Bytes::new(), Bytes::from(vec![0; length])]);
        let first = admit(6);
        assert!(first.is_some() && admit(6).is_none(), "bytes");
        assert!(admit(0).is_none(), "frames");
        drop(first);
        let large = admit(100);
        assert!(large.is_some() && admit(1).is_none());
        drop(large);
        assert!(admit(1).is_some());
    }

    #[test]
    fn peers_that_read_and_whose_loss_was_not_told_are_forgotten() {
        let mut unread = Unread::new(UnreadMost { frames: 3, bytes: 10 });
        let kept = unread.admit(&Route::from_static(b"slow"), vec![Bytes::new()]);
        for peer in 0..10 * Unread::LOOK_AT_LEAST {
            assert!(unread.admit(&Route::from(peer.to_string()), vec![Bytes::new()]).is_some());
        }
        assert!(unread.piles.len() <= Unread::LOOK_AT_LEAST);
        assert!(kept.is_some() && !unread.is_read(&Route::from_static(b"slow")));
    }
}
