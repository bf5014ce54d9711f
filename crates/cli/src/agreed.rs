//! What was agreed on by TLS, for reports.

use tuyau::{Report, Resolved};

/// What came of it, with what TLS agreed on, if there is any, as a note.
#[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "nothing is agreed on"))]
pub(crate) fn report(resolved: &Resolved) -> Report {
    let mut report = resolved.report();
    #[cfg(feature = "tls")]
    report.notes.extend(tls(resolved));
    report
}

/// Version, cipher and protocol. That none of the protocols on offer was chosen is no failure, as it is none for curl
/// and `openssl s_client`; but it is said.
#[cfg(feature = "tls")]
fn tls(resolved: &Resolved) -> Option<String> {
    use tuyau::names::{ALPN, NEGOTIATED_ALPN};
    use tuyau::tls::{CIPHER, VERSION};

    let mut note = resolved.fact(&VERSION)?.to_string();
    if let Some(cipher) = resolved.fact(&CIPHER) {
        note = format!("{note}, {cipher}");
    }
    let text = |protocol: &[u8]| String::from_utf8_lossy(protocol).into_owned();
    match (resolved.fact(&NEGOTIATED_ALPN), resolved.get(&ALPN)) {
        (Some(agreed), _) => Some(format!("{note}; ALPN: {}", text(&agreed))),
        (None, Some(offered)) => {
            let offered: Vec<_> = offered.iter().map(|it| text(it)).collect();
            Some(format!("{note}; ALPN: none agreed on, of {}", offered.join(", ")))
        }
        (None, None) => Some(note),
    }
}
