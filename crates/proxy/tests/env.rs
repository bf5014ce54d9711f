//! Which proxy the environment asks for.

use std::collections::HashMap;
use std::error::Error;

use tuyau_core::NetworkParseError;
use tuyau_proxy::{EnvScheme, ProxyEnv};
use tuyau_testing::peers::{command, run};

fn env(variables: &[(&str, &str)]) -> ProxyEnv {
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    ProxyEnv::read(|name| variables.get(name).cloned())
}

/// What is asked for, as it is shown; "directly" if nothing.
fn asked(env: &ProxyEnv, scheme: &str, host: &str, port: u16) -> String {
    match env.proxy_for(scheme, host, port) {
        Ok(Some(proxy)) => proxy.to_string(),
        Ok(None) => "directly".into(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn variables_have_an_order() {
    let all = [
        ("http_proxy", "a"),
        ("HTTP_PROXY", "b"),
        ("https_proxy", "c"),
        ("HTTPS_PROXY", "d"),
        ("all_proxy", "e"),
        ("ALL_PROXY", "f"),
        ("ftp_proxy", ""),
    ];
    for (skip, scheme, by) in [
        (0, "http", "http://a:1080 (set by http_proxy)"),
        (1, "http", "http://e:1080 (set by all_proxy)"), // never HTTP_PROXY
        (0, "https", "http://c:1080 (set by https_proxy)"),
        (3, "https", "http://d:1080 (set by HTTPS_PROXY)"),
        (4, "https", "http://e:1080 (set by all_proxy)"),
        (5, "https", "http://f:1080 (set by ALL_PROXY)"),
        (6, "https", "directly"),
        (0, "tcp", "http://e:1080 (set by all_proxy)"),
        (0, "ftp", "http://e:1080 (set by all_proxy)"), // empty is not set
        (0, "ws", "http://a:1080 (set by http_proxy)"),
        (0, "wss", "http://c:1080 (set by https_proxy)"),
        (0, "HTTPS", "http://c:1080 (set by https_proxy)"),
    ] {
        assert_eq!(asked(&env(&all[skip..]), scheme, "target", 1), by, "{scheme} without the first {skip}");
    }
    let own = ProxyEnv::read_for(&["git"], |name| (name == "GIT_PROXY").then(|| "socks5://x".into()));
    assert_eq!(asked(&own, "git", "target", 1), "socks5://x:1080 (set by GIT_PROXY)");
    assert_eq!(env(&all).variables().count(), 5, "HTTP_PROXY is not even read, ftp_proxy is empty");
}

#[test]
fn values_are_read_as_curl_reads_them() {
    for (value, shown) in [
        ("proxy", "http://proxy:1080"),
        ("proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128/", "http://proxy:3128"),
        ("HTTPS://proxy", "https://proxy:443"),
        ("https://proxy:8443", "https://proxy:8443"),
        ("socks5://127.0.0.1:9050", "socks5://127.0.0.1:9050"),
        ("socks5h://127.0.0.1", "socks5h://127.0.0.1:1080"),
        ("socks5h://[::1]:9050", "socks5h://[::1]:9050"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]:1080"),
        (" http://proxy ", "http://proxy:1080"),
        ("http://user:pass@word@proxy:1", "http://proxy:1"),
    ] {
        let env = env(&[("all_proxy", value)]);
        assert_eq!(asked(&env, "tcp", "target", 1), format!("{shown} (set by all_proxy)"), "{value}");
    }
    let env = env(&[("all_proxy", "socks5h://me:p%40ss@127.0.0.1:9")]);
    let proxy = env.proxy_for("tcp", "target", 1).unwrap().unwrap();
    assert_eq!((proxy.scheme(), proxy.host(), proxy.port()), (EnvScheme::Socks5h, "127.0.0.1", 9));
    assert_eq!(proxy.variable(), "all_proxy");
}

#[test]
fn what_makes_no_sense_is_an_error_that_names_its_variable_and_no_secret() {
    for (value, says) in [
        ("socks4://me:hunter2@x", "asks for SOCKS4, which is not spoken here"),
        ("socks://x", "asks for SOCKS4"),
        ("quic://me:hunter2@x", "has the unknown scheme `quic`"),
        ("http://", "names no host"),
        ("http://me:hunter2@", "names no host"),
        ("http://:80", "names no host"),
        ("http://me:hunter2@x:eighty", "has a port that is none"),
        ("http://x:0", "has a port that is none"),
        ("http://x:65536", "has a port that is none"),
        ("http://x:+80", "has a port that is none"),
        ("http://[::1", "has brackets around what is no IPv6 address"),
        ("http://[x]:80", "has brackets around what is no IPv6 address"),
        ("http://x/path", "has a path"),
        ("http//me:hunter2@x", "has a /, ? or # before the @: is `://` missing"),
        ("http:/me:hunter2@x", "has a /, ? or # before the @"),
        ("http://me:hunter2?@x", "has a /, ? or # before the @"),
        ("http//hunter2", "has a path"),
        ("http://x?query", "has a path"),
        ("http://a b", "has a host that is no name"),
        ("http://a:b:80", "has a host that is no name"),
        ("http://me:hunter2%ff@x", "has a user name or password that is not UTF-8"),
    ] {
        let env = env(&[("ALL_PROXY", value)]);
        let error = env.proxy_for("https", "target", 443).unwrap_err();
        assert_eq!(error.variable(), "ALL_PROXY");
        let text = format!("{error} {error:?}");
        assert!(text.starts_with(&format!("the environment variable ALL_PROXY {says}")), "{value}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let env = env(&[("http_proxy", "proxy"), ("NO_PROXY", "10.0.0.0/33")]);
    let error = env.proxy_for("http", "target", 80).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the environment variable NO_PROXY lists `10.0.0.0/33`, which is no network"
    );
    assert!(error.source().unwrap().downcast_ref::<NetworkParseError>().is_some());
    // It does not matter to a target without a proxy.
    assert_eq!(asked(&env, "tcp", "target", 80), "directly");
}

#[test]
fn exceptions() {
    let lower = env(&[("all_proxy", "p"), ("no_proxy", "example.com, 10.0.0.0/8 *:22"), ("NO_PROXY", "*")]);
    for (host, port, direct) in [
        ("www.example.com", 80, true),
        ("example.org", 80, false),
        ("10.9.8.7", 80, true),
        ("[::ffff:10.0.0.1]", 80, true),
        ("example.org", 22, true),
    ] {
        assert_eq!(asked(&lower, "tcp", host, port) == "directly", direct, "{host}:{port}");
        assert_eq!(lower.excepted(host, port).unwrap(), direct.then_some("no_proxy"));
    }
    let upper = env(&[("all_proxy", "p"), ("no_proxy", ""), ("NO_PROXY", "*")]);
    assert_eq!(upper.excepted("x", 1).unwrap(), Some("NO_PROXY"));
}

/// curl itself, asked the same: whether it goes to the proxy or the target, neither of which is there.
#[test]
fn curl_agrees() {
    for (variables, host, port) in [
        (&[("all_proxy", "http://127.0.0.2:1")][..], "127.0.0.3", 1),
        (&[("HTTP_PROXY", "http://127.0.0.2:1")], "127.0.0.3", 1),
        (&[("http_proxy", "127.0.0.2:1"), ("no_proxy", "127.0.0.0/8")], "127.0.0.3", 1),
        (&[("http_proxy", "127.0.0.2:1"), ("no_proxy", "127.0.0.4/30")], "127.0.0.3", 1),
        (&[("http_proxy", "127.0.0.2:1"), ("no_proxy", ".localhost")], "localhost", 1),
        (&[("http_proxy", "127.0.0.2:1"), ("no_proxy", "host")], "localhost", 1),
        (&[("http_proxy", "127.0.0.2:1"), ("NO_PROXY", "a,localhost")], "www.localhost", 1),
        (&[("http_proxy", "127.0.0.2:1"), ("no_proxy", "*")], "localhost", 1),
        (&[("http_proxy", ""), ("ALL_PROXY", "127.0.0.2:1")], "127.0.0.3", 1),
        (&[("https_proxy", "127.0.0.2:1")], "127.0.0.3", 1),
    ] {
        let mut curl = command("curl", "curl");
        curl.env_clear().envs(variables.iter().copied());
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{errormsg}", &format!("http://{host}:{port}/")]);
        let ended = run(curl, b"");
        let by_proxy = ended.text().contains("127.0.0.2");
        let ours = asked(&env(variables), "http", host, port);
        assert_eq!(ours != "directly", by_proxy, "{variables:?} {host}: {ours}, {}", ended.text());
    }
}
