//! One client's session in the queue: its channel, its presence, its finished replies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Limits, Outcome, PeerInfo, Route};
use crate::channel::{Receiver, Sender, Weigh};
use crate::frame::{HostBody, Place, ToClient};
use crate::pool::JobId;
use crate::rpc::Effect;
use crate::service::{Role, SessionId};

impl Weigh for HostBody {
    fn weight(&self) -> usize {
        self.payload_len()
    }
}

/// What a peer claims to have had of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It may be so.
    Possible,
    OfAnotherChannel,
    /// It was never sent.
    Untrue,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) role: Role,
    /// `None` while its connection is gone.
    pub(super) route: Option<Route>,
    pub(super) channel: u64,
    /// The client has spoken in it, so it had our WELCOME.
    pub(super) is_channel_known: bool,
    pub(super) heard_at: Instant,
    /// Notes with each message the beat after which it went out.
    pub(super) sender: Sender<HostBody, u64>,
    pub(super) receiver: Receiver,
    pub(super) acked_through: u64,
    pub(super) finished: Finished,
    /// Calls with the service.
    pub(super) calls: usize,
    /// Bytes of their requests.
    pub(super) call_bytes: usize,
    /// What it offers as a worker, and its credit.
    pub(super) offer: Option<(Vec<String>, u16)>,
    /// Jobs whose workers are held back because the client reads their pieces too slowly.
    pub(super) held: BTreeSet<JobId>,
    beat: u64,
    beat_heard: u64,
    /// When a heartbeat was answered last.
    beat_at: Option<Instant>,
    /// HELLOs since then.
    greetings: u32,
    /// Bare acknowledgements sent since then.
    acks: u32,
}

/// Bare acknowledgements between two heartbeats of ours; beyond it they wait for the next beat, because each lies in
/// memory if the peer does not read.
const ACKS_MAX: u32 = 4_096;

/// What may wait for a client before the workers whose pieces it reads are held back: what they have on their way by
/// then still fits below the limit at which a stream is cut.
const BEHIND_MESSAGES: usize = 256;
/// The same in bytes.
const BEHIND_BYTES: usize = 1024 * 1024;

impl Session {
    pub(super) fn new(id: SessionId, role: Role, channel: u64, now: Instant) -> Self {
        Self {
            id,
            role,
            route: None,
            channel,
            is_channel_known: false,
            heard_at: now,
            sender: Sender::new(),
            receiver: Receiver::default(),
            acked_through: 0,
            finished: Finished::default(),
            calls: 0,
            call_bytes: 0,
            offer: None,
            held: BTreeSet::new(),
            beat: 0,
            beat_heard: 0,
            beat_at: None,
            greetings: 0,
            acks: 0,
        }
    }

    /// How often the peer said HELLO without a heartbeat of ours in between.
    pub(super) fn greet_again(&mut self) -> u32 {
        self.greetings += 1;
        self.greetings
    }

    /// The same channel on a new connection, whose beats count anew.
    pub(super) fn resume(&mut self, received: u64) {
        self.sender.acknowledge(received);
        self.beat_heard = self.beat;
    }

    /// Believes what can be.
    pub(super) fn acknowledge(&mut self, at: Place) -> Claim {
        if at.channel != self.channel {
            return Claim::OfAnotherChannel;
        }
        self.is_channel_known = true;
        if !self.has_said(at.received) {
            return Claim::Untrue;
        }
        self.sender.acknowledge(at.received);
        Claim::Possible
    }

    /// Whether so much went out in this channel.
    pub(super) fn has_said(&self, serial: u64) -> bool {
        serial <= self.sender.last_serial()
    }

    pub(super) fn release_finished(&mut self, acked_through: u64) {
        self.acked_through = self.acked_through.max(acked_through);
        self.finished.release(self.acked_through);
    }

    /// Whether something is lost: the peer has read a beat that went out after it, and not it. None when it cannot
    /// have read that beat.
    pub(super) fn hear_beat(&mut self, beat: u64) -> Option<bool> {
        if beat > self.beat {
            return None;
        }
        self.beat_heard = self.beat_heard.max(beat);
        Some(self.sender.unacked().next().is_some_and(|(_, _, sent_after)| *sent_after < self.beat_heard))
    }

    pub(super) fn beats_behind(&self) -> u64 {
        self.beat - self.beat_heard
    }

    #[cfg(test)]
    pub(super) fn beats(&self) -> u64 {
        self.beat
    }

    /// An answer to a heartbeat; none where the last was less than `least` ago, however often the peer beats.
    pub(super) fn next_beat(&mut self, now: Instant, least: Duration) -> Option<ToClient> {
        if self.beat_at.is_some_and(|last| now < last + least) {
            return None;
        }
        self.beat_at = Some(now);
        (self.greetings, self.acks) = (0, 0);
        self.beat += 1;
        Some(ToClient::Heartbeat { at: self.tell_place(), beat: self.beat })
    }

    /// The next frame to send: something that waited, as far as the window goes, or an acknowledgement owed.
    pub(super) fn next_frame(&mut self) -> Option<ToClient> {
        if let Some((serial, body)) = self.sender.take_next(self.beat) {
            return Some(ToClient::Said { at: self.tell_place(), serial, body });
        }
        if !self.receiver.is_ack_owed() || self.acks >= ACKS_MAX {
            return None;
        }
        self.acks += 1;
        Some(ToClient::Ack { at: self.tell_place() })
    }

    pub(super) fn repeat_unacked(&mut self) -> Vec<ToClient> {
        let at = self.tell_place();
        self.sender.mark_all(self.beat);
        self.sender
            .unacked()
            .map(|(serial, body, _)| ToClient::Said { at, serial, body: body.clone() })
            .collect()
    }

    /// So much waits for the client that workers had better pause.
    pub(super) fn is_behind(&self) -> bool {
        let waiting = self.sender.waiting_size();
        waiting.messages >= BEHIND_MESSAGES || waiting.bytes >= BEHIND_BYTES
    }

    /// Workers are held back, and may go on.
    pub(super) fn has_caught_up(&self) -> bool {
        let waiting = self.sender.waiting_size();
        !self.held.is_empty() && waiting.messages < BEHIND_MESSAGES / 4 && waiting.bytes < BEHIND_BYTES / 4
    }

    pub(super) fn is_drained(&self) -> bool {
        self.sender.unacked_size().messages == 0 && self.sender.waiting_size().messages == 0
    }

    /// Replies that wait or are not known to have arrived.
    pub(super) fn owed_replies(&self) -> u64 {
        (self.sender.unacked_size().messages + self.sender.waiting_size().messages) as u64
    }

    pub(super) fn describe(&self, now: Instant) -> PeerInfo {
        let (unacked, waiting) = (self.sender.unacked_size(), self.sender.waiting_size());
        PeerInfo {
            session: self.id,
            role: self.role,
            calls: self.calls,
            unacked_messages: unacked.messages,
            unacked_bytes: unacked.bytes,
            waiting_messages: waiting.messages,
            waiting_bytes: waiting.bytes,
            silent: now.saturating_duration_since(self.heard_at),
            worker: None,
        }
    }

    fn tell_place(&mut self) -> Place {
        Place { channel: self.channel, received: self.receiver.tell() }
    }
}

/// Replies that the client has not acknowledged, for repeats; the lowest numbers go first when it is full.
/// Never one that cannot tell its effect: the service may be able to when it is asked again.
#[derive(Debug, Default)]
pub(super) struct Finished {
    replies: BTreeMap<u64, Outcome>,
    bytes: usize,
}

impl Finished {
    pub(super) fn find(&self, number: u64) -> Option<HostBody> {
        self.replies.get(&number).cloned().map(|outcome| outcome.into_body(number))
    }

    pub(super) fn remember(&mut self, number: u64, outcome: Outcome, limits: &Limits) {
        if outcome.failed != Some(Effect::Unknown) {
            self.keep(number, outcome, limits);
        }
    }

    /// The same for an outcome that nobody will ever know better.
    pub(super) fn keep(&mut self, number: u64, outcome: Outcome, limits: &Limits) {
        self.bytes += outcome.payload.len();
        if let Some(old) = self.replies.insert(number, outcome) {
            self.bytes -= old.payload.len();
        }
        while self.replies.len() > limits.finished_max || self.bytes > limits.finished_bytes_max {
            let Some((_, lowest)) = self.replies.pop_first() else {
                break;
            };
            self.bytes -= lowest.payload.len();
        }
    }

    fn release(&mut self, acked_through: u64) {
        while let Some(entry) = self.replies.first_entry().filter(|entry| *entry.key() <= acked_through) {
            self.bytes -= entry.remove().payload.len();
        }
    }
}
