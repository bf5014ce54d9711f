//! The PROXY protocol: headers, listeners that read them, and peers that they are sent to.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tuyau_core::names::{LOCAL, PEER, RUNTIME};
use tuyau_core::{
    AcceptError, AcceptErrorKind, Accepted, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Layer,
    Listener, Net, Network, RawListener, Role, Target,
};
use tuyau_proxy::proxy_protocol::{
    AcceptProxy, Decoded, HEADER, Header, HeaderError, PROXY_PROTOCOL, SEND_PROXY, SendProxy, Tlv, Version,
    over,
};
use tuyau_testing::peers::{Proxy, command, haproxy, run};
use tuyau_testing::{Abilities, Pair, flow_conformance, free_port};
use tuyau_tokio::{Host, TCP, derivations, duplex};

fn addr(text: &str) -> Target {
    Target::Addr(text.parse().expect("an address"))
}

fn loopback() -> [Network; 1] {
    ["127.0.0.0/8".parse().expect("a network")]
}

fn ctx() -> Context {
    derivations(Context::new())
}

async fn listening() -> (Listener, u16) {
    let cx = ConnectCx::new(&Context::new()).expect("a context");
    let listener = Host::new().listen(&addr("127.0.0.1:0"), &cx).await.expect("listen");
    match listener.local() {
        Target::Addr(local) => (listener, local.port()),
        other => panic!("{other}"),
    }
}

async fn accept(listener: &mut Listener) -> Result<Flow, ConnectError> {
    listener.accept().await.expect("accept").finish().await
}

fn decoded(bytes: &[u8]) -> Result<(Header, usize), HeaderError> {
    match Header::decode(bytes)? {
        Decoded::Complete { header, length } => Ok((header, length)),
        Decoded::Partial(n) => panic!("{n} bytes wanted of {}", bytes.escape_ascii()),
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, rest].concat()
}

#[test]
fn lines_of_version_1() {
    let (header, length) = decoded(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET").unwrap();
    assert_eq!(length, 45);
    let addresses = header.addresses().unwrap();
    assert_eq!(
        (&addresses.source, &addresses.destination),
        (&addr("192.0.2.1:56324"), &addr("198.51.100.2:443"))
    );
    let longest = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    assert_eq!(decoded(longest).unwrap().0, Header::local(Version::V1));
    assert_eq!(decoded(b"PROXY UNKNOWN\r\n").unwrap().0.addresses(), None);
    let (header, _) = decoded(b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 0 65535\r\n").unwrap();
    assert_eq!(header.addresses().unwrap().source, addr("[2001:db8::1]:0"));
    for bad in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
    ] {
        assert_eq!(Header::decode(bad.as_bytes()), Err(HeaderError::BadLine), "{bad:?}");
    }
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
    assert_eq!(Header::decode(&long), Err(HeaderError::TooLong));
    for other in ["PROXX", "GET / HTTP/1.1", "\r\n\r\n\0\r\nQUIX", "proxy TCP4", "PROXY\t"] {
        assert_eq!(Header::decode(other.as_bytes()), Err(HeaderError::NoHeader), "{other:?}");
    }
}

#[test]
fn headers_of_version_2() {
    let ssl = [&[7, 0, 0, 0, 0][..], b"\x21\0\x07TLSv1.3", b"\x22\0\x05alice", b"\x25\0\0"].concat();
    let mut bytes = v2(b"\x21\x11\0\0\x7f\0\0\x01\x7f\0\0\x02\0\x01\0\x02");
    for (kind, value) in
        [(1_u8, &b"h2"[..]), (2, b"db.test"), (4, b"xx"), (5, b"id"), (0x20, &ssl), (0xe0, b"?")]
    {
        bytes.push(kind);
        bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend(value);
    }
    let length = u16::try_from(bytes.len() - 16).unwrap();
    bytes[14..16].copy_from_slice(&length.to_be_bytes());
    let whole = bytes.len();
    bytes.extend(b"SSH-2.0");
    let (header, length) = decoded(&bytes).unwrap();
    assert_eq!((header.version(), length), (Version::V2, whole));
    assert_eq!(header.addresses().unwrap().destination, addr("127.0.0.2:2"));
    assert_eq!((header.alpn(), header.authority()), (Some(&b"h2"[..]), Some("db.test")));
    assert_eq!((header.tlv(Tlv::UNIQUE_ID), header.tlv(0xe0)), (Some(&b"id"[..]), Some(&b"?"[..])));
    assert_eq!(header.tlvs().len(), 5, "what fills up is left out");
    let ssl = header.ssl().unwrap();
    assert!(ssl.tls && ssl.certificate && ssl.verified);
    assert_eq!((ssl.version.as_deref(), ssl.common_name.as_deref()), (Some("TLSv1.3"), Some("alice")));

    // What LOCAL says else is ignored, whatever family it is of.
    for rest in [&b"\x20\0\0\0"[..], b"\x20\xff\0\x01x", b"\x20\x11\0\x02xx"] {
        assert_eq!(decoded(&v2(rest)).unwrap(), (Header::local(Version::V2), 12 + rest.len()));
    }
    // Of no family: nothing is known of the client.
    assert_eq!(decoded(&v2(b"\x21\0\0\0")).unwrap().0.addresses(), None);
    let mut unix = v2(b"\x21\x31\0\xd8/run/s");
    unix.resize(16 + 108, 0);
    unix.extend(b"\0name");
    unix.resize(16 + 216, 0);
    let addresses = decoded(&unix).unwrap().0.addresses().unwrap().clone();
    assert_eq!((addresses.source, addresses.destination), (Target::path("/run/s"), Target::path("\0name")));
    for (rest, error) in [
        (&b"\x11\x11\0\0"[..], HeaderError::BadCommand),
        (b"\x22\x11\0\0", HeaderError::BadCommand),
        (b"\x21\x12\0\x0c............", HeaderError::BadCommand),
        (b"\x21\x99\0\0", HeaderError::BadCommand),
        (b"\x21\x11\0\x0b...........", HeaderError::Truncated),
        (b"\x21\x21\0\x0c............", HeaderError::Truncated),
        (b"\x21\x31\0\x01.", HeaderError::Truncated),
        (b"\x21\0\0\x02\x01\0", HeaderError::Truncated),
        (b"\x21\0\0\x04\x01\0\x02.", HeaderError::Truncated),
        (b"\x21\0\0\x04\x03\0\x01.", HeaderError::Truncated),
        (b"\x21\0\0\x07\x03\0\x04....", HeaderError::BadChecksum),
        (b"\x21\0\x40\0", HeaderError::TooLong),
    ] {
        assert_eq!(Header::decode(&v2(rest)), Err(error), "{}", rest.escape_ascii());
    }
    assert_eq!(Header::local(Version::V2).encode().unwrap(), v2(b"\x20\0\0\0"));
}

#[test]
fn what_a_version_cant_carry_it_says() {
    let (v4, v6) = (addr("127.0.0.1:1"), addr("[::1]:2"));
    let long = Target::path("x".repeat(109));
    for header in [
        Header::new(Version::V1, v4.clone(), v6.clone()),
        Header::new(Version::V2, v4.clone(), v6),
        Header::new(Version::V1, Target::path("a"), Target::path("b")),
        Header::new(Version::V2, Target::path("a"), long),
        Header::new(Version::V2, Target::name("a", 1), v4.clone()),
        Header::new(Version::V1, v4.clone(), v4.clone()).with_tlv(Tlv::new(Tlv::ALPN, *b"h2")),
        Header::new(Version::V1, v4.clone(), v4.clone()).checksummed(),
        Header::local(Version::V2).with_tlv(Tlv::new(Tlv::CRC32C, [0; 4])),
    ] {
        assert_eq!(header.encode(), Err(HeaderError::Unencodable), "{header:?}");
    }
    let big = Header::new(Version::V2, v4.clone(), v4).with_tlv(Tlv::new(5, vec![0; Header::MAX]));
    assert_eq!(big.encode(), Err(HeaderError::TooLong));
}

fn any_header() -> impl Strategy<Value = Header> {
    let tlv = (0xe0..=0xef_u8, vec(any::<u8>(), 0..40)).prop_map(|(kind, value)| Tlv::new(kind, value));
    let v4 =
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| Target::from(SocketAddr::from((ip, port))));
    let v6 =
        (any::<[u16; 8]>(), any::<u16>()).prop_map(|(ip, port)| Target::from(SocketAddr::from((ip, port))));
    let pair = prop_oneof![(v4.clone(), v4).boxed(), (v6.clone(), v6).boxed()];
    (pair, any::<bool>(), vec(tlv, 0..4), any::<bool>()).prop_map(|((from, to), old, tlvs, sum)| {
        if old {
            return Header::new(Version::V1, from, to);
        }
        let header = tlvs.into_iter().fold(Header::new(Version::V2, from, to), Header::with_tlv);
        if sum { header.checksummed() } else { header }
    })
}

/// Bytes that get past the first look.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let line = "PROXY [ -~\r\n]{0,120}".prop_map(String::into_bytes);
    let binary = (prop_oneof![Just(0x20_u8), Just(0x21), any::<u8>()], vec(any::<u8>(), 0..300));
    let binary = binary.prop_map(|(command, mut rest)| {
        if rest.len() > 2 {
            rest[1] = 0; // a length that there are bytes for
        }
        [SIGNATURE, &[command], &rest].concat()
    });
    prop_oneof![vec(any::<u8>(), 0..200), line, binary]
}

proptest! {
    #[test]
    fn what_is_written_is_read(header in any_header(), after in vec(any::<u8>(), 0..20)) {
        let bytes = header.encode().unwrap();
        let all = [&bytes[..], &after].concat();
        prop_assert_eq!(decoded(&all), Ok((header, bytes.len())));
        // Every beginning is one, and asks for no more than there is.
        for end in 0..bytes.len() {
            match Header::decode(&bytes[..end]) {
                Ok(Decoded::Partial(wanted)) => prop_assert!(end < wanted && wanted <= bytes.len()),
                other => prop_assert!(false, "{:?} of {}", other, end),
            }
        }
    }

    /// By another implementation.
    #[test]
    fn others_read_what_is_written(header in any_header()) {
        let bytes = header.encode().unwrap();
        let config = proxy_header::ParseConfig { include_tlvs: true, ..Default::default() };
        let (theirs, length) = proxy_header::ProxyHeader::parse(&bytes, config).unwrap();
        prop_assert_eq!(length, bytes.len());
        let (theirs, ours) = (theirs.proxied_address().unwrap().clone(), header.addresses().unwrap());
        prop_assert_eq!(Target::from(theirs.source), ours.source.clone());
        prop_assert_eq!(Target::from(theirs.destination), ours.destination.clone());
    }

    #[test]
    fn a_changed_bit_shows_in_the_checksum(header in any_header(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        prop_assume!(header.version() == Version::V2);
        let header = header.checksummed();
        let mut bytes = header.encode().unwrap();
        let at = 16 + at.index(bytes.len() - 16);
        bytes[at] ^= 1_u8 << bit;
        // That there is a checksum is not protected by it.
        if let Ok(Decoded::Complete { header, .. }) = Header::decode(&bytes) {
            prop_assert!(!header.has_checksum());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any_bytes()) {
        if let Ok(Decoded::Complete { header, length }) = Header::decode(&bytes) {
            prop_assert!(length <= bytes.len() && length <= Header::MAX);
            let _ = (header.ssl(), header.authority(), header.encode());
        }
    }
}

/// A listener in memory.
struct One(Option<Flow>);

impl RawListener for One {
    fn poll_accept(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Accepted, AcceptError>> {
        let flow = self.0.take().ok_or(AcceptError::new(AcceptErrorKind::Closed));
        std::task::Poll::Ready(flow.map(Accepted::Flow))
    }

    fn local(&self) -> Target {
        Target::Described("memory".into())
    }
}

/// What becomes of a connection that begins so; it stays open.
async fn received(accept: AcceptProxy, bytes: &[u8]) -> (Result<Flow, ConnectError>, Flow) {
    let (mut client, server) = duplex();
    let mut listener = accept.listen(Listener::new(One(Some(server))), &ctx()).unwrap();
    client.write_all(bytes).await.unwrap();
    (self::accept(&mut listener).await, client)
}

fn anybody() -> AcceptProxy {
    AcceptProxy::from_networks([]).and_unaddressed()
}

#[tokio::test]
async fn facts_come_from_the_header_and_what_follows_it_is_not_lost() {
    let header = Header::new(Version::V2, addr("192.0.2.1:1"), addr("192.0.2.2:2"))
        .with_tlv(Tlv::new(Tlv::AUTHORITY, *b"db.test"))
        .checksummed();
    let (flow, _client) = received(anybody(), &[&header.encode().unwrap()[..], b"early"].concat()).await;
    let mut flow = flow.unwrap();
    assert_eq!((flow.fact(&PEER), flow.fact(&LOCAL)), (Some(addr("192.0.2.1:1")), Some(addr("192.0.2.2:2"))));
    assert_eq!(flow.fact(&HEADER).unwrap().authority(), Some("db.test"));
    let mut got = [0; 5];
    flow.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"early");
    // The sender's own connection: the facts are those of the connection itself.
    let (flow, _client) = received(anybody(), &v2(b"\x20\0\0\0")).await;
    let flow = flow.unwrap();
    assert!(matches!(flow.fact(&PEER), Some(Target::Described(_))));
    assert_eq!(flow.fact(&HEADER).unwrap().addresses(), None);
}

#[tokio::test]
async fn whoever_sends_no_header_is_shown_with_what_it_said() {
    let (flow, _client) = received(anybody(), b"GET / HTTP/1.1\r\n").await;
    let error = flow.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Protocol);
    assert!(error.to_string().contains("sent no good PROXY protocol header: `GET / HTTP/1.1`"), "{error}");
    assert!(error.hint().unwrap().contains("send-proxy"), "{error:?}");
    let (mut client, server) = duplex();
    let mut listener = anybody().listen(Listener::new(One(Some(server))), &ctx()).unwrap();
    client.write_all(b"PROXY T").await.unwrap();
    drop(client);
    let error = accept(&mut listener).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_given_up() {
    for bytes in [&b""[..], b"PROXY TCP4", SIGNATURE] {
        let before = tokio::time::Instant::now();
        let (flow, _client) = received(anybody().timeout(Duration::from_secs(3)), bytes).await;
        assert_eq!(flow.unwrap_err().kind(), ConnectErrorKind::TimedOut);
        assert_eq!(before.elapsed(), Duration::from_secs(3));
    }
    let (listener, _) = listening().await;
    let error = anybody().listen(listener, &Context::new().without(&RUNTIME)).unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
}

#[tokio::test]
async fn only_named_networks_are_believed() {
    let bytes = Header::new(Version::V1, addr("192.0.2.1:1"), addr("192.0.2.2:2")).encode().unwrap();
    for (network, believed) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let (listener, port) = listening().await;
        let network: Network = network.parse().unwrap();
        let mut listener =
            AcceptProxy::from_networks([network]).and_unaddressed().listen(listener, &ctx()).unwrap();
        let cx = ConnectCx::new(&Context::new()).unwrap();
        let mut client = Host::new().connect(&addr(&format!("127.0.0.1:{port}")), &cx).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        match accept(&mut listener).await {
            Ok(flow) => assert!(believed && flow.fact(&PEER) == Some(addr("192.0.2.1:1"))),
            Err(error) => {
                assert!(!believed, "{error:?}");
                assert_eq!(error.kind(), ConnectErrorKind::Policy);
                assert!(error.to_string().contains("is in none of the networks that may send"), "{error}");
            }
        }
    }
    let (flow, _client) = received(AcceptProxy::from_networks(loopback()), &bytes).await;
    assert_eq!(flow.unwrap_err().kind(), ConnectErrorKind::Policy, "memory has no address");
}

#[tokio::test]
async fn each_side_has_its_role() {
    let cx = ConnectCx::new(&ctx()).unwrap();
    let error = anybody().wrap(duplex().0, Role::Client, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    let error = SendProxy::new(Version::V2).wrap(duplex().0, Role::Server, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    // Memory has no addresses to tell of.
    let (ours, _theirs) = duplex();
    let error = SendProxy::new(Version::V2).wrap(ours, Role::Client, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    let (ours, mut theirs) = duplex();
    SendProxy::of(Version::V1, &ours).wrap(ours, Role::Client, &cx).await.unwrap();
    let mut got = [0; 15];
    theirs.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"PROXY UNKNOWN\r\n");
}

/// To `port` of this machine, with `send` in front.
fn sending(port: u16, send: SendProxy) -> Context {
    use tuyau_core::names::{HOST, PORT};
    let ctx = ctx().with(&HOST, "127.0.0.1".into()).with(&PORT, port).with(&SEND_PROXY, send);
    over(ctx, &PROXY_PROTOCOL, &TCP).offer(&PROXY_PROTOCOL)
}

async fn both() -> Pair {
    let (listener, port) = listening().await;
    let mut listener = AcceptProxy::from_networks(loopback()).listen(listener, &ctx()).expect("a runtime");
    let ctx = sending(port, SendProxy::new(Version::V2));
    let (client, server) = tokio::join!(ctx.resolve(), accept(&mut listener));
    Pair::new(client.expect("connect").into_flow(), server.expect("a header")).keep(listener)
}

flow_conformance!(between_both_sides, Abilities::ALL, both);

#[tokio::test]
async fn by_default_the_connections_own_addresses_are_sent() {
    let pair = both().await;
    assert_eq!(pair.a.fact(&LOCAL), pair.b.fact(&PEER));
    assert!(pair.b.fact(&HEADER).is_some());
}

#[tokio::test]
async fn a_header_that_cant_be_written_costs_no_packet() {
    let (mut listener, port) = listening().await;
    let mixed = Header::new(Version::V2, addr("127.0.0.1:1"), addr("[::1]:2"));
    let error = sending(port, SendProxy::header(mixed)).resolve().await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse, "{error:#}");
    assert!(format!("{error:#}").contains("the PROXY protocol header can't be written"), "{error:#}");
    let untouched = tokio::select! {
        biased;
        _ = listener.accept() => false,
        () = tokio::task::yield_now() => true,
    };
    assert!(untouched);
}

fn balancer(backend: u16) -> (Proxy, [u16; 4]) {
    let ports = [(); 4].map(|()| free_port());
    let [v1, v2, accepts, _] = ports;
    let proxy = haproxy(&format!(
        "listen v1\n bind 127.0.0.1:{v1}\n server s 127.0.0.1:{backend} send-proxy\n\
         listen v2\n bind 127.0.0.1:{v2}\n\
         \x20server s 127.0.0.1:{backend} send-proxy-v2 proxy-v2-options crc32c,unique-id\n unique-id-format id-%pid\n\
         listen both\n bind 127.0.0.1:{accepts} accept-proxy\n\
         \x20server s 127.0.0.1:{backend} send-proxy-v2 proxy-v2-options crc32c\n\
         listen ready\n bind 127.0.0.1:{{port}}\n server s 127.0.0.1:{backend}\n"
    ));
    (proxy, ports)
}

#[tokio::test]
async fn haproxys_headers_are_read() {
    let (listener, port) = listening().await;
    let (_haproxy, [v1, v2, ..]) = balancer(port);
    let mut listener = AcceptProxy::from_networks(loopback()).listen(listener, &ctx()).unwrap();
    // What tried whether it is ready sent nothing.
    let cx = ConnectCx::new(&ctx()).unwrap();
    for (at, version) in [(v1, Version::V1), (v2, Version::V2)] {
        let target = addr(&format!("127.0.0.1:{at}"));
        let mut client = Host::new().connect(&target, &cx).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut server = loop {
            match accept(&mut listener).await {
                Ok(server) => break server,
                Err(error) => assert_eq!(error.kind(), ConnectErrorKind::Closed, "{error:?}"),
            }
        };
        assert_eq!(server.fact(&PEER), client.fact(&LOCAL));
        assert_eq!(server.fact(&LOCAL), Some(target));
        let header = server.fact(&HEADER).unwrap();
        assert_eq!(header.version(), version);
        if version == Version::V2 {
            let id = header.tlv(Tlv::UNIQUE_ID).unwrap();
            assert!(id.starts_with(b"id-"), "{}", id.escape_ascii());
        }
        let mut got = [0; 5];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }
}

#[tokio::test]
async fn haproxy_reads_what_is_sent() {
    let (listener, port) = listening().await;
    let (_haproxy, [_, _, accepts, _]) = balancer(port);
    let mut listener = AcceptProxy::from_networks(loopback()).listen(listener, &ctx()).unwrap();
    let (v4, v6) = (["192.0.2.7:1234", "198.51.100.1:443"], ["[2001:db8::7]:1234", "[2001:db8::1]:443"]);
    for (version, [from, to]) in [(Version::V1, v4), (Version::V1, v6), (Version::V2, v4), (Version::V2, v6)]
    {
        let header = Header::new(version, addr(from), addr(to));
        let header = if version == Version::V2 { header.checksummed() } else { header };
        let ctx = sending(accepts, SendProxy::header(header));
        let mut client = ctx.resolve().await.unwrap().into_flow();
        client.write_all(b"x").await.unwrap();
        let server = loop {
            match accept(&mut listener).await {
                Ok(server) => break server,
                Err(error) => assert_eq!(error.kind(), ConnectErrorKind::Closed, "{error:?}"),
            }
        };
        // haproxy passes on whom we named.
        assert_eq!((server.fact(&PEER), server.fact(&LOCAL)), (Some(addr(from)), Some(addr(to))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curls_header_is_read() {
    let (listener, port) = listening().await;
    let mut listener = AcceptProxy::from_networks(loopback()).listen(listener, &ctx()).unwrap();
    let curl = tokio::task::spawn_blocking(move || {
        let mut curl = command("curl", "curl");
        let url = format!("http://127.0.0.1:{port}/");
        curl.args(["-sS", "--noproxy", "*", "--haproxy-protocol", &url]);
        run(curl, b"").code(0).text().to_owned()
    });
    let mut server = accept(&mut listener).await.unwrap();
    assert_eq!(server.fact(&LOCAL), Some(addr(&format!("127.0.0.1:{port}"))));
    server.read(&mut [0; 1024]).await.unwrap();
    server.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(curl.await.unwrap(), "hello");
}
