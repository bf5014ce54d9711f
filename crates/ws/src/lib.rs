//! WebSocket (RFC 6455) as a layer: a stream of bytes in binary frames, as client and server, over any
//! flow. It passes through networks that let nothing but HTTP pass, and interoperates with `websockify`.
//!
//! * [`over`] lets [`WS`] be dialled over another endpoint key; [`WSS`] over one that encrypts.
//! * [`WsLayer`] wraps flows that are there: those that a listener accepts
//!   ([`Listener::layered`](tuyau_core::Listener::layered)), or one in mid-stream.
//! * What configures it are values of the context: [`PATH`], [`HOST_HEADER`], [`ORIGIN`], [`HEADERS`],
//!   [`SUBPROTOCOL`], [`MAX_FRAME`], [`PING_INTERVAL`].
//!
//! ```
//! use tuyau_core::{Context, names::{HOST, PORT}};
//! use tuyau_tokio::TCP;
//! use tuyau_ws::{PATH, WS};
//!
//! let ctx = tuyau_ws::over(tuyau_tokio::derivations(Context::new()), &WS, &TCP)
//!     .with(&HOST, "vnc.example".into())
//!     .with(&PORT, 6080)
//!     .with(&PATH, "/websockify".into())
//!     .offer(&WS);
//! ```
//!
//! It follows no redirects, speaks no extension (no compression), and carries no text: a peer that sends
//! text is an error. Frames are not messages: where one ends says nothing.
//!
//! # The end
//!
//! WebSocket has no half-close. Shutting down sends a Close frame, and reading goes on until the peer's;
//! the peer's Close is the end of what is read, and writing goes on until we shut down. So two flows of this
//! crate half-close as TCP does. Other implementations may answer our Close at once, and throw away what
//! they had still to send; and what is written after theirs, they don't read. A connection that ends without
//! a Close, because the peer dropped its flow or the network went, is truncated: the error
//! [`WsError::Truncated`], of kind [`UnexpectedEof`](tuyau_core::FlowErrorKind::UnexpectedEof), after all
//! that was received.
//!
//! Pings are answered, and [`PING_INTERVAL`] is kept, while somebody reads.

mod config;
mod error;
mod flow;
mod handshake;
mod http;
mod keepalive;
mod layer;
mod wakers;

pub use config::{
    HEADERS, HOST_HEADER, MAX_FRAME, ORIGIN, PATH, PING_INTERVAL, RANDOM, Random, SUBPROTOCOL, Settings,
};
pub use error::WsError;
pub use layer::{NEGOTIATED_SUBPROTOCOL, WS, WSS, Ws, WsEndpoint, WsLayer, Wss, over};
