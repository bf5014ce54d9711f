//! What is a URI and what isn't, and how the errors read.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use tuyau_core::names;
use tuyau_tokio::{BIND, FAST_OPEN, INTERFACE, KEEPALIVE, MARK, NODELAY};

use super::{Address, Host, Uri, UriError, UriErrorKind, Use, assign, uri};
use crate::{Allow, OptionInfo, SchemeKind, Via, hops, schemes, via};

fn parsed(text: &str) -> Uri {
    uri(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> UriError {
    match uri(text) {
        Ok(uri) => panic!("{text} is {uri}"),
        Err(error) => error,
    }
}

#[test]
fn every_form_is_parsed_and_spelt_in_one_way() {
    let table = [
        ("tcp://localhost:8080", "tcp://localhost:8080"),
        ("TCP://LocalHost:08080/", "tcp://localhost:8080"),
        ("tcp://h", "tcp://h"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://[2001:DB8::0:1]:65535", "tcp://[2001:db8::1]:65535"),
        ("tcp://[::ffff:1.2.3.4]:1", "tcp://[::ffff:1.2.3.4]:1"),
        ("tcp://[fe80::1%25eth0]:1", "tcp://[fe80::1%25eth0]:1"),
        ("tcp://[fe80::1%eth0]:1", "tcp://[fe80::1%25eth0]:1"),
        ("tcp://[fe80::1%25]:1", "tcp://[fe80::1%2525]:1"),
        ("tcp://[fe80::1%2525]:1", "tcp://[fe80::1%2525]:1"),
        ("tcp://bücher.example:1", "tcp://xn--bcher-kva.example:1"),
        ("tcp://B%C3%BCcher.example.:1", "tcp://xn--bcher-kva.example.:1"),
        ("tcp://faß.de:1", "tcp://xn--fa-hia.de:1"),
        ("tcp://１２７.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://my_db:1", "tcp://my_db:1"),
        ("tcp://a%2db:1", "tcp://a-b:1"),
        ("tcp://u%40x@h:1", "tcp://u%40x@h:1"),
        ("tcp://h:1?nodelay=false&connect-timeout=5s", "tcp://h:1?nodelay=false&connect-timeout=5s"),
        ("tcp://h:1?tcp.nodelay", "tcp://h:1?tcp.nodelay"),
        ("tcp://h:1?interface=a%26b", "tcp://h:1?interface=a%26b"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:x", "unix:x"),
        ("unix:////x", "unix:////x"),
        ("unix:/a%3Fb%23c%20d", "unix:/a%3Fb%23c%20d"),
        ("unix:/%ff", "unix:/%FF"),
        ("unix:@name", "unix:@name"),
        ("unix:@a%00b", "unix:@a%00b"),
        ("unix:%40file", "unix:%40file"),
        ("unix:/x?connect-timeout=1s", "unix:/x?connect-timeout=1s"),
        ("mem:ping", "mem:ping"),
        ("mem:é", "mem:%C3%A9"),
        ("fifo:/p", "fifo:/p"),
        ("fifo:@x", "fifo:%40x"),
        ("systemd:", "systemd:"),
        ("systemd:http", "systemd:http"),
        ("-", "-"),
        ("tls://h:1", "tls://h:1"),
        ("TLS+TCP://h:1", "tls://h:1"),
        ("tls+tls+tcp://h:1", "tls+tls://h:1"),
        ("wss://h", "wss://h"),
        ("ws+tls+tcp://h:1/", "wss://h:1"),
        ("ws+tls+ws+tls://h/a%20b", "wss+wss://h/a%20b"),
        ("ws://h:1?path=%2Fa&host=b", "ws://h:1?path=/a&host=b"),
        ("tls+unix:/run/x.sock?sni=a.example", "tls+unix:/run/x.sock?sni=a.example"),
        ("tls+exec:cat -u", "tls+exec:cat -u"),
        ("tls+mem:x?tls.1.sni=a", "tls+mem:x?tls.1.sni=a"),
        ("ssh://ops@h?exec=a%20b", "ssh://ops@h?exec=a%20b"),
    ];
    for (text, spelt) in table {
        assert_eq!(parsed(text).to_string(), spelt, "{text}");
        assert_eq!(parsed(spelt).to_string(), spelt, "{text}");
    }
}

#[test]
fn a_zone_reaches_the_host() {
    assert_eq!(parsed("tcp://[fe80::1%25eth0]:1").host().as_deref(), Some("fe80::1%eth0"));
    assert_eq!(parsed("tcp://[fe80::1%25]:1").host().as_deref(), Some("fe80::1%25"));
    assert_eq!(parsed("tcp://[::1]:1").host().as_deref(), Some("::1"));
}

#[test]
fn paths_are_bytes_and_names_are_not_paths() {
    assert_eq!(parsed("unix:/%ff").address, Address::Socket(b"/\xff".into()));
    assert_eq!(parsed("unix:@%40").address, Address::Socket(b"\0@".into()));
    assert_eq!(parsed("unix:%40").address, Address::Socket(b"@".into()));
    assert_eq!(parsed("fifo:@x").address, Address::Path(b"@x".into()));
}

#[cfg(feature = "exec")]
#[test]
fn commands_are_taken_as_they_are() {
    let argv = |text| match parsed(text).address {
        Address::Argv(argv) => argv,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(argv("exec:ssh -W %h:%p bastion"), ["ssh", "-W", "%h:%p", "bastion"]);
    assert_eq!(argv("exec:curl http://h/?a=b&c#d"), ["curl", "http://h/?a=b&c#d"]);
    assert_eq!(argv(r#"exec: 'a b'  "c \" $d" e\ f '' "#), ["a b", "c \" $d", "e f", ""]);
    assert_eq!(parsed("sh:a | b?c#d %41").address, Address::Line("a | b?c#d %41".into()));
    assert_eq!(parsed("exec:'a  b' c").to_string(), "exec:'a  b' c");
}

#[test]
fn user_info_and_options_are_there_to_be_taken() {
    let mut uri = parsed("tcp://us%40er:p%3Aw@h:1?database=a%20b&flag&nodelay=true");
    assert_eq!(uri.take_option("database").as_deref(), Some("a b"));
    assert_eq!(uri.take_option("flag").as_deref(), Some(""));
    assert_eq!(uri.take_option("flag"), None);
    let user = uri.take_user().expect("there is a user");
    assert_eq!((user.name.as_str(), user.password.as_deref()), ("us@er", Some("p:w")));
    assert_eq!(format!("{user:?}"), r#"UserInfo { name: "us@er", password: Some("***") }"#);
    assert_eq!(uri.take_user(), None);
    assert_eq!(uri.to_string(), "tcp://h:1?nodelay=true");
}

#[test]
fn errors_point_at_the_part_and_say_what_would_be_right() {
    let texts = [
        "",
        "localhost:8080",
        "example.com",
        "example.com:443",
        "[::1]:80",
        "/run/x.sock",
        "@name",
        "://h:1",
        "noise://h:1",
        "socks5://h:1",
        "https://example.com/",
        "tls+://h:1",
        "tls+tls",
        "exec+tls://h:1",
        "tls+mem:",
        "tls://h:1/path",
        "ws://h/a?path=/b",
        "ws://h/a?ws.path=/b",
        "tcp://h:1?tls.1.sni=a&tls.1.sni=b",
        "tcp+unix:/x",
        "+tcp://h:1",
        "tcp+://h:1",
        "tcp:h:1",
        "tcp:/h:1",
        "tcp://",
        "tcp://:80",
        "tcp://h:",
        "tcp://h:http",
        "tcp://h:65536",
        "tcp://h:-1",
        "tcp://h:1:2",
        "tcp://::1",
        "tcp://[::1",
        "tcp://[::1]80",
        "tcp://[127.0.0.1]:80",
        "tcp://[::1%eth0]:80",
        "tcp://[fe80::1%]:80",
        "tcp://[fe80::1%a b]:80",
        "tcp://a b:80",
        "tcp://a..b:80",
        "tcp://127.1:80",
        "tcp://0x7f000001:80",
        "tcp://1.2.3.4.5:80",
        "tcp://a%zzb:80",
        "tcp://%ff:80",
        "tcp://h:1/path",
        "tcp://h:1#f",
        "tcp://h:1?",
        "tcp://h:1?a=1&&b=2",
        "tcp://h:1?nodelay=1&nodelay=2",
        "tcp://h:1?nodelay=1&tcp.nodelay=2",
        "unix:",
        "unix:@",
        "unix://run/x.sock",
        "unix:/a%00b",
        "fifo:",
        "mem:",
        "mem://x",
        "tcp://\u{1b}[31m:1",
        "tcp://日本語/:1",
    ];
    let rendered: Vec<_> = texts.iter().map(|text| error(text).to_string()).collect();
    insta::assert_snapshot!(rendered.join("\n\n"));
}

#[cfg(feature = "exec")]
#[test]
fn an_unknown_scheme_is_told_the_known_ones() {
    let rendered: Vec<_> =
        ["tpc://h:1", "UNIZ:/x", "postgres://h", "a+tcp://h:1"].map(|text| error(text).to_string()).into();
    insta::assert_snapshot!(rendered.join("\n\n"));
}

#[cfg(feature = "exec")]
#[test]
fn errors_of_commands() {
    let rendered: Vec<_> = ["exec:", "exec:  ", "exec:''", "exec:a 'b", "exec:a\0b", "sh:"]
        .map(|text| error(text).to_string())
        .into();
    insta::assert_snapshot!(rendered.join("\n\n"));
}

#[cfg(not(feature = "exec"))]
#[test]
fn what_was_not_compiled_in_names_its_feature() {
    insta::assert_snapshot!(error("exec:cat"));
}

#[test]
fn the_span_is_of_the_text_as_it_was_given() {
    let text = "tcp://bücher.example:99999?x";
    let error = error(text);
    assert_eq!(error.kind(), UriErrorKind::Port);
    assert_eq!(&text[error.span()], "99999");
}

#[test]
fn long_names_are_told_apart_from_wrong_ones() {
    let label = "a".repeat(64);
    assert_eq!(error(&format!("tcp://{label}:1")).message(), "a part of the name is too long");
    let name = vec!["a".repeat(49); 6].join(".");
    assert_eq!(error(&format!("tcp://{name}:1")).message(), "the name is too long");
    parsed(&format!("tcp://{}:1", &label[1..]));
    let error = error(&"x".repeat(65 * 1024));
    assert_eq!(error.message(), "the URI is too long");
    assert!(error.to_string().len() < 500, "it is not repeated");
}

#[test]
fn a_password_is_never_shown() {
    let texts = [
        "tcp://user:s3cret@h:1",
        "tcp://user:s3cret@h:99999",
        "tcp://user:s3cret@h:1/path",
        "tcp://user:s3cret@[::1:1",
        "tcp://user:s3c%zzret@h:1",
        "tcp://user:x%ffs3cret@h:1",
        "tcp://user:x/s3cret@h:1",
        "tcp://user:1/s3cret@h:1",
        "tcp://user:x?s3cret@h:1",
        "tcp://user:x#s3cret@h:1",
        "tcp://user:x@s3cret@h:1",
        "tcp://user:x:s3cret@h:1",
        "tcp://us@er:x/s3cret@h:1",
        "tcp://:s3cret@h:1",
        "tcp:user:s3cret@h:1",
        "tpc://user:s3cret@h:1",
        "user:s3cret@h:1",
        "user:s3cret@h",
        "https://user:s3cret@h/",
        "tls+tcp://user:s3cret@h:1",
        "[://user:s3cret@h:1",
        "tcp://user:s3cret@h:1?a&a",
    ];
    for text in texts {
        let shown = match uri(text) {
            Ok(uri) => format!("{uri} {uri:?} {:?}", uri.user),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("s3c") && shown.contains("***"), "{text}: {shown}");
    }
    assert_eq!(parsed("tcp://user:s3cret@h:1").to_string(), "tcp://user:***@h:1");
}

#[test]
fn what_is_no_password_is_shown() {
    for text in ["tcp://h:1?mail=a@b&mail", "unix:/run/a:b@c#", "tcp://u@h:99999"] {
        assert!(error(text).to_string().contains(text), "{text}: {}", error(text));
    }
}

/// Texts that get past the first checks.
fn uri_like() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec![
        "tcp://",
        "tcp:",
        "unix:",
        "unix://",
        "unix:@",
        "mem:",
        "exec:",
        "sh:",
        "fifo:",
        "systemd:",
        "tls+tcp://",
        "-",
        "TCP://",
        "a+",
        "",
    ]);
    let part = prop::sample::select(vec![
        "h",
        "example.com",
        "[::1]",
        "[fe80::1%25eth0]",
        "[",
        "]",
        ":",
        "1",
        "65536",
        "@",
        "u:p@",
        "/",
        "//",
        "?",
        "&",
        "=",
        "a=b",
        "tcp.nodelay",
        "%",
        "%41",
        "%ff",
        "%00",
        "#",
        "+",
        "-",
        ".",
        "'",
        "\"",
        "\\",
        " ",
        "ü",
        "日",
        "\u{1b}",
        "\u{202e}",
        "\0",
        "e\u{301}",
    ]);
    (scheme, prop::collection::vec(part, 0..8))
        .prop_map(|(scheme, parts)| format!("{scheme}{}", parts.concat()))
}

fn check(text: &str) -> Result<bool, TestCaseError> {
    match uri(text) {
        Ok(uri) => {
            let spelt = uri.to_string();
            if uri.user.as_ref().is_some_and(|(user, _)| user.password.is_some()) {
                return Ok(true);
            }
            let again =
                super::uri(&spelt).map_err(|error| TestCaseError::fail(format!("{text} -> {error}")))?;
            prop_assert_eq!(again.to_string(), spelt);
            prop_assert_eq!(again.address, uri.address);
            Ok(true)
        }
        Err(error) => {
            let span = error.span();
            prop_assert!(text.get(span.clone()).is_some(), "{:?} is no part of {:?}", span, text);
            let shown = error.to_string();
            prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", shown);
            Ok(false)
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_a_uri_or_an_error(text in ".*") {
        check(&text)?;
    }

    #[test]
    fn what_looks_like_a_uri_is_one_or_an_error(text in uri_like()) {
        check(&text)?;
    }

    #[test]
    fn whatever_is_encoded_comes_back(path in prop::collection::vec(1u8.., 1..20), name in "\\PC+") {
        let encoded = percent_encoding::percent_encode(&path, super::encode::PLAIN);
        prop_assert_eq!(parsed(&format!("unix:{encoded}")).address, Address::Socket(path));
        let encoded = percent_encoding::percent_encode(name.as_bytes(), super::encode::PLAIN);
        prop_assert_eq!(parsed(&format!("mem:{encoded}")).address, Address::Name(name.clone()));
    }

    #[test]
    fn every_address_is_a_host(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, port: u16) {
        let host = |text: String| match parsed(&text).address {
            Address::Host { host, port } => (host, port),
            other => panic!("{text}: {other:?}"),
        };
        prop_assert_eq!(host(format!("tcp://{v4}:{port}")), (Host::V4(v4), Some(port)));
        prop_assert_eq!(host(format!("tcp://[{v6}]:{port}")), (Host::V6(v6, None), Some(port)));
    }
}

/// What using `uri` to connect is refused with.
fn refusal(uri: Uri) -> String {
    match uri.apply(crate::context()) {
        Ok(_) => panic!("{uri} can be used"),
        Err(error) => error.to_string(),
    }
}

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

#[test]
fn options_go_to_the_part_that_takes_them() {
    let refused = [
        "tls+tls://h:1?sni=a",
        "tls+tls://h:1?tls.sni=a",
        "tls+tls://h:1?tls.3.sni=a",
        "tls+tls://h:1?tls.0.sni=a",
        "tls+tls://h:1?tls.x.sni=a",
        "ws+tls+tcp://h:1?tls.path=/x",
        "tls+unix:/x?nodelay=no",
        "tls://h:1?client-ca=/x",
        "tls://h:1?cacert=",
        "tls://h:1?alpn=a,,b",
        "tls://h:1?min-version=1.1",
        "wss://h?path=x",
        "tcp://h:1?proxy-protocol=10.0.0.0/8",
        "tcp://h:1?proxy-protocol=v3",
        "ssh://ops@h",
        "ssh://h?exec=cat",
    ];
    insta::assert_snapshot!(refused.map(|text| refusal(parsed(text).allow(Allow::ALL))).join("\n\n"));
    for text in [
        "tls://h:1?cacert=/x",
        "tls://h:1?cert=/x",
        "ssh://ops@h?exec=cat",
        "ssh://ops@h?exec=cat&identity=/x",
    ] {
        assert_eq!(
            parsed(text).apply(crate::context()).map(drop).unwrap_err().kind(),
            UriErrorKind::NotAllowed,
            "{text}"
        );
    }
    assert_eq!(parsed("tls+tls://h:1").option_spellings("sni"), ["tls.1.sni", "tls.2.sni"]);
    assert_eq!(parsed("tls+ws+tls://h:1").option_spellings("path"), ["path"]);
    assert_eq!(parsed("ssh://ops@h").option_spellings("alive-interval"), ["alive-interval"]);
    assert_eq!(parsed("tls://h:1").listen_option_spellings("client-ca"), ["client-ca"]);
    let twice = parsed("tls+tls://h:1?tls.2.sni=a&tls.1.alpn=h2");
    assert!(twice.has_option("tls.2.sni") && !twice.has_option("tls.1.sni") && !twice.has_option("alpn"));
    assert!(parsed("tls://h:1?tls.sni=a").has_option("sni") && !parsed("tls://h:1").has_option("sni"));
    assert!(!parsed("tls://h:1?client-ca=a").has_option("client-ca"));
    assert!(parsed("tls://h:1?client-ca=a").has_listen_option("tls.client-ca"));
}

#[test]
fn options_that_are_added_are_as_if_they_stood_there() {
    let added = |uri: &str, name, value| parsed(uri).with_option(name, value);
    assert_eq!(added("tcp://h:1", "nodelay", "no").unwrap().to_string(), "tcp://h:1?nodelay=no");
    assert_eq!(parsed("tcp://h:1").option_spellings("nodelay"), ["nodelay"]);
    assert_eq!(parsed("unix:/x").option_spellings("nodelay"), [""; 0]);
    let errors = [
        added("tcp://h:1?nodelay", "nodelay", "no").map(drop).unwrap_err().to_string(),
        added("tcp://h:1?tcp.nodelay", "nodelay", "no").map(drop).unwrap_err().to_string(),
        refusal(added("tcp://h:1", "nodelay", "perhaps").unwrap()),
        refusal(added("unix:/x", "nodelay", "no").unwrap().allow(Allow::ALL)),
    ];
    insta::assert_snapshot!(errors.join("\n\n"));
}

#[test]
fn secrets_among_options_are_not_shown() {
    let texts = [
        "tcp://h:1?password=s3cret",
        "tcp://h:1?ssh.passphrase=s3cret&x=y",
        "tcp://h:1?passwort=s3cret&x=y",
        "tcp://h:1?a=b&auth-token=s3cret",
        "tcp://h:1?password=s3cret&password=s3cret",
        "tpc://h:1?password=s3cret",
        "tcp://user:s3cret?@h:1?secret=s3cret",
    ];
    for text in texts {
        let shown = match uri(text) {
            Ok(uri) => format!("{uri} {uri:?} {}", refusal(uri.clone())),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("s3c") && shown.contains("***"), "{text}: {shown}");
    }
    let added = refusal(parsed("tcp://h:1").with_option("password", "s3cret").unwrap());
    assert!(!added.contains("s3c"), "{added}");
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
