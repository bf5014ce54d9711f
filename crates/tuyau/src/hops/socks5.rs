//! SOCKS5 proxies (RFC 1928).

use crate::schemes::{BASE, Form, HopWiring, Names, Reach, Scheme, SchemeKind, Wiring};

const PROXY: Scheme = Scheme {
    kind: SchemeKind::Hop,
    feature: Some("socks5"),
    available: cfg!(feature = "socks5"),
    network: true,
    listens: false,
    form: Form::Authority,
    user: true,
    reach: Reach::Host,
    ..BASE
};

pub(crate) const SOCKS5: Scheme = Scheme {
    name: "socks5",
    what: "a SOCKS5 proxy; names are looked up here",
    example: "socks5://127.0.0.1:1080",
    names: Names::Here,
    wiring: Wiring::Hop(HopWiring { default_port: |_| 1080, net: net::here }),
    ..PROXY
};

pub(crate) const SOCKS5H: Scheme = Scheme {
    name: "socks5h",
    what: "a SOCKS5 proxy, which looks names up",
    example: "socks5h://127.0.0.1:1080",
    wiring: Wiring::Hop(HopWiring { default_port: |_| 1080, net: net::there }),
    ..PROXY
};

#[cfg(feature = "socks5")]
mod net {
    use tuyau_core::{Context, Hop, SharedNet};
    use tuyau_proxy::Socks5;

    use crate::hops::credentials;
    use crate::{Uri, UriError};

    pub(super) fn here(uri: &Uri, outer: Context, _: bool) -> Result<SharedNet, UriError> {
        over(Socks5::new(), uri, outer)
    }

    pub(super) fn there(uri: &Uri, outer: Context, _: bool) -> Result<SharedNet, UriError> {
        over(Socks5::new().lookup_by_proxy(), uri, outer)
    }

    fn over(mut hop: Socks5, uri: &Uri, outer: Context) -> Result<SharedNet, UriError> {
        if let Some(credentials) = credentials(uri) {
            hop = hop.with_credentials(credentials);
        }
        Ok(Box::new(hop).over(outer))
    }
}

#[cfg(not(feature = "socks5"))]
mod net {
    pub(super) use crate::hops::absent as here;
    pub(super) use crate::hops::absent as there;
}
