//! Upgrades in mid-stream, with real servers; and clear text that was put in front.

use tuyau_core::names::{HOST, LAYER, SECURITY};
use tuyau_core::{ConnectErrorKind, Context, Flow, Protection, Role, Target};
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{self, Peer};
use tuyau_testing::{Place, free_port};
use tuyau_tls::{BACKEND, Backend, ROOTS};

use crate::support::*;

/// A context for upgrades as a client, of a server called a.test.
fn upgrading(backend: Backend, ca: &Ca) -> Context {
    tuyau_tls::upgrades(tuyau_tokio::derivations(Context::new()))
        .with(&BACKEND, backend)
        .with(&ROOTS, roots(ca))
        .with(&HOST, "a.test".into())
}

async fn dial(port: u16) -> Flow {
    let target = Target::Addr(([127, 0, 0, 1], port).into());
    tuyau_tokio::host().connect(&target, &cx()).await.expect("connect")
}

/// RFC 3207, with a mail server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starttls() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let (chain, key) = ca.leaf(&["a.test"]).files(&place, "mail");
    let port = free_port();
    let mut command = peers::command("aiosmtpd", "python3-aiosmtpd");
    command.args(["-n", "-l", &format!("127.0.0.1:{port}"), "--tlscert", &chain, "--tlskey", &key, "-d"]);
    command.env("PYTHONUNBUFFERED", "1");
    let mut peer = Peer::spawn(&mut command);
    peer.error_line("Server is listening");
    for backend in BOTH {
        let ctx = upgrading(backend, &ca);
        let mut flow = dial(port).await;
        assert!(read_line(&mut flow).await.starts_with("220 "));
        ask(&mut flow, "EHLO client.test", "250 ").await;
        ask(&mut flow, "STARTTLS", "220 ").await;
        let mut flow = ctx.upgrade(flow, Role::Client).await.expect("an upgrade");
        assert_eq!(flow.fact(&SECURITY), Some(Protection::Authenticated));
        ask(&mut flow, "EHLO client.test", "250 ").await;
        ask(&mut flow, "MAIL FROM:<a@client.test>", "250 ").await;
        ask(&mut flow, "RCPT TO:<b@a.test>", "250 ").await;
        ask(&mut flow, "DATA", "354 ").await;
        ask(&mut flow, "Subject: hello\r\n\r\nsecret\r\n.", "250 ").await;
        ask(&mut flow, "QUIT", "221 ").await;

        // Somebody else's certificate ends it: there is no going on in clear text.
        let mut flow = dial(port).await;
        read_line(&mut flow).await;
        ask(&mut flow, "EHLO client.test", "250 ").await;
        ask(&mut flow, "STARTTLS", "220 ").await;
        let error = ctx.clone().with(&HOST, "b.test".into()).upgrade(flow, Role::Client).await;
        assert_eq!(error.expect_err("it is another's").kind(), ConnectErrorKind::Verification);
    }
}

/// Sends a line, and reads lines up to the last of the answer, which begins with `expected`.
async fn ask(flow: &mut Flow, line: &str, expected: &str) {
    flow.write_all(format!("{line}\r\n").as_bytes()).await.expect("write");
    loop {
        let answer = read_line(flow).await;
        if answer.as_bytes().get(3) != Some(&b'-') {
            assert!(answer.starts_with(expected), "{line}: {answer}");
            return;
        }
    }
}

/// SSLRequest: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let (chain, key) = ca.leaf(&["a.test"]).files(&place, "db");
    let server = peers::postgres_tls(&chain, &key);
    for backend in BOTH {
        let mut flow = dial(server.port()).await;
        flow.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.expect("write");
        let mut answer = [0];
        flow.read_exact(&mut answer).await.expect("read");
        assert_eq!(&answer, b"S", "it has TLS");
        let mut flow = upgrading(backend, &ca).upgrade(flow, Role::Client).await.expect("an upgrade");
        let parameters = b"user\0postgres\0database\0postgres\0\0";
        let mut startup = (8 + parameters.len() as u32).to_be_bytes().to_vec();
        startup.extend_from_slice(&[0, 3, 0, 0]);
        startup.extend_from_slice(parameters);
        flow.write_all(&startup).await.expect("write");
        let query = b"select version from pg_stat_ssl where pid = pg_backend_pid()\0";
        assert!(until_ready(&mut flow).await.contains("server_version"));
        let mut message = b"Q".to_vec();
        message.extend_from_slice(&(4 + query.len() as u32).to_be_bytes());
        message.extend_from_slice(query);
        flow.write_all(&message).await.expect("write");
        let answer = until_ready(&mut flow).await;
        assert!(answer.contains("TLSv1.3"), "{answer}");
    }
}

/// The server's messages up to the one that says that it is ready.
async fn until_ready(flow: &mut Flow) -> String {
    let mut all = Vec::new();
    loop {
        let mut head = [0; 5];
        flow.read_exact(&mut head).await.expect("read");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let mut body = vec![0; length];
        flow.read_exact(&mut body).await.expect("read");
        all.extend_from_slice(&body);
        if head[0] == b'Z' {
            return String::from_utf8_lossy(&all).into_owned();
        }
    }
}

#[tokio::test]
async fn clear_text_before_the_handshake_is_refused() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        // Read along with the consent to the upgrade, and put back.
        let (a, _b) = tuyau_tokio::duplex();
        let flow = a.with_unread(b"250 injected\r\n".to_vec());
        let error = upgrading(backend, &ca).upgrade(flow, Role::Client).await.expect_err("injected");
        assert_eq!(
            said(&error),
            "the peer sent clear text beyond its consent to the handshake (close the connection: somebody on the \
             way may have put it there)"
        );
        // Not read yet: it comes where TLS should.
        let (a, mut b) = tuyau_tokio::duplex();
        b.write_all(b"250 injected\r\n").await.expect("write");
        let error = upgrading(backend, &ca).upgrade(a, Role::Client).await.expect_err("injected");
        assert!(
            said(&error).contains("plain text where TLS should be: \"250 injected\""),
            "{}",
            said(&error)
        );
        // And to a server.
        let server = server(serving(backend, &ca.leaf(&["a.test"])));
        let ctx = Context::new().with(&LAYER, server.layer());
        let (a, _b) = tuyau_tokio::duplex();
        let flow = a.with_unread(b"RSET\r\n".to_vec());
        let error = ctx.upgrade(flow, Role::Server).await.expect_err("injected");
        assert!(said(&error).contains("clear text beyond its consent"), "{}", said(&error));
    }
}

#[tokio::test]
async fn both_sides_upgrade() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let server = server(serving(b, &ca.leaf(&["a.test"])));
        let there = Context::new().with(&LAYER, server.layer());
        let here = upgrading(a, &ca);
        let (mut ours, mut theirs) = tuyau_tokio::duplex();
        ours.write_all(b"go\n").await.expect("write");
        assert_eq!(read_line(&mut theirs).await, "go\n");
        let (ours, theirs) =
            tokio::join!(here.upgrade(ours, Role::Client), there.upgrade(theirs, Role::Server));
        let (mut ours, mut theirs) = (ours.expect("an upgrade"), theirs.expect("an upgrade"));
        ours.write_all(b"hello\n").await.expect("write");
        assert_eq!(read_line(&mut theirs).await, "hello\n");
    }
}
