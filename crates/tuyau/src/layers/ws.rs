//! WebSocket (RFC 6455): bytes in binary frames.

use crate::schemes::{BASE, Form, Scheme, SchemeKind, Wiring};

pub(crate) const WS: Scheme = Scheme {
    name: "ws",
    what: "WebSocket, over TCP if nothing else is named",
    example: "ws://localhost:6080/websockify",
    kind: SchemeKind::Layer,
    feature: Some("ws"),
    available: cfg!(feature = "ws"),
    network: true,
    form: Form::Authority,
    own_options: wired::OPTIONS,
    wiring: wired::WIRING,
    ..BASE
};

pub(crate) const WSS: Scheme = Scheme {
    name: "wss",
    what: "WebSocket over TLS",
    example: "wss://localhost/websockify",
    available: cfg!(all(feature = "ws", feature = "tls")),
    own_options: &[],
    wiring: Wiring::Short(&["ws", "tls"]),
    ..WS
};

/// The option that the path of a URI is: of [`WS`] alone.
pub(crate) const PATH: &str = "ws.path";

#[cfg(not(feature = "ws"))]
mod wired {
    pub(super) const OPTIONS: &[crate::OptionInfo] = &[];
    /// A scheme that is not available is not parsed.
    pub(super) const WIRING: super::Wiring = super::Wiring::Transport;
}

#[cfg(feature = "ws")]
mod wired {
    use std::sync::Arc;

    use tuyau_core::{AnyEndpoint, ConnectCx, ConnectError, Context, SharedLayer};
    use tuyau_ws::{HOST_HEADER, ORIGIN, PATH, PING_INTERVAL, SUBPROTOCOL, Settings, WsLayer};

    use super::Wiring;
    use crate::OptionInfo;
    use crate::schemes::LayerWiring;
    use crate::uri::{OPTION, duration};

    pub(super) const WIRING: Wiring = Wiring::Layer(LayerWiring { over, layer });

    const ANY: OptionInfo = OptionInfo { layer: Some("ws"), listens: true, ..OPTION };

    pub(super) const OPTIONS: &[OptionInfo] = &[
        OptionInfo {
            name: "path",
            what: "the path, and query, to ask for or to serve; what stands behind the host, / by default",
            example: "/websockify",
            bind: |ctx, value| match value.starts_with('/') {
                true => Ok(ctx.with(&PATH, value.into())),
                false => Err("a path begins with a slash"),
            },
            ..ANY
        },
        OptionInfo {
            name: "host",
            what: "the Host header; host and port by default",
            example: "example.org",
            listens: false,
            bind: |ctx, value| Ok(ctx.with(&HOST_HEADER, value.into())),
            ..ANY
        },
        OptionInfo {
            name: "origin",
            what: "the Origin header to send, or to insist on; none by default",
            example: "https://example.org",
            bind: |ctx, value| Ok(ctx.with(&ORIGIN, value.into())),
            ..ANY
        },
        OptionInfo {
            name: "subprotocol",
            what: "the subprotocol to ask for or to speak; none by default",
            example: "binary",
            bind: |ctx, value| Ok(ctx.with(&SUBPROTOCOL, value.into())),
            ..ANY
        },
        OptionInfo {
            name: "ping",
            what: "after how long a silence the peer is asked whether it is there; never by default",
            example: "30s",
            bind: |ctx, value| Ok(ctx.with(&PING_INTERVAL, duration(value)?)),
            ..ANY
        },
    ];

    fn over(ctx: Context, below: &'static dyn AnyEndpoint) -> (Context, &'static dyn AnyEndpoint) {
        // Over TLS it is declared what it is: as well protected as that.
        #[cfg(feature = "tls")]
        if below.key_ref() == tuyau_tls::TLS.erase() {
            return (tuyau_ws::over(ctx, &tuyau_ws::WSS, below), &tuyau_ws::WSS);
        }
        (tuyau_ws::over(ctx, &tuyau_ws::WS, below), &tuyau_ws::WS)
    }

    fn layer(ctx: &Context) -> Result<SharedLayer, ConnectError> {
        let cx = ConnectCx::new(ctx)?;
        let mut settings = Settings::default();
        settings.path = cx.get(&PATH)?;
        settings.origin = cx.get(&ORIGIN)?;
        settings.subprotocol = cx.get(&SUBPROTOCOL)?;
        settings.ping = cx.get(&PING_INTERVAL)?;
        Ok(Arc::new(WsLayer::new(settings)))
    }
}
