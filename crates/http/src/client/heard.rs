//! What a server says first, and what its connection breaks with: for whoever is told that it speaks no HTTP.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::Version;
use tuyau_core::{Flow, FlowError, FlowErrorKind, Protection, RawFlow, ReadBuf, Target, Unboxed, forward};

use crate::connection::Connection;

/// How many bytes are kept of what is said first.
const WORDS: usize = 80;

/// What was heard from the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What came by the first read.
    words: Vec<u8>,
    broke: Option<Arc<FlowError>>,
}

impl Heard {
    /// The flow, listened to, that is to speak `version`.
    pub(super) fn of(flow: Flow, version: Version) -> (Unboxed<Listening>, Self) {
        let (heard, h1) = (Self::default(), version != Version::HTTP_2);
        (Unboxed(Listening { flow, heard: heard.clone(), begun: false, h1, deaf: false }), heard)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `error`, or what explains it better, of the `connection`.
    pub(super) fn explain(&self, error: hyper::Error, asked: Version, connection: &Connection) -> Lost {
        let peer = connection.peer().map_or_else(|| "the server".into(), Target::to_string);
        let state = self.state();
        let broke = state.broke.as_ref();
        let why = match (broke, strange(&state.words, asked)) {
            (_, Some(what)) => Why::Strange(what),
            _ if state.words.is_empty() && !error.is_user() && broke.is_none_or(|it| is_end(it)) => {
                Why::Silent { in_clear: connection.security() == Protection::Clear }
            }
            (Some(broke), None) => Why::Broke(Broke(broke.clone())),
            (None, None) => Why::Hyper(error),
        };
        Lost { peer, why }
    }
}

/// What whoever says `words` speaks, if that is not what was `asked`.
fn strange(words: &[u8], asked: Version) -> Option<String> {
    let what = match words {
        [] => return None,
        [b'S', b'S', b'H', b'-', ..] => "SSH, not HTTP",
        // "No acceptable methods" (RFC 1928 section 3).
        [5, 0xff] => return Some("SOCKS5, not HTTP: it is to be gone through".into()),
        // An alert, or a handshake record (RFC 8446 section 5.1).
        [0x15 | 0x16, 3, ..] => return Some("TLS: ask for https:// there".into()),
        [b'H', b'T', b'T', b'P', b'/', ..] if asked == Version::HTTP_2 => {
            return Some("HTTP/1.1 only: HTTP/2 was asked for without ALPN".into());
        }
        [b'H', b'T', b'T', b'P', b'/', ..] => return None,
        // SETTINGS (RFC 9113 section 6.5).
        [_, _, _, 4, _, 0, 0, 0, 0, ..] if asked == Version::HTTP_2 => return None,
        [_, _, _, 4, _, 0, 0, 0, 0, ..] => return Some("HTTP/2 only, and HTTP/1.1 was asked for".into()),
        _ if b"HTTP/".starts_with(words) || words.len() < 9 && asked == Version::HTTP_2 => return None,
        _ => "no HTTP",
    };
    let line = words.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty());
    let text = String::from_utf8_lossy(line.unwrap_or_default());
    let said: String = text.chars().flat_map(char::escape_debug).collect();
    Some(format!("{what}: it said `{said}`"))
}

/// A connection that is of no use: the cause of an error of [`Stage::Send`](super::Stage::Send) or
/// [`Stage::Wait`](super::Stage::Wait).
#[derive(Debug)]
pub(super) struct Lost {
    peer: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Strange(String),
    Broke(Broke),
    /// It hung up without a word.
    Silent {
        in_clear: bool,
    },
    Hyper(hyper::Error),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, why } = self;
        match why {
            Why::Strange(what) => write!(f, "{peer} speaks {what}"),
            Why::Silent { in_clear: true } => {
                write!(f, "{peer} hung up without an answer: it may speak TLS (https://), or no HTTP")
            }
            Why::Silent { in_clear: false } => {
                write!(f, "{peer} hung up without an answer: it may speak no HTTP")
            }
            Why::Hyper(error) if error.is_parse() => write!(f, "{peer} answered against the rules of HTTP"),
            Why::Hyper(error) if error.is_incomplete_message() => {
                write!(f, "{peer} closed the connection before the end of its answer")
            }
            Why::Hyper(error) if is_too_late(error) => {
                write!(f, "the connection to {peer} was closed before the request was sent")
            }
            Why::Broke(_) | Why::Hyper(_) => write!(f, "the connection to {peer} broke"),
        }
    }
}

impl Error for Lost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.why {
            Why::Strange(_) | Why::Silent { .. } => None,
            // The engine's own word for it says no more.
            Why::Hyper(error) if error.is_incomplete_message() || is_too_late(error) => None,
            Why::Broke(broke) => Some(&*broke.0),
            Why::Hyper(error) => Some(error),
        }
    }
}

/// Whether it was closed before a request was sent.
fn is_too_late(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed()
}

/// Whether the peer hung up, and no layer has more to say of it.
fn is_end(error: &FlowError) -> bool {
    use FlowErrorKind::{Aborted, BrokenPipe, Reset, UnexpectedEof};
    matches!(error.kind(), Aborted | BrokenPipe | Reset | UnexpectedEof)
        && error.source().is_none_or(|source| source.is::<std::io::Error>())
}

/// An error of the flow, which engines turn into text.
#[derive(Clone, Debug)]
struct Broke(Arc<FlowError>);

impl fmt::Display for Broke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Broke {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A flow whose peer is listened to.
pub(crate) struct Listening {
    flow: Flow,
    heard: Heard,
    /// Whether it has said something.
    begun: bool,
    h1: bool,
    /// It takes no more of what we say, as it may have answered before the end of the request.
    deaf: bool,
}

impl Listening {
    pub(crate) fn into_flow(self) -> Flow {
        self.flow
    }

    /// Over HTTP/1, whether a server that takes no more is listened to all the same (RFC 9112 section 9.5): hyper would
    /// give up at once. If it said nothing, reading tells.
    fn is_deaf(&mut self, error: &FlowError) -> bool {
        use FlowErrorKind::{Aborted, BrokenPipe, Reset};
        self.deaf |= self.h1 && matches!(error.kind(), Aborted | BrokenPipe | Reset);
        self.deaf
    }

    fn note<T>(&self, poll: Poll<Result<T, FlowError>>) -> Poll<Result<T, FlowError>> {
        let Poll::Ready(Err(error)) = poll else { return poll };
        let (kind, broke) = (error.kind(), Broke(Arc::new(error)));
        self.heard.state().broke.get_or_insert_with(|| broke.0.clone());
        Poll::Ready(Err(FlowError::with_source(kind, broke)))
    }
}

impl RawFlow for Listening {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        let before = buf.filled().len();
        let poll = self.flow.poll_read(cx, buf);
        ready!(self.note(poll))?;
        if !self.begun {
            self.begun = true;
            let said = &buf.filled()[before..];
            self.heard.state().words = said[..said.len().min(WORDS)].to_vec();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        let all = || bytes.iter().map(|bytes| bytes.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(all()));
        }
        let poll = self.flow.poll_write(cx, bytes);
        match ready!(self.note(poll)) {
            Err(error) if self.is_deaf(&error) => Poll::Ready(Ok(all())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let poll = self.flow.poll_flush(cx);
        match ready!(self.note(poll)) {
            Err(error) if self.is_deaf(&error) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.flow.poll_shutdown(cx)
    }

    forward!(flow: itself lower unwrap);
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("heard", &self.heard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_shows_by_the_first_words() {
        let of = |words: &[u8], asked| strange(words, asked).unwrap_or_default();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        for (words, http1, http2) in [
            (
                &b"SSH-2.0-x\r\n"[..],
                "SSH, not HTTP: it said `SSH-2.0-x`",
                "SSH, not HTTP: it said `SSH-2.0-x`",
            ),
            (&[0x15, 3, 1, 0, 2, 2, 10], "TLS: ask for https:// there", "TLS: ask for https:// there"),
            (b"HTTP/1.1 200 OK\r\n", "", "HTTP/1.1 only: HTTP/2 was asked for without ALPN"),
            (b"HT", "", ""),
            (&settings, "HTTP/2 only, and HTTP/1.1 was asked for", ""),
            (
                b"220 \x1b[2J ESMTP\r\n",
                "no HTTP: it said `220 \\u{1b}[2J ESMTP`",
                "no HTTP: it said `220 \\u{1b}[2J ESMTP`",
            ),
            (
                &[5, 0xff],
                "SOCKS5, not HTTP: it is to be gone through",
                "SOCKS5, not HTTP: it is to be gone through",
            ),
            (b"", "", ""),
        ] {
            assert_eq!(
                (of(words, Version::HTTP_11).as_str(), of(words, Version::HTTP_2).as_str()),
                (http1, http2)
            );
        }
    }
}
