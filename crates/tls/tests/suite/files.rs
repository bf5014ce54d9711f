//! Files that can't be used: found before anything is dialled, with the file and the cause.

use std::fs;
use std::net::TcpListener;

use tuyau_core::names::{HOST, PORT, SERVER_NAME};
use tuyau_core::{ConnectError, Context};
use tuyau_testing::Place;
use tuyau_testing::certs::Ca;
use tuyau_tls::{BACKEND, IDENTITY, Identity, ROOTS, Roots, Settings, TLS, TlsClient};
use tuyau_tokio::TCP;

use crate::support::*;

/// Resolves a context with these settings towards a socket that listens, and sees to it that nobody comes. What
/// both backends say.
async fn refused(change: impl Fn(Context) -> Context) -> Vec<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
    listener.set_nonblocking(true).expect("nonblocking");
    let port = listener.local_addr().expect("bound").port();
    let mut all = Vec::new();
    for backend in BOTH {
        let ctx = tuyau_tls::over(tuyau_tokio::derivations(Context::new()), &TLS, &TCP)
            .with(&BACKEND, backend)
            .with(&HOST, "127.0.0.1".into())
            .with(&SERVER_NAME, "a.test".into())
            .with(&PORT, port)
            .offer(&TLS);
        let error = change(ctx).resolve().await.expect_err("it can't be used");
        let nobody = listener.accept().expect_err("nobody may come");
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
        // Reports break their lines.
        all.push(format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" "));
    }
    all
}

#[track_caller]
fn has(said: &[String], parts: &[&str]) {
    for text in said {
        for part in parts {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn roots_that_are_not_there() {
    let place = Place::new();
    let missing = place.path("missing.pem");
    let error = refused(|ctx| ctx.with(&ROOTS, Roots::File(missing.clone().into()))).await;
    has(&error, &[&format!("root certificates {missing}"), "No such file", "check the path"]);
}

#[tokio::test]
async fn roots_that_are_none() {
    let place = Place::new();
    let file = place.path("x.pem");
    for (content, cause) in [
        ("", "no certificate in it"),
        ("hello", "no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "it is damaged"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"),
    ] {
        fs::write(&file, content).expect("write");
        let error = refused(|ctx| ctx.with(&ROOTS, Roots::File(file.clone().into()))).await;
        has(&error, &[&format!("root certificates {file}"), cause]);
    }
    let error = refused(|ctx| ctx.with(&ROOTS, Roots::File(place.dir().into()))).await;
    has(&error, &["directory", "it must be a readable file"]);
}

#[tokio::test]
async fn keys_that_cant_be_used() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let (chain, key) = ca.client("alice").files(&place, "alice");
    let (_, other) = ca.client("bob").files(&place, "bob");
    let encrypted = place.path("encrypted.key");
    fs::write(
        &encrypted,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .expect("write");
    let old = place.path("old.key");
    fs::write(
        &old,
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
         -----END RSA PRIVATE KEY-----\n",
    )
    .expect("write");
    let garbled = place.path("garbled.key");
    fs::write(&garbled, "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n").expect("write");
    let nonsense = place.path("nonsense.key");
    fs::write(&nonsense, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").expect("write");
    let missing = place.path("missing.key");
    for (key, cause) in [
        (&other, "it does not belong to the certificate"),
        (&encrypted, "the key is encrypted"),
        (&old, "the key is encrypted"),
        (&garbled, "the key can't be read"),
        (&missing, "No such file"),
        (&chain, "no private key in it"),
    ] {
        let error = refused(|ctx| {
            ctx.with(&ROOTS, roots(&ca)).with(&IDENTITY, Identity::files(chain.clone(), key.clone()))
        })
        .await;
        has(&error, &[&format!("key {key}"), cause]);
    }
    // Which part of it is wrong, the backends say differently.
    for backend in BOTH {
        let identity = Identity::files(chain.clone(), nonsense.clone());
        let error = TlsClient::new(trusting(backend, &ca).identity(identity)).expect_err("no key");
        has(&[said(&error)], &[&format!("key {nonsense}: the key can't be used")]);
    }
    let error = refused(|ctx| {
        ctx.with(&ROOTS, roots(&ca)).with(&IDENTITY, Identity::files(key.clone(), key.clone()))
    })
    .await;
    has(&error, &[&format!("certificate {key}: no certificate in it"), "was it mixed up with the key?"]);
}

#[tokio::test]
async fn a_name_that_no_certificate_has() {
    let ca = Ca::new("CA");
    let error = refused(|ctx| ctx.with(&ROOTS, roots(&ca)).with(&SERVER_NAME, "a b".into())).await;
    has(&error, &["`a b` is no name that a certificate can have"]);
}

#[tokio::test]
async fn files_are_read_again_once_they_have_changed() {
    let (place, ca, other) = (Place::new(), Ca::new("CA"), Ca::new("A CA with a longer name"));
    let file = ca.file(&place, "ca.pem");
    let server = server(serving(BOTH[0], &other.leaf(&["a.test"])));
    for backend in BOTH {
        ca.file(&place, "ca.pem");
        let ctx = tuyau_tls::over(Context::new(), &TLS, &TCP)
            .with(&BACKEND, backend)
            .with(&ROOTS, Roots::File(file.clone().into()));
        let client = async || ctx.get(&tuyau_tls::CLIENT).await.expect("files").expect("a client");
        let (ours, _) = shake(&client().await.for_server("a.test"), &server).await;
        ours.expect_err("not that authority's");
        other.file(&place, "ca.pem");
        let (ours, _) = shake(&client().await.for_server("a.test"), &server).await;
        ours.expect("now it is");
    }
}

#[tokio::test]
async fn der_files_will_do() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let leaf = ca.client("alice");
    let (root, chain, key) = (place.path("ca.der"), place.path("alice.der"), place.path("alice.key"));
    fs::write(&root, ca.der()).expect("write");
    fs::write(&chain, &leaf.chain()[0]).expect("write");
    fs::write(&key, leaf.key()).expect("write");
    for backend in BOTH {
        let settings = Settings::new()
            .backend(backend)
            .roots(Roots::File(root.clone().into()))
            .identity(Identity::files(chain.clone(), key.clone()));
        TlsClient::new(settings).map_err(|error: ConnectError| said(&error)).expect("DER");
    }
}

#[tokio::test]
async fn the_systems_roots_can_be_used() {
    for backend in BOTH {
        TlsClient::new(Settings::new().backend(backend)).expect("the system's roots");
    }
}
