//! Whoever is reached and says nothing is given up after a time, and named.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tuyau::core::{BoxFuture, Many, Net};
use tuyau::names::{ATTEMPT_TIMEOUT, HOST, NET};
use tuyau::{ConnectCx, ConnectError, ConnectErrorKind, Flow, Listener, Policy, Role, Target};

/// A net on which everybody is there and says nothing.
#[derive(Default)]
struct Silent(Mutex<Vec<Flow>>);

impl Net for Silent {
    fn describe(&self) -> String {
        "the silent".into()
    }

    fn connect<'a>(
        &'a self,
        _: &'a Target,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        let (ours, theirs) = tuyau_tokio::duplex();
        self.0.lock().expect("no panic").push(theirs);
        Box::pin(async { Ok(ours) })
    }

    fn listen<'a>(
        &'a self,
        _: &'a Target,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        Box::pin(std::future::pending())
    }

    fn lookup<'a>(&'a self, _: &'a str, _: &'a Policy) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        Box::pin(async { Ok(Many::All(vec![IpAddr::from([192, 0, 2, 1])])) })
    }
}

fn context() -> tuyau::Context {
    tuyau::context().replace(&NET, Arc::new(Silent::default()))
}

#[tokio::test(start_paused = true)]
async fn each_handshake_has_its_time() {
    let ways = [
        ("tls://192.0.2.1:1", None, "TLS handshake with 192.0.2.1 at memory: the peer said nothing"),
        ("wss://192.0.2.1:1", None, "TLS handshake with 192.0.2.1 at memory: the peer said nothing"),
        ("ws://192.0.2.1:1", None, "at ws 192.0.2.1:1/"),
        ("tcp://db.test:1", Some("socks5h://192.0.2.1"), "at socks5h 192.0.2.1:1080 to db.test:1"),
        ("tcp://db.test:1", Some("http://192.0.2.1"), "at http 192.0.2.1:1080 to db.test:1"),
        (
            "tcp://db.test:1",
            Some("https://192.0.2.1"),
            "https://192.0.2.1:443 can't be reached: tls 192.0.2.1:443: TLS handshake",
        ),
        ("tcp://db.test:1", Some("ssh://ops@192.0.2.1"), "at ssh ops@192.0.2.1:22"),
    ];
    for (uri, hop, says) in ways {
        let mut uri = tuyau::uri(uri).expect("a URI");
        if let Some(hop) = hop {
            uri = uri.via(tuyau::via(hop).expect("a hop"));
        }
        for (ctx, time) in [(context(), 120), (context().with(&ATTEMPT_TIMEOUT, Duration::from_secs(3)), 3)] {
            let begun = Instant::now();
            let error = uri.connect_in(&ctx).await.expect_err("nobody answers");
            assert_eq!(begun.elapsed().as_secs(), time, "{error}");
            let text = error.to_string();
            assert!(text.contains(says), "no `{says}` in {text}");
            let tuyau::Error::Connect(error) = error else { panic!("{text}") };
            assert_eq!(error.kind(), ConnectErrorKind::TimedOut, "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn listening_beyond_the_silent_and_upgrades_have_their_time() {
    let begun = Instant::now();
    let error = tuyau::uri("tcp://192.0.2.1:1").expect("a URI").listen_in(&context()).await;
    let text = error.expect_err("nobody answers").to_string();
    assert!(text.contains("the silent has not begun to listen"), "{text}");
    assert_eq!(begun.elapsed().as_secs(), 120);
    let begun = Instant::now();
    let ctx = tuyau::tls::upgrades(context().with(&HOST, "db.test".into()));
    let (flow, _silent) = tuyau_tokio::duplex();
    let error = ctx.upgrade(flow, Role::Client).await.expect_err("nobody answers");
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ConnectErrorKind::TimedOut, 120), "{error}");
}
