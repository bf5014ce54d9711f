//! Against other programs: OpenSSL's own, nginx and curl.

use std::io::{Read, Write};
use std::process::Command;

use tuyau_core::names::{ALPN, NEGOTIATED_ALPN, SECURITY};
use tuyau_core::{Context, Flow, Protection, Target};
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{self, Peer};
use tuyau_testing::{Place, free_port};
use tuyau_tls::{Backend, CERTIFICATE_REQUESTED, ClientAuth, RESUMED, VERSION, Version};

use crate::support::*;

/// `openssl s_server` with these arguments, which answers each line with the line reversed.
fn s_server(place: &Place, ca: &Ca, args: &[&str]) -> (Peer, u16) {
    let (chain, key) = ca.leaf(&["a.test"]).files(place, "server");
    let port = free_port();
    let mut command = peers::command("openssl", "openssl");
    command.args([
        "s_server",
        "-rev",
        "-accept",
        &format!("127.0.0.1:{port}"),
        "-cert",
        &chain,
        "-key",
        &key,
    ]);
    command.args(args);
    let mut peer = Peer::spawn(&mut command);
    peer.line("ACCEPT");
    (peer, port)
}

async fn connect(ctx: &Context) -> Flow {
    ctx.resolve().await.unwrap_or_else(|error| panic!("{error:#}")).into_flow()
}

async fn failure(ctx: &Context) -> String {
    let error = ctx.resolve().await.expect_err("it must fail");
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn reversed(flow: &mut Flow) {
    flow.write_all(b"hello\n").await.expect("write");
    assert_eq!(read_line(flow).await, "olleh\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_as_server() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let (_peer, port) = s_server(&place, &ca, &["-alpn", "x,y"]);
    for backend in BOTH {
        let ctx = dialling(&trusting(backend, &ca), "a.test", port);
        let mut flow = connect(&ctx.clone().with(&ALPN, [b"y".to_vec()].into())).await;
        assert_eq!(flow.fact(&VERSION), Some(Version::Tls13));
        assert_eq!(flow.fact(&NEGOTIATED_ALPN).as_deref(), Some(&b"y"[..]));
        assert_eq!(flow.fact(&SECURITY), Some(Protection::Authenticated));
        reversed(&mut flow).await;
        flow.shutdown().await.expect("shutdown");
        // It ends in its turn, with a close_notify or by hanging up.
        let _ = flow.read(&mut [0; 8]).await;

        let mut again = connect(&ctx).await;
        assert_eq!(again.fact(&RESUMED), Some(true), "{backend}");
        reversed(&mut again).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_as_server_of_old() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let (_peer, port) = s_server(&place, &ca, &["-tls1_2"]);
    for backend in BOTH {
        let ctx = dialling(&trusting(backend, &ca), "a.test", port);
        for resumed in [false, true] {
            let mut flow = connect(&ctx).await;
            assert_eq!((flow.fact(&VERSION), flow.fact(&RESUMED)), (Some(Version::Tls12), Some(resumed)));
            reversed(&mut flow).await;
            flow.shutdown().await.expect("shutdown");
        }
        let strict = dialling(&trusting(backend, &ca).min_version(Version::Tls13), "a.test", port);
        let error = failure(&strict).await;
        assert!(error.contains("the two sides have no version of TLS in common"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_as_server_that_wants_a_certificate() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let cacert = ca.file(&place, "ca.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let args = ["-Verify", "1", "-verify_return_error", "-CAfile", &cacert, version];
        let (_peer, port) = s_server(&place, &ca, &args);
        for backend in BOTH {
            let ctx = dialling(&trusting(backend, &ca), "a.test", port);
            let error = match ctx.resolve().await {
                Err(error) => format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" "),
                Ok(flow) => chain(&flow.into_flow().read(&mut [0]).await.expect_err("it was refused")),
            };
            // TLS 1.2 has no alert that says it, but the handshake fails.
            let expected = match version {
                "-tls1_2" => "the server requires a client certificate",
                _ => "permission denied: the server requires a client certificate",
            };
            assert!(error.contains(expected), "{backend} {version}: {error}");
            let identity = identity(&ca.client("alice"));
            let ctx = dialling(&trusting(backend, &ca).identity(identity), "a.test", port);
            reversed(&mut connect(&ctx).await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_certificate_was_asked_for_is_known() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let cacert = ca.file(&place, "ca.pem");
    let detail = |resolved: &tuyau_core::Resolved| {
        let steps = resolved.report().candidates.remove(0).hops;
        steps.last().and_then(|step| step.detail.clone()).expect("what was agreed on")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let (_indifferent, anybody) = s_server(&place, &ca, &[version]);
        let (_curious, asks) = s_server(&place, &ca, &["-verify", "1", "-CAfile", &cacert, version]);
        for backend in BOTH {
            // The second time by the session of the first, in which nobody is asked again.
            for (port, requested) in [(anybody, [false, false]), (asks, [true, false])] {
                let ctx = dialling(&trusting(backend, &ca), "a.test", port);
                for requested in requested {
                    let mut flow = ctx.resolve().await.unwrap_or_else(|error| panic!("{error:#}"));
                    assert_eq!(flow.fact(&CERTIFICATE_REQUESTED), Some(requested), "{backend} {version}");
                    let told =
                        detail(&flow).contains("client certificate: asked for, and none given: it may");
                    assert_eq!(told, requested, "{}", detail(&flow));
                    reversed(&mut flow).await;
                    flow.shutdown().await.expect("shutdown");
                }
            }
            let identified = trusting(backend, &ca).identity(identity(&ca.client("alice")));
            let flow = dialling(&identified, "a.test", asks).resolve().await;
            let flow = flow.unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(flow.fact(&CERTIFICATE_REQUESTED), Some(true), "{backend} {version}");
            assert!(detail(&flow).ends_with("; client certificate: shown"), "{}", detail(&flow));
        }
    }
}

/// A server of ours, which answers one line with the same line, for ever.
fn echo(settings: tuyau_tls::ServerSettings) -> (tokio::task::JoinHandle<()>, u16) {
    let (port, server) = (free_port(), server(settings));
    let task = tokio::spawn(async move {
        let target = Target::Addr(([127, 0, 0, 1], port).into());
        let listener = tuyau_tokio::host().listen(&target, &cx()).await.expect("listen");
        let served = tuyau_tokio::serve(
            listener.layered(server.layer(), &tuyau_tokio::derivations(Context::new())),
            |mut flow: Flow| async move {
                let line = read_line(&mut flow).await;
                let _ = flow.write_all(line.as_bytes()).await;
                let _ = flow.shutdown().await;
                let _ = flow.read(&mut [0]).await;
            },
        );
        served.await;
    });
    (task, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_as_client() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (chain, key) = ca.client("alice").files(&place, "alice");
    for backend in BOTH {
        let settings = serving(backend, &ca.leaf(&["a.test"]))
            .client_auth(ClientAuth::Required(roots(&ca)))
            .alpn(&[b"y".to_vec()]);
        let (task, port) = echo(settings);
        for version in ["-tls1_2", "-tls1_3"] {
            let mut command = peers::command("openssl", "openssl");
            command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "a.test"]);
            command.args(["-verify_hostname", "a.test", "-verify_return_error", "-CAfile", &cacert]);
            command.args(["-cert", &chain, "-key", &key, "-alpn", "x,y", "-quiet", version]);
            let said = move || {
                let mut peer = Peer::spawn(&mut command);
                // It ends with its input.
                let mut stdin = peer.stdin();
                stdin.write_all(b"hello\n").expect("it reads");
                peer.line("hello")
            };
            let said = tokio::task::spawn_blocking(said).await.expect("it ran");
            assert_eq!(said, "hello", "{backend} {version}");
        }
        task.abort();
    }
}

/// An nginx with these lines for its server, which answers `PROTOCOL CIPHER-OF-ALPN CLIENT`.
fn nginx(place: &Place, ca: &Ca, lines: &str) -> (Peer, u16) {
    let (chain, key) = ca.leaf(&["a.test"]).files(place, "nginx");
    let port = free_port();
    let server = format!(
        "server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {chain}; ssl_certificate_key {key};
         ssl_protocols TLSv1.2 TLSv1.3; {lines}
         location / {{ return 200 \"$ssl_protocol $ssl_alpn_protocol $ssl_client_s_dn\\n\"; }} }}"
    );
    (peers::nginx(place, &server), port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_with_clients_certificates_and_alpn() {
    let (place, ca, other) = (Place::new(), Ca::new("CA"), Ca::new("Other CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (_peer, port) =
        nginx(&place, &ca, &format!("ssl_client_certificate {cacert}; ssl_verify_client on;"));
    for backend in BOTH {
        let alice = trusting(backend, &ca).identity(identity(&ca.client("alice")));
        let ctx = dialling(&alice, "a.test", port);
        let answer = get(&ctx.clone().with(&ALPN, [b"http/1.1".to_vec()].into())).await;
        assert!(answer.ends_with("TLSv1.3 http/1.1 CN=alice\n"), "{answer}");
        let flow = connect(&ctx.with(&ALPN, [b"h2".to_vec(), b"http/1.1".to_vec()].into())).await;
        assert_eq!(flow.fact(&NEGOTIATED_ALPN).as_deref(), Some(&b"h2"[..]));
        // nginx says it in HTTP.
        let answer = get(&dialling(&trusting(backend, &ca), "a.test", port)).await;
        assert!(answer.contains("No required SSL certificate was sent"), "{answer}");
        let mallory = trusting(backend, &ca).identity(identity(&other.client("mallory")));
        let answer = get(&dialling(&mallory, "a.test", port)).await;
        assert!(answer.contains("The SSL certificate error"), "{answer}");

        let nothing = dialling(&trusting(backend, &ca), "b.test", port);
        let error = failure(&nothing).await;
        assert!(error.contains("the certificate is not for `b.test`, but for `a.test`"), "{error}");
        let nothing = dialling(&trusting(backend, &ca), "a.test", port);
        let error = failure(&nothing.with(&ALPN, [b"smtp".to_vec()].into())).await;
        assert!(error.contains("the peer speaks none of the protocols (ALPN) that we do: `smtp`"), "{error}");
    }
}

/// What an HTTP/1.1 server answers.
async fn get(ctx: &Context) -> String {
    let mut flow = connect(ctx).await;
    flow.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await.expect("write");
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match flow.read(&mut part).await.expect("read") {
            0 => return String::from_utf8(answer).expect("text"),
            n => answer.extend_from_slice(&part[..n]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_as_client() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (chain, key) = ca.client("alice").files(&place, "alice");
    for backend in BOTH {
        let (task, port) = http(backend, &ca).await;
        let curl = |args: &[&str]| {
            let mut command: Command = peers::command("curl", "curl");
            command.args(["-sS", "--http1.1", "--noproxy", "*", "--cacert", &cacert]);
            command.args(["--resolve", &format!("a.test:{port}:127.0.0.1")]);
            command.args(args).arg(format!("https://a.test:{port}/"));
            tokio::task::spawn_blocking(move || peers::run(command, b""))
        };
        let answer = curl(&["--cert", &chain, "--key", &key]).await.expect("it ran");
        assert_eq!(answer.code(0).text(), "it works\n");
        let answer =
            curl(&["--tlsv1.2", "--tls-max", "1.2", "--cert", &chain, "--key", &key]).await.expect("it ran");
        assert_eq!(answer.code(0).text(), "it works\n");
        // It has sent its request by the time that it is refused, and is to see why nonetheless.
        for _ in 0..10 {
            let refused = curl(&[]).await.expect("it ran");
            assert!(refused.stderr.contains("certificate required"), "{backend}: {}", refused.stderr);
        }
        task.abort();
    }
}

/// One answer to each request, and the end.
async fn http(backend: Backend, ca: &Ca) -> (tokio::task::JoinHandle<()>, u16) {
    let settings = serving(backend, &ca.leaf(&["a.test"]))
        .client_auth(ClientAuth::Required(roots(ca)))
        .alpn(&[b"http/1.1".to_vec()]);
    let target = Target::Addr(([127, 0, 0, 1], 0).into());
    let listener = tuyau_tokio::host().listen(&target, &cx()).await.expect("listen");
    let Target::Addr(address) = listener.local() else { panic!("an address") };
    let listener = listener.layered(server(settings).layer(), &tuyau_tokio::derivations(Context::new()));
    let served = tuyau_tokio::serve(listener, |mut flow: Flow| async move {
        while read_line(&mut flow).await != "\r\n" {}
        flow.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nit works\n").await.expect("write");
        flow.shutdown().await.expect("shutdown");
        let _ = flow.read(&mut [0]).await;
    });
    let task = tokio::spawn(async move {
        served.await;
    });
    (task, address.port())
}

#[tokio::test]
async fn a_plain_server_is_shown() {
    let ca = Ca::new("CA");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("listen");
    let port = listener.local_addr().expect("bound").port();
    let task = std::thread::spawn(move || {
        for _ in BOTH {
            let (mut client, _) = listener.accept().expect("accept");
            client.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").expect("write");
            // Closed over unread bytes, it would be a reset.
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    for backend in BOTH {
        let error = failure(&dialling(&trusting(backend, &ca), "a.test", port)).await;
        let expected = format!(
            "TLS handshake with a.test at 127.0.0.1:{port}: the peer speaks plain text where TLS should be: \
             \"SSH-2.0-OpenSSH_9.2p1\""
        );
        assert!(error.contains(&expected), "{error}");
    }
    task.join().expect("it served");
}
