//! Puts stacks together: the server of each element, and the context that dials through them all.

use std::any::Any;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex};

use tuyau_core::names::{HOST, NET, PORT, RUNTIME};
use tuyau_core::{
    AnyEndpoint, ConnectCx, ConnectError, Context, Endpoint, Flow, Hop, Listener, Network, Protocol,
    SharedLayer, SharedNet, Target, copy_bidirectional,
};
use tuyau_proxy::proxy_protocol::{
    self, AcceptProxy, Header, PROXY_PROTOCOL, SEND_PROXY, SendProxy, Version,
};
use tuyau_proxy::{Credentials, HttpConnect, Socks5, Socks5Server};
use tuyau_ssh::{Asker, HostKeys, Identity, Secret, SshHop, SshServer};
use tuyau_stack::{Conditions, Config, Link, Stack};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_testing::peers::{microsocks, sshd, tinyproxy};
use tuyau_testing::{ListenOn, NetCase, Pair};
use tuyau_tls::{BACKEND, Backend, ROOTS, Roots, ServerSettings, TLS, TlsServer};
use tuyau_tokio::{TCP, derivations, host, runtime, serve};
use tuyau_ws::{WS, WsLayer};

use crate::element::Element;
use crate::http;
use crate::tunnel::Tunnel;

/// The certificates of all servers of this process. They are for wherever those listen.
static CERTIFICATES: LazyLock<(Ca, Leaf)> = LazyLock::new(|| {
    let ca = Ca::new("Interop");
    let leaf = ca.leaf(&["localhost", "127.0.0.1", "10.0.0.2"]);
    (ca, leaf)
});

/// A flow through all of `stack`, nearest first, and the one that was accepted behind it.
///
/// # Panics
/// If it can't be connected: with the report.
pub async fn pair(stack: &[Element]) -> Pair {
    let way = Way::through(stack).await;
    let (client, server, rest) = way.connect().await.unwrap_or_else(|error| panic!("{stack:?}: {error}"));
    Pair::new(client, server).keep((way, rest))
}

/// The net that is the last of `stack`, dialled through all before it. It connects to what listens beyond.
///
/// # Panics
/// If the last is no net.
pub async fn case(stack: &[Element]) -> NetCase {
    assert!(stack.last().is_some_and(|last| last.is_net()), "{stack:?}");
    let way = Way::through(stack).await;
    let Way { net, beyond, address, .. } = &way;
    let net = Arc::new(ListenOn { connects: net.clone(), listens: beyond.clone() });
    let listen = match *address == Ipv4Addr::LOCALHOST {
        true => || Target::Addr(([127, 0, 0, 1], 0).into()),
        false => || Target::Addr(([10, 0, 0, 2], 0).into()),
    };
    NetCase {
        net,
        listen,
        ctx: Context::new().with(&RUNTIME, runtime()),
        name: None,
        no_name: None,
        unsupported: Target::Context { cid: 1, port: 1 },
        keep: Box::new(Mutex::new(way)),
    }
}

/// How far one has come.
struct Way {
    /// What we dial through.
    net: SharedNet,
    /// What listens where we come out.
    beyond: SharedNet,
    /// Where that listens.
    address: Ipv4Addr,
    /// What it is called by us.
    name: &'static str,
    /// What lies on the next connection.
    layers: Vec<Element>,
    keep: Vec<Box<dyn Any + Send>>,
}

impl Way {
    async fn through(stack: &[Element]) -> Self {
        let (address, name) = (Ipv4Addr::LOCALHOST, "127.0.0.1");
        let mut way = Self { net: host(), beyond: host(), address, name, layers: vec![], keep: vec![] };
        for &element in stack {
            match element {
                Element::Rustls | Element::OpenSsl | Element::Ws | Element::ProxyProtocol => {
                    way.layers.push(element);
                }
                Element::Stack => way.stack().await,
                Element::Socks5 => {
                    way.socks5(Socks5::new(), |server| server).await;
                }
                Element::Socks5h => {
                    let me = Credentials::new("me", "secret");
                    let hop = Socks5::new().lookup_by_proxy().with_credentials(me.clone());
                    way.socks5(hop, |server| server.with_user(me)).await;
                    way.name = "localhost";
                }
                Element::Http => {
                    let serve = |flow| async move { http::serve(flow, &cx()).await };
                    way.hop(HttpConnect::new(), serve).await;
                }
                Element::Ssh => way.ssh().await,
                Element::Sshd => way.sshd().await,
                Element::Microsocks => {
                    let proxy = microsocks(None);
                    way.real(Socks5::new(), proxy.port()).await;
                    way.keep.push(Box::new(proxy));
                }
                Element::Tinyproxy => {
                    let proxy = tinyproxy(None);
                    way.real(HttpConnect::new(), proxy.port()).await;
                    way.keep.push(Box::new(proxy));
                }
            }
        }
        way
    }

    /// A listener beyond, under the layers, and the context that connects to it.
    async fn end(&mut self) -> (Context, Listener) {
        let at = Target::Addr((self.address, 0).into());
        let mut listener = self.beyond.listen(&at, &cx()).await.expect("listen");
        let Target::Addr(local) = listener.local() else { panic!("{}", listener.local()) };
        let base = derivations(Context::new())
            .with(&NET, self.net.clone())
            .with(&HOST, self.name.into())
            .with(&PORT, local.port())
            .with(&ROOTS, Roots::Der([CERTIFICATES.0.der().to_vec()].into()));
        let layers = std::mem::take(&mut self.layers);
        for &layer in &layers {
            listener = listener.layered(served(layer), &Context::new().with(&RUNTIME, runtime()));
        }
        (dialled(base, &layers), listener)
    }

    async fn connect(&self) -> Result<(Flow, Flow, Listener), String> {
        let mut way = Self {
            net: self.net.clone(),
            beyond: self.beyond.clone(),
            layers: self.layers.clone(),
            keep: vec![],
            ..*self
        };
        let (ctx, mut listener) = way.end().await;
        let (client, server) = connect(&ctx, &mut listener).await?;
        Ok((client, server, listener))
    }

    /// Goes through a hop whose server is `serve`.
    async fn hop<F, E>(
        &mut self,
        hop: impl Hop + 'static,
        serving: impl Fn(Flow) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send,
    {
        let (outer, listener) = self.end().await;
        let handler = move |flow| {
            let serving = serving.clone();
            // Why it ended shows on the client's side.
            async move { drop(serving(flow).await) }
        };
        tokio::spawn(serve(listener, handler).into_future());
        self.net = Box::new(hop).over(outer);
        (self.beyond, self.address, self.name) = (host(), Ipv4Addr::LOCALHOST, "127.0.0.1");
    }

    /// Goes through a hop whose server is a program on `port` of this machine.
    async fn real(&mut self, hop: impl Hop + 'static, port: u16) {
        let serving = move |mut flow| async move {
            let mut far = host().connect(&Target::Addr((Ipv4Addr::LOCALHOST, port).into()), &cx()).await?;
            copy_bidirectional(&mut flow, &mut far).await.map_err(ConnectError::from)
        };
        self.hop(hop, move |flow| async move { serving(flow).await.map(drop) }).await;
    }

    async fn socks5(&mut self, hop: Socks5, change: impl FnOnce(Socks5Server) -> Socks5Server) {
        let server = change(Socks5Server::new(derivations(Context::new()).offer(&TCP)).expect("a runtime"));
        let serving = move |flow| {
            let server = server.clone();
            async move { server.serve(flow).await.map(drop) }
        };
        self.hop(hop, serving).await;
    }

    async fn ssh(&mut self) {
        let server = SshServer::new(&[7; 32]).allow_password("me", Secret::new("secret"));
        let host_keys = HostKeys::only([server.host_key().as_str()]).expect("a key");
        let asker = Asker::new(|_| async { Some(Secret::new("secret")) });
        let hop = SshHop::new("me").host_keys(host_keys).ask(asker);
        let serving = move |flow| {
            let server = server.clone();
            async move { server.serve(flow, host(), &Context::new().with(&RUNTIME, runtime())).await }
        };
        self.hop(hop, serving).await;
    }

    async fn sshd(&mut self) {
        let sshd = sshd();
        let host_key = fs::read_to_string(sshd.place().path("host_ed25519.pub")).expect("a key");
        let hop = SshHop::new(sshd.user())
            .host_keys(HostKeys::only([host_key.trim()]).expect("a key"))
            .identity(Identity::file(sshd.identity()));
        self.real(hop, sshd.port()).await;
        self.keep.push(Box::new(sshd));
    }

    /// Goes to another stack: by a link in memory if nothing is in between, else by a tunnel through what is.
    async fn stack(&mut self) {
        let config = |last| Config::new().address([10, 0, 0, last], 24).seed(last.into());
        let made = "a stack";
        let nearest = self.layers.is_empty() && self.net.describe() == host().describe();
        let (here, there) = if nearest {
            let (here, there) = Link::new(runtime(), Conditions::new(), 1).ends();
            (Stack::new(config(1), here, runtime()), Stack::new(config(2), there, runtime()))
        } else {
            let (ctx, mut listener) = self.end().await;
            let ends = connect(&ctx, &mut listener).await;
            let (here, there) = ends.unwrap_or_else(|error| panic!("a tunnel: {error}"));
            self.keep.push(Box::new(listener));
            let (here, there) = (Tunnel::over(here), Tunnel::over(there));
            (Stack::new(config(1), here, runtime()), Stack::new(config(2), there, runtime()))
        };
        (self.net, self.beyond) = (here.expect(made).into(), there.expect(made).into());
        (self.address, self.name) = (Ipv4Addr::new(10, 0, 0, 2), "10.0.0.2");
    }
}

fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&Context::new().with(&RUNTIME, runtime())).expect("a context")
}

/// Whichever side fails says why.
async fn connect(ctx: &Context, listener: &mut Listener) -> Result<(Flow, Flow), String> {
    let connecting = async { ctx.resolve().await.map_err(|error| format!("{error:#}")) };
    let accepting = async {
        let accepted = listener.accept().await.map_err(|error| error.to_string())?;
        accepted.finish().await.map_err(|error| format!("to accept: {error:?}"))
    };
    let (client, server) = tokio::try_join!(connecting, accepting)?;
    Ok((client.into_flow(), server))
}

/// The server's side of a layer.
fn served(layer: Element) -> SharedLayer {
    let tls = |backend| {
        let leaf = &CERTIFICATES.1;
        let identity = tuyau_tls::Identity::der(leaf.chain(), leaf.key());
        TlsServer::new(ServerSettings::new(identity).backend(backend)).expect("a server").layer()
    };
    match layer {
        Element::Rustls => tls(Backend::Rustls),
        Element::OpenSsl => tls(Backend::OpenSsl),
        Element::Ws => Arc::new(WsLayer::new(tuyau_ws::Settings::default())),
        Element::ProxyProtocol => {
            let any = Network::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).expect("a prefix");
            Arc::new(AcceptProxy::from_networks([any]).and_unaddressed())
        }
        net => panic!("{net:?} is no layer"),
    }
}

/// The client's side of all of them, nearest first: `base` dials TCP. A layer that is there twice has a context of
/// its own below it, for it to have settings of its own.
fn dialled(base: Context, layers: &[Element]) -> Context {
    let (mut ctx, mut below) = (base.clone(), &TCP as &'static dyn AnyEndpoint);
    let mut used: Vec<&'static dyn AnyEndpoint> = vec![];
    for &layer in layers {
        let endpoint: &'static dyn AnyEndpoint = match layer {
            Element::Rustls | Element::OpenSsl => &TLS,
            Element::Ws => &WS,
            _ => &PROXY_PROTOCOL,
        };
        if used.iter().any(|it| it.key_ref() == endpoint.key_ref()) {
            ctx = base.clone().with(&BELOW, Below(ctx.offer(below)));
            (below, used) = (&BELOW, vec![]);
        }
        ctx = match layer {
            Element::Rustls => tuyau_tls::over(ctx.with(&BACKEND, Backend::Rustls), &TLS, below),
            Element::OpenSsl => tuyau_tls::over(ctx.with(&BACKEND, Backend::OpenSsl), &TLS, below),
            Element::Ws => tuyau_ws::over(ctx, &WS, below),
            _ => {
                let addresses = [([192, 0, 2, 1], 50_000), ([192, 0, 2, 2], 25)];
                let [from, to] = addresses.map(|address| Target::Addr(address.into()));
                let header = SendProxy::header(Header::new(Version::V2, from, to));
                proxy_protocol::over(ctx.with(&SEND_PROXY, header), &PROXY_PROTOCOL, below)
            }
        };
        used.push(endpoint);
        below = endpoint;
    }
    ctx.offer(below)
}

/// What lies below a layer, in a context of its own.
static BELOW: Endpoint<Nested> = Endpoint::new("below", &Nested);

struct Nested;

#[derive(Clone)]
struct Below(Context);

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context")
    }
}

impl Protocol for Nested {
    type Endpoint = Below;
    type Flow = Flow;

    async fn connect(&self, below: Below, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Ok(cx.resolve(&below.0).await?.into_flow())
    }
}
