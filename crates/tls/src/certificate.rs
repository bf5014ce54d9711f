//! What a certificate says: for errors, and to choose one by name.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::error::{TlsError, harmless};

/// What matters of one certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    pub(crate) self_issued: bool,
    from: ASN1Time,
    until: ASN1Time,
}

impl Certificate {
    /// From DER; `None` if it is none.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let names = match cert.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name).collect(),
            _ => Vec::new(),
        };
        let show = |name: &x509_parser::x509::X509Name<'_>| {
            let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
            harmless(common.map_or_else(|| name.to_string(), str::to_owned).as_bytes())
        };
        Some(Self {
            subject: show(cert.subject()),
            issuer: show(cert.issuer()),
            names,
            self_issued: cert.subject() == cert.issuer(),
            from: cert.validity().not_before,
            until: cert.validity().not_after,
        })
    }

    /// Whether it is valid at this time (in seconds since 1970), and why not.
    pub(crate) fn check_time(&self, now: i64) -> Result<(), TlsError> {
        if now > self.until.timestamp() {
            return Err(TlsError::Expired { subject: self.subject.clone(), since: date(self.until) });
        }
        if now < self.from.timestamp() {
            return Err(TlsError::NotYetValid { subject: self.subject.clone(), from: date(self.from) });
        }
        Ok(())
    }

    /// Whether it is for this name: its own, or by a wildcard for one label (RFC 9525 section 6.3).
    pub(crate) fn is_for(&self, asked: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => asked
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
            None => name.eq_ignore_ascii_case(asked),
        })
    }
}

/// Why nobody vouches for this chain (the peer's own first).
pub(crate) fn unknown_authority(chain: &[Vec<u8>]) -> TlsError {
    let certificates: Vec<_> = chain.iter().filter_map(|der| Certificate::parse(der)).collect();
    match certificates.as_slice() {
        [own] if own.self_issued => TlsError::SelfSigned { subject: own.subject.clone() },
        [.., last] => TlsError::UnknownAuthority { issuer: last.issuer.clone() },
        [] => TlsError::BadCertificate { why: "it can't be read".into() },
    }
}

/// Why this chain is not valid now, if one of its certificates is not.
pub(crate) fn out_of_time(chain: &[Vec<u8>], now: i64) -> Option<TlsError> {
    chain.iter().filter_map(|der| Certificate::parse(der)).find_map(|cert| cert.check_time(now).err())
}

/// The names that the first certificate of the chain is for, where `asked` is not among them.
pub(crate) fn wrong_name(chain: &[Vec<u8>], asked: &str) -> TlsError {
    let names = chain.first().and_then(|der| Certificate::parse(der)).map(|cert| cert.names);
    TlsError::WrongName { asked: asked.to_owned(), names: names.unwrap_or_default() }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(harmless(name.as_bytes())),
        GeneralName::IPAddress(bytes) => match *bytes {
            &[a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        },
        _ => None,
    }
}

fn date(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

#[cfg(test)]
mod tests {
    use tuyau_testing::certs::Ca;

    use super::*;

    #[test]
    fn names_are_matched_as_browsers_do() {
        let leaf = Ca::new("CA").leaf(&["a.test", "*.b.test", "127.0.0.1", "::1"]);
        let cert = Certificate::parse(&leaf.chain()[0]).expect("a certificate");
        for name in ["a.test", "A.Test", "x.b.test", "127.0.0.1", "::1"] {
            assert!(cert.is_for(name), "{name}");
        }
        for name in ["b.test", ".b.test", "x.y.b.test", "xa.test", "127.0.0.2", ""] {
            assert!(!cert.is_for(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_no_panic() {
        assert!(Certificate::parse(b"").is_none() && Certificate::parse(&[0x30, 0x82, 0xff]).is_none());
        let leaf = Ca::new("CA").leaf(&["a.test"]);
        let der = &leaf.chain()[0];
        for end in 0..der.len() {
            assert!(Certificate::parse(&der[..end]).is_none());
        }
    }
}
