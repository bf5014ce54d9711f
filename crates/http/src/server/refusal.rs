//! Responses that the server makes itself: to bad requests, and for services that fail.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{Request, Response, StatusCode, request};

use crate::connection::Connection;
use crate::error::BoxError;

/// Makes the response to what was refused.
pub(crate) type ErrorHandler = Arc<dyn Fn(&Refused) -> Response<Bytes> + Send + Sync>;

/// A request that no handler answered: it is none by the rules of HTTP, it came too late, or the service
/// failed. See [`Http::on_error`](crate::Http::on_error).
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    connection: Connection,
    cause: Cause,
    head: Option<Box<request::Parts>>,
}

#[derive(Debug)]
enum Cause {
    Request(&'static str),
    Service(BoxError),
}

impl Refused {
    pub(crate) fn request(status: StatusCode, why: &'static str, connection: &Connection) -> Self {
        Self { status, connection: connection.clone(), cause: Cause::Request(why), head: None }
    }

    /// What came too late, or is no request.
    pub(crate) fn unread(status: StatusCode, connection: &Connection) -> Self {
        let why = match status {
            StatusCode::REQUEST_TIMEOUT => "its head took too long",
            StatusCode::URI_TOO_LONG => "its target is too long",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "its head is too large",
            _ => "it is not HTTP/1, or not by its rules",
        };
        Self::request(status, why, connection)
    }

    pub(crate) fn of<B>(self, request: Request<B>) -> Self {
        Self { head: Some(Box::new(request.into_parts().0)), ..self }
    }

    pub(crate) fn failed(error: BoxError, connection: &Connection) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, connection: connection.clone(), cause: Cause::Service(error), head: None }
    }

    /// The status that it is answered with, unless the error handler chooses another: 400, 408, 414, 431 or
    /// 501 where the request is at fault, 500 where the service failed.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The connection that it came by.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The head of the request, if that is at fault and could be read at all.
    pub fn head(&self) -> Option<&request::Parts> {
        self.head.as_deref()
    }

    /// What the service failed with; none if the request is at fault.
    pub fn error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        match &self.cause {
            Cause::Request(_) => None,
            Cause::Service(error) => Some(&**error),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Request(why) => write!(f, "a bad request: {why}"),
            Cause::Service(_) => f.write_str("the service failed"),
        }
    }
}

/// The response to what was refused: the user's, or an empty one.
pub(crate) fn answer(on_error: Option<&ErrorHandler>, refused: &Refused) -> Response<Bytes> {
    match on_error {
        Some(on_error) => on_error(refused),
        None => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = refused.status;
            response
        }
    }
}

/// The response to what hyper could not parse, given what it would answer.
pub(crate) fn replace(on_error: &ErrorHandler, connection: &Connection, hypers: &[u8]) -> BytesMut {
    let status = hypers.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok());
    let status = status.unwrap_or(StatusCode::BAD_REQUEST);
    let date = hypers.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"date: "));
    last_response(answer(Some(on_error), &Refused::unread(status, connection)), date)
}

/// The bytes of an HTTP/1.1 response after which the connection is closed.
pub(crate) fn last_response(response: Response<Bytes>, date: Option<&[u8]>) -> BytesMut {
    let (head, body) = response.into_parts();
    let mut bytes = BytesMut::with_capacity(256 + body.len());
    let reason = head.status.canonical_reason().unwrap_or_default();
    bytes.put_slice(format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).as_bytes());
    for (name, value) in &head.headers {
        if name != CONTENT_LENGTH && name != CONNECTION {
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_slice(b": ");
            bytes.put_slice(value.as_bytes());
            bytes.put_slice(b"\r\n");
        }
    }
    if let Some(date) = date.filter(|_| !head.headers.contains_key(DATE)) {
        bytes.put_slice(b"date: ");
        bytes.put_slice(date.trim_ascii_end());
        bytes.put_slice(b"\r\n");
    }
    bytes.put_slice(format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.put_slice(&body);
    bytes
}
