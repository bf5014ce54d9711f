//! HTTP proxies, by CONNECT (RFC 9110 section 9.3.6).

use crate::schemes::{BASE, Form, HopWiring, Reach, Scheme, SchemeKind, Wiring};

pub(crate) const HTTP: Scheme = Scheme {
    name: "http",
    what: "an HTTP proxy (CONNECT), which looks names up",
    example: "http://127.0.0.1:1080",
    kind: SchemeKind::Hop,
    feature: Some("http"),
    available: cfg!(feature = "http"),
    network: true,
    listens: false,
    form: Form::Authority,
    user: true,
    reach: Reach::Host,
    wiring: Wiring::Hop(HopWiring { default_port, net }),
    ..BASE
};

pub(crate) const HTTPS: Scheme = Scheme {
    name: "https",
    what: "an HTTP proxy, reached over TLS",
    example: "https://proxy.example",
    available: cfg!(all(feature = "http", feature = "tls")),
    wiring: Wiring::Short(&["http", "tls"]),
    ..HTTP
};

/// As curl has them: by TLS 443, else 1080.
fn default_port(uri: &crate::Uri) -> u16 {
    if uri.layers().any(|layer| layer.name == "tls") { 443 } else { 1080 }
}

#[cfg(feature = "http")]
fn net(
    uri: &crate::Uri,
    outer: tuyau_core::Context,
    _: bool,
) -> Result<tuyau_core::SharedNet, crate::UriError> {
    use tuyau_core::Hop;

    let mut hop = tuyau_proxy::HttpConnect::new();
    if uri.layers().any(|layer| layer.name == "tls") {
        hop = hop.over_tls();
    }
    if let Some(credentials) = super::credentials(uri) {
        hop = hop.with_credentials(credentials);
    }
    Ok(Box::new(hop).over(outer))
}

#[cfg(not(feature = "http"))]
use super::absent as net;
