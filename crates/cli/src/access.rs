//! The access log of servers: the Common Log Format, and how long it took.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use jiff::Timestamp;
use tuyau::Target;
use tuyau::http::proxy::Cut;
use tuyau::http::{BodyError, BodyErrorKind, BoxError, Connection, Server};
use tuyau_tokio::{CREDENTIALS, Credentials};

use crate::exit::in_a_line;
use crate::output::{Count, Output, Took, Visible};
use crate::signals;

/// What is said of a request once it has ended.
#[derive(Debug)]
pub(crate) enum Told {
    /// All of it.
    Entry(Entry),
    /// What it failed for.
    Failure { url: Uri, asked: Asked, out: Output },
}

impl Told {
    /// What is said where requests are not logged.
    pub(crate) fn failure_of<B>(request: &Request<B>, asked: Asked, out: Output) -> Self {
        Self::Failure { url: request.uri().clone(), asked, out }
    }

    fn is_of_head(&self) -> bool {
        matches!(self, Self::Entry(entry) if entry.line.starts_with("HEAD "))
    }

    fn end(&self, status: StatusCode, bytes: u64, end: &End) {
        match (self, end) {
            (Self::Entry(entry), _) => entry.print(status, bytes, end),
            (Self::Failure { url, asked, out }, End::Failed(why)) => {
                let (target, bytes) = (target(url, *asked), Count(bytes, "byte"));
                out.error(format_args!("{}: broken off after {bytes}: {}", Visible(&target), Visible(why)));
            }
            (Self::Failure { .. }, End::Whole | End::Left) => {}
        }
    }
}

/// What is known of a request when it comes.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: String,
    user: Option<String>,
    line: String,
    at: Timestamp,
    /// Not known of what the server refuses itself.
    begun: Option<Instant>,
    out: Output,
}

/// How what was sent ended.
#[derive(Debug)]
pub(crate) enum End {
    Whole,
    /// Nobody took the rest.
    Left,
    /// It was not to be had, and why.
    Failed(String),
}

impl End {
    pub(crate) fn of_tunnel(cut: Option<Cut>) -> Self {
        match cut {
            None => Self::Whole,
            Some(Cut::Client(_) | Cut::NotBegun) => Self::Left,
            Some(cut @ Cut::Silence(_)) => Self::Failed(format!("{cut} (--tunnel-idle)")),
            Some(cut) => Self::Failed(cut.to_string()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            // Who of them went first is not known then.
            Self::Left if signals::has_come() => f.write_str(", broken off at the end of the server"),
            Self::Left => f.write_str(", broken off by the client"),
            Self::Failed(why) => write!(f, ", broken off: {}", Visible(why)),
        }
    }
}

/// What other servers log of clients that are gone before they are answered, and no server sends.
const GONE: u16 = 499;

impl Entry {
    /// With the path that was asked for, or all of what was.
    pub(crate) fn of<B>(request: &Request<B>, asked: Asked, out: Output) -> Self {
        let line = line(request.method(), request.uri(), request.version(), asked);
        Self { begun: Some(Instant::now()), ..Self::new(request.extensions().get(), line, out) }
    }

    /// Of who has shown to be this user.
    pub(crate) fn by(self, user: Option<&str>) -> Self {
        // A blank would end it.
        Self { user: user.map(|user| user.replace(' ', "%20")), ..self }
    }

    fn new(connection: Option<&Connection>, line: String, out: Output) -> Self {
        let peer = connection.map_or_else(|| "-".into(), who);
        Self { peer, user: None, line, at: Timestamp::now(), begun: None, out }
    }

    /// Prints it: once the response was sent, or what came of it ended.
    pub(crate) fn print(&self, status: StatusCode, bytes: u64, end: &End) {
        self.say(status.as_u16(), bytes, end);
    }

    fn say(&self, status: u16, bytes: u64, end: impl fmt::Display) {
        let Self { peer, user, line, at, begun, out } = self;
        let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let took = begun.map_or_else(|| "-".into(), |begun| Took(begun.elapsed()).to_string());
        let [peer, user] = [peer, user.as_deref().unwrap_or_default()]
            .map(|who| Visible(if who.is_empty() { "-" } else { who }));
        let line = Visible(line);
        out.tell(format_args!("{peer} - {user} [{at}] \"{line}\" {status} {bytes} {took}{end}"));
    }
}

/// Whose connection it is, in a word: a blank would end it.
fn who(connection: &Connection) -> String {
    if let Some(ip) = connection.peer().and_then(Target::ip) {
        return ip.to_string();
    }
    match (connection.fact(&CREDENTIALS), connection.peer()) {
        (Some(Credentials { uid, pid: Some(pid), .. }), _) => format!("unix:pid={pid},uid={uid}"),
        (Some(Credentials { uid, .. }), _) => format!("unix:uid={uid}"),
        (None, Some(peer)) => peer.to_string().replace(' ', "%20"),
        (None, None) => "-".into(),
    }
}

fn line(method: &Method, url: &Uri, version: Version, asked: Asked) -> String {
    // A quote would end what is quoted.
    format!("{method} {} {version:?}", target(url, asked)).replace('"', "%22")
}

fn target(url: &Uri, asked: Asked) -> String {
    match asked {
        Asked::Path => url.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        // Without the user, who may have a password.
        Asked::Url => url.to_string().replacen(user(url), "", 1),
    }
}

/// A request that has no response yet. Dropped before it has, it was given up: its client is gone.
pub(crate) struct Unanswered(Option<Told>);

impl Unanswered {
    pub(crate) fn new(told: Told) -> Self {
        Self(Some(told))
    }

    pub(crate) fn answered(mut self) -> Option<Told> {
        self.0.take()
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(Told::Entry(entry)) = self.0.take() {
            entry.say(GONE, 0, ", broken off before the response");
        }
    }
}

/// Logs what the server refuses by itself, and why. It is answered as without that.
pub(crate) fn log_refused<S>(server: Server<S>, log: Option<Output>) -> Server<S> {
    let Some(out) = log else { return server };
    server.fact(&CREDENTIALS).on_error(move |refused| {
        let line = match refused.head() {
            Some(head) => line(&head.method, &head.uri, head.version, Asked::Url),
            None => "-".into(),
        };
        let entry = Entry::new(Some(refused.connection()), line, out);
        entry.say(refused.status().as_u16(), 0, format_args!(", {refused}"));
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = refused.status();
        response
    })
}

/// What of a URL is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Path,
    Url,
}

/// `user:password@`, or nothing.
fn user(url: &Uri) -> &str {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    authority.rfind('@').map_or("", |at| &authority[..=at])
}

/// A body; once it has ended, that is told.
pub(crate) struct Logged {
    body: UnsyncBoxBody<Bytes, BoxError>,
    told: Option<(Told, StatusCode)>,
    bytes: u64,
    /// All that there is, if that is known.
    length: Option<u64>,
    end: End,
}

impl Logged {
    /// `response`, of which this is `told` once it was sent.
    pub(crate) fn response<B>(response: Response<B>, told: Option<Told>) -> Response<Self>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let status = response.status();
        // Nobody asks a body for its end that can't be sent.
        let none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || told.as_ref().is_some_and(Told::is_of_head);
        let length = length(response.headers()).filter(|_| !none);
        response.map(|body| {
            let body = body.map_err(Into::into).boxed_unsync();
            let end = if none || body.is_end_stream() { End::Whole } else { End::Left };
            Self { body, told: told.map(|told| (told, status)), bytes: 0, length, end }
        })
    }

    /// How it ends if nobody asks for more.
    fn so_far(&self) -> End {
        match self.length {
            Some(length) if self.bytes < length => End::Left,
            // Over HTTP/2 its end may come after its last byte, and nobody asks for it who knows the length.
            Some(_) => End::Whole,
            None if self.body.is_end_stream() => End::Whole,
            None => End::Left,
        }
    }
}

/// How long the body of a response is, if its head says so.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body for Logged {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                // Nothing comes after trailers, and nobody asks whether it does.
                self.end = if frame.is_trailers() { End::Whole } else { self.so_far() };
            }
            Poll::Ready(Some(Err(error))) => self.end = End::Failed(why(error)),
            Poll::Ready(None) => self.end = End::Whole,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a body is not whole. Only what is passed on can be waited for too long.
fn why(error: &BoxError) -> String {
    let said = in_a_line(&**error);
    match error.downcast_ref().map(BodyError::kind) {
        Some(BodyErrorKind::TimedOut) => format!("{said} (--idle)"),
        _ => said,
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some((told, status)) = &self.told {
            told.end(*status, self.bytes, &self.end);
        }
    }
}
