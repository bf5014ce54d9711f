//! TLS for Tuyau: over any flow, as client and as server, TLS in TLS included. Two libraries do it, rustls
//! and OpenSSL; which of them is a value of the context, and a protocol library never sees it.
//!
//! What this crate does not do: it dials nothing itself, makes no certificates, installs nothing for the
//! whole process (rustls is given its provider), and needs no runtime.
//!
//! * [`over`] lets [`TLS`] be dialled over another endpoint key. It reads what configures it in the context:
//!   [`BACKEND`], [`ROOTS`], [`IDENTITY`], [`MIN_VERSION`], [`RESUMPTION`], and the well-known `SERVER_NAME`,
//!   `HOST` and `ALPN`.
//! * [`upgrades`] lets a flow be upgraded in mid-stream (STARTTLS).
//! * [`TlsServer`] wraps what a listener accepts; it can be given new certificates while it serves.
//! * [`dangerous`] has what verifies nobody.
//!
//! A flow knows by what it is protected: the facts `SECURITY`, `NEGOTIATED_ALPN`, `PEER_CERTIFICATES`,
//! `SERVER_NAME`, and [`VERSION`], [`CIPHER`], [`RESUMED`] and [`CERTIFICATE_REQUESTED`].
//!
//! ```
//! use tuyau_core::{Context, names::HOST};
//! use tuyau_tls::{ROOTS, Roots, TLS};
//! use tuyau_tokio::TCP;
//!
//! let ctx = tuyau_tls::over(tuyau_tokio::derivations(Context::new()), &TLS, &TCP)
//!     .with(&HOST, "db.test".into())
//!     .with(&ROOTS, Roots::File("/etc/ours/ca.pem".into()))
//!     .offer(&TLS);
//! ```
//!
//! # Writing, and the end
//! What a write takes is encrypted at once: several slices become one record, and several records one write
//! below. It is sent as far as the flow below takes it without waiting; the rest goes with the next write,
//! flush or shutdown. Shutting down sends `close_notify`, flushes, and ends the write side of the flow below;
//! reading goes on. A connection that ends without a `close_notify` of the peer gives the error
//! [`TlsError::Truncated`], of kind [`UnexpectedEof`](tuyau_core::FlowErrorKind::UnexpectedEof), after all that
//! was received: dropping a flow is no clean end.
//!
//! With TLS 1.3, a server that refuses a client's certificate says so after the client's handshake is done:
//! then the first read (or write) fails, with [`TlsError::ClientCertificateRequired`] or
//! [`TlsError::CertificateRefused`] as its source. That it asked for one is known before, by the fact
//! [`CERTIFICATE_REQUESTED`].

#[cfg(not(any(feature = "rustls", feature = "openssl")))]
compile_error!("tuyau-tls has no backend: enable its feature `rustls` (a default) or `openssl`");

mod backend;
mod certificate;
mod client;
mod config;
pub mod dangerous;
mod error;
mod flow;
mod handshake;
mod lower;
mod material;
mod parts;
mod server;
mod tls;

pub use client::TlsClient;
pub use config::{
    BACKEND, Backend, CERTIFICATE_REQUESTED, CIPHER, IDENTITY, Identity, MIN_VERSION, RESUMED, RESUMPTION,
    ROOTS, Roots, Settings, UnknownWord, VERSION, Version,
};
pub use error::TlsError;
pub use server::{ClientAuth, ServerSettings, TlsServer};
pub use tls::{CLIENT, TLS, Tls, TlsEndpoint, over, over_with, upgrades};
