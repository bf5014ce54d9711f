//! `tuyau serve`: curl, h2load and a browser as its clients.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::sys::signal::Signal;
use tuyau_testing::certs::Ca;
use tuyau_testing::free_port;
use tuyau_testing::peers::{haproxy, python};

use crate::browser::{page, picture, trusting};
use crate::peers::{Peer, Place, peer, run, tuyau};

/// Serves the directory `www` of a place.
pub(crate) struct Served {
    pub(crate) place: Place,
    pub(crate) server: Peer,
    pub(crate) url: String,
    pub(crate) cacert: String,
}

impl Served {
    pub(crate) fn new(tls: bool, more: &[&str]) -> Self {
        let place = Place::new();
        fs::create_dir_all(place.path("www")).expect("a directory");
        let ca = Ca::new("CA of the test");
        let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
        let dir = place.path("www");
        let mut args = vec!["serve", &dir, "--listen"];
        match tls {
            true => args.extend(["tls://localhost:0", "--tls-cert", &cert, "--tls-key", &key]),
            false => args.push("tcp://localhost:0"),
        }
        let mut server = Peer::spawn(&mut tuyau(args.iter().chain(more)));
        let line = server.error_line("listening on ");
        let port = line.rsplit(':').next().expect("a port").to_owned();
        let url = format!("{}://localhost:{port}", if tls { "https" } else { "http" });
        let cacert = ca.file(&place, "ca.pem");
        Self { place, server, url, cacert }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.place.path(&format!("www/{name}"));
        fs::create_dir_all(std::path::Path::new(&path).parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    /// Its log, after its end.
    pub(crate) fn log(self) -> String {
        self.server.signal(Signal::SIGTERM);
        self.server.end().code(0).stderr
    }

    /// What curl gets.
    fn curl(&self, path: &str, more: &[&str]) -> String {
        let url = format!("{}{path}", self.url);
        let args = ["-sS", "--path-as-is", "--cacert", &self.cacert, &url];
        let ended = run(peer("curl", args.iter().chain(more)), b"").code(0);
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }

    fn status(&self, path: &str, more: &[&str]) -> String {
        let args = [more, &["-o", "/dev/null", "-w", "%{http_code}"]].concat();
        self.curl(path, &args)
    }
}

#[test]
fn files_ranges_conditions_and_compression() {
    let mut served = Served::new(false, &[]);
    served.write("a.txt", "0123456789");
    served.write("big.html", "<p>all the same</p>".repeat(1000));
    served.write("dir/index.html", "index");
    served.write("pre.css", "plain");
    served.write("pre.css.gz", "packed");
    assert_eq!(served.curl("/a.txt", &[]), "0123456789");
    assert_eq!(served.curl("/a.txt", &["-r", "2-4"]), "234");
    assert_eq!(served.status("/a.txt", &["-r", "20-"]), "416");
    let head = served.curl("/a.txt", &["-I"]);
    assert!(
        head.contains("content-type: text/plain") && head.contains("x-content-type-options: nosniff"),
        "{head}"
    );
    let date = head.lines().find_map(|line| line.strip_prefix("last-modified: ")).expect("a date");
    assert_eq!(served.status("/a.txt", &["-H", &format!("if-modified-since: {date}")]), "304");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
    let whole = "0123456789";
    let weak = format!("W/{tag}");
    let versions = [
        (tag, "234"),
        (date, "234"),
        ("\"other\"", whole),
        (&weak, whole),
        ("Thu, 01 Jan 1970 00:00:00 GMT", whole),
    ];
    for (version, text) in versions {
        let condition = format!("if-range: {version}");
        assert_eq!(served.curl("/a.txt", &["-r", "2-4", "-H", &condition]), text, "{version}");
    }
    assert_eq!(served.curl("/dir/", &[]), "index");
    assert_eq!(served.curl("/dir", &["-L"]), "index");
    for coding in ["gzip", "br", "zstd"] {
        let accept = format!("accept-encoding: {coding}");
        let head = served.curl("/big.html", &["-D-", "-o", "/dev/null", "-H", &accept]);
        assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
        assert!(!head.contains("accept-ranges"), "{head}");
    }
    assert_eq!(served.curl("/big.html", &["--compressed"]).len(), 19_000);
    assert_eq!(served.curl("/pre.css", &["-H", "accept-encoding: gzip"]), "packed");
    assert_eq!(served.status("/a.txt", &["-X", "POST"]), "405");
    assert_eq!(served.curl("/none", &[]), "404 Not Found\n");
    let line = served.server.error_line("/none");
    assert!(line.contains(" - - [") && line.contains(" +0000] \"GET /none HTTP/1.1\" 404 14 "), "{line}");
    served.server.signal(Signal::SIGTERM);
    let ended = served.server.end().code(0);
    assert!(ended.stderr.contains("requests"), "{}", ended.stderr);
}

/// Whoever runs the server sees why clients are refused, without asking for it; and no flood of it.
#[test]
fn refused_clients_are_told_of_and_counted() {
    let place = Place::new();
    let clients = Ca::new("CA of clients").file(&place, "clients.pem");
    let served = Served::new(true, &["--client-ca", &clients]);
    for _ in 0..12 {
        let refused = run(peer("curl", ["-sS", "--cacert", &served.cacert, &served.url]), b"");
        assert!(refused.stderr.contains("certificate required"), "{}", refused.stderr);
    }
    let log = served.log();
    let told = "error: TLS handshake with the client 127.0.0.1:";
    let told: Vec<_> = log.lines().filter(|line| line.starts_with(told)).collect();
    assert_eq!(told.len(), 10, "{log}");
    assert!(told.iter().all(|line| line.ends_with(": the client showed no certificate, and must")), "{log}");
    assert!(log.contains("for 60 s, handshakes that fail are only counted: -v tells all\n"), "{log}");
    assert!(log.contains("12 handshakes failed"), "{log}");
}

/// What is compressed on the way is the same file, but not the same bytes.
#[test]
fn no_part_is_sent_of_what_was_compressed_on_the_way() {
    let served = Served::new(false, &[]);
    served.write("big.txt", "all the same\n".repeat(1000));
    served.write("pre.css", "plain");
    served.write("pre.css.gz", "packed");
    let gzip = "accept-encoding: gzip";
    let head = |path: &str, more: &[&str]| {
        let head = served.curl(path, &[&["-D-", "-o", "/dev/null"], more].concat());
        head.replace('\r', "")
    };
    let field = |head: &str, name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    let plain = head("/big.txt", &[]);
    let (tag, date) =
        (field(&plain, "etag").expect("a tag"), field(&plain, "last-modified").expect("a date"));
    let weak = format!("W/{tag}");
    assert!(tag.starts_with('"'), "{tag}");
    for more in [&["-H", gzip][..], &["-H", gzip, "-I"]] {
        let packed = head("/big.txt", more);
        assert_eq!(field(&packed, "etag"), Some(weak.clone()), "{packed}");
        assert!(packed.contains("content-encoding: gzip") && !packed.contains("accept-ranges"), "{packed}");
    }
    // Of the file beside it, which is the same each time, a part can be had.
    let beside = field(&head("/pre.css", &["-H", gzip]), "etag").expect("a tag");
    assert_eq!(
        served.curl("/pre.css", &["-r", "3-", "-H", gzip, "-H", &format!("if-range: {beside}")]),
        "ked"
    );
    for version in [&tag, &weak, &date] {
        let condition = format!("if-range: {version}");
        let part = ["-r", "10-", "-H", &condition];
        let status = if *version == weak { "200" } else { "206" };
        assert_eq!(served.status("/big.txt", &part), status, "{version}");
        let part = [&part[..], &["-H", gzip]].concat();
        let whole = head("/big.txt", &part);
        assert!(whole.starts_with("HTTP/1.1 200 ") && whole.contains("content-encoding: gzip"), "{whole}");
    }
    for version in [&tag, &weak] {
        let condition = format!("if-none-match: {version}");
        for (more, fits) in [(&[][..], &tag), (&["-H", gzip], &weak)] {
            let same = head("/big.txt", &[&["-H", &condition], more].concat());
            assert!(same.starts_with("HTTP/1.1 304 ") && same.contains("vary: accept-encoding"), "{same}");
            assert_eq!(field(&same, "etag"), Some(fits.clone()), "{same}");
        }
    }
    assert_eq!(served.status("/big.txt", &["-H", &format!("if-match: {tag}")]), "200");
    assert_eq!(served.status("/big.txt", &["-H", &format!("if-match: {weak}")]), "412");
}

#[test]
fn ranges_that_are_not_sent_are_ignored() {
    let served = Served::new(false, &[]);
    served.write("a.txt", "0123456789");
    for range in ["bytes=0-1,4-5", "lines=1-2"] {
        let whole = ["-H", &format!("range: {range}"), "-w", " %{http_code}"];
        assert_eq!(served.curl("/a.txt", &whole), "0123456789 200", "{range}");
    }
    let head = served.curl("/a.txt", &["-I", "-r", "0-3"]);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 10\r\n"), "{head}");
    // It shrank: there is no such part, and it was asked for of something else.
    assert_eq!(served.curl("/a.txt", &["-r", "20-", "-H", "if-range: \"other\""]), "0123456789");
}

#[test]
fn refusals_are_short_and_plain() {
    let served = Served::new(false, &[]);
    served.write("big.txt", "all the same\n".repeat(1000));
    let said = served.curl("/big.txt", &["-H", "accept-encoding: identity;q=0"]);
    assert_eq!(said, "406 Not Acceptable\n");
    let said = served.curl("/big.txt", &["-H", "accept-encoding: gzip", "-X", "POST"]);
    assert_eq!(said, "405 Method Not Allowed\n");
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let place = Place::new();
    for path in ["www/none", "www/unlisted"] {
        fs::create_dir_all(place.path(path)).expect("a directory");
    }
    fs::write(place.path("www/secret"), "text").expect("a file");
    fs::write(place.path("www/none/file"), "text").expect("a file");
    let modes = |modes: &[(&str, u32)]| {
        for (path, mode) in modes {
            fs::set_permissions(place.path(path), fs::Permissions::from_mode(*mode)).expect("our own");
        }
    };
    modes(&[("", 0o755), ("www/secret", 0), ("www/none", 0), ("www/unlisted", 0o111)]);
    let dir = place.path("www");
    let args = ["serve", &dir, "--listen", "tcp://127.0.0.1:0"];
    let mut server = if nix::unistd::geteuid().is_root() {
        // Who may do all runs it as somebody else, who may not reach where it was built.
        let program = place.path("tuyau");
        fs::copy(env!("CARGO_BIN_EXE_tuyau"), &program).expect("a copy");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", &program];
        Peer::spawn(&mut peer("setpriv", nobody.iter().chain(&args)))
    } else {
        Peer::spawn(&mut tuyau(args))
    };
    let port = server.error_line("listening on ").rsplit(':').next().expect("a port").to_owned();
    for (path, status) in [
        ("/secret", "403"),
        ("/none/", "403"),
        ("/none/file", "403"),
        ("/unlisted/", "403"),
        ("/missing", "404"),
    ] {
        let url = format!("http://127.0.0.1:{port}{path}");
        for more in [&[][..], &["-I"]] {
            let args = [&["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url], more].concat();
            assert_eq!(run(peer("curl", args), b"").code(0).text(), status, "{path} {more:?}");
        }
    }
    // So that it can be removed.
    modes(&[("www/none", 0o755), ("www/unlisted", 0o755)]);
}

/// Over HTTP/1, before it has come, and without asking for it; over HTTP/2 so that curl takes it for an answer.
#[test]
fn who_sends_what_nobody_wants_is_answered_at_once() {
    let served = Served::new(false, &[]);
    let address = served.url.trim_start_matches("http://");
    for expects in ["", "expect: 100-continue\r\n"] {
        let mut client = TcpStream::connect(address).expect("it listens");
        // Its own patience with a body is longer.
        client.set_read_timeout(Some(Duration::from_secs(15))).expect("a socket");
        let head = format!("POST / HTTP/1.1\r\nhost: h\r\n{expects}content-length: 100\r\n\r\nabc");
        client.write_all(head.as_bytes()).expect("it reads");
        let mut said = String::new();
        client.read_to_string(&mut said).expect("it answers, and closes");
        assert!(said.starts_with("HTTP/1.1 405 ") && said.ends_with("405 Method Not Allowed\n"), "{said}");
    }
    let upload = served.place.path("upload");
    fs::write(&upload, vec![b'x'; 5_000_000]).expect("a file");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for expects in ["expect:", "expect: 100-continue"] {
            let said = served.curl("/x", &[version, "-T", &upload, "-H", expects]);
            assert_eq!(said, "405 Method Not Allowed\n", "{version}, {expects}");
        }
    }
}

/// A request whose body is not as long as it says is malformed (RFC 9113 section 8.1.1), wanted or not.
#[test]
fn what_nobody_wants_is_still_by_the_rules() {
    let served = Served::new(false, &[]);
    let script = r#"
import socket, sys, h2.config, h2.connection, h2.events
for body in [b"four", b"five!"] * 25:
    s = socket.create_connection(("localhost", int(sys.argv[1])), timeout=20)
    c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    c.initiate_connection()
    fields = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a"), ("content-length", "5")]
    c.send_headers(1, fields)
    s.sendall(c.data_to_send())
    status, end = None, None
    while end is None:
        data = s.recv(65536)
        assert data, "closed"
        for event in c.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[":status"]
                c.send_data(1, body, end_stream=True)
                s.sendall(c.data_to_send())
            if isinstance(event, h2.events.StreamReset): end = int(event.error_code)
            if isinstance(event, h2.events.StreamEnded): end = "whole"
    assert (status, end) == ("405", 1 if body == b"four" else "whole"), (body, status, end)
"#;
    let mut client = python("h2", "python3-h2", script);
    client.arg(served.url.rsplit(':').next().expect("a port"));
    run(client, b"").code(0);
}

#[test]
fn nothing_outside_or_hidden() {
    let served = Served::new(false, &[]);
    fs::write(served.place.path("secret"), "secret").expect("a file");
    served.write("dir/x", "x");
    served.write(".git/config", "hidden");
    let www = |name: &str| served.place.path(&format!("www/{name}"));
    symlink(served.place.path("secret"), www("out")).expect("a link");
    symlink("../..", www("dir/up")).expect("a link");
    symlink("dir/x", www("in")).expect("a link");
    symlink(www("dir"), www("absolute")).expect("a link");
    symlink(".git", www("git")).expect("a link");
    symlink("itself", www("itself")).expect("a link");
    nix::unistd::mkfifo(www("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    assert_eq!((served.curl("/in", &[]), served.curl("/absolute/x", &[])), ("x".into(), "x".into()));
    let long = format!("/{}", "x".repeat(1000));
    for path in [
        &long,
        "/out",
        "/dir/up/secret",
        "/dir/up/",
        "/../secret",
        "/%2e%2e/secret",
        "/dir/..%2f..%2fsecret",
        "/.git/config",
        "/.git/",
        "/git/config",
        "/pipe",
        "/itself",
        "/itself/",
        "//dir",
    ] {
        assert_eq!(served.status(path, &[]), "404", "{path}");
    }
    let page = served.curl("/", &[]);
    assert!(page.contains("href=\"./dir/\"") && page.contains("href=\"./in\""), "{page}");
    for hidden in ["out", ".git", "git", "pipe"] {
        assert!(!page.contains(&format!("href=\"./{hidden}")), "{hidden}: {page}");
    }
    let shown = Served::new(false, &["--dotfiles", "--no-listing"]);
    shown.write(".git/config", "hidden");
    assert_eq!(shown.curl("/.git/config", &[]), "hidden");
    assert_eq!(shown.status("/", &[]), "404");
}

#[test]
fn both_versions_over_tls_and_a_listing_in_a_browser() {
    let served = Served::new(true, &[]);
    for name in ["a.txt", "notes on <b>.md", "z.tar.gz"] {
        served.write(name, "some text");
    }
    served.write("photos/1.png", "");
    let script = "document.body.textContent = performance.getEntriesByType('navigation')[0].nextHopProtocol";
    served.write("how.html", format!("<body><script>{script}</script></body>"));
    for (version, said) in [("--http2", " 2"), ("--http1.1", " 1.1")] {
        let with = [version, "-w", " %{http_version}"];
        assert_eq!(served.curl("/a.txt", &with), format!("some text{said}"));
        let listing = served.curl("/", &with);
        assert!(listing.contains("href=\"./photos/\"") && listing.ends_with(said), "{listing}");
    }
    let trusting = trusting(&served.place.path("server.pem"));
    let how = page(&format!("{}/how.html", served.url), &[&trusting]);
    assert!(how.contains("<body>h2</body>"), "{how}");
    let pixels = picture(&format!("{}/", served.url), "1000,600", &[&trusting]);
    let count = |colour: [u8; 3]| pixels.iter().filter(|pixel| **pixel == colour).count();
    // A white table on a grey page, with links.
    assert!(count([0xff; 3]) > 50_000, "{} white pixels", count([0xff; 3]));
    assert!(count([0xf6, 0xf7, 0xf9]) > 100_000, "{} grey pixels", count([0xf6, 0xf7, 0xf9]));
    assert!(count([0x0b, 0x5c, 0xad]) > 20, "{} pixels of links", count([0x0b, 0x5c, 0xad]));
}

/// Behind haproxy, which tells by its PROXY protocol who is there.
#[test]
fn the_peer_is_whom_haproxy_says() {
    for tls in [false, true] {
        let place = Place::new();
        fs::write(place.path("file"), "hello").expect("a file");
        let ca = Ca::new("CA of the test");
        let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
        let cacert = ca.file(&place, "ca.pem");
        let scheme = if tls { "tls" } else { "tcp" };
        let uri = format!("{scheme}://127.0.0.1:0?proxy-protocol=127.0.0.1/32");
        let dir = place.path("");
        let mut args = vec!["serve", &dir, "--listen", &uri];
        if tls {
            args.extend(["--tls-cert", &cert, "--tls-key", &key]);
        }
        let mut server = Peer::spawn(&mut tuyau(args));
        let port = server.error_line("listening on ").rsplit(':').next().expect("a port").to_owned();
        let front = free_port();
        let _haproxy = haproxy(&format!(
            "listen front\n bind 127.0.0.1:{front}\n server s 127.0.0.1:{port} send-proxy-v2\n\
             listen ready\n bind 127.0.0.1:{{port}}\n server s 127.0.0.1:1\n"
        ));
        let url = format!("http{}://localhost:{front}/file", if tls { "s" } else { "" });
        for version in ["--http1.1", if tls { "--http2" } else { "--http2-prior-knowledge" }] {
            let args = ["-sS4", version, "--interface", "127.0.0.7", "--cacert", &cacert, &url];
            assert_eq!(run(peer("curl", args), b"").code(0).text(), "hello");
            let line = server.error_line("GET /file");
            assert!(line.starts_with("127.0.0.7 - - ["), "{line}");
        }
    }
}

/// Under a load that would go on: whatever was sent is answered, though HTTP/1 can't say which requests are.
#[test]
fn the_end_loses_no_response() {
    // Pipelined requests of HTTP/1 that come after one that is the last are lost by its rules.
    for (tls, version, at_once) in [
        (false, "--h1", "-m1"),
        (false, "--no-tls-proto=h2c", "-m8"),
        (true, "--h1", "-m1"),
        (true, "--npn-list=h2", "-m8"),
    ] {
        let mut served = Served::new(tls, &[]);
        served.write("file", "x".repeat(20_000));
        let url = format!("{}/file", served.url);
        let load = Peer::spawn(&mut peer("h2load", ["-c", "8", at_once, "-n", "1000000", version, &url]));
        for _ in 0..200 {
            served.server.error_line("/file");
        }
        served.server.signal(Signal::SIGTERM);
        let log = served.server.end().code(0).stderr;
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("served: ") && !last.contains("aborted"), "{last}");
        assert!(!log.contains("broken off"), "{log}");
        let sent = log.lines().filter(|line| line.contains("\" 200 20000 ")).count();
        let said = load.end();
        let summary = said.text().lines().find(|line| line.starts_with("requests: ")).expect("a summary");
        let started: usize = summary
            .split(", ")
            .find_map(|part| part.strip_suffix(" started"))
            .and_then(|count| count.parse().ok())
            .expect("a count");
        let whole = format!(" {sent} succeeded, {} failed", 1_000_000 - sent);
        assert!(summary.contains(&whole), "{version}, {sent} were sent: {}", said.text());
        // HTTP/2 says which are answered (GOAWAY): what is started then never leaves the client. One a stream at most.
        let unsent = if at_once == "-m1" { 0 } else { 8 * 8 };
        assert!((sent..=sent + unsent).contains(&started), "{version}, {sent} were sent: {}", said.text());
    }
}

#[test]
fn a_second_signal_ends_what_is_under_way_and_what_was_served_is_told() {
    let served = Served::new(false, &["--drain", "1000"]);
    served.write("big", "");
    let big = fs::File::options().write(true).open(served.place.path("www/big")).expect("a file");
    big.set_len(1 << 30).expect("a sparse file");
    let address = served.url.trim_start_matches("http://").to_owned();
    let mut slow = TcpStream::connect(&address).expect("it listens");
    slow.write_all(b"GET /big HTTP/1.1\r\nhost: h\r\n\r\n").expect("it reads");
    slow.read_exact(&mut [0; 1000]).expect("it answers");
    served.server.signal(Signal::SIGINT);
    while TcpStream::connect(&address).is_ok() {
        std::thread::yield_now();
    }
    served.server.signal(Signal::SIGINT);
    let said = served.server.end().code(130).stderr;
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("served: ") && last.contains("1 aborted"), "{said}");
}
