//! HTTP/1.0, HTTP/1.1 and HTTP/2 over any flow: one handler and one client, whatever carries them. The engines are
//! hyper's and h2's; this crate is what lies around them.
//!
//! It does not route, render or cache: handlers are any `tower::Service`, an axum `Router` as it is. It dials nothing
//! itself either: a context does, and what it has no transport for, this crate hasn't.
//!
//! ```no_run
//! # async fn example(ctx: tuyau_core::Context, listener: tuyau_core::Listener) -> Result<(), tuyau_http::Error> {
//! use axum::{Router, routing::get};
//! use tuyau_http::{Client, Server};
//!
//! let router = Router::<()>::new().route("/", get(|| async { "hello" }));
//! tokio::spawn(Server::new(router).listen(listener).serve());
//!
//! let client = Client::new(ctx);
//! println!("{}", client.get("http://svc/").send().await?.into_body().text().await?);
//! # Ok(()) }
//! ```
//!
//! # The server
//! [`Server`] accepts from any number of listeners, of TCP, TLS, Unix sockets, SSH or memory alike; [`Http`] serves one
//! flow that one has. The version is what ALPN agreed on (the fact `names::NEGOTIATED_ALPN`); a clear flow without ALPN
//! speaks HTTP/1 or, by prior knowledge, HTTP/2. Requests carry their [`Connection`]; [`upgrade`] takes flow or stream
//! over (WebSocket, CONNECT, RFC 8441). [`Limits`] bound what clients may cost; what each of them is good for is in
//! `docs/hostile.md`, and in tests.
//!
//! # The client
//! [`Client`] puts scheme, host and port of a URL into its context as [`SCHEME`], `names::HOST` and `names::PORT`, and
//! resolves that. It neither knows nor asks what comes of it, with one exception: what is not encrypted end to end is
//! not connected for `https` (the context's `names::POLICY` is tightened). Where one set of offers can't serve both
//! schemes, the context says which do: [`STACKS`]. Connections are shared by whoever would have connected alike, as told
//! by what resolutions read (`tuyau_core::Reads`). [`handshake`] speaks on one flow that one has; [`Connector`] gives
//! flows to other clients.
//!
//! # Both
//! [`proxy`] passes requests on: forward, reverse.
//!
//! Server and client must be awaited in a tokio runtime.

mod alarm;
mod client;
mod connection;
mod error;
mod incoming;
mod limits;
mod listener;
pub mod proxy;
mod server;
mod upgrade;

#[cfg(feature = "cookies")]
pub use client::Cookies;
pub use client::{
    Body, Client, Connected, Connector, Error, FinalUrl, Multipart, RequestBuilder, ResponseBody, SCHEME,
    STACKS, Scheme, Sender, Stacks, Stage, handshake,
};
pub use connection::Connection;
pub use error::{BodyError, BodyErrorKind, BoxError, Limit, ServeError, ServeErrorKind};
/// What an extended CONNECT asks for (RFC 8441 section 4): an extension of such requests.
pub use hyper::ext::Protocol;
pub use incoming::Incoming;
pub use limits::Limits;
pub use server::{Failure, FlowServed, Http, Refused, Report, Server, Versions, serve_flow};
pub use upgrade::{Upgradable, UpgradeError, upgrade};
