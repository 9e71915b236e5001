//! The guard: who may come in through an open port, and what of theirs may reach the bridge.
//!
//! ```text
//! other machine                                   this host
//! program ─ plain ─ Proxy ═══ Noise, TCP ═══ Guard ─ one private socket for each role ─ bridge
//!
//! noise      who the other end is, and bytes that nobody between can read or change   the only file that names snow
//! record     the sealed stream in pieces of bounded length
//! keys       the host's key, and the list of those that may come in, each with a role
//! census     newcomers and peers, and who makes room                                  pure
//! inspector  which bytes of a peer may reach the ROUTER                               pure
//! peer       one connection through the guard          guard   the port and all of them
//! dial       the other end's handshake                 proxy   a local endpoint that leads here
//! ```
//! Promises. Nobody whose key is not on the list gets a byte to the ROUTER, or learns more than that it is not; who does
//! not know the host's key learns nothing. A key grants at most its role, because its connections end at the door of
//! that role. What reaches the ROUTER is a greeting and a READY of ours, then messages within the bridge's bounds; a peer
//! that offends is cut off, for a reason that is counted. A connection holds about 100 KiB here, whatever its peer
//! sends or does not read. A key that is revoked is out within two seconds.
//!
//! Not promised: room for honest newcomers while somebody with as many addresses as there are places for handshakes
//! opens connections faster than honest ones shake hands; hiding who talks how much with whom.

mod census;
mod greeting;
mod hush;
mod inspector;
mod refusal;
mod remote;

mod key;
mod keys;
mod noise;
mod record;
mod tunnel;

mod dial;
mod guard;
mod peer;
mod proxy;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use dial::{DialError, greet};
pub use guard::{Guard, GuardConfig, GuardError, GuardLimits, OnRefusal, Turned};
pub use inspector::{Inspector, READY_BYTES_MAX};
pub use key::{KEY_BYTES, KeyError, PrivateKey, PublicKey};
pub use keys::{AllowedKey, KEYS_MAX, Keys, KeysError, NAME_BYTES_MAX};
pub use proxy::{OnFailure, Proxy, ProxyError};
pub use record::CONTENT_BYTES_MAX;
pub use refusal::{GuardStats, Refusal};
pub use remote::{Remote, RemoteError};
