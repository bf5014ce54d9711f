//! Options, and the parts that take them.

use super::{parsed, refusal};
use crate::Allow;
use crate::uri::{UriErrorKind, uri};

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
