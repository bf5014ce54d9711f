//! The layer, and the endpoints that dial it.

use std::fmt;
use std::sync::Arc;

use tuyau_core::names::{HOST, PORT, SECURITY};
use tuyau_core::{
    AnyEndpoint, BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Dial, Endpoint, Flow, Key,
    Layer, Protection, Protocol, Role, dial, opt, or,
};

use crate::config::{
    HEADERS, HOST_HEADER, MAX_FRAME, ORIGIN, PATH, PING_INTERVAL, RANDOM, SUBPROTOCOL, Settings,
};
use crate::flow::WsFlow;
use crate::handshake;

/// WebSocket (RFC 6455) over what the endpoint dials.
pub static WS: Endpoint<Ws> = Endpoint::new("ws", &Ws);
/// WebSocket over what encrypts and authenticates: it refuses to speak over anything less.
pub static WSS: Endpoint<Wss> = Endpoint::new("wss", &Wss).protection(Protection::Authenticated);
/// A fact: the subprotocol that both sides agreed on.
pub static NEGOTIATED_SUBPROTOCOL: Key<Arc<str>> = Key::new("ws-negotiated-subprotocol").shown();

/// The protocol of [`WS`].
#[derive(Clone, Copy, Debug)]
pub struct Ws;

/// The protocol of [`WSS`].
#[derive(Clone, Copy, Debug)]
pub struct Wss;

/// What WebSocket is dialled over, and how.
#[derive(Clone)]
pub struct WsEndpoint {
    /// What is dialled below.
    pub below: Dial,
    /// How.
    pub settings: Settings,
}

impl Protocol for Ws {
    type Endpoint = WsEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: WsEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let WsEndpoint { below, settings } = endpoint;
        let flow = below.open(cx).await?;
        begin(flow, settings, cx).await
    }

    fn describe(&self, endpoint: &WsEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{endpoint:?}")
    }

    /// That of what is dialled below.
    fn group(&self, endpoint: &WsEndpoint) -> Option<u32> {
        endpoint.below.group()
    }
}

impl Protocol for Wss {
    type Endpoint = WsEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: WsEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let WsEndpoint { below, settings } = endpoint;
        let flow = below.open(cx).await?;
        if flow.fact(&SECURITY).unwrap_or_default() < Protection::Authenticated {
            let what = format!(
                "WebSocket handshake: `{}` below it is not encrypted and authenticated",
                below.key().name()
            );
            return Err(ConnectError::new(ConnectErrorKind::Misuse, what)
                .with_hint("dial `wss` over TLS, or offer `ws`, which may be clear"));
        }
        begin(flow, settings, cx).await
    }

    fn describe(&self, endpoint: &WsEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{endpoint:?}")
    }

    /// That of what is dialled below.
    fn group(&self, endpoint: &WsEndpoint) -> Option<u32> {
        endpoint.below.group()
    }
}

async fn begin(flow: Flow, settings: Settings, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
    let asked = format!("{}{}", settings.host.as_deref().unwrap_or_default(), settings.shown_path());
    cx.hop("ws", asked, WsLayer::new(settings).wrap(flow, Role::Client, cx)).await
}

impl fmt::Debug for WsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.settings.shown_path() {
            "/" => write!(f, "{}", self.below),
            path => write!(f, "{}{path}", self.below),
        }
    }
}

/// Lets `layer` be dialled over `below`. Nothing is offered.
///
/// `layer` comes from [`PATH`], [`HOST_HEADER`] or else `HOST` and `PORT`, [`ORIGIN`], [`HEADERS`],
/// [`SUBPROTOCOL`], [`MAX_FRAME`], [`PING_INTERVAL`], [`RANDOM`], and what `below` dials. What is wrong with
/// the settings is found before anything is looked up or dialled.
#[track_caller]
pub fn over<P: Protocol<Endpoint = WsEndpoint>>(
    ctx: Context,
    layer: &'static Endpoint<P>,
    below: &'static dyn AnyEndpoint,
) -> Context {
    let ctx = ctx.under(Context::new().derive(
        &SETTINGS,
        (
            opt(&PATH),
            opt(&HOST_HEADER),
            opt(&HOST),
            opt(&PORT),
            opt(&ORIGIN),
            opt(&HEADERS),
            opt(&SUBPROTOCOL),
            or(&MAX_FRAME, Settings::default().max_frame),
            opt(&PING_INTERVAL),
            or(&RANDOM, Settings::default().random),
        ),
        |(path, header, host, port, origin, headers, subprotocol, max_frame, ping, random)| async move {
            let host = header.or_else(|| host.map(|host| host_header(&host, port)));
            let headers = headers.unwrap_or_else(|| Arc::new([]));
            let settings = Settings { path, host, origin, headers, subprotocol, max_frame, ping, random };
            settings.check()?;
            Ok(settings)
        },
    ));
    ctx.derive(layer, (tuyau_core::req(&SETTINGS), dial(below)), |(settings, below)| async move {
        Ok(WsEndpoint { below, settings })
    })
}

/// What [`over`] makes of the other keys.
static SETTINGS: Key<Settings> = Key::new("ws-settings");

/// The `Host` header (RFC 9110 section 7.2). The ports that HTTP has by default, with and without TLS, are left
/// out.
fn host_header(host: &str, port: Option<u16>) -> Arc<str> {
    let host = host.split('%').next().unwrap_or(host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port {
        None | Some(80 | 443) => host.into(),
        Some(port) => format!("{host}:{port}").into(),
    }
}

/// WebSocket around flows that are there already.
#[derive(Clone, Debug)]
pub struct WsLayer {
    settings: Settings,
}

impl WsLayer {
    /// With these settings, whatever the context says.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Layer for WsLayer {
    fn describe(&self) -> String {
        "ws".into()
    }

    fn wrap<'a>(
        &'a self,
        inner: Flow,
        role: Role,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            let keepalive = match (self.settings.ping, cx.runtime()) {
                (None, _) => None,
                (Some(interval), Some(runtime)) => Some((interval, runtime.clone())),
                (Some(_), None) => {
                    return Err(ConnectError::new(
                        ConnectErrorKind::Misuse,
                        "WebSocket pings without a clock",
                    )
                    .with_hint("bind RUNTIME, or leave PING_INTERVAL out"));
                }
            };
            let (flow, subprotocol) = match role {
                Role::Client => handshake::client(inner, &self.settings).await?,
                Role::Server => handshake::server(inner, &self.settings).await?,
            };
            Ok(Flow::new(WsFlow::new(flow, role, &self.settings, subprotocol, keepalive)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_names_unusual_ports() {
        let header = |host, port| host_header(host, port).to_string();
        assert_eq!(header("a.example", Some(80)), "a.example");
        assert_eq!(header("a.example", Some(6080)), "a.example:6080");
        assert_eq!(header("fe80::1%eth0", Some(6080)), "[fe80::1]:6080");
        assert_eq!(header("::1", None), "[::1]");
    }
}
