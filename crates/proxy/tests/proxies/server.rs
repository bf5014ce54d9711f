//! The SOCKS5 server, by its own client, by curl, and by those who don't behave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tuyau_core::names::{PEER, POLICY};
use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Net, Policy, Target};
use tuyau_proxy::{Credentials, HttpConnect, Socks5, Socks5Server, Tunnel};
use tuyau_testing::dead_port;
use tuyau_testing::peers::{command, run, tinyproxy};
use tuyau_tokio::{Host, TCP, derivations, duplex, serve};

use crate::support::{all, answers, assert_echoes, echoing, embedded, listening, local, to, web};

fn server() -> Socks5Server {
    Socks5Server::new(derivations(Context::new()).offer(&TCP)).expect("a runtime")
}

fn me() -> Credentials {
    Credentials::new("me", "secret")
}

fn curl(proxy: &str, port: u16) -> tuyau_testing::peers::Ended {
    let mut curl = command("curl", "curl");
    curl.args(["-sS", "--noproxy", "", "-x", proxy, &format!("http://localhost:{port}/")]);
    run(curl, b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_through_it() {
    let (listener, port) = listening().await;
    tokio::spawn(serve(listener, web).into_future());
    let open = embedded(server()).await;
    let closed = embedded(server().with_user(Credentials::new("other", "x")).with_user(me())).await;
    let nobody = dead_port();
    let (ended, refused, wrong) = tokio::task::spawn_blocking(move || {
        let ended = [
            curl(&format!("socks5h://127.0.0.1:{open}"), port),
            curl(&format!("socks5://127.0.0.1:{open}"), port),
            curl(&format!("socks5h://me:secret@127.0.0.1:{closed}"), port),
        ];
        let refused = curl(&format!("socks5h://127.0.0.1:{open}"), nobody);
        (ended, refused, curl(&format!("socks5h://me:wrong@127.0.0.1:{closed}"), port))
    })
    .await
    .unwrap();
    for ended in ended {
        assert_eq!(ended.code(0).text(), "hello\n");
    }
    // CURLE_PROXY, and which reply it was.
    assert!(refused.code(97).stderr.contains("(5)"));
    let wrong = wrong.code(97).stderr;
    assert!(wrong.contains("rejected") || wrong.contains("authent"), "{wrong}");
}

#[tokio::test]
async fn it_connects_through_any_net() {
    let (proxy, port) = (tinyproxy(None), echoing().await);
    let ctx = local(proxy.port()).via(Box::new(HttpConnect::new()));
    let embedded = embedded(Socks5Server::new(ctx).unwrap()).await;
    let ctx = to(local(embedded).via(Box::new(Socks5::new().lookup_by_proxy())), "localhost", port);
    assert_echoes(&mut ctx.resolve().await.unwrap().into_flow()).await;
}

#[tokio::test]
async fn ipv6_goes_through() {
    let cx = ConnectCx::new(&Context::new()).unwrap();
    let any = Target::Addr("[::1]:0".parse().unwrap());
    let listener = Host::new().listen(&any, &cx).await.unwrap();
    let Target::Addr(target) = listener.local() else { panic!("no address") };
    tokio::spawn(serve(listener, crate::support::echo).into_future());
    let proxy = embedded(server()).await;
    for hop in [Socks5::new(), Socks5::new().lookup_by_proxy()] {
        let ctx = to(local(proxy).via(Box::new(hop)), "::1", target.port());
        let mut flow = ctx.resolve().await.unwrap().into_flow();
        assert_echoes(&mut flow).await;
        assert_eq!(flow.fact(&PEER), Some(Target::Addr(target)));
        let bound = flow.find::<Tunnel>().unwrap().bound().unwrap();
        assert!(bound.ip().is_loopback() && bound.is_ipv6(), "{bound}");
    }
}

#[tokio::test]
async fn what_it_does_not_do_it_refuses_by_code() {
    const NONE: &[u8] = b"\x00\x01\x00\x00\x00\x00\x00\x00";
    let reply = |code: u8| [&[5, 0, 5, code], NONE].concat();
    let nobody = dead_port().to_be_bytes();
    let refused = [&b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01"[..], &nobody].concat();
    use ConnectErrorKind::{Closed, NotFound, Policy as Forbidden, Protocol, Refused, Unsupported};
    for (says, answer, kind) in [
        (&refused[..], reply(5), Refused),
        (b"\x05\x01\x00\x05\x01\x00\x03\x17no-such-name-at.invalid\x00\x50", reply(4), NotFound),
        (b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", reply(7), Unsupported),
        (b"\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", reply(7), Unsupported),
        (b"\x05\x01\x00\x05\x01\x00\x09\x7f\x00\x00\x01\x00\x50", reply(8), Unsupported),
        (b"\x05\x01\x00\x05\x01\x00\x03\x01\xff\x00\x50", reply(1), Protocol),
        (b"\x05\x01\x00\x05\x01\x00\x03\x04\x1b[2J\x00\x50", reply(1), Protocol),
        (b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", reply(1), Protocol),
        (b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x02\x00\x50", reply(2), Forbidden),
        (b"\x05\x01\x02", vec![5, 0xff], ConnectErrorKind::Authentication),
        (b"\x05\x01\x00\x04\x01\x00", vec![5, 0], Protocol),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", vec![], Protocol),
        (b"GET / HTTP/1.1\r\n\r\n", vec![], Protocol),
        (b"\x05\x02\x00", vec![], Closed),
        (b"", vec![], Closed),
    ] {
        let server = server().allow(|target| target.to_string() != "127.0.0.2:80");
        let (got, got_kind, text) = answers(server, says).await;
        assert_eq!(got, answer.escape_ascii().to_string(), "{text}");
        assert_eq!(got_kind, kind, "{text}");
    }
}

#[tokio::test]
async fn it_lets_in_only_whom_it_knows() {
    for (says, answer) in [
        (&b"\x05\x01\x00"[..], &b"\x05\xff"[..]),
        (b"\x05\x02\x00\x02\x01\x02me\x05wrong", b"\x05\x02\x01\x01"),
        (b"\x05\x02\x00\x02\x01\x02me\x06secreT", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x01\x02mE\x06secret", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x02\x02me\x06secret", b"\x05\x02\x01\x01"),
        (b"\x05\x01\x02\x01\x00\x00", b"\x05\x02\x01\x01"),
    ] {
        let (got, kind, text) = answers(server().with_user(me()), says).await;
        assert_eq!(got, answer.escape_ascii().to_string(), "{text}");
        assert_eq!(kind, ConnectErrorKind::Authentication);
        assert!(!text.to_lowercase().contains("secret"), "{text}");
    }
    assert!(!format!("{:?}", server().with_user(me())).contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped_in_time() {
    for says in [&b""[..], b"\x05", b"\x05\x01\x00\x05\x01\x00\x03\xff"] {
        let (mut client, theirs) = duplex();
        client.write_all(says).await.unwrap();
        let before = tokio::time::Instant::now();
        let error = server().handshake_timeout(Duration::from_secs(3)).serve(theirs).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
        // And one second in which it might read why.
        assert_eq!(before.elapsed().as_secs(), 4);
    }
    let without = Socks5Server::new(Context::new()).unwrap_err();
    assert_eq!(without.kind(), ConnectErrorKind::Misuse);
}

#[tokio::test]
async fn its_context_says_how_far_clients_get() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = seen.clone();
    let elsewhere = Policy::new().only_networks(["192.0.2.0/24".parse().unwrap()]);
    let ctx = derivations(Context::new()).offer(&TCP).with(&POLICY, elsewhere);
    let server = Socks5Server::new(ctx).unwrap().allow(move |target| {
        asked.lock().unwrap().push(target.to_string());
        true
    });
    let port = embedded(server).await;
    let ctx = to(local(port).via(Box::new(Socks5::new().lookup_by_proxy())), "localhost", 80);
    let error = ctx.resolve().await.unwrap_err();
    assert!(error.to_string().contains("SOCKS5 reply 2, not allowed by its rules"), "{error}");
    assert_eq!(*seen.lock().unwrap(), ["localhost:80"]);
}

#[tokio::test]
async fn what_a_client_sends_before_the_answer_is_passed_on() {
    let port = echoing().await;
    let (mut client, theirs) = duplex();
    let serving = tokio::spawn(async move { server().serve(theirs).await });
    let port = port.to_be_bytes();
    let says = [&b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01"[..], &port, b"early"].concat();
    client.write_all(&says).await.unwrap();
    client.shutdown().await.unwrap();
    let got = all(&mut client).await;
    assert!(got.ends_with(b"early"), "{}", got.escape_ascii());
    assert_eq!(serving.await.unwrap().unwrap(), (5, 5));
}
