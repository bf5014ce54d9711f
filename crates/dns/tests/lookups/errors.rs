//! What goes wrong, and what one is told.

use hickory_proto::op::ResponseCode;
use tokio::net::UdpSocket;
use tuyau_core::{ConnectErrorKind, Net, Policy};
use tuyau_dns::Config;
use tuyau_testing::free_port;

use crate::scripted::{Over, Scripted, address, bytes, empty};
use crate::{config, dns, failure, ip, lookup, on_host};

#[tokio::test]
async fn a_server_that_fails_is_followed_by_the_next() {
    let broken = Scripted::new(|query, _| vec![bytes(&empty(query, ResponseCode::ServFail))]).await;
    let refusing = Scripted::new(|query, _| vec![bytes(&empty(query, ResponseCode::Refused))]).await;
    let good = Scripted::new(|query, _| vec![bytes(&address(query, 60))]).await;
    let net = on_host(config(&[broken.address, refusing.address, good.address]));
    assert_eq!(lookup(&net, "a.example").await.expect("lookup").len(), 2);

    let net = on_host(Config { attempts: 1, ..config(&[broken.address, refusing.address]) });
    let error = failure(&net, "a.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    let each = |kind| {
        let (broken, refusing) = (broken.address, refusing.address);
        format!(
            "lookup of a.example. {kind}: {broken} could not find out (SERVFAIL); {refusing} refused (REFUSED)"
        )
    };
    let text = error.to_string();
    assert!(text.contains(&each("A")) && text.contains(&each("AAAA")), "{text}");
}

#[tokio::test]
async fn servfail_is_no_reason_to_try_another_name() {
    let server = Scripted::new(|query, _| {
        let code = if query.queries[0].name.to_string() == "db.one.example." {
            ResponseCode::ServFail
        } else {
            ResponseCode::NoError
        };
        let reply = if code == ResponseCode::NoError { address(query, 60) } else { empty(query, code) };
        vec![bytes(&reply)]
    })
    .await;
    let search = vec!["one.example".into(), "two.example".into()];
    let net = on_host(Config { search, ..config(&[server.address]) });
    let error = failure(&net, "db").await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    assert!(!server.seen().iter().any(|asked| asked.contains("two")), "another host's address was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_named_with_its_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let at = silent.local_addr().expect("bound");
    let error = failure(&on_host(config(&[at])), "a.example.").await;
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    assert!(
        error
            .to_string()
            .contains(&format!("lookup of a.example. AAAA: {at} did not answer within 5s (2 times)")),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let at = ([127, 0, 0, 1], free_port()).into();
    let net = on_host(config(&[at]));
    let error = failure(&net, "a.example.").await;
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(error.to_string().contains(&format!("{at} could not be asked")), "{error}");
    let net = dns(config(&[at])).over(tuyau_tokio::host());
    let error = failure(&net, "a.example.").await;
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(error.to_string().contains(&format!("{at} could not be reached: connect to {at}")), "{error}");
}

#[tokio::test]
async fn forged_and_garbled_answers_are_waited_past() {
    let server = Scripted::new(|query, _| {
        let right = address(query, 60);
        let mut wrong_id = right.clone();
        wrong_id.metadata.id ^= 0x5555;
        let mut wrong_name = right.clone();
        wrong_name.queries[0].name = "evil.example.".parse().expect("a name");
        let mut a_query = right.clone();
        a_query.metadata.message_type = hickory_proto::op::MessageType::Query;
        vec![
            bytes(&wrong_id),
            b"garbage".to_vec(),
            Vec::new(),
            bytes(&wrong_name),
            bytes(&a_query),
            bytes(&right),
        ]
    })
    .await;
    let found = lookup(&on_host(config(&[server.address])), "a.example").await.expect("lookup");
    assert_eq!(found, [ip("2001:db8::1"), ip("192.0.2.1")]);
}

#[tokio::test]
async fn garbled_answers_alone_are_counted_and_told() {
    let server = Scripted::new(|_, _| vec![b"garbage".to_vec()]).await;
    let timeout = std::time::Duration::from_millis(50);
    let net = on_host(Config { timeout, attempts: 1, ..config(&[server.address]) });
    let error = failure(&net, "a.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    assert!(error.to_string().contains("(1 that came were garbled, or not to this query)"), "{error}");
}

#[tokio::test]
async fn nonsense_and_a_hang_up_on_tcp_are_told_apart() {
    let nonsense = Scripted::new(|_, _| vec![b"SSH-2.0-server".to_vec()]).await;
    let net = dns(config(&[nonsense.address])).over(tuyau_tokio::host());
    let error = failure(&net, "a.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::Protocol);
    assert!(error.to_string().contains("answered nonsense"), "{error}");

    let rude = Scripted::new(|_, _| Vec::new()).await;
    let net = dns(config(&[rude.address])).over(tuyau_tokio::host());
    let error = failure(&net, "a.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::Closed);
    assert!(error.to_string().contains("hung up"), "{error}");
}

#[tokio::test]
async fn special_names_never_leave_the_host() {
    let server = Scripted::new(|query, _| vec![bytes(&address(query, 60))]).await;
    let search = vec!["x.example".into()];
    let net = on_host(Config { search, ..config(&[server.address]) });
    for name in ["localhost", "db.localhost.", "LOCALHOST"] {
        assert_eq!(lookup(&net, name).await.expect("lookup"), [ip("::1"), ip("127.0.0.1")]);
    }
    assert_eq!(lookup(&net, "fe80::1%lo").await.expect("lookup"), [ip("fe80::1")]);
    assert_eq!(lookup(&net, "192.0.2.9").await.expect("lookup"), [ip("192.0.2.9")]);
    for name in ["a.onion", "a.b.Onion.", "a.invalid"] {
        assert_eq!(failure(&net, name).await.kind(), ConnectErrorKind::NotFound);
    }
    assert!(failure(&net, "a.onion").await.hint().is_some_and(|hint| hint.contains("Tor")));
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_policy_without_local_lookups_sends_nothing() {
    let server = Scripted::new(|query, _| vec![bytes(&address(query, 60))]).await;
    let config = config(&[server.address]);
    let policy = Policy::new().no_local_lookup();
    for net in [on_host(config.clone()), dns(config.clone()).over(tuyau_tokio::host())] {
        for name in ["a.example", "localhost"] {
            let error = net.lookup(name, &policy).await.expect_err("looked up all the same");
            assert_eq!(error.kind(), ConnectErrorKind::Policy);
        }
        assert!(net.lookup("192.0.2.1", &policy).await.is_ok());
        assert_eq!(
            net.srv("_x._tcp", "a.example", &policy).await.unwrap_err().kind(),
            ConnectErrorKind::Policy
        );
    }
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_policy_of_networks_binds_the_name_server_too() {
    let server = Scripted::new(|query, _| vec![bytes(&address(query, 60))]).await;
    let config = config(&[server.address]);
    let policy = Policy::new().only_networks(["192.0.2.0/24".parse().expect("a network")]);
    for net in [on_host(config.clone()), dns(config.clone()).over(tuyau_tokio::host())] {
        let error = net.lookup("a.example", &policy).await.expect_err("asked all the same");
        assert_eq!(error.kind(), ConnectErrorKind::Policy);
    }
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let server = Scripted::new(|query, over| {
        let mut message = address(query, 60);
        if over == Over::Udp {
            message.answers.clear();
            message.metadata.truncation = true;
        }
        vec![bytes(&message)]
    })
    .await;
    let found = lookup(&on_host(config(&[server.address])), "a.example").await.expect("lookup");
    assert_eq!(found, [ip("2001:db8::1"), ip("192.0.2.1")]);
    let seen = ["a.example. A Tcp", "a.example. A Udp", "a.example. AAAA Tcp", "a.example. AAAA Udp"];
    assert_eq!(server.seen(), seen);
}
