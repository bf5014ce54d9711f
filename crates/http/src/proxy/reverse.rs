//! The proxy that stands for a server.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use tower_service::Service;
use tuyau_core::BoxFuture;

use super::fields;
use super::passing::{Passing, answer};
use super::tunnel::Tunnels;
use crate::Protocol;
use crate::client::{Client, ResponseBody};
use crate::connection::Connection;
use crate::incoming::Incoming;

/// A reverse proxy (a gateway, RFC 9110 section 3.7): every request goes to one server. See [the module](super).
///
/// The server is told the host that the client asked for, as it is, and who asked: by `Forwarded` (RFC 7239), and by
/// `X-Forwarded-For`, `-Host` and `-Proto`. What clients say there themselves, in any `X-Forwarded-` field or `X-Real-IP`, is
/// dropped, unless they [are believed](Self::believe).
#[derive(Clone, Debug)]
pub struct Reverse {
    passing: Passing,
    /// Its scheme and authority are whom the client connects to.
    server: Uri,
    host: Option<HeaderValue>,
    believed: bool,
}

impl Reverse {
    /// A proxy for the server at `server`, whose path does not count, that connects by `client`: up to 4,096 tunnels at
    /// once, each for as long as an hour of silence.
    pub fn new(client: Client, server: Uri) -> Self {
        Self { passing: Passing::new(client), server, host: None, believed: false }
    }

    /// Asks for this host, whatever the client asked for.
    pub fn host(mut self, host: &Authority) -> Self {
        self.host = HeaderValue::try_from(host.as_str()).ok();
        self
    }

    /// Believes what clients say of who asked them, as they are proxies of one's own: adds to it.
    pub fn believe(mut self, believe: bool) -> Self {
        self.believed = believe;
        self
    }

    /// At most so many tunnels at once (503 for more), and for how long each may be silent.
    pub fn limit_tunnels(mut self, most: u32, idle: std::time::Duration) -> Self {
        self.passing.tunnels = Tunnels::new(most, idle);
        self
    }

    /// Its tunnels: connections after an upgrade.
    pub fn tunnels(&self) -> Tunnels {
        self.passing.tunnels.clone()
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Either<ResponseBody, Full<Bytes>>> {
        if let Some(status) = self.passing.refused(&mut request) {
            return answer(status);
        }
        if request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none() {
            return answer(StatusCode::METHOD_NOT_ALLOWED);
        }
        let Some(url) = self.url(request.uri().path_and_query()) else {
            return answer(StatusCode::BAD_REQUEST);
        };
        // Of HTTP/2, and of an absolute form, the URL says which.
        let host = request.uri().authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
        let connection = request.extensions().get::<Connection>().cloned();
        let change = |headers: &mut HeaderMap| {
            if let Some(host) = host {
                headers.insert(HOST, host);
            }
            fields::add_forwarded(headers, connection.as_ref(), self.believed);
            if let Some(host) = &self.host {
                headers.insert(HOST, host.clone());
            }
        };
        self.passing.pass(request, url, change).await
    }

    fn url(&self, path: Option<&PathAndQuery>) -> Option<Uri> {
        let mut parts = http::uri::Parts::default();
        (parts.scheme, parts.authority) = (self.server.scheme().cloned(), self.server.authority().cloned());
        parts.path_and_query = Some(path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        Uri::from_parts(parts).ok()
    }
}

impl Service<Request<Incoming>> for Reverse {
    type Response = Response<Either<ResponseBody, Full<Bytes>>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}
