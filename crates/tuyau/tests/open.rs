//! From a URI to a flow, over every transport.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tuyau::core::Target;
use tuyau::{Allow, Context, Error, Flow, Listener, names, uri};

/// Accepts one flow and answers `pong` to `ping`.
async fn serve_one(mut listener: Listener) {
    let mut flow = listener.accept().await.expect("a client").finish().await.expect("no handshake");
    let mut ping = [0; 4];
    flow.read_exact(&mut ping).await.expect("a ping");
    assert_eq!(&ping, b"ping");
    flow.write_all(b"pong").await.expect("the client reads");
    flow.shutdown().await.expect("the client is there");
}

async fn ping(mut flow: Flow) {
    flow.write_all(b"ping").await.expect("the server reads");
    flow.shutdown().await.expect("the server is there");
    let mut answer = String::new();
    flow.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "pong");
}

#[tokio::test]
async fn tcp_in_one_line_on_each_side() {
    for any in ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://localhost:0", "tcp://[::]:0"] {
        let listener = tuyau::listen(any).await.expect(any);
        let Target::Addr(local) = listener.local() else { panic!("{:?}", listener.local()) };
        let server = tokio::spawn(serve_one(listener));
        ping(tuyau::connect(&format!("tcp://localhost:{}", local.port())).await.expect(any)).await;
        server.await.expect(any);
    }
}

#[tokio::test]
async fn unix_sockets_by_path_and_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = format!("unix:{}/a%20b.sock", dir.path().display());
    let name = format!("unix:@tuyau-test-{}", std::process::id());
    for socket in [&path, &name] {
        let server = tokio::spawn(serve_one(tuyau::listen(socket).await.expect("a listener")));
        ping(uri(socket).unwrap().allow(Allow::LOCAL).connect().await.expect("a flow")).await;
        server.await.expect("a server");
    }
    assert!(!dir.path().join("a b.sock").exists(), "it is removed with its listener");
}

#[tokio::test]
async fn memory_is_shared_by_overlays_and_by_nobody_else() {
    let ctx = tuyau::context();
    let listener = uri("mem:ping").unwrap().listen_in(&ctx).await.expect("a listener");
    let error = tuyau::connect("mem:ping").await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    let server = tokio::spawn(serve_one(listener));
    let overlay = ctx.clone().with(&names::DEADLINE, Duration::from_secs(60));
    ping(uri("mem:ping").unwrap().connect_in(&overlay).await.expect("a flow").into_flow()).await;
    server.await.expect("a server");
}

#[cfg(feature = "exec")]
#[tokio::test]
async fn programs_and_shell_lines() {
    for command in ["exec:sh -c 'read -r x <&0 || test \"$x\" = ping && printf pong'", "sh:cat | tr i o"] {
        let mut flow = uri(command).unwrap().allow(Allow::EXEC).connect().await.expect("a flow");
        flow.write_all(b"ping").await.expect("it reads");
        flow.shutdown().await.expect("it is there");
        let mut answer = String::new();
        flow.read_to_string(&mut answer).await.expect("an answer");
        assert_eq!(answer, "pong", "{command}");
    }
}

#[tokio::test]
async fn fifos() {
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = format!("fifo:{}/p", dir.path().display());
    let server = tokio::spawn(serve_one(tuyau::listen(&fifo).await.expect("a listener")));
    ping(uri(&fifo).unwrap().allow(Allow::FILES).connect().await.expect("a flow")).await;
    server.await.expect("a server");
}

#[tokio::test]
async fn the_port_may_come_from_the_context() {
    let defaults = Context::new().with(&names::PORT, 0);
    let ctx = tuyau::context().under(defaults);
    let listener = uri("tcp://127.0.0.1").unwrap().listen_in(&ctx).await.expect("a listener");
    let Target::Addr(local) = listener.local() else { panic!("{:?}", listener.local()) };
    let ctx = tuyau::context().under(Context::new().with(&names::PORT, local.port()));
    uri("tcp://127.0.0.1").unwrap().connect_in(&ctx).await.expect("a flow");

    let missing = [
        tuyau::connect("tcp://h/?nodelay").await.map(drop).unwrap_err().to_string(),
        tuyau::listen("tcp://[::1]").await.map(drop).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(missing.join("\n\n"));
}

#[tokio::test]
async fn a_refusal_names_both_families() {
    let error = tuyau::connect("tcp://localhost:1").await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("[::1]:1"), "{error}");
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_listener_that_fails_says_where_and_why() {
    let first = tuyau::listen("tcp://127.0.0.1:0").await.expect("a listener");
    let Target::Addr(local) = first.local() else { panic!("{:?}", first.local()) };
    let errors = [
        tuyau::listen(&format!("tcp://{local}")).await.map(drop).unwrap_err().to_string(),
        tuyau::listen("unix:/nonexistent/x.sock").await.map(drop).unwrap_err().to_string(),
        tuyau::listen("systemd:http").await.map(drop).unwrap_err().to_string(),
        tuyau::listen("tcp://h:1?fast-open").await.map(drop).unwrap_err().to_string(),
        tuyau::listen("tcp://h:1?connect-timeout=1s").await.map(drop).unwrap_err().to_string(),
        uri("tcp://[::1]:0").unwrap().listen_in(&Context::new()).await.map(drop).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n\n").replace(&local.port().to_string(), "PORT"));
}

#[cfg(feature = "exec")]
#[tokio::test]
async fn a_command_is_not_listened_on() {
    insta::assert_snapshot!(tuyau::listen("exec:cat").await.map(drop).unwrap_err());
}

#[test]
fn futures_move_between_threads() {
    fn assert_send(_: impl Send) {}
    assert_send(tuyau::connect("tcp://h:1"));
    assert_send(tuyau::listen("tcp://h:1"));
    let uri = uri("tcp://h:1").unwrap();
    assert_send(uri.listen_in(&tuyau::context()));
    fn assert_all<T: Send + Sync + Unpin + Clone + std::fmt::Debug>() {}
    assert_all::<tuyau::Uri>();
    fn assert_error<T: std::error::Error + Send + Sync + 'static>() {}
    assert_error::<Error>();
}

#[tokio::test]
async fn a_zone_is_looked_for_on_both_sides() {
    let uri = "tcp://[fe80::1%25nosuch0]:1";
    let errors = [
        tuyau::connect(uri).await.map(drop).unwrap_err().to_string(),
        tuyau::listen(uri).await.map(drop).unwrap_err().to_string(),
    ];
    for error in errors {
        assert!(error.contains("zone `nosuch0`"), "{error}");
    }
}

/// This test runs itself as the process that the sockets are handed over to.
#[test]
fn systemd_sockets_are_had_by_name() {
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        return take_over(&names);
    }
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let script =
        r#"exec 3<&0 4<&0; LISTEN_PID=$$ exec "$0" --exact systemd_sockets_are_had_by_name --nocapture"#;
    for (count, names) in [("1", "http"), ("2", "http:admin"), ("2", "http:http")] {
        let child = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().expect("this test is a file"))
            .env("LISTEN_FDS", count)
            .env("LISTEN_FDNAMES", names)
            .stdin(std::os::fd::OwnedFd::from(socket.try_clone().expect("a descriptor")))
            .output()
            .expect("sh is there");
        assert!(child.status.success(), "{names}: {}", String::from_utf8_lossy(&child.stderr));
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{names}: it ran");
    }
}

fn take_over(names: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _within = runtime.enter();
    let listen =
        |uri: &str| runtime.block_on(tuyau::listen(uri)).map(drop).map_err(|error| error.to_string());
    let refused = |uri: &str, why: &str| {
        let error = listen(uri).expect_err(uri);
        assert!(error.contains(why) && error.contains(&names.replace(':', ", ")), "{error}");
    };
    refused("systemd:other", "no socket called other");
    match names {
        "http" => assert_eq!((listen("systemd:"), listen("systemd:http")), (Ok(()), Ok(()))),
        "http:admin" => {
            refused("systemd:", "several sockets");
            assert_eq!(listen("systemd:admin"), Ok(()));
        }
        _ => refused("systemd:http", "several sockets called http"),
    }
}

#[tokio::test]
async fn what_main_returns_is_printed_for_people() {
    let taken = tuyau::listen("tcp://127.0.0.1:0").await.expect("a listener");
    let Target::Addr(local) = taken.local() else { panic!("{:?}", taken.local()) };
    let listen = tuyau::listen(&format!("tcp://{local}")).await.expect_err("it is taken");
    drop(taken);
    let connect = tuyau::connect(&format!("tcp://{local}")).await.expect_err("nobody is there");
    for error in [listen, connect] {
        let printed = format!("{:?}", Box::<dyn std::error::Error>::from(error));
        assert_eq!(printed.matches("os error").count(), 1, "{printed}");
        assert!(printed.contains(&local.to_string()) && printed.contains("\n  "), "{printed}");
    }
}
