//! Services that pass requests on: a [`Forward`] proxy, which goes where its clients say, and a [`Reverse`] proxy,
//! which stands for one server. Both are handlers for a [`Server`](crate::Server) like any other, over HTTP/1 and HTTP/2;
//! how the other side is connected is the business of the [`Client`](crate::Client) that they are given, and of its
//! context.
//!
//! ```no_run
//! # async fn example(ctx: tuyau_core::Context, listener: tuyau_core::Listener) {
//! use tuyau_http::proxy::Forward;
//! use tuyau_http::{Client, Server};
//!
//! let proxy = Forward::new(Client::new(ctx)).user("ada", "secret");
//! let tunnels = proxy.tunnels();
//! Server::new(proxy).listen(listener).serve().await;
//! tunnels.ended().await;
//! # }
//! ```
//!
//! What is passed on: bodies as they come, both ways, with trailers; upgrades (WebSocket, over HTTP/2 by RFC 8441), which
//! always go on over HTTP/1.1; `Expect: 100-continue`, which the other side answers. Fields of one hop are not (RFC 9110
//! section 7.6.1); `Via` is added, and tells a request that comes back again (508).
//!
//! Why a request failed is an extension of the response ([`Error`](crate::Error)), for a log; its client learns the
//! status only: 502, 504 if it took too long, 403 if the policy of a forward proxy's context forbids it, 503 if there are as
//! many tunnels as may be. A tunnel is one, too: [`Tunnel`].

pub(crate) mod fields;
mod forward;
mod forwarded;
mod passing;
mod reverse;
mod tunnel;

pub use forward::Forward;
pub use reverse::Reverse;
pub use tunnel::{Carried, Cut, Tunnel, Tunnels};
