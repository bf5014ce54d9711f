//! rustls.

mod config;
mod verify;

use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{
    AlertDescription, CertificateError, Connection, Error, HandshakeKind, PeerIncompatible, ProtocolVersion,
};
use tuyau_core::{FlowError, ReadBuf, Role};

use super::{Agreed, Engine, Had, MAX_WRITE};
use crate::certificate;
use crate::config::Version;
use crate::error::{About, OUT_OF_TURN, TlsError};
use crate::lower::{Lower, Sync, polled};

pub(crate) use config::{Client, Server};
use verify::{Failure, Notes};

/// A connection, and what its errors are told with.
pub(crate) struct Rustls {
    conn: Connection,
    role: Role,
    about: About,
    /// What verification found wrong, and what was asked for: neither of which the library says itself.
    notes: Arc<Notes>,
    /// Whether bytes were received that have not been looked at.
    unprocessed: bool,
    /// How many decrypted bytes are to be read, and whether that is all there will be: the library would have to be
    /// asked several times for each read.
    decrypted: usize,
    closed: bool,
    /// A plain alert to be sent in place of the one that the library chose.
    instead: Option<[u8; 7]>,
}

impl Rustls {
    fn new(conn: impl Into<Connection>, role: Role, about: About, notes: &Arc<Notes>) -> Self {
        let mut conn = conn.into();
        // `write` sees to it that no more than its share waits.
        conn.set_buffer_limit(None);
        let notes = notes.clone();
        Self { conn, role, about, notes, unprocessed: false, decrypted: 0, closed: false, instead: None }
    }

    fn process(&mut self) -> Result<(), TlsError> {
        self.unprocessed = false;
        let noted = self.conn.is_handshaking().then_some(&self.notes);
        let result = self.conn.process_new_packets();
        let noted = noted.map(|notes| notes.take()).unwrap_or_default();
        self.about.certificate_requested |= noted.certificate_requested;
        match result {
            Ok(state) => {
                (self.decrypted, self.closed) = (state.plaintext_bytes_to_read(), state.peer_has_closed());
                Ok(())
            }
            Err(error) => Err(self.explain(error, noted.failure)),
        }
    }

    /// Whether decrypted bytes are there, decrypting them if need be.
    fn had(&mut self) -> Result<Had, TlsError> {
        if self.decrypted == 0 && self.unprocessed {
            self.process()?;
        }
        Ok(match (self.decrypted, self.closed) {
            (1.., _) => Had::Some,
            (0, true) => Had::End,
            (0, false) => Had::Nothing,
        })
    }

    /// Counts `n` of the first chunk's bytes as read.
    fn take(&mut self, n: usize) {
        self.conn.reader().consume(n);
        self.decrypted -= n;
    }

    fn explain(&mut self, error: Error, failure: Option<Failure>) -> TlsError {
        match error {
            Error::InvalidCertificate(error) => match failure {
                Some(failure) => failure.explain(&error, &self.about.name),
                None => TlsError::BadCertificate { why: error.to_string() },
            },
            Error::AlertReceived(alert) => TlsError::alert(alert.into(), self.role, &self.about),
            Error::NoCertificatesPresented => TlsError::NoClientCertificate,
            Error::NoApplicationProtocol => TlsError::NoCommonAlpn { ours: self.about.alpn() },
            Error::PeerIncompatible(why) => match why {
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled => TlsError::NoCommonVersion,
                _ => TlsError::NoCommonCipher,
            },
            Error::General(_) if self.role == Role::Server && self.conn.is_handshaking() => {
                self.no_certificate().unwrap_or_else(|| TlsError::Protocol { why: error.to_string() })
            }
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                TlsError::Protocol { why: OUT_OF_TURN.into() }
            }
            error => TlsError::Protocol { why: error.to_string() },
        }
    }

    /// The library calls this `access_denied`, which says nothing; it has a name (RFC 6066 section 3).
    fn no_certificate(&mut self) -> Option<TlsError> {
        let Connection::Server(conn) = &self.conn else { return None };
        let asked = conn.server_name()?.to_owned();
        let unrecognized_name = AlertDescription::UnrecognisedName.into();
        self.instead = Some([21, 3, 3, 0, 2, 2, unrecognized_name]);
        Some(TlsError::NoCertificateFor { asked, names: self.about.served.to_vec() })
    }
}

impl Engine for Rustls {
    const LENDS: bool = true;

    fn handshake(&mut self) -> Result<bool, TlsError> {
        self.process()?;
        Ok(!self.conn.is_handshaking())
    }

    fn receive(&mut self, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<usize, FlowError>> {
        let received = polled(self.conn.read_tls(&mut Sync { lower, cx }));
        self.unprocessed |= matches!(received, Poll::Ready(Ok(1..)));
        received
    }

    fn read(&mut self, buf: &mut ReadBuf<'_>) -> Result<Had, TlsError> {
        let had = self.had()?;
        while self.decrypted > 0 {
            let bytes = self.lent();
            let n = bytes.len().min(buf.remaining());
            if n == 0 {
                break;
            }
            buf.put_slice(&bytes[..n]);
            self.take(n);
        }
        Ok(had)
    }

    fn lend(&mut self) -> Result<Had, TlsError> {
        self.had()
    }

    fn lent(&mut self) -> &[u8] {
        self.conn.reader().into_first_chunk().unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.lent().len());
        self.take(n);
    }

    fn alert(&mut self) -> Result<bool, TlsError> {
        self.process()?;
        Ok(self.decrypted == 0)
    }

    fn write(&mut self, bytes: &[&[u8]]) -> Result<usize, TlsError> {
        const MOST: usize = 16;
        let mut slices = [IoSlice::new(&[]); MOST];
        let (mut count, mut left) = (0, MAX_WRITE);
        for bytes in bytes.iter().filter(|bytes| !bytes.is_empty()) {
            if count == MOST || left == 0 {
                break;
            }
            let n = bytes.len().min(left);
            slices[count] = IoSlice::new(&bytes[..n]);
            (count, left) = (count + 1, left - n);
        }
        let written = self.conn.writer().write_vectored(&slices[..count]);
        written.map_err(|error| TlsError::Protocol { why: error.to_string() })
    }

    fn close(&mut self) {
        self.conn.send_close_notify();
    }

    fn has_output(&self) -> bool {
        self.instead.is_some() || self.conn.wants_write()
    }

    fn send(&mut self, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<usize, FlowError>> {
        if let Some(alert) = self.instead.take() {
            // What the library has in its place goes nowhere.
            let _ = self.conn.write_tls(&mut io::sink());
            return lower.flow.poll_write(cx, &[&alert]);
        }
        polled(self.conn.write_tls(&mut Sync { lower, cx }))
    }

    fn agreed(&self) -> Agreed {
        let cipher = self.conn.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let certificates = self.conn.peer_certificates().filter(|chain| !chain.is_empty());
        let asked = match &self.conn {
            Connection::Server(conn) => conn.server_name().map(Into::into),
            Connection::Client(_) => None,
        };
        Agreed {
            version: match self.conn.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
            // Its own names for those of 1.3 tell the version, those of IANA don't.
            cipher: cipher.unwrap_or_default().replacen("TLS13_", "TLS_", 1).into(),
            alpn: self.conn.alpn_protocol().map(Into::into),
            peer: certificates.map(|chain| chain.iter().map(|der| der.to_vec()).collect()),
            resumed: self.conn.handshake_kind() == Some(HandshakeKind::Resumed),
            certificate_requested: self.about.certificate_requested,
            asked,
        }
    }
}

/// What verification found, in words.
impl verify::Failure {
    fn explain(&self, error: &CertificateError, asked: &str) -> TlsError {
        use CertificateError as E;
        let out_of_time = || certificate::out_of_time(&self.chain, self.now);
        match error {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                out_of_time().unwrap_or_else(|| TlsError::BadCertificate { why: error.to_string() })
            }
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                certificate::wrong_name(&self.chain, asked)
            }
            E::UnknownIssuer => certificate::unknown_authority(&self.chain),
            // An authority's own certificate, shown as a server's: nobody vouches for it.
            E::Other(_) if self.is_self_signed() => certificate::unknown_authority(&self.chain),
            error => TlsError::BadCertificate { why: error.to_string() },
        }
    }
}
