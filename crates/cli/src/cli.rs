//! What can be typed.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use tuyau::Network;

use crate::exit::Failure;
use crate::overrides::Pinned;
use crate::via::Hops;

/// The exit status, and what it means.
pub(crate) const EXIT_STATUS: [(u8, &str); 9] = [
    (
        0,
        "it worked; also `bridge`, `serve`, `proxy`, `demo server`, and `listen` with --echo or --exec, when a signal stopped them",
    ),
    (1, "nothing could be connected or listened on, or what was asked for failed"),
    (2, "the command line, or a URI in it, can't be used"),
    (3, "it was connected, and broke in the middle: reset, truncated, the program failed"),
    (22, "`get --fail`: the server answered 400 or above"),
    (129, "SIGHUP ended it (its terminal is gone)"),
    (130, "SIGINT (Ctrl-C) ended it; but `ping` then ends as if its count were reached"),
    (141, "whoever read the standard output stopped reading"),
    (143, "SIGTERM ended it; but `ping` as above"),
];

/// The forms of a URI.
pub(crate) const URIS: [(&str, &str); 14] = [
    ("tcp://HOST:PORT", "TCP; an IPv6 address in brackets"),
    ("tls://HOST:PORT", "TLS over TCP; tls+unix:PATH, tls+tls://…: over anything else"),
    ("wss://HOST/PATH", "WebSocket over TLS; ws:// in clear"),
    ("ssh://HOST?exec=CMD", "a command on an SSH server"),
    ("unix:PATH", "a Unix socket"),
    ("unix:@NAME", "a Unix socket with an abstract name"),
    ("exec:COMMAND", "the standard streams of a program: words with quotes, no shell"),
    ("sh:LINE", "the standard streams of a shell line"),
    ("fifo:PATH", "a pair of named pipes, PATH.in and PATH.out"),
    ("mem:NAME", "a name in memory, inside this process"),
    ("-", "this process's standard input and output"),
    ("--via ssh://HOST", "through an SSH server, which looks the destination up"),
    ("--via socks5h://…", "through a SOCKS5 proxy; with socks5://, names are looked up here"),
    ("--via http://…", "through an HTTP proxy; https:// by TLS; exec:CMD by a program, to %h:%p"),
];

/// Commands that `--help` does not list, since one needs them once.
pub(crate) const FURTHER: [(&str, &str); 2] = [
    ("tuyau completions SHELL", "prints completions for bash, elvish, fish, powershell or zsh"),
    ("tuyau man [DIR]", "prints the manual page, or writes those of all commands to DIR"),
];

/// What `--help` says at its end.
fn after_help() -> String {
    let mut help = String::from("URIs (options: see `tuyau schemes -v`):\n");
    for (uri, what) in URIS {
        let _ = writeln!(help, "  {uri:19}  {what}");
    }
    help.push_str("\nExit status:\n");
    for (code, what) in EXIT_STATUS {
        let _ = writeln!(help, "  {code:<3}  {what}");
    }
    help.push_str("\nFurther commands:\n");
    for (command, what) in FURTHER {
        let _ = writeln!(help, "  {command:23}  {what}");
    }
    help
}

/// One flow, any transport, chosen at run time by a URI.
#[derive(Debug, Parser)]
#[command(name = "tuyau", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = after_help(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to connect.
#[cfg(feature = "web")]
impl Connecting {
    /// The same, to ask for a URL of this scheme.
    pub(crate) fn asking(&self, scheme: tuyau::http::Scheme) -> Self {
        Self {
            scheme: Some(if scheme == tuyau::http::Scheme::Http { "http" } else { "https" }),
            ..self.clone()
        }
    }
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connecting")]
pub(crate) struct Connecting {
    /// Connect by IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// Connect by IPv6 only
    #[arg(short = '6', long = "ipv6")]
    pub(crate) ipv6: bool,
    /// How long connecting may take in all: lookups, hops, connections and handshakes. By default, 120
    /// for each address that is tried
    #[arg(long, visible_alias = "deadline", value_name = "SECS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Connect to ADDR when HOST:PORT is asked for, without a lookup; HOST may be `*`. ADDR may be
    /// several, with commas between them. May be given several times: the last that fits counts
    #[arg(long, value_name = "HOST:PORT:ADDR")]
    pub(crate) resolve: Vec<Pinned>,
    #[command(flatten)]
    pub(crate) hops: Hops,
    /// Go through the proxy that the environment asks for (ALL_PROXY, HTTPS_PROXY, NO_PROXY, … as curl
    /// has them), if it does
    #[cfg(any(feature = "socks5", feature = "http"))]
    #[arg(long, conflicts_with_all = ["via", "proxy", "jump"])]
    pub(crate) proxy_from_env: bool,
    /// The scheme of the URL that is asked for, which has variables of its own.
    #[arg(skip)]
    pub(crate) scheme: Option<&'static str>,
    /// Where the URL's own host is connected to: whether a redirect may lead to any other.
    #[arg(skip)]
    pub(crate) follow: Option<bool>,
    /// Look names up by DNS at SERVER, an address with or without a port, in place of the system's way.
    /// May be several, with commas between them
    #[cfg(feature = "dns")]
    #[arg(long, value_name = "SERVER", value_delimiter = ',', value_parser = name_server)]
    pub(crate) dns: Vec<std::net::SocketAddr>,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub(crate) tls: ClientTls,
    #[command(flatten)]
    pub(crate) policy: Policies,
}

/// How to do TLS where something is connected: each is an option of the one layer that it fits.
#[cfg(feature = "tls")]
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ClientTls {
    /// The library that does it
    #[arg(long, value_name = "LIBRARY", value_parser = ["rustls", "openssl"])]
    pub(crate) tls: Option<String>,
    /// Trust the authorities in FILE (PEM), not those of the system
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<String>,
    /// Show the server the certificate in FILE (PEM), with its chain
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<String>,
    /// The private key of the certificate (PEM), if it is not in the same file
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<String>,
    /// The name that the server's certificate must have, if it is not the host
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Offer these protocols (ALPN): h2,http/1.1. A server that agrees on none is connected all the same: -v,
    /// `explain` and `ping` tell
    #[arg(long, value_name = "NAMES")]
    pub(crate) alpn: Option<String>,
}

/// How to do TLS where something is listened on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ServerTls {
    /// The library that does it
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "LIBRARY", value_parser = ["rustls", "openssl"])]
    pub(crate) tls: Option<String>,
    /// Show clients the certificate in FILE (PEM), with its chain
    #[cfg(feature = "tls")]
    #[arg(long, visible_alias = "tls-cert", value_name = "FILE")]
    pub(crate) cert: Option<String>,
    /// The private key of the certificate (PEM), if it is not in the same file
    #[cfg(feature = "tls")]
    #[arg(long, visible_alias = "tls-key", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<String>,
    /// Clients must show a certificate of the authorities in FILE (PEM)
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<String>,
    /// Speak these protocols (ALPN): h2,http/1.1
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "NAMES")]
    pub(crate) alpn: Option<String>,
}

/// What is forbidden on the way.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Policy")]
pub(crate) struct Policies {
    /// Refuse what is not encrypted: from here to the destination, or on each hop of the way as well
    #[arg(long, value_name = "WHAT")]
    pub(crate) require: Option<Require>,
    /// Dial addresses of these networks only, each hop included: 10.0.0.0/8,2001:db8::/32
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) only_networks: Vec<Network>,
    /// Use these transports only, each hop included: tcp,unix
    #[arg(long, value_name = "SCHEME", value_delimiter = ',')]
    pub(crate) only_protocols: Vec<String>,
    /// Look no name up on this machine: leave that to a hop
    #[arg(long)]
    pub(crate) no_local_lookup: bool,
}

/// What must be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Require {
    Encrypted,
    EncryptedHops,
}

/// What goes with every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Show on standard error how each connection came about; in `plan` and `explain`: everything; in
    /// `schemes`: the options, too
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) verbose: bool,
    /// Log what matches FILTER to standard error: `debug`, `tuyau=trace`, …
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Output")]
    pub(crate) log: Option<String>,
    /// Use colours: by default on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        help_heading = "Output"
    )]
    pub(crate) color: Color,
}

/// In place of the global -v, which has no use: not listed, and refused.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct NoMore {
    #[arg(short, long, hide = true)]
    verbose: bool,
}

impl NoMore {
    pub(crate) fn check(self, global: &Global, command: &str) -> Result<(), Failure> {
        match self.verbose || global.verbose {
            true => Err(Failure::Usage(format!("-v has no use with `{command}`, which has no more to tell"))),
            false => Ok(()),
        }
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See the same client and server talk over every transport that this build has
    #[command(
        long_about = "See the same client and server talk over every transport that this build has.\n\n\
        Starts servers on this machine, runs one client over each transport and prints a table; last comes a \
        failure, on purpose, and how it is explained. Needs no network, configuration or privilege, and leaves \
        nothing behind. Fails if any transport does."
    )]
    Tour {
        /// Print one JSON document in place of the table
        #[arg(long)]
        json: bool,
    },
    /// The ping-pong server and client of the tutorial
    #[command(subcommand)]
    Demo(Demo),
    /// Connect again and again, and time each step on the way; nothing is sent
    #[command(
        after_help = "What is timed is what connecting takes: to a program (exec:, sh:), or through one (--via exec:), \
        that is starting it. It then has a second to exit, and a server of TLS 1.3 that asked for a certificate one to \
        refuse; a try that ends so has failed."
    )]
    Ping {
        /// Where to. Of an http or https URL: to its server
        uri: String,
        /// Stop after so many; by default, on Ctrl-C
        #[arg(short = 'n', visible_short_alias = 'c', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Seconds from one to the next
        #[arg(short, value_name = "SECS", default_value = "1", value_parser = seconds_or_none)]
        interval: Duration,
        // What is declared after it would be under its headings in the help.
        #[command(flatten)]
        connecting: Connecting,
    },
    /// Connect standard input and output
    #[command(long_about = "Connect standard input and output.\n\n\
        Bytes pass as they are. The end of the input ends this direction only: what the peer still has to say is \
        printed. If the peer ends first, the output is closed, and the input is sent on until it ends, too; unless it \
        is a terminal, or the peer a program that has exited.")]
    Connect {
        /// Where to
        uri: String,
        #[command(flatten)]
        connecting: Connecting,
    },
    /// Listen, and relay each connection to another place, like socat
    #[command(long_about = "Listen, and relay each connection to another place, like socat.\n\n\
        Who connects to LISTEN is connected with CONNECT, by a connection of its own; --via and the other options \
        of connecting are for that side. Bytes pass as they are, both ways; the end of one direction is passed on \
        as that. If CONNECT can't be connected, the reason is told on standard error, in a line, and the \
        connection that wanted it is reset. A signal stops the listening; what is under way has a second to end.")]
    Bridge {
        /// Where to listen
        listen: String,
        /// Where to connect
        connect: String,
        /// Listen beyond URI, an SSH server: like ssh -R. May be several, as --via. The file of a Unix socket stays on
        /// OpenSSH's server, and is in the way of the next who listens there, unless StreamLocalBindUnlink is set there
        #[arg(long, value_name = "URI")]
        listen_via: Vec<String>,
        /// Relay at most so many connections at a time; others wait
        #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..))]
        max: u32,
        #[command(flatten)]
        connecting: Connecting,
    },
    /// Listen, and serve the standard streams to the first who connects, or an echo or a program to each
    Listen {
        /// Where
        uri: String,
        /// Send everything back
        #[arg(long, conflicts_with = "exec")]
        echo: bool,
        /// Run CMD for each connection, with the connection as its standard input and output. No
        /// shell. Must come last. What ends CMD ends all that it has started, too
        #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
        exec: Option<Vec<OsString>>,
        /// End after the first connection
        #[arg(long)]
        once: bool,
        /// Serve at most so many connections at a time; with --echo or --exec
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "once")]
        max: Option<u32>,
        #[command(flatten)]
        tls: ServerTls,
    },
    /// Say what connecting would try and what decides it, without doing anything
    Plan {
        /// Where to. Of an http or https URL: to its server
        uri: String,
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        connecting: Connecting,
    },
    /// Connect, close, and say what was done: each candidate, step, outcome and time
    Explain {
        /// Where to. Of an http or https URL: to its server
        uri: String,
        #[command(flatten)]
        format: Format,
        /// Also write it as a page for a browser: who was tried when, and what came of what. `-`: to standard
        /// output, and nothing else there
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        #[command(flatten)]
        connecting: Connecting,
    },
    /// Get what is at a URL, like curl
    #[cfg(feature = "web")]
    Get(Box<crate::commands::get::GetArgs>),
    /// Serve the files of a directory by HTTP
    #[cfg(feature = "web")]
    #[command(long_about = "Serve the files of a directory by HTTP/1.1 and HTTP/2.\n\n\
        With ranges, conditional requests, compression (on the way, or by FILE.gz, FILE.br and FILE.zst beside \
        FILE), index.html, and a listing where there is none. Links that lead out of the directory are not \
        followed. Each request is logged on standard error, in the Common Log Format and with the time it took; \
        the status is 499 if the client was gone before the response, and the end of the line says whether what was sent \
        broke off by the client, or why else. A signal stops the listening; responses that \
        are under way have --drain to end, a second signal ends them.")]
    Serve(crate::commands::serve::ServeArgs),
    /// Pass HTTP on: to wherever clients say, or to one server
    #[cfg(feature = "web")]
    #[command(long_about = "Pass HTTP on: to wherever clients say, or to one server.\n\n\
        Without --to it is a forward proxy, for HTTP/1.1 and HTTP/2: tunnels by CONNECT, and http URLs. With --to it is a \
        reverse proxy: every request goes to URI, by any stack; the server is told who asked for what by Forwarded \
        (RFC 7239) and X-Forwarded-For, -Host and -Proto. WebSockets pass. The options of connecting are for what lies \
        beyond. Each request is logged on standard error, as by serve and with the user, and why one failed; its \
        client is told 502 or 504. A signal stops the listening; what is under way has --drain to end, a second \
        signal ends it.")]
    Proxy(Box<crate::commands::proxy::ProxyArgs>),
    /// Put a server of HTTP under load, and time each response
    #[cfg(feature = "web")]
    #[command(long_about = "Put a server of HTTP under load, and time each response.\n\n\
        Each client asks again as soon as it has the whole response, by a connection that it keeps. What is timed is \
        from the request to the last byte of the response; the first one of each client has the connecting in it. \
        Fails if any request did, or was answered with 400 or above. A signal ends it as if the count were \
        reached; what is under way a second later is cut off, and not counted.")]
    Load(Box<crate::commands::load::LoadArgs>),
    /// List what this build can connect to and listen on; with -v, the options too
    Schemes,
    /// Print shell completions
    #[command(hide = true)]
    Completions {
        #[command(flatten)]
        no_more: NoMore,
        /// For which shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands
    #[command(hide = true)]
    Man {
        #[command(flatten)]
        no_more: NoMore,
        /// Where to write them
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Demo {
    /// Answer `ping` with `pong`, `pong` with `ping`, and any other line with itself
    Server {
        /// Where to listen; port 4343 if it is left out
        uri: String,
        /// Append to FILE what each connection looks like from here, as a line of JSON
        #[arg(long, value_name = "FILE")]
        seen: Option<PathBuf>,
        #[command(flatten)]
        tls: ServerTls,
    },
    /// Send the lines of standard input and print each answer; or, with -n, pings
    Client {
        /// Where to; port 4343 if it is left out
        uri: String,
        /// Send so many pings and sum up their round-trip times
        #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        connecting: Connecting,
    },
}

/// How a report is printed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Format {
    /// As JSON
    #[arg(long, conflicts_with = "dot")]
    pub(crate) json: bool,
    /// As a graph, for Graphviz
    #[arg(long)]
    pub(crate) dot: bool,
}

#[cfg(feature = "dns")]
fn name_server(text: &str) -> Result<std::net::SocketAddr, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().map(|ip| std::net::SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "an address, with or without a port: 192.0.2.53, [2001:db8::53]:5353")
}

pub(crate) fn seconds(text: &str) -> Result<Duration, &'static str> {
    match seconds_or_none(text) {
        Ok(Duration::ZERO) => Err("it must be more than 0"),
        other => other,
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1000.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number: f64 = number.parse().map_err(|_| "a time in seconds, like 5, 0.5 or 500ms")?;
    Duration::try_from_secs_f64(number / unit).map_err(|_| "a time that is neither negative nor for ever")
}
