//! What is parsed, and how it is spelt.

use super::parsed;
use crate::uri::Address;

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
