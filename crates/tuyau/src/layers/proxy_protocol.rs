//! The PROXY protocol: an option of TCP and Unix sockets, since it comes before all layers.

use tuyau_core::{AnyEndpoint, ConnectCx, ConnectError, Context, Flow, Key, Listener, Network};
use tuyau_proxy::proxy_protocol::{AcceptProxy, PROXY_PROTOCOL, SEND_PROXY, SendProxy, Version, over};

use crate::OptionInfo;
use crate::uri::OPTION;

pub(crate) const OPTION_INFO: OptionInfo = OptionInfo {
    name: "proxy-protocol",
    what: "connecting: the version of haproxy's PROXY protocol to begin with, v1 or v2; listening: the networks whose \
           headers are believed, and who must send them (unix: who connects to the socket); none by default",
    example: "v2",
    listens: true,
    bind: |ctx, value| match value {
        "v1" | "1" => Ok(ctx.with(&SENT, Version::V1)),
        "v2" | "2" => Ok(ctx.with(&SENT, Version::V2)),
        "unix" => Ok(ctx.with(&BELIEVED, Vec::new())),
        networks => {
            let networks: Result<Vec<Network>, _> = networks.split(',').map(str::parse).collect();
            Ok(ctx.with(&BELIEVED, networks.map_err(|_| "v1, v2, or networks like 10.0.0.0/8,::1/128")?))
        }
    },
    ..OPTION
};

static SENT: Key<Version> = Key::new("proxy-protocol-version");
static BELIEVED: Key<Vec<Network>> = Key::new("proxy-protocol-from");

/// What is dialled for `endpoint`: with a header, if that is asked for.
pub(crate) fn sending(
    ctx: Context,
    endpoint: &'static dyn AnyEndpoint,
) -> Result<(Context, &'static dyn AnyEndpoint), &'static str> {
    let asked = ConnectCx::new(&ctx).and_then(|cx| Ok((cx.get(&SENT)?, cx.get(&BELIEVED)?)));
    match asked {
        Ok((_, Some(_))) => Err("connecting sends a header: proxy-protocol=v1 or v2"),
        Ok((Some(version), _)) => {
            let ctx = ctx.with(&SEND_PROXY, SendProxy::new(version));
            Ok((over(ctx, &PROXY_PROTOCOL, endpoint), &PROXY_PROTOCOL))
        }
        Ok((None, None)) | Err(_) => Ok((ctx, endpoint)),
    }
}

/// `listener`, whose flows begin with a header, if that is asked for.
pub(crate) fn accepting(listener: Listener, ctx: &Context) -> Result<Listener, ConnectError> {
    use tuyau_core::ConnectErrorKind::Misuse;
    let cx = ConnectCx::new(ctx)?;
    if cx.get(&SENT)?.is_some() {
        return Err(ConnectError::new(Misuse, "listening reads a header, of either version")
            .with_hint("name the networks that are believed: proxy-protocol=10.0.0.0/8"));
    }
    match cx.get(&BELIEVED)? {
        Some(networks) if networks.is_empty() => {
            AcceptProxy::from_networks([]).and_unaddressed().listen(listener, ctx)
        }
        Some(networks) => AcceptProxy::from_networks(networks).listen(listener, ctx),
        None => Ok(listener),
    }
}

/// `ctx`, to carry on `flow`, which was accepted: where it is asked to send a PROXY protocol header, that tells
/// whose connection `flow` is, in place of our own.
pub fn on_behalf_of(ctx: Context, flow: &Flow) -> Context {
    match ConnectCx::new(&ctx).and_then(|cx| cx.get(&SENT)) {
        Ok(Some(version)) => ctx.with(&SEND_PROXY, SendProxy::of(version, flow)),
        _ => ctx,
    }
}
