//! TLS (RFC 8446).

use crate::schemes::{BASE, Form, Scheme, SchemeKind, Wiring};

pub(crate) const TLS: Scheme = Scheme {
    name: "tls",
    what: "TLS, over TCP if nothing else is named",
    example: "tls://localhost:443",
    kind: SchemeKind::Layer,
    feature: Some("tls"),
    available: cfg!(feature = "tls"),
    network: true,
    form: Form::Authority,
    own_options: wired::OPTIONS,
    wiring: wired::WIRING,
    ..BASE
};

#[cfg(not(feature = "tls"))]
mod wired {
    pub(super) const OPTIONS: &[crate::OptionInfo] = &[];
    /// A scheme that is not available is not parsed.
    pub(super) const WIRING: super::Wiring = super::Wiring::Transport;
}

#[cfg(feature = "tls")]
pub(crate) mod wired {
    use std::path::PathBuf;
    use std::sync::Arc;

    use tuyau_core::names::{ALPN, SERVER_NAME};
    use tuyau_core::{
        AnyEndpoint, ConnectCx, ConnectError, ConnectErrorKind, Context, Key, SharedLayer, decline, opt,
    };
    use tuyau_tls::{
        BACKEND, ClientAuth, IDENTITY, Identity, MIN_VERSION, RESUMPTION, ROOTS, Roots, ServerSettings,
        TlsServer,
    };

    use super::Wiring;
    use crate::schemes::LayerWiring;
    use crate::uri::{OPTION, boolean, file};
    use crate::{Allow, OptionInfo};

    /// The certificate chain that is shown to the other side: a file.
    static CERT: Key<PathBuf> = Key::new("tls-cert");
    /// The private key that belongs to it: a file.
    static KEY: Key<PathBuf> = Key::new("tls-key");
    /// Who must have signed the certificates that clients show: a file.
    static CLIENT_CA: Key<PathBuf> = Key::new("tls-client-ca");

    pub(super) const WIRING: Wiring = Wiring::Layer(LayerWiring { over, layer });

    const ANY: OptionInfo = OptionInfo { layer: Some("tls"), listens: true, ..OPTION };
    const FILE: OptionInfo = OptionInfo { wants: Allow::FILES, ..ANY };

    pub(super) const OPTIONS: &[OptionInfo] = &[
        OptionInfo {
            name: "sni",
            what: "the name that the certificate must have, and that is asked for; the host by default",
            example: "db.example",
            listens: false,
            bind: |ctx, value| match value {
                "" => Err("a host name"),
                name => Ok(ctx.with(&SERVER_NAME, name.into())),
            },
            ..ANY
        },
        OptionInfo {
            name: "alpn",
            what: "the protocols to offer or to speak (ALPN), with commas between them; none by default",
            example: "h2,http/1.1",
            bind: |ctx, value| {
                let protocols: Arc<[Vec<u8>]> = value.split(',').map(|it| it.as_bytes().to_vec()).collect();
                match protocols.iter().any(Vec::is_empty) {
                    true => Err("names, with commas between them"),
                    false => Ok(ctx.with(&ALPN, protocols)),
                }
            },
            ..ANY
        },
        OptionInfo {
            name: "cacert",
            what: "the authorities to trust: a file in PEM; those of the system by default",
            example: "/etc/ssl/ours.pem",
            listens: false,
            bind: |ctx, value| Ok(ctx.with(&ROOTS, Roots::File(file(value)?))),
            ..FILE
        },
        OptionInfo {
            name: "cert",
            what: "the certificate to show, and its chain: a file in PEM; none by default",
            example: "/etc/ssl/us.pem",
            bind: |ctx, value| Ok(ctx.with(&CERT, file(value)?)),
            ..FILE
        },
        OptionInfo {
            name: "key",
            what: "the private key of the certificate: a file in PEM; that of the certificate by default",
            example: "/etc/ssl/us.key",
            bind: |ctx, value| Ok(ctx.with(&KEY, file(value)?)),
            ..FILE
        },
        OptionInfo {
            name: "client-ca",
            what: "the authorities of clients, which must show a certificate: a file in PEM; clients need none by \
                   default",
            example: "/etc/ssl/clients.pem",
            connects: false,
            bind: |ctx, value| Ok(ctx.with(&CLIENT_CA, file(value)?)),
            ..FILE
        },
        OptionInfo {
            name: "backend",
            what: "the library that does it: rustls or openssl; rustls by default",
            example: "openssl",
            bind: |ctx, value| Ok(ctx.with(&BACKEND, value.parse().map_err(|_| "rustls or openssl")?)),
            ..ANY
        },
        OptionInfo {
            name: "min-version",
            what: "the oldest version to accept: 1.2 or 1.3; 1.2 by default",
            example: "1.3",
            bind: |ctx, value| Ok(ctx.with(&MIN_VERSION, value.parse().map_err(|_| "1.2 or 1.3")?)),
            ..ANY
        },
        OptionInfo {
            name: "resumption",
            what: "whether sessions are resumed; true by default",
            example: "false",
            bind: |ctx, value| Ok(ctx.with(&RESUMPTION, boolean(value)?)),
            ..ANY
        },
    ];

    fn over(ctx: Context, below: &'static dyn AnyEndpoint) -> (Context, &'static dyn AnyEndpoint) {
        let ctx = ctx.derive(&IDENTITY, (opt(&CERT), opt(&KEY)), |(cert, key)| async move {
            match identity(cert, key)? {
                Some(identity) => Ok(identity),
                None => Err(decline("no `cert` is given")),
            }
        });
        (tuyau_tls::over(ctx, &tuyau_tls::TLS, below), &tuyau_tls::TLS)
    }

    fn identity(cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<Identity>, ConnectError> {
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(Identity::files(cert, key))),
            (Some(cert), None) => Ok(Some(Identity::files(cert.clone(), cert))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(ConnectError::new(
                ConnectErrorKind::Misuse,
                "the option `key` of tls belongs to a certificate, and `cert` names none",
            )
            .with_hint("give both: cert=FILE and key=FILE")),
        }
    }

    fn layer(ctx: &Context) -> Result<SharedLayer, ConnectError> {
        let cx = ConnectCx::new(ctx)?;
        let identity = match identity(cx.get(&CERT)?, cx.get(&KEY)?)? {
            Some(identity) => Some(identity),
            None => cx.get(&IDENTITY)?,
        };
        let Some(identity) = identity else {
            return Err(ConnectError::new(
                ConnectErrorKind::Misuse,
                "a TLS server has no certificate to show",
            )
            .with_hint("name its files: cert=FILE and key=FILE"));
        };
        let mut settings = ServerSettings::new(identity);
        if let Some(backend) = cx.get(&BACKEND)? {
            settings = settings.backend(backend);
        }
        if let Some(file) = cx.get(&CLIENT_CA)? {
            settings = settings.client_auth(ClientAuth::Required(Roots::File(file)));
        }
        if let Some(protocols) = cx.get(&ALPN)? {
            settings = settings.alpn(&protocols);
        }
        if let Some(version) = cx.get(&MIN_VERSION)? {
            settings = settings.min_version(version);
        }
        if let Some(resumption) = cx.get(&RESUMPTION)? {
            settings = settings.resumption(resumption);
        }
        Ok(TlsServer::new(settings)?.layer())
    }
}
