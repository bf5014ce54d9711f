//! What URIs this build knows: tables, for the parser, for errors and for people.

use tuyau_core::{AnyEndpoint, ConnectError, Context, KeyRef, SharedLayer, SharedNet};
#[cfg(unix)]
use tuyau_tokio::{EXEC, FIFO, UNIX};
use tuyau_tokio::{MEM, STDIO, TCP};

use crate::hops::{exec, http, socks5, ssh, tap};
#[cfg(any(feature = "tls", feature = "ws"))]
use crate::layers::NESTED;
use crate::layers::{tls, ws};
use crate::uri::{OptionInfo, TCP_OPTIONS, UNIX_OPTIONS};
use crate::{Allow, Uri, UriError};

/// One scheme: what it is and what it can do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Scheme {
    /// As it is written: `tcp`; `-` for the standard streams.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// A URI of it.
    pub example: &'static str,
    /// Its place in a stack.
    pub kind: SchemeKind,
    /// The Cargo feature of this crate that brings it; `None` if it is always there.
    pub feature: Option<&'static str>,
    /// Whether this build has it.
    pub available: bool,
    /// Whether it reaches over the network. What does not is local to this machine.
    pub network: bool,
    /// Whether one can connect to it, or through it.
    pub connects: bool,
    /// Whether one can listen on it, or by it.
    pub listens: bool,
    /// What connecting to it wants by [`Uri::allow`](crate::Uri::allow).
    pub wants: Allow,
    pub(crate) form: Form,
    /// Whether it has a use for a user.
    pub(crate) user: bool,
    /// Whether hops can carry it: it is dialled through the context's net.
    pub(crate) routed: bool,
    pub(crate) reach: Reach,
    pub(crate) names: Names,
    pub(crate) own_options: &'static [OptionInfo],
    pub(crate) wiring: Wiring,
}

/// What a policy has a say in when it is dialled: see `uri/foreseen.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing: there is nothing between.
    Inside,
    /// That it has no address.
    Local,
    /// Its host.
    Host,
    /// Its host, which the configuration of OpenSSH may call by another name.
    Ssh,
}

/// Who looks up the names of what is beyond a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// We do.
    Here,
    /// The hop does, and connects.
    There,
    /// A program, which connects as it likes.
    Program,
}

/// The place of a scheme in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemeKind {
    /// What everything else lies on: the last of a stack.
    Transport,
    /// Lies on what comes after it in the stack.
    Layer,
    /// What one goes through on the way: see [`via`](crate::via).
    Hop,
}

/// How a scheme comes into a context.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wiring {
    /// By its address: see `uri/apply.rs`.
    Transport,
    #[cfg_attr(
        not(any(feature = "tls", feature = "ws")),
        expect(dead_code, reason = "this build has no layer")
    )]
    Layer(LayerWiring),
    Hop(HopWiring),
    /// It stands for these, outermost first.
    Short(&'static [&'static str]),
}

/// How a layer comes into a context, and what it makes of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerWiring {
    /// Binds the layer's endpoint over the one below, and says which it is.
    pub(crate) over: fn(Context, &'static dyn AnyEndpoint) -> (Context, &'static dyn AnyEndpoint),
    /// What wraps the flows of a listener, by the settings in the context.
    pub(crate) layer: fn(&Context) -> Result<SharedLayer, ConnectError>,
}

/// How a hop comes into a context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HopWiring {
    pub(crate) default_port: fn(&Uri) -> u16,
    /// The net beyond the hop, given the context that dials it, and whether it is the first hop.
    pub(crate) net: fn(&Uri, Context, bool) -> Result<SharedNet, UriError>,
}

/// What stands behind the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `//[user[:password]@]host[:port]`.
    Authority,
    /// A path of a socket, or `@` and an abstract name.
    Socket,
    /// A path.
    Path,
    /// A name.
    Name,
    /// A name, or nothing.
    OptionalName,
    /// A command, to be split into words.
    Argv,
    /// A line for the shell.
    Line,
    /// Nothing: the scheme is the whole URI.
    Alone,
}

/// The transports and layers that this version knows, whether or not this build
/// [has them](Scheme::available).
///
/// ```
/// let network: Vec<_> = tuyau::schemes().iter().filter(|scheme| scheme.network).collect();
/// assert_eq!(network[0].name, "tcp");
/// ```
pub fn schemes() -> &'static [Scheme] {
    &SCHEMES
}

/// What this version can go through, whether or not this build [has it](Scheme::available): see
/// [`via`](crate::via).
pub fn hops() -> &'static [Scheme] {
    &HOPS
}

impl Scheme {
    /// The endpoint keys that carry it: what [`Policy::only_protocols`](crate::Policy::only_protocols) wants.
    /// Empty for a hop.
    pub fn protocols(&self) -> Vec<KeyRef> {
        match (self.kind, self.name) {
            (SchemeKind::Transport, "tcp") => vec![TCP.erase()],
            (SchemeKind::Transport, "mem") => vec![MEM.erase()],
            (SchemeKind::Transport, "-") => vec![STDIO.erase()],
            #[cfg(unix)]
            (SchemeKind::Transport, "unix") => vec![UNIX.erase()],
            #[cfg(unix)]
            (SchemeKind::Transport, "exec" | "sh") => vec![EXEC.erase()],
            #[cfg(unix)]
            (SchemeKind::Transport, "fifo") => vec![FIFO.erase()],
            #[cfg(feature = "tls")]
            (SchemeKind::Layer, "tls") => vec![tuyau_tls::TLS.erase(), NESTED.erase()],
            #[cfg(feature = "ws")]
            (SchemeKind::Layer, "ws") => vec![tuyau_ws::WS.erase(), tuyau_ws::WSS.erase(), NESTED.erase()],
            #[cfg(feature = "ssh")]
            (SchemeKind::Transport, "ssh") => vec![tuyau_ssh::SSH_EXEC.erase()],
            _ => Vec::new(),
        }
    }
}

/// The transport below a stack that names none.
pub(crate) const DEFAULT_TRANSPORT: &str = "tcp";

/// What most schemes are.
pub(crate) const BASE: Scheme = Scheme {
    name: "",
    what: "",
    example: "",
    kind: SchemeKind::Transport,
    feature: None,
    available: true,
    network: false,
    connects: true,
    listens: true,
    wants: Allow::NOTHING,
    form: Form::Alone,
    user: false,
    routed: false,
    reach: Reach::Inside,
    names: Names::There,
    own_options: &[],
    wiring: Wiring::Transport,
};

static SCHEMES: [Scheme; 12] = [
    Scheme {
        name: "tcp",
        what: "TCP, to a name or address and a port",
        example: "tcp://localhost:8080",
        network: true,
        form: Form::Authority,
        routed: true,
        reach: Reach::Host,
        own_options: TCP_OPTIONS,
        ..BASE
    },
    tls::TLS,
    ws::WS,
    ws::WSS,
    Scheme {
        name: "unix",
        available: cfg!(unix),
        what: "a Unix stream socket: a path, or @ and an abstract name",
        example: "unix:/run/app.sock",
        wants: Allow::LOCAL,
        form: Form::Socket,
        routed: true,
        reach: Reach::Local,
        own_options: UNIX_OPTIONS,
        ..BASE
    },
    ssh::TARGET,
    Scheme {
        name: "mem",
        what: "a name in memory, inside this process",
        example: "mem:ping",
        form: Form::Name,
        ..BASE
    },
    Scheme {
        name: "exec",
        what: "the standard streams of a program: words with quotes, no shell",
        example: "exec:ssh host cat",
        feature: Some("exec"),
        available: cfg!(all(unix, feature = "exec")),
        listens: false,
        wants: Allow::EXEC,
        form: Form::Argv,
        reach: Reach::Local,
        ..BASE
    },
    Scheme {
        name: "sh",
        what: "the standard streams of a shell line",
        example: "sh:nc localhost 80 | tee log",
        feature: Some("exec"),
        available: cfg!(all(unix, feature = "exec")),
        listens: false,
        wants: Allow::EXEC,
        form: Form::Line,
        reach: Reach::Local,
        ..BASE
    },
    Scheme {
        name: "fifo",
        available: cfg!(unix),
        what: "a pair of named pipes",
        example: "fifo:/tmp/app",
        wants: Allow::FILES,
        form: Form::Path,
        reach: Reach::Local,
        ..BASE
    },
    Scheme {
        name: "-",
        what: "this process's standard input and output",
        example: "-",
        wants: Allow::STDIO,
        form: Form::Alone,
        ..BASE
    },
    Scheme {
        name: "systemd",
        available: cfg!(unix),
        what: "a socket that systemd hands over, by name if there are several",
        example: "systemd:http",
        connects: false,
        form: Form::OptionalName,
        ..BASE
    },
];

static HOPS: [Scheme; 7] =
    [ssh::HOP, socks5::SOCKS5, socks5::SOCKS5H, http::HTTP, http::HTTPS, exec::HOP, tap::HOP];

/// Schemes that people have reason to try, but no version has yet, or none ever will; and what to
/// do in their place.
pub(crate) static ABSENT: [(&str, &str); 10] = [
    ("https", "HTTP is a protocol, not a transport: connect to tls://host:443 and speak it"),
    ("http", "HTTP is a protocol, not a transport: connect to tcp://host:80 and speak it"),
    ("socks4", "SOCKS4 is not spoken here: socks5:// and socks5h:// are"),
    ("socks", "write which: socks5:// looks names up here, socks5h:// leaves that to the proxy"),
    ("noise", "this version has no Noise"),
    ("quic", "this version has no QUIC"),
    ("vsock", "this version has no vsock"),
    ("udp", "datagrams are not flows"),
    ("file", "a file is not a flow; fifo: opens named pipes, and sh:cat FILE reads one"),
    ("stdio", "the standard streams are written as a single dash: -"),
];
