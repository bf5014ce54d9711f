//! What is no URI: where it is wrong, and what is shown of it.

use super::{error, parsed};
use crate::uri::{UriErrorKind, uri};

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
    let rendered: Vec<_> = ["tpc://h:1", "UNIZ:/x", "postgres://h", "a+tcp://h:1", "htps://h"]
        .map(|text| error(text).to_string())
        .into();
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
        "ssh:user:s3cret@h",
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
    for text in ["tcp://h:1?mail=a@b&mail", "unix:/run/a:b@c#", "tcp://u@h:99999", "tcp:u@h:1", "ssh:root@h"]
    {
        assert!(error(text).to_string().contains(text), "{text}: {}", error(text));
    }
}
