//! What comes of a URI that is used: what it binds, what it may, and the ways that can't be gone.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use tuyau_core::names;
use tuyau_tokio::{BIND, FAST_OPEN, INTERFACE, KEEPALIVE, MARK, NODELAY};

use super::{parsed, refusal};
use crate::uri::{Uri, UriError, UriErrorKind, Use, assign};
use crate::{Allow, OptionInfo, SchemeKind, Via, hops, schemes, via};

#[test]
fn errors_of_use() {
    let trusted = [
        "systemd:http",
        "tcp://user:s3cret@h:1",
        "tcp://h:0",
        "tcp://h:1?nodelai=1",
        "tcp://h:1?x=1",
        "tcp://h:1?tls.sni=a",
        "tcp://h:1?tcp.connect-timeout=1s",
        "tcp://h:1?nodelay=maybe",
        "tcp://h:1?connect-timeout=5",
        "tcp://h:1?connect-timeout",
        "tcp://h:1?keepalive=maybe",
        "tcp://h:1?bind=here",
        "tcp://h:1?mark=-1",
        "tcp://h:1?interface",
        "unix:/x?nodelay",
    ];
    let untrusted = [
        "unix:/run/x.sock",
        "fifo:/p",
        "-",
        "tcp://h:1?bind=127.0.0.1",
        "tcp://h:1?nodelay&interface=eth0",
        "tcp://h:1?mark=1",
    ];
    let trusted = trusted.map(|text| refusal(parsed(text).allow(Allow::ALL)));
    let untrusted = untrusted.map(|text| refusal(parsed(text)));
    insta::assert_snapshot!([trusted.as_slice(), &untrusted].concat().join("\n\n"));
}

#[cfg(feature = "exec")]
#[test]
fn a_stranger_starts_no_program() {
    for text in ["exec:cat", "sh:cat"] {
        assert_eq!(
            parsed(text).apply(crate::context()).map(drop).unwrap_err().kind(),
            UriErrorKind::NotAllowed
        );
        let others = Allow::LOCAL | Allow::FILES | Allow::STDIO | Allow::ROUTE;
        assert!(parsed(text).allow(others).apply(crate::context()).is_err());
        assert!(parsed(text).allow(Allow::EXEC).apply(crate::context()).is_ok());
    }
}

#[test]
fn every_scheme_of_the_table_does_what_the_table_says() {
    for scheme in schemes().iter().filter(|scheme| scheme.available) {
        let uri = parsed(scheme.example);
        assert_eq!(uri.to_string(), scheme.example, "the example is in the canonical spelling");
        if scheme.kind == SchemeKind::Transport {
            assert_eq!(uri.scheme().name, scheme.name);
        }
        let wants = uri.scheme().wants;
        assert_eq!(
            uri.clone().allow(wants).apply(crate::context()).is_ok(),
            scheme.connects,
            "{}",
            scheme.name
        );
        let stranger = scheme.connects && wants == Allow::NOTHING;
        assert_eq!(uri.apply(crate::context()).is_ok(), stranger, "{}", scheme.name);
        assert_eq!(uri.check_listen().is_ok(), scheme.listens, "{}", scheme.name);
        for option in scheme.options() {
            // An example may have the option already.
            let bare = scheme.example.trim_end_matches("/websockify").trim_end_matches("?exec=cat");
            let needed = if scheme.name == "ssh" && option.name != "exec" { "?exec=cat&" } else { "?" };
            let with =
                format!("{bare}{needed}{}.{}={}", option.layer.unwrap_or("tcp"), option.name, option.example);
            let with = if option.layer.is_none() { with.replacen("tcp.", "", 1) } else { with };
            let with = parsed(&with).allow(Allow::ALL);
            let applied = with.clone().apply(crate::context());
            assert_eq!(applied.is_ok(), option.connects, "{with}: {:?}", applied.err());
            let listened = assign(&with, Use::Listen);
            assert!(!scheme.listens || listened.is_ok() == option.listens, "{with}");
        }
    }
}

#[test]
fn every_hop_of_the_table_does_what_the_table_says() {
    for hop in hops().iter().filter(|hop| hop.available) {
        let parsed = via(hop.example).unwrap_or_else(|error| panic!("{}: {error}", hop.example));
        assert_eq!(parsed.to_string(), hop.example, "the example is in the canonical spelling");
        let stranger = parsed.apply(crate::context());
        assert_eq!(stranger.is_ok(), hop.wants == Allow::NOTHING, "{}", hop.name);
        parsed.clone().allow(Allow::ALL).apply(crate::context()).expect("it is allowed");
        let given = |option: &&OptionInfo| hop.example.contains(&format!("?{}=", option.name));
        for option in hop.options().filter(|option| !given(option)) {
            let with = parsed.clone().with_option(option.name, option.example).expect("it is given once");
            with.allow(Allow::ALL).apply(crate::context()).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// What going through `hops` to `uri` is refused with.
fn no_way(uri: &str, hops: &[&str]) -> String {
    let via = |text: &&str| via(text).map(|hop| hop.allow(Allow::ALL));
    let hops: Result<Vec<Via>, UriError> = hops.iter().map(via).collect();
    let routed = hops.and_then(|hops| {
        hops.into_iter().fold(parsed(uri).allow(Allow::ALL), Uri::via).apply(crate::context()).map(drop)
    });
    routed.expect_err(uri).to_string()
}

#[cfg(feature = "exec")]
#[test]
fn a_way_that_cant_be_honoured_is_an_error() {
    let errors = [
        no_way("tcp://h:1", &[""]),
        no_way("tcp://h:1", &["bastion:22"]),
        no_way("tcp://h:1", &["tcp://h:1"]),
        no_way("tcp://h:1", &["exce:ssh bastion"]),
        no_way("tcp://h:1", &["exec:ssh %x"]),
        no_way("tcp://h:1", &["exec:nc %h %p", "exec:nc %h %p"]),
        no_way("mem:x", &["exec:nc %h %p"]),
        no_way("exec:cat", &["exec:nc %h %p"]),
        no_way("tcp://h:1?nodelay=false", &["exec:nc %h %p"]),
        via("exec:nc %h %p").and_then(|hop| hop.apply(crate::context())).map(drop).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n\n"));
}

#[tokio::test]
async fn a_uri_binds_what_it_says() {
    let uri = "tcp://[fe80::1%25lo]:7?nodelay=no&keepalive=30s&bind=[::1]:5&interface=lo&mark=7&fast-open\
               &connect-timeout=1m30s&attempt-timeout=2s&attempt-delay=50ms";
    let ctx = parsed(uri).allow(Allow::ROUTE).apply(crate::context()).expect("it can be used");
    assert_eq!(ctx.get(&names::HOST).await.unwrap().as_deref(), Some("fe80::1%lo"));
    assert_eq!(ctx.get(&names::PORT).await.unwrap(), Some(7));
    assert_eq!(ctx.get(&NODELAY).await.unwrap(), Some(false));
    let keepalive = ctx.get(&KEEPALIVE).await.unwrap().expect("it is on");
    assert_eq!(keepalive.idle, Some(Duration::from_secs(30)));
    assert_eq!(ctx.get(&BIND).await.unwrap(), Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 5))));
    assert_eq!(ctx.get(&INTERFACE).await.unwrap().as_deref(), Some("lo"));
    assert_eq!(ctx.get(&MARK).await.unwrap(), Some(7));
    assert_eq!(ctx.get(&FAST_OPEN).await.unwrap(), Some(true));
    assert_eq!(ctx.get(&names::DEADLINE).await.unwrap(), Some(Duration::from_secs(90)));
    assert_eq!(ctx.get(&names::ATTEMPT_TIMEOUT).await.unwrap(), Some(Duration::from_secs(2)));
    assert_eq!(ctx.get(&names::ATTEMPT_DELAY).await.unwrap(), Some(Duration::from_millis(50)));

    let off = parsed("tcp://h:1?keepalive=false").apply(ctx).expect("it can be used");
    assert_eq!(off.get(&KEEPALIVE).await.unwrap(), None);
}

#[tokio::test]
async fn a_uri_shortens_a_deadline_and_never_lengthens_it() {
    let ctx = crate::context().with(&names::DEADLINE, Duration::from_secs(10));
    for (text, deadline) in [("1h", 10), ("2s", 2)] {
        let uri = parsed(&format!("tcp://h:1?connect-timeout={text}"));
        let ctx = uri.apply(ctx.clone()).expect("it can be used");
        assert_eq!(ctx.get(&names::DEADLINE).await.unwrap(), Some(Duration::from_secs(deadline)), "{text}");
    }
}
