//! lettre, and SMTP's STARTTLS (RFC 3207).

use std::io;
use std::net::SocketAddr;

use lettre::Message;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use tuyau_core::names::{PEER, SECURITY};
use tuyau_core::{ConnectError, ConnectErrorKind, Context, Flow, Protection, Role, Target};
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{self, Peer};
use tuyau_testing::{Place, free_port};
use tuyau_tls::{BACKEND, Backend};

use crate::stream::AsyncStream;
use crate::{Between, assert_goes_through, base, by_tcp, trusting};

impl AsyncTokioStream for AsyncStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.0.fact(&PEER) {
            Some(Target::Addr(address)) => Ok(address),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// A mail server that takes no mail in clear text, and says what it got.
fn server(place: &Place, ca: &Ca) -> (Peer, u16) {
    let (chain, key) = ca.leaf(&["127.0.0.1"]).files(place, "mail");
    let port = free_port();
    let mut command = peers::command("aiosmtpd", "python3-aiosmtpd");
    command.args(["-n", "-l", &format!("127.0.0.1:{port}"), "--tlscert", &chain, "--tlskey", &key, "-d"]);
    command.env("PYTHONUNBUFFERED", "1");
    let mut peer = Peer::spawn(&mut command);
    peer.error_line("Server is listening");
    (peer, port)
}

/// Connects, and speaks SMTP as far as STARTTLS. The server greets once, before that, and lettre waits for it.
async fn secured(ctx: &Context) -> Result<Flow, ConnectError> {
    let mut flow = ctx.resolve().await.expect("connect").into_flow();
    assert!(answer(&mut flow).await.starts_with("220 "));
    for (line, expected) in [("EHLO tuyau.test", "250 "), ("STARTTLS", "220 ")] {
        flow.write_all(format!("{line}\r\n").as_bytes()).await.expect("write");
        let answer = answer(&mut flow).await;
        assert!(answer.starts_with(expected), "{line}: {answer}");
    }
    Ok(ctx.upgrade(flow, Role::Client).await?.with_unread(b"220 secured\r\n".to_vec()))
}

/// The last line of an answer.
async fn answer(flow: &mut Flow) -> String {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            // No further: what comes next is not clear text.
            flow.read_exact(&mut byte).await.expect("read");
            line.extend(byte);
        }
        if line.get(3) != Some(&b'-') {
            return String::from_utf8(line).expect("text");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lettre_sends_a_mail_by_starttls() {
    let (place, ca, between) = (Place::new(), Ca::new("CA"), Between::new());
    let (mut peer, port) = server(&place, &ca);
    let me = ClientId::Domain("tuyau.test".into());
    for (n, backend) in [Backend::Rustls, Backend::OpenSsl].into_iter().enumerate() {
        for (ctx, hops) in [(base(), &[][..]), (between.ssh_over_socks5(), &["socks5", "ssh"][..])] {
            let ctx = tuyau_tls::upgrades(by_tcp(ctx, port)).with(&BACKEND, backend);
            assert_goes_through(&ctx, hops).await;
            let flow = secured(&trusting(ctx.clone(), &ca)).await.expect("an upgrade");
            assert_eq!(flow.fact(&SECURITY), Some(Protection::Authenticated));

            let stream = Box::new(AsyncStream(flow));
            let mut lettre = AsyncSmtpConnection::connect_with_transport(stream, &me).await.expect("EHLO");
            let subject = format!("Mail {n} through {} hops", hops.len());
            let mail = Message::builder()
                .from("a@tuyau.test".parse().expect("an address"))
                .to("b@tuyau.test".parse().expect("an address"))
                .subject(&subject)
                .body("bonjour".to_owned())
                .expect("a mail");
            lettre.send(mail.envelope(), &mail.formatted()).await.expect("it is taken");
            lettre.quit().await.expect("goodbye");
            peer.line(&subject);

            // There is no going on in clear text with somebody else.
            let error = secured(&trusting(ctx, &Ca::new("Other"))).await.expect_err("refused");
            assert_eq!(error.kind(), ConnectErrorKind::Verification);
        }
    }
}
