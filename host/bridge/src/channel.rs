//! One direction of a channel each: what was said arrives once and in order, however the frames fare.
//!
//! The sender keeps what is not acknowledged, at most a window of it, and says it again on demand; the receiver
//! takes only the next serial and drops everything else. Go-back-n rather than selective repeat: below us is a
//! stream that neither loses nor reorders while it lives, so repeats happen after a reconnect only.
//! Serials start at 1. Never here: clocks, sockets, the meaning of what is said.

use std::collections::VecDeque;

/// How much of something may be under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) messages: usize,
    /// A single larger item goes alone.
    pub(crate) bytes: usize,
}

/// Not-yet-acknowledged messages: a peer holds this many of ours at most.
pub(crate) const WINDOW: Window = Window { messages: 64, bytes: 4 * 1024 * 1024 };
/// After so many taken messages, an acknowledgement goes out by itself: a quarter of the window, so that a sender
/// never waits for a heartbeat.
const ACK_MESSAGES: usize = 16;
/// The same in bytes.
const ACK_BYTES: usize = 512 * 1024;

/// What an item weighs against a window.
pub(crate) trait Weigh {
    fn weight(&self) -> usize;
}

/// The sending side. `M` is what the owner notes with each item when it goes out.
#[derive(Debug)]
pub(crate) struct Sender<T, M> {
    waiting: VecDeque<T>,
    waiting_bytes: usize,
    unacked: VecDeque<(T, M)>,
    unacked_bytes: usize,
    /// Of the first in `unacked`; every earlier one has arrived.
    first_serial: u64,
}

impl<T: Weigh + Clone, M> Sender<T, M> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            first_serial: 1,
        }
    }

    pub(crate) fn push(&mut self, item: T) {
        self.waiting_bytes += item.weight();
        self.waiting.push_back(item);
    }

    /// Takes back what waits and is meant.
    pub(crate) fn withdraw(&mut self, is_meant: impl Fn(&T) -> bool) {
        self.waiting.retain(|item| !is_meant(item));
        self.waiting_bytes = self.waiting.iter().map(Weigh::weight).sum();
    }

    /// The next item that fits the window, with its serial; from now on it is under way.
    pub(crate) fn take_next(&mut self, mark: M) -> Option<(u64, T)> {
        let weight = self.waiting.front()?.weight();
        if !self.has_room(weight) {
            return None;
        }
        let item = self.waiting.pop_front()?;
        self.waiting_bytes -= weight;
        self.unacked_bytes += weight;
        let serial = self.first_serial + self.unacked.len() as u64;
        self.unacked.push_back((item.clone(), mark));
        Some((serial, item))
    }

    /// Everything up to `received` has arrived. True when that is news; what was never sent cannot have arrived, and
    /// whoever says so is not believed in the rest either.
    pub(crate) fn acknowledge(&mut self, received: u64) -> bool {
        if received > self.last_serial() {
            return false;
        }
        let before = self.first_serial;
        while self.first_serial <= received {
            let Some((item, _)) = self.unacked.pop_front() else {
                break;
            };
            self.unacked_bytes -= item.weight();
            self.first_serial += 1;
        }
        self.first_serial != before
    }

    /// The last serial that went out; 0 before the first.
    pub(crate) fn last_serial(&self) -> u64 {
        self.first_serial + self.unacked.len() as u64 - 1
    }

    /// What is under way, oldest first, to be said again.
    pub(crate) fn unacked(&self) -> impl Iterator<Item = (u64, &T, &M)> {
        (self.first_serial..).zip(&self.unacked).map(|(serial, (item, mark))| (serial, item, mark))
    }

    /// Notes anew when everything under way was said.
    pub(crate) fn mark_all(&mut self, mark: M)
    where
        M: Copy,
    {
        for (_, old) in &mut self.unacked {
            *old = mark;
        }
    }

    pub(crate) fn unacked_size(&self) -> Window {
        Window { messages: self.unacked.len(), bytes: self.unacked_bytes }
    }

    pub(crate) fn waiting_size(&self) -> Window {
        Window { messages: self.waiting.len(), bytes: self.waiting_bytes }
    }

    fn has_room(&self, weight: usize) -> bool {
        self.unacked.is_empty()
            || (self.unacked.len() < WINDOW.messages && self.unacked_bytes + weight <= WINDOW.bytes)
    }
}

/// The receiving side.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    received: u64,
    messages: usize,
    bytes: usize,
    is_ack_owed: bool,
}

impl Receiver {
    /// Whether this is the next one; anything else is void and asks for an acknowledgement that says so.
    pub(crate) fn take(&mut self, serial: u64, bytes: usize) -> bool {
        if serial != self.received + 1 {
            self.is_ack_owed = true;
            return false;
        }
        self.received = serial;
        self.messages += 1;
        self.bytes += bytes;
        self.is_ack_owed |= self.messages >= ACK_MESSAGES || self.bytes >= ACK_BYTES;
        true
    }

    /// The last serial taken, to put into a frame that goes out now.
    pub(crate) fn tell(&mut self) -> u64 {
        (self.messages, self.bytes, self.is_ack_owed) = (0, 0, false);
        self.received
    }

    pub(crate) fn is_ack_owed(&self) -> bool {
        self.is_ack_owed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[test]
    fn a_window_holds_64_messages_or_4_mib_or_one_larger() {
        let mut sender = Sender::new();
        (0..100_usize).for_each(|_| sender.push(1));
        assert_eq!(std::iter::from_fn(|| sender.take_next(())).count(), WINDOW.messages);
        assert!(sender.acknowledge(10));
        assert_eq!(std::iter::from_fn(|| sender.take_next(())).count(), 10);

        let mut sender = Sender::new();
        [WINDOW.bytes, 1, 2 * WINDOW.bytes, 1].into_iter().for_each(|weight| sender.push(weight));
        assert_eq!(sender.take_next(()), Some((1, WINDOW.bytes)));
        assert_eq!(sender.take_next(()), None);
        assert!(sender.acknowledge(1));
        assert_eq!(sender.take_next(()), Some((2, 1)));
        assert_eq!(sender.take_next(()), None, "the large one waits until nothing is under way");
        assert!(sender.acknowledge(2));
        assert_eq!(sender.take_next(()), Some((3, 2 * WINDOW.bytes)));
        assert!(!sender.acknowledge(2), "old news");
        assert!(!sender.acknowledge(4) && !sender.acknowledge(u64::MAX), "what was never sent");
        assert_eq!(sender.unacked_size().messages, 1, "a lie acknowledges nothing");
        assert!(sender.acknowledge(3));
        assert_eq!(sender.take_next(()), Some((4, 1)));
    }

    proptest! {
        /// Whatever is lost, repeated or swapped: what is taken is what was said, once, in order.
        #[test]
        fn what_was_said_is_taken_once_in_order(fates in prop::collection::vec(0_u8..6, 1..400)) {
            let mut sender = Sender::new();
            let mut receiver = Receiver::default();
            let mut link: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut said, mut taken) = (0_usize, Vec::new());
            for fate in fates {
                match fate {
                    0 | 1 => { sender.push(said); said += 1; }
                    2 => link.extend(std::iter::from_fn(|| sender.take_next(()))),
                    3 => { link.pop_front(); }
                    4 => link.extend(sender.unacked().map(|(serial, item, ())| (serial, *item)).collect::<Vec<_>>()),
                    _ => {
                        if link.len() > 2 { link.swap(0, 1); }
                        if let Some((serial, item)) = link.pop_front()
                            && receiver.take(serial, 0) { taken.push(item); }
                        sender.acknowledge(receiver.tell());
                    }
                }
            }
            prop_assert_eq!(&taken, &(0..taken.len()).collect::<Vec<_>>());
            prop_assert!(sender.unacked_size().messages <= WINDOW.messages);
        }
    }
}
