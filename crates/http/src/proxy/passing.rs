//! One request and its response, passed on.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, UPGRADE};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Either, Full};
use tuyau_core::ConnectErrorKind;

use super::fields;
use super::tunnel::Tunnels;
use crate::client::{Body, Client, Error, Options, ResponseBody, Stage};
use crate::error::{BodyError, BodyErrorKind};
use crate::incoming::Incoming;
use crate::upgrade::upgrade;
use crate::{Protocol, Versions};

const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// What both kinds of proxies do.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    pub(super) client: Client,
    /// Upgrades are HTTP/1.1's.
    pub(super) upgrading: Client,
    /// By which it knows what it has seen before.
    pub(super) name: Arc<str>,
    pub(super) tunnels: Tunnels,
    /// Whether clients may know that the policy forbids it.
    pub(super) tells_policy: bool,
}

impl Passing {
    pub(super) fn new(client: Client) -> Self {
        let client = client.redirects(0).decompress(false);
        Self {
            upgrading: client.clone().versions(Versions::Http1),
            client,
            name: format!("tuyau-{:08x}", random() as u32).into(),
            tunnels: Tunnels::new(4096, Duration::from_secs(3600)),
            tells_policy: false,
        }
    }

    /// What is not to be passed on, and is answered here.
    pub(super) fn refused<B>(&self, request: &mut Request<B>) -> Option<StatusCode> {
        let method = request.method().clone();
        // It would tell what the fields of others are (RFC 9110 section 9.3.8), and nobody needs it.
        if method == Method::TRACE {
            return Some(StatusCode::METHOD_NOT_ALLOWED);
        }
        if fields::came_via(request.headers(), &self.name) {
            return Some(StatusCode::LOOP_DETECTED);
        }
        (!fields::goes_on(request.headers_mut(), &method)).then_some(StatusCode::OK)
    }

    /// Asks for `url` in place of what `request` asks for, with fields as `change` has them, and gives the response
    /// back.
    pub(super) async fn pass(
        &self,
        request: Request<Incoming>,
        url: Uri,
        change: impl FnOnce(&mut HeaderMap),
    ) -> Response<Either<ResponseBody, Full<Bytes>>> {
        let upgrade = match Upgrade::asked(&request) {
            Ok(upgrade) => upgrade,
            Err(status) => return answer(status),
        };
        let expect_continue = request.headers().contains_key(EXPECT);
        let version = request.version();
        let (mut head, body) = request.into_parts();
        let extensions = std::mem::take(&mut head.extensions);
        fields::end_to_end(&mut head.headers);
        fields::join_cookies(&mut head.headers);
        fields::add_via(&mut head.headers, version, &self.name);
        // After the client's own word on which fields are for one hop only.
        change(&mut head.headers);
        (head.uri, head.version) = (url, Version::HTTP_11);
        // Of HTTP/2, the error of a request does not say that it was its body's.
        let broke_off = Arc::new(OnceLock::new());
        let noted = broke_off.clone();
        let noting = move |error: BodyError| {
            noted.get_or_init(|| clients_own(&error));
            error
        };
        // What can be sent again is, on another connection, should a kept one be closed just now.
        let body = if body.is_end_stream() { Body::empty() } else { Body::new(body.map_err(noting)) };
        let mut request = Request::from_parts(head, body);
        let (client, place) = match &upgrade {
            None => (&self.client, None),
            Some(upgrade) => {
                let place = match self.tunnels.place() {
                    Ok(place) => place,
                    Err(full) => {
                        return self.failed(full.at(request.uri()), Some(StatusCode::SERVICE_UNAVAILABLE));
                    }
                };
                upgrade.ask(&mut request);
                (&self.upgrading, Some(place))
            }
        };
        let mut response =
            match client.execute(request, Options { expect_continue, ..Options::default() }).await {
                Ok(response) => response,
                Err(error) => return self.failed(error, broke_off.get().copied()),
            };
        if let Some(Upgrade::Stream) = upgrade
            && response.status().is_success()
        {
            return self.failed(Error::what(Stage::Wait, "the server does not speak WebSocket there"), None);
        }
        let came_by = response.version();
        let tunnel = match (upgrade, place) {
            (Some(upgrade), Some(place)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let tunnel = self.tunnels.open(place, near(extensions), far(response.extensions_mut()));
                Some((upgrade, tunnel))
            }
            _ => None,
        };
        *response.version_mut() = Version::HTTP_11;
        response.extensions_mut().clear();
        match tunnel {
            None => fields::end_to_end(response.headers_mut()),
            Some((upgrade, tunnel)) => {
                upgrade.agree(&mut response);
                response.extensions_mut().insert(tunnel);
            }
        }
        if response.status() == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_LENGTH); // RFC 9110 section 8.6
        }
        fields::add_via(response.headers_mut(), came_by, &self.name);
        response.map(Either::Left)
    }

    /// The response for a request that has none, and why, for a log; `own` is the status if that is known already.
    pub(super) fn failed(
        &self,
        error: Error,
        own: Option<StatusCode>,
    ) -> Response<Either<ResponseBody, Full<Bytes>>> {
        let policy = error.resolution().is_some_and(|error| error.kind() == ConnectErrorKind::Policy);
        let status = match own {
            Some(status) => status,
            None if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            None if policy && self.tells_policy => StatusCode::FORBIDDEN,
            None if error.stage() == Stage::Request => StatusCode::BAD_REQUEST,
            None => StatusCode::BAD_GATEWAY,
        };
        let mut response = answer(status);
        response.extensions_mut().insert(error);
        response
    }
}

/// What a client is told whose request broke off in its body.
fn clients_own(error: &BodyError) -> StatusCode {
    match error.kind() {
        BodyErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Says the status, and no more.
pub(super) fn answer(status: StatusCode) -> Response<Either<ResponseBody, Full<Bytes>>> {
    let mut response = Response::new(Either::Right(Full::from(format!("{status}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The client's connection or stream, once it is a tunnel; `extensions` are its request's.
pub(super) async fn near(extensions: Extensions) -> Result<tuyau_core::Flow, crate::UpgradeError> {
    let mut request = Request::new(());
    *request.extensions_mut() = extensions;
    upgrade(&mut request).await
}

/// The other side's; `extensions` are its response's.
fn far(
    extensions: &mut Extensions,
) -> impl Future<Output = Result<tuyau_core::Flow, crate::UpgradeError>> + use<> {
    let mut response = Response::new(());
    std::mem::swap(response.extensions_mut(), extensions);
    async move { upgrade(&mut response).await }
}

/// What a connection is to become.
enum Upgrade {
    /// By the field `Upgrade` (RFC 9110 section 7.8), whose value this is.
    Field(HeaderValue),
    /// A WebSocket by a stream (RFC 8441).
    Stream,
}

impl Upgrade {
    fn asked<B>(request: &Request<B>) -> Result<Option<Self>, StatusCode> {
        if request.method() == Method::CONNECT {
            let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
            return match protocol {
                Some("websocket") => Ok(Some(Self::Stream)),
                _ => Err(StatusCode::NOT_IMPLEMENTED),
            };
        }
        let mut options = fields::tokens(request.headers(), &CONNECTION);
        if request.version() != Version::HTTP_11
            || !options.any(|option| option.eq_ignore_ascii_case("upgrade"))
        {
            return Ok(None);
        }
        // HTTP/2 in clear text is not upgraded to (RFC 9113 section 3.1): nobody would see what goes by in it.
        let protocols: Vec<&str> = fields::tokens(request.headers(), &UPGRADE)
            .filter(|protocol| !protocol.eq_ignore_ascii_case("h2c"))
            .collect();
        let value = HeaderValue::try_from(protocols.join(", ")).ok();
        Ok(value.filter(|value| !value.is_empty()).map(Self::Field))
    }

    fn ask(&self, request: &mut Request<Body>) {
        let value = match self {
            Self::Field(value) => value.clone(),
            Self::Stream => {
                *request.method_mut() = Method::GET;
                *request.body_mut() = Body::empty();
                let key = STANDARD.encode([random().to_ne_bytes(), random().to_ne_bytes()].concat());
                if let Ok(key) = HeaderValue::try_from(key) {
                    request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
                }
                HeaderValue::from_static("websocket")
            }
        };
        request.headers_mut().insert(UPGRADE, value);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }

    fn agree(&self, response: &mut Response<ResponseBody>) {
        let agreed = response.headers().get(UPGRADE).cloned();
        fields::end_to_end(response.headers_mut());
        match self {
            Self::Field(asked) => {
                response.headers_mut().insert(UPGRADE, agreed.unwrap_or_else(|| asked.clone()));
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            Self::Stream => {
                *response.status_mut() = StatusCode::OK;
                response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            }
        }
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}
