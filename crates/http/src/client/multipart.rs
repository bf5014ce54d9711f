//! Forms of several parts (RFC 7578).

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::body::Body;
use crate::error::BoxError;

/// A form of several parts (RFC 7578), for what is not text: files.
///
/// ```
/// use tuyau_http::Multipart;
///
/// let form = Multipart::new().text("name", "value").file("upload", "a.txt", "text/plain", "hello");
/// ```
pub struct Multipart {
    boundary: String,
    pieces: VecDeque<Body>,
}

impl Multipart {
    /// A form without parts, whose boundary is taken at random.
    pub fn new() -> Self {
        let random = || RandomState::new().hash_one(0);
        Self::with_boundary(&format!("tuyau-{:016x}{:016x}", random(), random()))
    }

    /// A form with this boundary, which must not occur in the parts: letters, digits and `-` (RFC 2046 section
    /// 5.1.1).
    pub fn with_boundary(boundary: &str) -> Self {
        Self { boundary: boundary.to_owned(), pieces: VecDeque::new() }
    }

    /// With a field of text.
    pub fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.part(&format!("name=\"{}\"", escaped(name)), None, Body::from(value.into()))
    }

    /// With a file, `content` of it bytes or a stream.
    pub fn file(self, name: &str, file: &str, media_type: &str, content: impl Into<Body>) -> Self {
        let disposition = format!("name=\"{}\"; filename=\"{}\"", escaped(name), escaped(file));
        self.part(&disposition, Some(media_type), content.into())
    }

    fn part(mut self, disposition: &str, media_type: Option<&str>, content: Body) -> Self {
        let first = if self.pieces.is_empty() { "" } else { "\r\n" };
        let mut head =
            format!("{first}--{}\r\nContent-Disposition: form-data; {disposition}\r\n", self.boundary);
        if let Some(media_type) = media_type {
            let media_type: String = media_type.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("Content-Type: {media_type}\r\n"));
        }
        head.push_str("\r\n");
        self.pieces.extend([Body::from(head), content]);
        self
    }

    /// The field `Content-Type`, and the body.
    pub(super) fn finish(mut self) -> (String, Body) {
        let first = if self.pieces.is_empty() { "" } else { "\r\n" };
        self.pieces.push_back(Body::from(format!("{first}--{}--\r\n", self.boundary)));
        (format!("multipart/form-data; boundary={}", self.boundary), Body::new(Pieces(self.pieces)))
    }
}

/// As browsers do it: RFC 7578 section 2 leaves the escaping to HTML.
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

impl Default for Multipart {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").field("parts", &(self.pieces.len() / 2)).finish_non_exhaustive()
    }
}

/// One after the other.
struct Pieces(VecDeque<Body>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while let Some(piece) = self.0.front_mut() {
            match ready!(Pin::new(piece).poll_frame(cx)) {
                // Trailers of a part are not those of the form.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(frame) => return Poll::Ready(Some(frame)),
                None => drop(self.0.pop_front()),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let all: Option<u64> = self.0.iter().map(|piece| piece.size_hint().exact()).sum();
        all.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
