//! The proxy that goes where its clients say.

use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tower_service::Service;
use tuyau_core::names::PEER;
use tuyau_core::{BoxFuture, Target};

use super::passing::{Passing, answer, near};
use super::tunnel::Tunnels;
use crate::Protocol;
use crate::client::{Client, ResponseBody};
use crate::connection::Connection;
use crate::incoming::Incoming;

/// A forward proxy: tunnels by CONNECT (RFC 9110 section 9.3.6; over HTTP/2, RFC 9113 section 8.5), and `http` URLs in
/// absolute form (RFC 9112 section 3.2.2). See [the module](super).
///
/// For a tunnel its client resolves the context as for `http`: what is in the tunnel is its ends' business. What may be
/// reached, the context's policy says. It refuses (508) what leads back to itself: the very address that a client
/// reached it by, and what it has seen before.
#[derive(Clone)]
pub struct Forward {
    passing: Passing,
    /// Each is `user:password`.
    users: Arc<Vec<Vec<u8>>>,
}

impl Forward {
    /// A proxy for everybody, that goes on by `client`: up to 4,096 tunnels at once, each for as long as an hour of
    /// silence.
    pub fn new(client: Client) -> Self {
        let passing = Passing { tells_policy: true, ..Passing::new(client) };
        Self { passing, users: Arc::default() }
    }

    /// Lets this user in, and nobody without a password any more (RFC 7617). There is no colon in the name.
    pub fn user(mut self, user: &str, password: &str) -> Self {
        Arc::make_mut(&mut self.users).push([user, password].join(":").into_bytes());
        self
    }

    /// At most so many tunnels at once (503 for more), and for how long each may be silent.
    pub fn limit_tunnels(mut self, most: u32, idle: std::time::Duration) -> Self {
        self.passing.tunnels = Tunnels::new(most, idle);
        self
    }

    /// Its tunnels.
    pub fn tunnels(&self) -> Tunnels {
        self.passing.tunnels.clone()
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Either<ResponseBody, Full<Bytes>>> {
        if !self.users.is_empty() && self.user_of(request.headers()).is_none() {
            let mut response = answer(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
            let challenge = HeaderValue::from_static("Basic realm=\"proxy\", charset=\"UTF-8\"");
            response.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
            return response;
        }
        if let Some(status) = self.passing.refused(&mut request) {
            return answer(status);
        }
        if request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none() {
            return self.connect(request).await;
        }
        let url = request.uri().clone();
        if url.scheme_str() != Some("http") || url.host().is_none_or(str::is_empty) {
            return answer(StatusCode::BAD_REQUEST).map(|_| {
                Either::Right(Full::from("this is a proxy: it takes `http` URLs, and CONNECT for all else\n"))
            });
        }
        // The URL says which (RFC 9112 section 3.2.2).
        self.passing.pass(request, url, |headers| drop(headers.remove(HOST))).await
    }

    async fn connect(&self, request: Request<Incoming>) -> Response<Either<ResponseBody, Full<Bytes>>> {
        let Some(url) = tunnelled(request.uri()) else { return answer(StatusCode::BAD_REQUEST) };
        let place = match self.passing.tunnels.place() {
            Ok(place) => place,
            Err(full) => {
                return self.passing.failed(full.at(request.uri()), Some(StatusCode::SERVICE_UNAVAILABLE));
            }
        };
        let flow = match self.passing.client.open(&url).await {
            Ok(flow) => flow,
            Err(error) => return self.passing.failed(error.at(request.uri()), None),
        };
        let here = request.extensions().get::<Connection>().and_then(Connection::local);
        if let Some(Target::Addr(address)) = flow.fact(&PEER)
            && here == Some(&Target::Addr(address))
        {
            return answer(StatusCode::LOOP_DETECTED);
        }
        let near = near(request.into_parts().0.extensions);
        let tunnel = self.passing.tunnels.open(place, near, ready(Ok(flow)));
        let mut response = Response::new(Either::Right(Full::default()));
        response.extensions_mut().insert(tunnel);
        response
    }

    /// Which [user](Self::user) a request with these fields is from; none if it is from nobody who is let in by a
    /// password.
    pub fn user_of(&self, headers: &HeaderMap) -> Option<&str> {
        if self.users.is_empty() {
            return None;
        }
        let given = headers.get(PROXY_AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            STANDARD.decode(token.trim()).ok()
        });
        let given = given.unwrap_or_default();
        // All of them, so that the time tells nothing but lengths.
        let (known, at) =
            self.users.iter().zip(0..).fold((Choice::from(0), 0), |(known, at), (user, here)| {
                let is_it = user.ct_eq(&given);
                (known | is_it, u64::conditional_select(&at, &here, is_it))
            });
        let user = self.users.get(usize::try_from(at).ok()?).filter(|_| known.into())?;
        std::str::from_utf8(user.split(|byte| *byte == b':').next()?).ok()
    }
}

/// What CONNECT asks for, which has a port, as a URL.
fn tunnelled(target: &Uri) -> Option<Uri> {
    let authority = target.authority()?;
    let whole = !authority.host().is_empty() && authority.port_u16().is_some_and(|port| port > 0);
    if !whole || authority.as_str().contains('@') {
        return None;
    }
    format!("http://{authority}/").parse().ok()
}

impl Service<Request<Incoming>> for Forward {
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

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("passing", &self.passing).field("users", &self.users.len()).finish()
    }
}
