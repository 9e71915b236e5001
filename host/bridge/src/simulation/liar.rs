//! Peers that read nothing and say that they did. They have sessions of their own, ask for the impossible over and over,
//! and must neither be sent more than one window nor be kept for long.

use super::World;
use super::network::LineId;
use super::peer::IMPOSTOR_INCARNATION;
use crate::channel::WINDOW;
use crate::frame::{ClientBody, Hello, PROTOCOL, Place, ToClient, ToHost};
use crate::service::Role;

#[derive(Debug, Default)]
pub(super) struct Liar {
    /// Messages that it was sent, which the window bounds.
    said: usize,
    /// All frames that it was sent.
    frames: usize,
    /// And sent.
    lies: usize,
}

impl World {
    pub(super) fn send_liar(&mut self) {
        let Some(run) = self.host.as_ref().map(|host| host.run) else { return };
        self.coverage.count("liars");
        let line = self.network.open(None, run);
        self.liars.insert(line, Liar::default());
        let hello = Hello {
            protocol: PROTOCOL,
            client: u128::from(self.dice.roll()) << 64,
            incarnation: IMPOSTOR_INCARNATION,
            run: 0,
            channel: 0,
            received: 0,
            role: Role::Client,
            token: None,
        };
        self.carry_to_host(line, ToHost::Hello(hello));
    }

    /// The host sends something; to a liar, perhaps.
    pub(super) fn see_sent_to_liar(&mut self, line: LineId, frame: &ToClient) {
        let Some(liar) = self.liars.get_mut(&line) else { return };
        liar.frames += 1;
        liar.said += usize::from(matches!(frame, ToClient::Said { .. }));
        assert!(liar.said <= WINDOW.messages, "a lie made room in the window: {liar:?}");
        // A refusal or an acknowledgement for each, of which the network may deliver some twice.
        assert!(
            liar.frames <= WINDOW.messages + 2 * liar.lies + 1,
            "a liar is sent more than it sends: {liar:?}"
        );
        if let ToClient::Welcome(welcome) = frame {
            self.lie(line, welcome.channel);
        }
    }

    fn lie(&mut self, line: LineId, channel: u64) {
        for serial in 1..=self.dice.within(1..200) {
            let body = ClientBody::Request {
                number: 1 + serial % 3,
                acked_through: 0,
                remaining_ms: 0,
                attempt: 1,
                order: None,
                payload: bytes::Bytes::new(),
            };
            let at = Place { channel, received: 0 };
            self.tell_lie(line, ToHost::Said { at, serial, body });
        }
        for _ in 0..self.dice.within(1..40) {
            // More than a window is never on its way, and it acknowledges nothing of that.
            let claim = |is_lie: bool, most: u64| if is_lie { most } else { 0 };
            let lowest = WINDOW.messages as u64 + 1;
            let most = if self.dice.percent(50) { u64::MAX } else { lowest };
            let at = Place { channel, received: claim(self.dice.percent(50), most) };
            let beat = claim(self.dice.percent(50), most);
            let frame = match self.dice.within(0..3) {
                0 => ToHost::Ack { at },
                1 => ToHost::Heartbeat { at, acked_through: 0, beat },
                _ => ToHost::Said { at, serial: 1, body: ClientBody::Cancel { number: 1 } },
            };
            self.tell_lie(line, frame);
        }
    }

    fn tell_lie(&mut self, line: LineId, frame: ToHost) {
        if let Some(liar) = self.liars.get_mut(&line) {
            liar.lies += 1;
        }
        self.carry_to_host(line, frame);
    }
}
