//! What URIs this build knows: one table, for the parser, for errors and for people.

use crate::Allow;

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
    /// The Cargo feature of this crate that brings it; `None` if it is always there.
    pub feature: Option<&'static str>,
    /// Whether this build has it.
    pub available: bool,
    /// Whether it reaches over the network. What does not is local to this machine.
    pub network: bool,
    /// Whether one can connect to it.
    pub connects: bool,
    /// Whether one can listen on it.
    pub listens: bool,
    /// What connecting to it wants by [`Uri::allow`](crate::Uri::allow).
    pub wants: Allow,
    pub(crate) form: Form,
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

/// Every scheme that this version knows, whether or not this build [has it](Scheme::available).
///
/// ```
/// let network: Vec<_> = tuyau::schemes().iter().filter(|scheme| scheme.network).collect();
/// assert_eq!(network[0].name, "tcp");
/// ```
pub fn schemes() -> &'static [Scheme] {
    &SCHEMES
}

const BASE: Scheme = Scheme {
    name: "",
    what: "",
    example: "",
    feature: None,
    available: true,
    network: false,
    connects: true,
    listens: true,
    wants: Allow::NOTHING,
    form: Form::Alone,
};

static SCHEMES: [Scheme; 8] = [
    Scheme {
        name: "tcp",
        what: "TCP, to a name or address and a port",
        example: "tcp://localhost:8080",
        network: true,
        form: Form::Authority,
        ..BASE
    },
    Scheme {
        name: "unix",
        available: cfg!(unix),
        what: "a Unix stream socket: a path, or @ and an abstract name",
        example: "unix:/run/app.sock",
        wants: Allow::LOCAL,
        form: Form::Socket,
        ..BASE
    },
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
        ..BASE
    },
    Scheme {
        name: "fifo",
        available: cfg!(unix),
        what: "a pair of named pipes",
        example: "fifo:/tmp/app",
        wants: Allow::FILES,
        form: Form::Path,
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

/// Schemes that people have reason to try, but no version has yet, or none ever will; and what to
/// do in their place.
pub(crate) static ABSENT: [(&str, &str); 14] = [
    ("tls", "this version has no TLS"),
    ("https", "this version has no TLS"),
    ("wss", "this version has no TLS and no WebSocket"),
    ("http", "HTTP is a protocol, not a transport: connect to tcp://host:80 and speak it"),
    ("ws", "this version has no WebSocket"),
    ("ssh", "this version has no SSH of its own: exec:ssh host command runs OpenSSH's"),
    ("socks5", "this version has no SOCKS"),
    ("socks5h", "this version has no SOCKS"),
    ("noise", "this version has no Noise"),
    ("quic", "this version has no QUIC"),
    ("vsock", "this version has no vsock"),
    ("udp", "datagrams are not flows"),
    ("file", "a file is not a flow; fifo: opens named pipes, and sh:cat FILE reads one"),
    ("stdio", "the standard streams are written as a single dash: -"),
];
