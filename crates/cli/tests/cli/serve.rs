//! `tuyau serve`: curl, h2load and a browser as its clients.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;
use tuyau_testing::certs::Ca;

use crate::page::pixels;
use crate::peers::{Peer, Place, peer, run, tuyau};

/// Serves the directory `www` of a place.
struct Served {
    place: Place,
    server: Peer,
    url: String,
    cacert: String,
}

impl Served {
    fn new(tls: bool, more: &[&str]) -> Self {
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

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.place.path(&format!("www/{name}"));
        fs::create_dir_all(std::path::Path::new(&path).parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
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
    nix::unistd::mkfifo(www("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    assert_eq!((served.curl("/in", &[]), served.curl("/absolute/x", &[])), ("x".into(), "x".into()));
    for path in [
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
    let with = |version: &str| served.curl("/a.txt", &[version, "-w", " %{http_version}"]);
    assert_eq!(with("--http2"), "some text 2");
    assert_eq!(with("--http1.1"), "some text 1.1");
    let (picture, profile) = (served.place.path("page.png"), served.place.path("profile"));
    let mut browser = peer(
        "chromium",
        [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--blink-settings=preferredColorScheme=1",
            "--window-size=1000,600",
        ],
    );
    browser.arg(format!("--user-data-dir={profile}"));
    browser.arg(format!("--screenshot={picture}"));
    browser.arg(format!("{}/", served.url));
    let ended = run(browser, b"");
    let pixels = pixels(File::open(&picture).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr)));
    let count = |colour: [u8; 3]| pixels.iter().filter(|pixel| **pixel == colour).count();
    // A white table on a grey page, with links.
    assert!(count([0xff; 3]) > 50_000, "{} white pixels", count([0xff; 3]));
    assert!(count([0xf6, 0xf7, 0xf9]) > 100_000, "{} grey pixels", count([0xf6, 0xf7, 0xf9]));
    assert!(count([0x0b, 0x5c, 0xad]) > 20, "{} pixels of links", count([0x0b, 0x5c, 0xad]));
}

#[test]
fn the_end_loses_no_response() {
    for tls in [false, true] {
        let mut served = Served::new(tls, &[]);
        served.write("file", "x".repeat(20_000));
        let url = format!("{}/file", served.url);
        let version: &[&str] = if tls { &[] } else { &["--h1"] };
        // More than it will get.
        let load = Peer::spawn(&mut peer("h2load", ["-c", "8", "-n", "1000000", &url].iter().chain(version)));
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
        let codes =
            said.text().lines().find_map(|line| line.strip_prefix("status codes: ")).expect("a summary");
        assert!(codes.starts_with(&format!("{sent} 2xx, 0 3xx")), "{sent} were sent: {}", said.text());
    }
}
