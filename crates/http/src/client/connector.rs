//! Connections for other clients: hyper-util's, tonic's.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use tower_service::Service;
use tuyau_core::{BoxFuture, Context, Flow};

use super::error::Error;
use super::pool::{Keep, Pool};
use super::request::origin;
use crate::Versions;

/// A `tower::Service` of URLs that opens flows, for clients that have connections opened for them: hyper-util's
/// `Client::builder(…).build(connector)`, tonic's `connect_with_connector`.
///
/// What it does with the URL, [`Client`](crate::Client) does as well. The scheme asks, the context decides: tonic
/// refuses `https` with a connector of one's own, and needs none if the context offers TLS for `http` as well.
/// (reqwest has no such hook: its `connector_layer` wraps connections that it opens itself. Through a
/// [`Forward`](crate::proxy::Forward) proxy on this machine it goes by any context all the same.)
///
/// ```no_run
/// # async fn example(ctx: tuyau_core::Context) -> Result<(), Box<dyn std::error::Error>> {
/// use tonic::transport::Endpoint;
/// use tuyau_http::{Connector, Versions};
///
/// let connector = Connector::new(ctx).versions(Versions::Http2);
/// let channel = Endpoint::from_static("http://svc").connect_with_connector(connector).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connector {
    ctx: Context,
    versions: Versions,
}

impl Connector {
    /// Connects by `ctx`.
    pub fn new(ctx: Context) -> Self {
        Self { ctx, versions: Versions::All }
    }

    /// What ALPN is offered, unless the context says so itself: what the client speaks.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }
}

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Connected, Error>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let Self { ctx, versions } = self.clone();
        Box::pin(async move {
            let keep =
                Keep { versions, connect: None, idle: std::time::Duration::ZERO, most_idle: 0, told: None };
            let connecting = async {
                let route = Pool::default().route(0, &ctx, &origin(&url)?, &keep)?;
                route.connect(&keep).await
            };
            let flow = connecting.await.map_err(|error| error.at(&url))?;
            Ok(Connected(flow))
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// A flow, as those clients take it.
#[derive(Debug)]
pub struct Connected(Flow);

impl Connected {
    /// The flow.
    pub fn into_flow(self) -> Flow {
        self.0
    }
}

impl Read for Connected {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Read::poll_read(Pin::new(&mut self.0), cx, buf)
    }
}

impl Write for Connected {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write(Pin::new(&mut self.0), cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write_vectored(Pin::new(&mut self.0), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&self.0)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}

/// So that hyper-util's client goes by what ALPN agreed on.
#[cfg(feature = "hyper-util")]
impl hyper_util::client::legacy::connect::Connection for Connected {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        let connected = hyper_util::client::legacy::connect::Connected::new();
        match self.0.fact(&tuyau_core::names::NEGOTIATED_ALPN) {
            Some(alpn) if *alpn == *b"h2" => connected.negotiated_h2(),
            _ => connected,
        }
    }
}
