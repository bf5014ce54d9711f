//! Certificates, made by the test that needs them: none is ever committed, or expires by surprise.
//!
//! ```
//! use tuyau_testing::{Place, certs::Ca};
//!
//! let ca = Ca::new("Test CA");
//! let server = ca.leaf(&["db.test", "127.0.0.1"]);
//! let place = Place::new();
//! let cacert = ca.file(&place, "ca.pem");
//! let (chain, key) = server.files(&place, "server");
//! ```

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::Place;

/// A certificate authority: a root, or an [intermediate](Self::intermediate).
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    /// What a server must send along: its certificates up to, without, the root.
    intermediates: Vec<Vec<u8>>,
}

/// A certificate of a server or client, with its chain (without the root) and its key.
#[derive(Clone)]
pub struct Leaf {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Ca {
    /// A root of this common name.
    pub fn new(name: &str) -> Self {
        let key = new_key();
        let params = ca_params(name);
        let der = params.self_signed(&key).expect("a certificate").der().to_vec();
        Self { issuer: Issuer::new(params, key), der, intermediates: vec![] }
    }

    /// An authority that this one vouches for. Its leaves bring its certificate in their chain.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = new_key();
        let params = ca_params(name);
        let der = params.signed_by(&key, &self.issuer).expect("a certificate").der().to_vec();
        let intermediates = [vec![der.clone()], self.intermediates.clone()].concat();
        Self { issuer: Issuer::new(params, key), der, intermediates }
    }

    /// For a server or client of these names or addresses; the first is its common name as well.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.sign(leaf_params(names))
    }

    /// For a client of this name.
    pub fn client(&self, name: &str) -> Leaf {
        let mut params = leaf_params(&[name]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Like [`leaf`](Self::leaf), valid in January 2020 only.
    pub fn expired(&self, names: &[&str]) -> Leaf {
        let mut params = leaf_params(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
        self.sign(params)
    }

    /// Like [`leaf`](Self::leaf), valid in January 2120 only.
    pub fn not_yet_valid(&self, names: &[&str]) -> Leaf {
        let mut params = leaf_params(names);
        params.not_before = date_time_ymd(2120, 1, 1);
        params.not_after = date_time_ymd(2120, 2, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Leaf {
        let key = new_key();
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = [vec![cert.der().to_vec()], self.intermediates.clone()].concat();
        Leaf { chain, key: key.serialize_der() }
    }

    /// The certificate, in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate, in PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Writes the certificate as PEM to the file `name` in `place`; its path.
    pub fn file(&self, place: &Place, name: &str) -> String {
        write(place, name, &self.pem())
    }
}

impl Leaf {
    /// One that vouches for itself.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = new_key();
        let cert = leaf_params(names).self_signed(&key).expect("a certificate");
        Self { chain: vec![cert.der().to_vec()], key: key.serialize_der() }
    }

    /// One that vouches for itself and claims to be an authority, as `openssl req -x509` makes them.
    pub fn self_signed_ca(names: &[&str]) -> Self {
        let key = new_key();
        let mut params = leaf_params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![];
        params.key_usages = vec![];
        let cert = params.self_signed(&key).expect("a certificate");
        Self { chain: vec![cert.der().to_vec()], key: key.serialize_der() }
    }

    /// The certificates in DER, its own first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The key, as PKCS #8 in DER.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The certificates in PEM, its own first.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// The key, as PKCS #8 in PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// Writes `NAME.pem` (the chain) and `NAME.key` to `place`; their paths.
    pub fn files(&self, place: &Place, name: &str) -> (String, String) {
        (
            write(place, &format!("{name}.pem"), &self.chain_pem()),
            write(place, &format!("{name}.key"), &self.key_pem()),
        )
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names that a certificate can have");
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = names.first() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

fn write(place: &Place, name: &str, text: &str) -> String {
    let path = place.path(name);
    std::fs::write(&path, text).expect("the file is written");
    path
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}
