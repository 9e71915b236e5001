//! The only file that names `snow`: who the other end is, and bytes that nobody between can read or change.
//!
//! ```text
//! peer                                          host
//!   48 bytes   e, es      ->                              only who knows the host's key can make this one
//!                         <-    e, ee   48 bytes
//!   64 bytes   s, se      ->                              the peer's key, which nobody else sees
//! ```
//! Noise_XK: the peer knows the host's key beforehand, so it cannot be led elsewhere, and what does not know it is told
//! nothing. Lengths are fixed, so nobody is believed about one. Then each direction counts its own records.
//!
//! # Source
//! The Noise Protocol Framework, revision 34, sections 7.5 and 11.

use std::sync::Arc;

use rand::TryRng as _;
use snow::resolvers::{CryptoResolver as _, DefaultResolver};
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, PrivateKey, PublicKey};

/// What the guard and its peers speak.
const PROTOCOL: &str = "Noise_XK_25519_ChaChaPoly_BLAKE2s";
/// Part of every handshake: another version of what follows it is another handshake.
const PROLOGUE: &[u8] = b"telos guard 1";

/// How long the three messages are.
pub(crate) const MESSAGE_BYTES: [usize; 3] = [48, 48, 64];
/// The longest of them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64;
/// What sealing adds.
pub(crate) const TAG_BYTES: usize = 16;

/// The other end cannot be who it should be, or a record is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes that the other end did not seal")]
pub(crate) struct Forged;

/// A handshake that is under way.
pub(crate) struct Handshake {
    state: snow::HandshakeState,
}

/// Seals what goes out, in order.
pub(crate) struct Sealer {
    state: Arc<snow::StatelessTransportState>,
    records: u64,
}

/// Opens what comes in, in order.
pub(crate) struct Opener {
    state: Arc<snow::StatelessTransportState>,
    records: u64,
}

impl Handshake {
    /// The peer's side, towards the host that has this key.
    pub(crate) fn begin(own: &PrivateKey, host: &PublicKey) -> Result<Self, Forged> {
        let builder = builder(own)?.remote_public_key(host.as_bytes()).map_err(|_| Forged)?;
        builder.build_initiator().map(|state| Self { state }).map_err(|_| Forged)
    }

    /// The host's side.
    pub(crate) fn answer(own: &PrivateKey) -> Result<Self, Forged> {
        builder(own)?.build_responder().map(|state| Self { state }).map_err(|_| Forged)
    }

    /// The next message of this side.
    pub(crate) fn write(&mut self) -> Result<Vec<u8>, Forged> {
        let mut message = vec![0; MESSAGE_BYTES_MAX];
        let written = self.state.write_message(&[], &mut message).map_err(|_| Forged)?;
        message.truncate(written);
        Ok(message)
    }

    /// Takes the other side's next message.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<(), Forged> {
        let mut nothing = [0; MESSAGE_BYTES_MAX];
        self.state.read_message(message, &mut nothing).map(drop).map_err(|_| Forged)
    }

    /// Who the other side is, and the two directions, once all messages are through.
    pub(crate) fn finish(self) -> Result<(PublicKey, Sealer, Opener), Forged> {
        let other = self.state.get_remote_static().and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok());
        let other = PublicKey::from_bytes(other.ok_or(Forged)?);
        let state = Arc::new(self.state.into_stateless_transport_mode().map_err(|_| Forged)?);
        let sealer = Sealer { state: Arc::clone(&state), records: 0 };
        Ok((other, sealer, Opener { state, records: 0 }))
    }
}

impl Sealer {
    /// Seals `content` into `record`, which has room for it and [`TAG_BYTES`] more; how long that is.
    pub(crate) fn seal(&mut self, content: &[u8], record: &mut [u8]) -> Result<usize, Forged> {
        let sealed = self.state.write_message(self.records, content, record).map_err(|_| Forged)?;
        self.records += 1;
        Ok(sealed)
    }
}

impl Opener {
    /// Opens the next record into `content`, which has room for as much; how long what was inside is.
    pub(crate) fn open(&mut self, record: &[u8], content: &mut [u8]) -> Result<usize, Forged> {
        let opened = self.state.read_message(self.records, record, content).map_err(|_| Forged)?;
        self.records += 1;
        Ok(opened)
    }
}

/// 32 bytes from the system's generator; every one of them is a private key.
pub(crate) fn generate_private() -> Result<Zeroizing<[u8; KEY_BYTES]>, rand::rngs::SysError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    rand::rngs::SysRng.try_fill_bytes(&mut bytes[..])?;
    Ok(bytes)
}

/// The public key of a private one.
pub(crate) fn public_of(private: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let curve = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519);
    let mut public = [0; KEY_BYTES];
    if let Some(mut curve) = curve {
        curve.set(private);
        public.copy_from_slice(curve.pubkey());
    }
    public
}

/// What both ends agree on with these; none where there is no such curve.
pub(crate) fn agree(private: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Option<[u8; KEY_BYTES]> {
    let mut curve = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519)?;
    let mut secret = [0; KEY_BYTES];
    curve.set(private);
    curve.dh(public, &mut secret).ok()?;
    Some(secret)
}

fn builder(own: &PrivateKey) -> Result<snow::Builder<'_>, Forged> {
    let protocol = PROTOCOL.parse().map_err(|_| Forged)?;
    let builder = snow::Builder::new(protocol).local_private_key(own.as_bytes()).map_err(|_| Forged)?;
    builder.prologue(PROLOGUE).map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shake(
        peer: &PrivateKey,
        host: &PrivateKey,
        known: &PublicKey,
    ) -> Option<[(PublicKey, Sealer, Opener); 2]> {
        let (mut ours, mut theirs) =
            (Handshake::begin(peer, known).unwrap(), Handshake::answer(host).unwrap());
        for (index, bytes) in MESSAGE_BYTES.into_iter().enumerate() {
            let (from, to) = if index == 1 { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };
            let message = from.write().unwrap();
            assert_eq!(message.len(), bytes);
            to.read(&message).ok()?;
        }
        Some([ours.finish().unwrap(), theirs.finish().unwrap()])
    }

    #[test]
    fn both_learn_who_the_other_is_and_read_what_it_sealed_in_order_only() {
        let (peer, host) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let [(its_host, mut seal, _), (its_peer, _, mut open)] = shake(&peer, &host, &host.public()).unwrap();
        assert_eq!((its_host, its_peer), (host.public(), peer.public()));
        let (mut one, mut two, mut content) = ([0; 32], [0; 32], [0; 32]);
        let (first, second) = (seal.seal(b"one", &mut one).unwrap(), seal.seal(b"two", &mut two).unwrap());
        assert_eq!(open.open(&two[..second], &mut content), Err(Forged));
        assert_eq!(open.open(&one[..first], &mut content), Ok(3));
        assert_eq!(&content[..3], b"one");
        assert_eq!(open.open(&one[..first], &mut content), Err(Forged), "replayed");
        two[0] ^= 1;
        assert_eq!(open.open(&two[..second], &mut content), Err(Forged), "changed on the way");
    }

    #[test]
    fn another_host_s_key_ends_the_handshake_at_its_first_message() {
        let (peer, host) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        assert!(shake(&peer, &host, &peer.public()).is_none());
    }
}
