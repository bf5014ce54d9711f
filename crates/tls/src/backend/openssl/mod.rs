//! OpenSSL, over memory: what it reads and writes are buffers, which the flow below fills and empties.

mod config;

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::ssl::{self, ErrorCode, NameType, ShutdownState, Ssl, SslStream, SslVersion};
use openssl::x509::{X509StoreContextRef, X509VerifyResult};
use tuyau_core::{FlowError, ReadBuf, Role};

use super::{Agreed, Engine, Had, MAX_WRITE};
use crate::certificate;
use crate::config::Version;
use crate::error::{About, OUT_OF_TURN, TlsError};
use crate::lower::Lower;

pub(crate) use config::{Client, Server};

/// How much is received at once.
const INPUT: usize = 32 * 1024;

/// A connection, and what its errors are told with.
pub(crate) struct OpenSsl {
    stream: SslStream<Wire>,
    role: Role,
    about: About,
    failure: Arc<Slot>,
    /// What went wrong behind bytes that could still be read.
    failed: Option<TlsError>,
    /// Several slices, to make one record of them: the library takes one at a time.
    gathered: Vec<u8>,
}

/// What verification found wrong, once it has.
#[derive(Default)]
struct Slot(Mutex<Option<Failure>>);

struct Failure {
    code: X509VerifyResult,
    chain: Vec<Vec<u8>>,
}

impl Slot {
    /// For a verification callback: notes why the certificate at hand is not accepted.
    fn note(&self, context: &X509StoreContextRef) {
        let chain = context.chain().into_iter().flatten().filter_map(|cert| cert.to_der().ok()).collect();
        let failure = Failure { code: context.error(), chain };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What was received and is to be sent.
#[derive(Default)]
struct Wire {
    input: Vec<u8>,
    read: usize,
    received: usize,
    output: Vec<u8>,
    sent: usize,
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let unread = &self.input[self.read..self.received];
        if unread.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = unread.len().min(bytes.len());
        bytes[..n].copy_from_slice(&unread[..n]);
        self.read += n;
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpenSsl {
    fn new(
        ssl: Ssl,
        role: Role,
        about: About,
        failure: Arc<Slot>,
    ) -> Result<Self, openssl::error::ErrorStack> {
        let stream = SslStream::new(ssl, Wire::default())?;
        Ok(Self { stream, role, about, failure, failed: None, gathered: Vec::new() })
    }

    /// Whether more must be received; the error, if it is one.
    fn waits(&mut self, error: &ssl::Error) -> Result<(), TlsError> {
        match error.code() {
            ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Ok(()),
            _ => Err(self.explain(error)),
        }
    }

    fn explain(&mut self, error: &ssl::Error) -> TlsError {
        if let Some(failure) = self.failure.take() {
            return failure.explain(&self.about.name);
        }
        let errors = error.ssl_error().map(openssl::error::ErrorStack::errors).unwrap_or_default();
        let Some(first) = errors.first() else {
            return TlsError::Protocol { why: error.to_string() };
        };
        // The numbers are the library's: `SSL_R_…` of <openssl/sslerr.h>.
        match first.reason_code() {
            code @ 1000..=1255 => {
                let alert = u8::try_from(code - 1000).unwrap_or_default();
                TlsError::alert(alert, self.role, &self.about)
            }
            // PEER_DID_NOT_RETURN_A_CERTIFICATE
            199 => TlsError::NoClientCertificate,
            // NO_APPLICATION_PROTOCOL
            235 => TlsError::NoCommonAlpn { ours: self.about.alpn() },
            // NO_PROTOCOLS_AVAILABLE, UNSUPPORTED_PROTOCOL, WRONG_SSL_VERSION, WRONG_VERSION_NUMBER,
            // VERSION_TOO_LOW
            191 | 258 | 266 | 267 | 396 => TlsError::NoCommonVersion,
            // NO_SUITABLE_KEY_SHARE, NO_SUITABLE_SIGNATURE_ALGORITHM, NO_SHARED_CIPHER,
            // NO_SHARED_SIGNATURE_ALGORITHMS, NO_SUITABLE_GROUPS, NO_SHARED_GROUPS
            101 | 118 | 193 | 376 | 295 | 410 => TlsError::NoCommonCipher,
            // CALLBACK_FAILED: the one that chooses a certificate
            234 => match self.asked() {
                Some(asked) => TlsError::NoCertificateFor { asked, names: self.about.served.to_vec() },
                None => TlsError::Protocol { why: "no certificate could be chosen".into() },
            },
            // UNEXPECTED_MESSAGE
            244 => TlsError::Protocol { why: OUT_OF_TURN.into() },
            _ => TlsError::Protocol { why: first.reason().unwrap_or("an error without a name").to_owned() },
        }
    }

    fn asked(&self) -> Option<String> {
        self.stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned)
    }
}

impl Engine for OpenSsl {
    const LENDS: bool = false;

    fn handshake(&mut self) -> Result<bool, TlsError> {
        let result = self.stream.do_handshake();
        if self.role == Role::Client {
            self.about.certificate_requested |= shows_certificates(&self.stream.get_ref().output);
        }
        match result {
            Ok(()) => Ok(true),
            Err(error) => self.waits(&error).map(|()| false),
        }
    }

    fn receive(&mut self, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<usize, FlowError>> {
        let wire = self.stream.get_mut();
        if wire.read == wire.received {
            wire.input.resize(INPUT, 0);
            let received = ready!(lower.poll_read(cx, &mut wire.input))?;
            (wire.read, wire.received) = (0, received);
        }
        Poll::Ready(Ok(wire.received - wire.read))
    }

    fn read(&mut self, buf: &mut ReadBuf<'_>) -> Result<Had, TlsError> {
        let before = buf.remaining();
        // The library gives a record at a time; more may have been received.
        while buf.remaining() > 0 && self.failed.is_none() {
            match read_record(&mut self.stream, buf) {
                Ok(()) => {}
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    return Ok(if buf.remaining() < before { Had::Some } else { Had::End });
                }
                Err(error) => match self.waits(&error) {
                    Ok(()) => break,
                    Err(error) => self.failed = Some(error),
                },
            }
        }
        match &self.failed {
            _ if buf.remaining() < before => Ok(Had::Some),
            Some(error) => Err(error.clone()),
            None => Ok(Had::Nothing),
        }
    }

    fn lend(&mut self) -> Result<Had, TlsError> {
        Ok(Had::Nothing)
    }

    fn lent(&mut self) -> &[u8] {
        &[]
    }

    fn consume(&mut self, _n: usize) {}

    fn alert(&mut self) -> Result<bool, TlsError> {
        match self.stream.ssl_peek(&mut [0]) {
            Err(error) if error.code() != ErrorCode::ZERO_RETURN => self.waits(&error).map(|()| true),
            _ => Ok(false),
        }
    }

    fn write(&mut self, bytes: &[&[u8]]) -> Result<usize, TlsError> {
        let mut filled = bytes.iter().filter(|bytes| !bytes.is_empty());
        let written = match (filled.next(), filled.next()) {
            (Some(only), None) => self.stream.ssl_write(&only[..only.len().min(MAX_WRITE)]),
            _ => {
                self.gathered.clear();
                for bytes in bytes {
                    let n = bytes.len().min(MAX_WRITE - self.gathered.len());
                    self.gathered.extend_from_slice(&bytes[..n]);
                }
                self.stream.ssl_write(&self.gathered)
            }
        };
        written.map_err(|error| self.explain(&error))
    }

    fn close(&mut self) {
        // Whether the peer has ended as well is no business of this side's end.
        let _ = self.stream.shutdown();
    }

    fn has_output(&self) -> bool {
        !self.stream.get_ref().output.is_empty()
    }

    fn send(&mut self, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<usize, FlowError>> {
        let wire = self.stream.get_mut();
        let n = ready!(lower.flow.poll_write(cx, &[&wire.output[wire.sent..]]))?;
        wire.sent += n;
        if wire.sent == wire.output.len() {
            wire.output.clear();
            wire.sent = 0;
        }
        Poll::Ready(Ok(n))
    }

    fn agreed(&self) -> Agreed {
        let ssl = self.stream.ssl();
        let cipher = ssl.current_cipher().map(|cipher| cipher.standard_name().unwrap_or(cipher.name()));
        let own = ssl.peer_certificate().and_then(|own| own.to_der().ok());
        let sent = ssl.peer_cert_chain().into_iter().flatten().filter_map(|cert| cert.to_der().ok());
        // The chain has it only on the client's side.
        let peer = own.map(|own| {
            let others: Vec<_> = sent.filter(|der| *der != own).collect();
            std::iter::once(own).chain(others).collect()
        });
        Agreed {
            version: match ssl.version2() {
                Some(SslVersion::TLS1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
            cipher: cipher.unwrap_or_default().into(),
            alpn: ssl.selected_alpn_protocol().map(Into::into),
            peer,
            resumed: ssl.session_reused(),
            certificate_requested: self.about.certificate_requested,
            asked: (self.role == Role::Server).then(|| self.asked()).flatten().map(Into::into),
        }
    }
}

/// Whether a client shows its certificates, be it none, which only who was asked does: the library itself does not tell.
/// They come in the clear (RFC 5246 section 7.4.6), or encrypted before the Finished (RFC 8446 section 4.4), each message
/// in a record of its own.
fn shows_certificates(records: &[u8]) -> bool {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const HANDSHAKE: u8 = 22;
    const APPLICATION_DATA: u8 = 23;
    const CERTIFICATE: u8 = 11;
    let (mut rest, mut is_clear, mut encrypted) = (records, true, 0);
    while let [kind, _, _, high, low, tail @ ..] = rest {
        match *kind {
            CHANGE_CIPHER_SPEC => is_clear = false,
            HANDSHAKE if is_clear && tail.first() == Some(&CERTIFICATE) => return true,
            APPLICATION_DATA => encrypted += 1,
            _ => {}
        }
        rest = tail.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    encrypted > 1
}

/// Decrypts one record at most, without zeroing first what it is about to overwrite.
fn read_record(stream: &mut SslStream<Wire>, buf: &mut ReadBuf<'_>) -> Result<(), ssl::Error> {
    // SAFETY: nothing but decrypted bytes is written to it.
    #[allow(unsafe_code)]
    let n = stream.ssl_read_uninit(unsafe { buf.unfilled_mut() })?;
    // SAFETY: that many bytes have been decrypted to its beginning.
    #[allow(unsafe_code)]
    unsafe {
        buf.assume_filled(n);
    }
    Ok(())
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // Else it takes the sessions of a connection that was merely dropped for spoilt.
        if self.failed.is_none() {
            self.stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        }
    }
}

impl Failure {
    /// What verification found, in words.
    fn explain(&self, asked: &str) -> TlsError {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let other = || TlsError::BadCertificate { why: self.code.error_string().to_owned() };
        // `X509_V_ERR_…` of <openssl/x509_vfy.h>.
        match self.code.as_raw() {
            // CERT_NOT_YET_VALID, CERT_HAS_EXPIRED
            9 | 10 => certificate::out_of_time(&self.chain, i64::try_from(now).unwrap_or(i64::MAX))
                .unwrap_or_else(other),
            // HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH
            62 | 64 => certificate::wrong_name(&self.chain, asked),
            // UNABLE_TO_GET_ISSUER_CERT, DEPTH_ZERO_SELF_SIGNED_CERT, SELF_SIGNED_CERT_IN_CHAIN,
            // UNABLE_TO_GET_ISSUER_CERT_LOCALLY, UNABLE_TO_VERIFY_LEAF_SIGNATURE
            2 | 18..=21 => certificate::unknown_authority(&self.chain),
            _ => other(),
        }
    }
}
