//! As much of HTTP/1.1 (RFC 9112) as a handshake needs.

use tuyau_core::{ConnectError, ConnectErrorKind, Flow};

/// A head that is longer is refused.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

/// The head of a message: its lines, and what came behind it.
pub(crate) struct Head {
    bytes: Vec<u8>,
    pub(crate) rest: Vec<u8>,
}

/// Reads a head. `begins` judges its first bytes, so that what is no HTTP is told at once.
pub(crate) async fn read_head(
    flow: &mut Flow,
    begins: impl Fn(&[u8]) -> Result<(), ConnectError>,
) -> Result<Head, ConnectError> {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    loop {
        let n = flow.read(&mut part).await?;
        if n == 0 {
            let (what, hint) = match bytes.is_empty() {
                true => ("the peer hung up instead of answering", "does it speak HTTP, or does it want TLS?"),
                false => {
                    ("the peer hung up in the middle of its HTTP head", "is something on the way broken?")
                }
            };
            return Err(ConnectError::new(ConnectErrorKind::Closed, format!("WebSocket handshake: {what}"))
                .with_hint(hint));
        }
        let seen = bytes.len();
        bytes.extend_from_slice(&part[..n]);
        begins(&bytes)?;
        let from = seen.saturating_sub(3);
        if let Some(at) = bytes[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(from + at + 4);
            return Ok(Head { bytes, rest });
        }
        if bytes.len() > MAX_HEAD {
            return Err(not_http(&format!("a head of more than {MAX_HEAD} bytes")));
        }
    }
}

/// A parsed head: the fields of the first line that were wanted, and the headers.
pub(crate) struct Headers(Vec<(String, Vec<u8>)>);

impl Head {
    /// Status, reason and headers.
    pub(crate) fn response(&self) -> Result<(u16, String, Headers), ConnectError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&self.bytes).map_err(|error| not_http(&error.to_string()))?;
        let code = response.code.ok_or_else(|| not_http("no status"))?;
        Ok((code, response.reason.unwrap_or_default().to_owned(), Headers::of(response.headers)))
    }

    /// Method, path and headers.
    pub(crate) fn request(&self) -> Result<(String, String, Headers), ConnectError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(&self.bytes).map_err(|error| not_http(&error.to_string()))?;
        let method = request.method.unwrap_or_default().to_owned();
        let path = request.path.unwrap_or_default().to_owned();
        Ok((method, path, Headers::of(request.headers)))
    }
}

impl Headers {
    fn of(headers: &[httparse::Header<'_>]) -> Self {
        Self(headers.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec())).collect())
    }

    /// The values of a header whose name is given in lower case, those of a list apart.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.0.iter().filter(move |(its_name, _)| its_name == name);
        let texts = lines.filter_map(|(_, value)| std::str::from_utf8(value).ok());
        texts.flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }

    pub(crate) fn has(&self, name: &str, item: &str) -> bool {
        self.list(name).any(|its_item| its_item.eq_ignore_ascii_case(item))
    }

    /// The value of a header that is no list.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(its_name, _)| its_name == name)?;
        std::str::from_utf8(value).ok().map(str::trim)
    }
}

pub(crate) fn not_http(why: &str) -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Protocol,
        format!("WebSocket handshake: the peer's HTTP is broken: {why}"),
    )
    .with_hint("is it a WebSocket peer?")
}

/// What a peer said that is no HTTP, for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    text.lines().next().unwrap_or_default().escape_debug().to_string()
}

/// Whether a TLS record begins here: a handshake or an alert (RFC 8446 section 5.1).
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 3, ..])
}
