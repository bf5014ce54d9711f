//! Whatever the text is.

use proptest::prelude::*;

use super::parsed;
use crate::uri::{Address, Host, encode, uri};

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
        let encoded = percent_encoding::percent_encode(&path, encode::PLAIN);
        prop_assert_eq!(parsed(&format!("unix:{encoded}")).address, Address::Socket(path));
        let encoded = percent_encoding::percent_encode(name.as_bytes(), encode::PLAIN);
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
