//! Well-known keys. A protocol library adds what it knows; a transport reads what it needs.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::{Key, Policy, Protection, SharedLayer, SharedNet, SharedRuntime, Target};

/// The name or address of the peer, as asked for: intent, not where one connects to.
pub static HOST: Key<Arc<str>> = Key::new("host").shown();
/// The port of the peer.
pub static PORT: Key<u16> = Key::new("port").shown();
/// The name that the peer's certificate must have, where it is not [`HOST`].
pub static SERVER_NAME: Key<Arc<str>> = Key::new("server-name").shown();
/// The protocols to offer by ALPN (RFC 7301), in order of preference. What was agreed on is the
/// fact [`NEGOTIATED_ALPN`].
pub static ALPN: Key<Arc<[Vec<u8>]>> = Key::new("alpn");
/// What transports dial through.
pub static NET: Key<SharedNet> = Key::new("net").shown();
/// Time and tasks. Without one there is no staggered racing, and no deadline can be kept.
pub static RUNTIME: Key<SharedRuntime> = Key::new("runtime").control();
/// What [`Context::upgrade`](crate::Context::upgrade) wraps a flow in.
pub static LAYER: Key<SharedLayer> = Key::new("layer");
/// What is forbidden, to every candidate and every hop.
pub static POLICY: Key<Policy> = Key::new("policy").control();

/// How long one resolution may take in all: lookups, derivations, connects and handshakes.
/// Unlimited if absent.
pub static DEADLINE: Key<Duration> = Key::new("deadline").control();
/// How long one attempt may take: its derivations, hops, connects and handshakes together; outside a
/// resolution, listening, a handshake or [`Context::upgrade`](crate::Context::upgrade). Unlimited if absent.
pub static ATTEMPT_TIMEOUT: Key<Duration> = Key::new("attempt-timeout").control();
/// How long to wait before the next attempt joins the race: the Connection Attempt Delay of
/// RFC 8305 section 5. 250 ms if absent; values under 10 ms are raised to that (section 8).
pub static ATTEMPT_DELAY: Key<Duration> = Key::new("attempt-delay").control();
/// How many addresses of the first family are tried before another family's: the First Address
/// Family Count of RFC 8305 section 4. 1 if absent.
pub static FIRST_GROUP_COUNT: Key<u32> = Key::new("first-group-count").shown().control();
/// After how long candidates of the next priority join those of a better one that have not
/// failed yet. If absent, they wait until all of the better priority have failed.
pub static HEAD_START: Key<Duration> = Key::new("head-start").control();
/// Whether a less protected candidate may follow a protected one that failed. No if absent.
pub static ALLOW_DOWNGRADE: Key<bool> = Key::new("allow-downgrade").shown().control();

/// A fact: the address of the other side.
pub static PEER: Key<Target> = Key::new("peer").shown();
/// A fact: the address of this side.
pub static LOCAL: Key<Target> = Key::new("local").shown();
/// A fact: how far the flow is protected. What says nothing is clear.
pub static SECURITY: Key<Protection> = Key::new("security").shown();
/// A fact: the protocol that both sides agreed on by ALPN (RFC 7301), one of what [`ALPN`] offered.
/// Absent if there was no agreement, or no negotiation.
pub static NEGOTIATED_ALPN: Key<Arc<[u8]>> = Key::new("negotiated-alpn");
/// A fact: the certificates that the other side showed, its own first, each in DER (RFC 5280).
pub static PEER_CERTIFICATES: Key<Arc<[Vec<u8>]>> = Key::new("peer-certificates");
