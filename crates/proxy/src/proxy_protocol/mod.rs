//! The PROXY protocol, versions 1 and 2 (haproxy's `proxy-protocol.txt`): a header in front of a
//! connection that tells whose it is.
//!
//! * [`AcceptProxy`] reads it on a listener, from named networks only. The facts `PEER` and `LOCAL` of
//!   the accepted flows are those of the header then, and [`HEADER`] is all of it.
//! * [`SendProxy`] sends it to a peer, as a [`Layer`](tuyau_core::Layer), or as the endpoint key
//!   [`PROXY_PROTOCOL`], which [`over`] derives.

mod accept;
mod header;
mod send;
mod v1;
mod v2;

pub use accept::{AcceptProxy, HEADER};
pub use header::{Addresses, Decoded, Header, HeaderError, Ssl, Tlv, Version};
pub use send::{PROXY_PROTOCOL, ProxyEndpoint, ProxyProtocol, SEND_PROXY, SendProxy, over};
