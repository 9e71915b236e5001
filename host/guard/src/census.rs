//! Who is at the port: newcomers that have not proved anything yet, and peers with a key. Pure.
//!
//! ```text
//! arrive   a newcomer; at the bound the oldest newcomer makes room, of the same address first
//! admit    the newcomer has a key; refused at the bounds of peers: of all, of the address, of the key
//! leave    either is gone
//! ```
//! A newcomer is never refused for other newcomers: refusing would let a few silent ones hold the port for as long as a
//! handshake may take, while an honest handshake is over long before its turn to make room.

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::key::PublicKey;
use crate::refusal::Refusal;

/// How many may be at the port at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) pending: usize,
    pub(crate) address_pending: usize,
    pub(crate) connections: usize,
    pub(crate) address_connections: usize,
    pub(crate) key_connections: usize,
}

/// Names one connection; rises, and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Everybody at the port.
#[derive(Debug)]
pub(crate) struct Census {
    bounds: Bounds,
    next: u64,
    /// In the order in which they came.
    present: BTreeMap<Ticket, Present>,
}

#[derive(Debug)]
struct Present {
    address: IpAddr,
    /// None: a newcomer.
    key: Option<PublicKey>,
}

impl Census {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, next: 0, present: BTreeMap::new() }
    }

    /// Takes a newcomer in, and says who makes room for it; he is gone already.
    pub(crate) fn arrive(&mut self, address: IpAddr) -> (Ticket, Option<(Ticket, Refusal)>) {
        let address = block_of(address);
        let displaced = self.displace(Some(address), self.bounds.address_pending);
        let displaced = displaced.or_else(|| self.displace(None, self.bounds.pending));
        let ticket = Ticket(self.next);
        self.next += 1;
        self.present.insert(ticket, Present { address, key: None });
        (ticket, displaced)
    }

    /// Makes a newcomer a peer.
    ///
    /// # Errors
    /// [`Refusal::Crowded`], [`Refusal::CrowdedAddress`], [`Refusal::CrowdedKey`]; [`Refusal::Displaced`] when he has
    /// made room meanwhile.
    pub(crate) fn admit(&mut self, ticket: Ticket, key: PublicKey) -> Result<(), Refusal> {
        let bounds = self.bounds;
        let peers = |of: &dyn Fn(&Present) -> bool| {
            self.present.values().filter(|present| present.key.is_some() && of(present)).count()
        };
        let Some(newcomer) = self.present.get(&ticket) else {
            return Err(Refusal::Displaced { allowed: bounds.pending });
        };
        if peers(&|_| true) >= bounds.connections {
            return Err(Refusal::Crowded { allowed: bounds.connections });
        }
        if peers(&|present| present.address == newcomer.address) >= bounds.address_connections {
            return Err(Refusal::CrowdedAddress { allowed: bounds.address_connections });
        }
        if peers(&|present| present.key == Some(key)) >= bounds.key_connections {
            return Err(Refusal::CrowdedKey { allowed: bounds.key_connections });
        }
        if let Some(newcomer) = self.present.get_mut(&ticket) {
            newcomer.key = Some(key);
        }
        Ok(())
    }

    /// He is gone; nothing when that is known.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.present.remove(&ticket);
    }

    /// Newcomers now.
    pub(crate) fn pending(&self) -> usize {
        self.present.values().filter(|present| present.key.is_none()).count()
    }

    /// Peers now.
    pub(crate) fn connections(&self) -> usize {
        self.present.len() - self.pending()
    }

    /// Takes the oldest newcomer away, of an address or of all, when there are as many as `allowed`.
    fn displace(&mut self, address: Option<IpAddr>, allowed: usize) -> Option<(Ticket, Refusal)> {
        let is_meant = |present: &Present| {
            present.key.is_none() && address.is_none_or(|address| present.address == address)
        };
        let mut newcomers = self.present.iter().filter(|(_, present)| is_meant(present));
        let oldest = newcomers.next().map(|(ticket, _)| *ticket)?;
        if newcomers.count() + 1 < allowed {
            return None;
        }
        self.present.remove(&oldest);
        Some((oldest, Refusal::Displaced { allowed }))
    }
}

/// Whoever has one address of version 6 has 2^64 of them.
fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { pending: 4, address_pending: 2, connections: 3, address_connections: 2, key_connections: 1 };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    #[test]
    fn the_oldest_newcomer_of_the_address_makes_room_and_then_the_oldest_of_all() {
        let mut census = Census::new(BOUNDS);
        let (first, _) = census.arrive(address(1));
        let (second, none) = census.arrive(address(2));
        assert_eq!(none, None);
        census.arrive(address(2));
        assert_eq!(census.arrive(address(2)).1, Some((second, Refusal::Displaced { allowed: 2 })));
        census.arrive(address(3));
        assert_eq!(census.arrive(address(4)).1, Some((first, Refusal::Displaced { allowed: 4 })));
        assert_eq!(census.pending(), 4);
        assert_eq!(census.admit(first, key(1)), Err(Refusal::Displaced { allowed: 4 }));
    }

    #[test]
    fn peers_are_bounded_in_all_by_address_and_by_key_and_never_make_room() {
        let mut census = Census::new(BOUNDS);
        let mut admit = |from: u8, with: u8| {
            let (ticket, _) = census.arrive(address(from));
            census.admit(ticket, key(with)).map(|()| ticket).inspect_err(|_| census.leave(ticket))
        };
        let first = admit(1, 1).unwrap();
        assert_eq!(admit(2, 1), Err(Refusal::CrowdedKey { allowed: 1 }));
        admit(1, 2).unwrap();
        assert_eq!(admit(1, 3), Err(Refusal::CrowdedAddress { allowed: 2 }));
        admit(3, 3).unwrap();
        assert_eq!(admit(4, 4), Err(Refusal::Crowded { allowed: 3 }));
        for _ in 0..20 {
            census.arrive(address(9));
        }
        assert_eq!((census.connections(), census.pending()), (3, 2));
        census.leave(first);
        census.leave(first);
        assert_eq!(census.connections(), 2);
    }

    #[test]
    fn addresses_of_one_block_of_version_6_are_one_and_mapped_ones_are_of_version_4() {
        let block = |text: &str| block_of(text.parse().unwrap());
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:2"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:10.0.0.1"), address(1));
    }
}
