//! Peers that speak something else than what they were asked for, and servers that want more: each is named, with
//! what it is and what to do.

use std::fs;

use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{haproxy, microsocks, sshd, tinyproxy};

use crate::peers::{Peer, Place, listening, peer, run, tuyau};

/// What `args` say when they fail with this code.
fn said(args: &[&str], code: i32) -> String {
    let mut command = tuyau(args);
    command.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
    run(command, b"").code(code).stderr
}

#[test]
fn proxies_and_servers_of_the_wrong_kind() {
    let (socks, http, ssh) = (microsocks(None), tinyproxy(None), sshd());
    let (socks, http) = (format!("127.0.0.1:{}", socks.port()), format!("127.0.0.1:{}", http.port()));
    let ssh = format!("127.0.0.1:{}", ssh.port());
    let place = Place::new();
    let (_web, web) = listening(["serve", &place.path(""), "--listen", "tcp://127.0.0.1:0"]);
    let web = web.trim_start_matches("tcp://");
    for (hop, parts) in [
        // That proxy waits for a line that never comes.
        (format!("socks5h://{http}"), &["timed out after 2s, at socks5h", "is that the right port"][..]),
        (
            format!("socks5h://{web}"),
            &["is no SOCKS5 proxy: it said `HTTP/1.1 400", "go through it by http://"],
        ),
        (format!("socks5h://{ssh}"), &["is no SOCKS5 proxy: it said `SSH-2.0", "go through it by ssh://"]),
        (format!("http://{socks}"), &["is no HTTP proxy: it said", "go through it by socks5h://"]),
        (format!("http://{ssh}"), &["is no HTTP proxy: it said `SSH-2.0", "go through it by ssh://"]),
        (format!("https://{ssh}"), &["the peer speaks plain text", "SSH-2.0", "it is an SSH server"]),
        (format!("https://{web}"), &["the peer speaks plain text", "use http:// in place of https://"]),
        (format!("ssh://ops@{web}?known-hosts=/dev/null"), &["is no SSH server", "go through it by http://"]),
    ] {
        let text = said(&["connect", "tcp://db.test:1?attempt-timeout=2s", "--via", &hop], 1);
        for part in parts {
            assert!(text.contains(part), "no `{part}` of {hop} in {text}");
        }
        let (_, address) = hop.split_once("://").expect("a URI");
        let address = address.split('?').next().expect("an address");
        assert!(text.contains(address.trim_start_matches("ops@")), "no {address} in {text}");
    }
}

/// A server of the files of `www`, that wants this of whoever connects.
fn openssl_www(place: &Place, ca: &Ca, port: u16, more: &[&str]) -> Peer {
    let (cert, key) = ca.leaf(&["127.0.0.1"]).files(place, &format!("server{port}"));
    let mut command = peer("openssl", ["s_server", "-www", "-cert", &cert, "-key", &key]);
    command.args(["-accept", &format!("127.0.0.1:{port}")]).args(more);
    let mut server = Peer::spawn(&mut command);
    server.line("ACCEPT");
    server
}

#[test]
fn a_client_certificate_that_is_missed() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (cert, key) = ca.leaf(&["127.0.0.1"]).files(&place, "server");
    let both = [cert, key].map(|file| fs::read_to_string(file).expect("a file")).concat();
    let pem = place.path("both.pem");
    fs::write(&pem, both).expect("a file");
    for (version, http) in [("12", "http/1.1"), ("12", "h2"), ("13", "http/1.1"), ("13", "h2")] {
        let server = haproxy(&format!(
            "frontend f\n mode http\n bind 127.0.0.1:{{port}} ssl crt {pem} ca-file {cacert} verify required \
             force-tlsv{version} alpn {http}\n http-request return status 200"
        ));
        let url = format!("https://127.0.0.1:{}/", server.port());
        for backend in ["rustls", "openssl"] {
            // Before TLS 1.3 the handshake fails; with it, what comes after.
            let code = if version == "12" { 1 } else { 3 };
            let text = said(&["get", &url, "--cacert", &cacert, "--tls", backend], code);
            let address = format!("127.0.0.1:{}", server.port());
            for part in ["the server requires a client certificate", "--cert FILE --key FILE", &address] {
                assert!(text.contains(part), "{version} {http} {backend}: no `{part}` in {text}");
            }
        }
    }
    let port = tuyau_testing::free_port();
    let _server = openssl_www(&place, &ca, port, &["-Verify", "1", "-tls1_3"]);
    let text = said(&["get", &format!("https://127.0.0.1:{port}/"), "--cacert", &cacert], 3);
    assert!(text.contains("the server requires a client certificate"), "{text}");
}

#[test]
fn urls_of_servers_that_speak_something_else() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let port = tuyau_testing::free_port();
    let _tls = openssl_www(&place, &ca, port, &[]);
    let (ssh, socks) = (sshd(), microsocks(None));
    let (_web, web) = listening(["serve", &place.path(""), "--listen", "tcp://127.0.0.1:0"]);
    let web = web.trim_start_matches("tcp://").to_owned();
    let ssh = format!("127.0.0.1:{}", ssh.port());
    let (tls, socks) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", socks.port()));
    for (url, args, code, parts) in [
        (format!("http://{ssh}/"), &[][..], 3, &["speaks SSH, not HTTP: it said `SSH-2.0"][..]),
        (format!("http://{ssh}/"), &["--http2"], 3, &["speaks SSH, not HTTP: it said `SSH-2.0"]),
        // It sends no alert to what is no TLS.
        (format!("http://{tls}/"), &[], 3, &["hung up without an answer: it may speak TLS (https://)"]),
        (
            format!("http://{tls}/"),
            &["--http2"],
            3,
            &["hung up without an answer: it may speak TLS (https://)"],
        ),
        (format!("http://{socks}/"), &[], 3, &["speaks SOCKS5, not HTTP"]),
        (format!("https://{ssh}/"), &[], 1, &["TLS handshake with", "it is an SSH server"]),
        (format!("https://{web}/"), &[], 1, &["TLS handshake with", "use http:// in place of https://"]),
    ] {
        let text = said(&[&["get", &url], args].concat(), code);
        let address = url.split('/').nth(2).expect("an address");
        for part in [parts, &[address]].concat() {
            assert!(text.contains(part), "no `{part}` of {url} {args:?} in {text}");
        }
        assert!(!text.contains("was not ready"), "{text}");
    }
    // What serves HTTP/1.1 and HTTP/2 in clear text is told by its first bytes.
    run(tuyau(["get", &format!("http://{web}/"), "--http2"]), b"").code(0);
    for (url, caret) in [
        ("http://h:99999/", "the port is too large\n  http://h:99999\n           ^^^^^\n"),
        ("https://u:secret@[::1]:x/?q", "the port is not a number\n  https://[::1]:x\n                ^\n"),
    ] {
        let text = said(&["get", url], 2);
        assert!(text.contains(caret) && !text.contains("secret"), "{text}");
    }
}
