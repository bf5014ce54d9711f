//! The user's service, as hyper calls it.

use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::refusal::{ErrorHandler, Refused, answer};
use super::stall;
use super::watch::{Kind, Watch};
use crate::Protocol;
use crate::connection::Connection;
use crate::error::BoxError;
use crate::incoming::Incoming;

/// One connection's.
pub(crate) struct Adapter<S> {
    pub(crate) service: S,
    pub(crate) shared: Arc<Shared>,
    /// What every request is told. A copy takes less time than to put it together.
    extensions: Extensions,
}

impl<S> Adapter<S> {
    pub(crate) fn new(service: S, shared: Shared) -> Self {
        let mut extensions = Extensions::new();
        extensions.insert(shared.connection.clone());
        Self { service, shared: Arc::new(shared), extensions }
    }
}

/// What all requests of a connection share.
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) watch: Arc<Watch>,
    pub(crate) on_error: Option<ErrorHandler>,
}

impl<S, B> hyper::service::Service<Request<hyper::body::Incoming>> for Adapter<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Outgoing<B>>;
    type Error = Infallible;
    type Future = Handling<S>;

    fn call(&self, mut request: Request<hyper::body::Incoming>) -> Handling<S> {
        let Self { service, shared, extensions } = self;
        let Shared { connection, watch, on_error: _ } = &**shared;
        let under_way = UnderWay::new(shared);
        let connect = request.method() == Method::CONNECT;
        // Over HTTP/2, to ask takes a lock.
        let ended = request.body().is_end_stream();
        let state = match bad(&request, ended) {
            Some((status, why)) => State::refused(Refused::request(status, why, connection).of(request)),
            None => {
                target_says_host(&mut request);
                match request.extensions_mut() {
                    told if told.is_empty() => *told = extensions.clone(),
                    told => drop(told.insert(connection.clone())),
                }
                let mut service = service.clone();
                // A request is a lot to move: it goes from hyper's hands into the service's.
                let incoming = |body| Incoming::new(body, ended, watch);
                // Most are ready at once; the others' requests are put aside where each future need not have room.
                match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(())) => State::Called { future: service.call(request.map(incoming)) },
                    Poll::Ready(Err(error)) => {
                        // What is left of its body is not going to be read.
                        drop(request.map(incoming));
                        State::refused(Refused::failed(error.into(), connection))
                    }
                    Poll::Pending => {
                        State::Waiting { waiting: Some(Box::new((service, request.map(incoming)))) }
                    }
                }
            }
        };
        if watch.kind == Kind::H2 {
            // The user's code, which may panic or start tasks too, has returned.
            stall::stream();
        }
        Handling { state, connect, under_way: Some(under_way) }
    }
}

/// What is wrong with a request that hyper and h2 let pass.
fn bad<B>(request: &Request<B>, ended: bool) -> Option<(StatusCode, &'static str)> {
    let (url, headers) = (request.uri(), request.headers());
    // Most clients say it first, where it takes no search.
    let first = headers.iter().next().filter(|(name, _)| *name == HOST).map(|(_, host)| host);
    let host = first.or_else(|| headers.get(HOST));
    let repeated = headers.len() > headers.keys_len() && headers.get_all(HOST).iter().nth(1).is_some();
    let authority = url.authority().map(|authority| authority.as_str().as_bytes());
    let wrong = match request.version() {
        Version::HTTP_11 => host.is_none() || repeated, // RFC 9112 section 3.2
        Version::HTTP_2 => {
            // RFC 9113 section 8.3.1: both name the same, if there are both.
            repeated
                || matches!((host, authority), (Some(host), Some(authority))
                    if !host.as_bytes().eq_ignore_ascii_case(authority))
        }
        _ => repeated,
    };
    // RFC 9110 section 7.2: empty is what names none.
    let named = host.map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
    let why = if wrong {
        "it does not name one host"
    } else if ![named, authority].into_iter().flatten().all(is_host) {
        "its host is none"
    } else if !has_target(request) {
        "its target has not the form that its method wants"
    } else if !(ended || is_coding_known(headers)) {
        // What stays of other codings is not what the client sent (RFC 9112 section 6.1).
        return Some((StatusCode::NOT_IMPLEMENTED, "its transfer coding is not known"));
    } else {
        return None;
    };
    Some((StatusCode::BAD_REQUEST, why))
}

/// Which bytes a name may have (RFC 3986 section 3.2.2).
const NAME: [bool; 256] = {
    let mut name = [false; 256];
    let (mut byte, mut marks) = (0, b"-._~%!$&'()*+,;=".as_slice());
    while byte < 256 {
        name[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    while let [mark, rest @ ..] = marks {
        (name[*mark as usize], marks) = (true, rest);
    }
    name
};

/// A host, perhaps with a port, and nothing else.
fn is_host(bytes: &[u8]) -> bool {
    let end = match bytes {
        [b'[', ..] => {
            let end = bytes.iter().position(|byte| *byte == b']').unwrap_or(0);
            let literal = bytes.get(1..end).and_then(|literal| std::str::from_utf8(literal).ok());
            match literal.is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok()) {
                true => end + 1,
                false => 0,
            }
        }
        name => name.iter().position(|byte| !NAME[usize::from(*byte)]).unwrap_or(name.len()),
    };
    match bytes.split_at(end) {
        ([], _) => false,
        (_, []) => true,
        (_, [b':', port @ ..]) => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether the target has the form that its method wants (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn has_target<B>(request: &Request<B>) -> bool {
    let (method, url) = (request.method(), request.uri());
    let tunnel = method == Method::CONNECT && request.extensions().get::<Protocol>().is_none();
    match url.path_and_query().map(PathAndQuery::as_str) {
        None => tunnel,
        Some("*") => method == Method::OPTIONS,
        Some(path) => {
            let absolute = request.version() != Version::HTTP_2 && url.scheme().is_some();
            !tunnel && (absolute || path.starts_with('/'))
        }
    }
}

/// Whether a body is in no transfer coding but `chunked`, once. (`identity` was one in RFC 2616, and is none.)
pub(crate) fn is_coding_known(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    codings.next().is_none_or(|coding| {
        coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity")
    }) && codings.next().is_none()
}

/// Of an absolute form, the field `Host` does not count (RFC 9112 section 3.2.2).
fn target_says_host<B>(request: &mut Request<B>) {
    let url = request.uri();
    if request.version() != Version::HTTP_2
        && url.scheme().is_some()
        && let Some(host) = url.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
}

/// A request that is under way, until its response is wholly in hyper's hands.
struct UnderWay {
    shared: Arc<Shared>,
}

impl UnderWay {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.watch.begin();
        Self { shared: shared.clone() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.watch.end();
    }
}

pin_project! {
    /// A request under the user's hands.
    pub(crate) struct Handling<S>
    where
        S: Service<Request<Incoming>>,
    {
        #[pin]
        state: State<S, S::Future>,
        connect: bool,
        under_way: Option<UnderWay>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F> {
        Waiting { waiting: Option<Box<(S, Request<Incoming>)>> },
        Called { #[pin] future: F },
        Refused { refused: Option<Box<Refused>> },
    }
}

impl<S, F> State<S, F> {
    fn refused(refused: Refused) -> Self {
        Self::Refused { refused: Some(Box::new(refused)) }
    }
}

impl<S, B> Future for Handling<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<Outgoing<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let failed = |error: S::Error, under_way: &Option<UnderWay>| match under_way {
            Some(UnderWay { shared }) => Box::new(Refused::failed(error.into(), &shared.connection)),
            None => unreachable!("a future is not polled after its end"),
        };
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Waiting { waiting } => {
                    let Some((service, _)) = waiting.as_deref_mut() else {
                        unreachable!("the service is called once, and the state is left for good")
                    };
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        break Err(failed(error, this.under_way));
                    }
                    if let Some((mut service, request)) = waiting.take().map(|waiting| *waiting) {
                        let future = service.call(request);
                        this.state.set(State::Called { future });
                    }
                }
                StateProj::Called { future } => {
                    break ready!(future.poll(cx)).map_err(|error| failed(error, this.under_way));
                }
                StateProj::Refused { refused } => match refused.take() {
                    Some(refused) => break Err(refused),
                    None => unreachable!("a future is not polled after its end"),
                },
            }
        };
        let Some(under_way) = this.under_way.take() else {
            unreachable!("a future is not polled after its end")
        };
        let h1 = under_way.shared.watch.kind == Kind::H1;
        if h1 {
            under_way.shared.watch.answer();
        }
        let mut last = h1 && under_way.shared.watch.is_closing();
        let mut response = match result {
            Ok(response) => {
                let status = response.status();
                let leaves_http =
                    status == StatusCode::SWITCHING_PROTOCOLS || (*this.connect && status.is_success() && h1);
                if leaves_http {
                    under_way.shared.watch.upgrade();
                    last = false;
                }
                response.map(|body| Outgoing { body: Content::Users { body }, under_way })
            }
            Err(refused) => {
                let response = answer(under_way.shared.on_error.as_ref(), &refused);
                // Where such a request ends, nobody can be sure.
                last |= h1 && refused.error().is_none();
                response.map(|bytes| Outgoing { body: Content::Ours { bytes }, under_way })
            }
        };
        if last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

pin_project! {
    /// The body of a response, the user's or ours.
    pub(crate) struct Outgoing<B> {
        #[pin]
        body: Content<B>,
        under_way: UnderWay,
    }
}

pin_project! {
    #[project = ContentProj]
    enum Content<B> {
        Users { #[pin] body: B },
        Ours { bytes: Bytes },
    }
}

impl<B: Body<Data = Bytes>> Body for Outgoing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let is_stream = this.under_way.shared.watch.kind == Kind::H2;
        if is_stream {
            stall::over();
        }
        let (frame, ended) = match this.body.project() {
            ContentProj::Users { mut body } => (ready!(body.as_mut().poll_frame(cx)), body.is_end_stream()),
            ContentProj::Ours { bytes } if bytes.is_empty() => (None, true),
            ContentProj::Ours { bytes } => (Some(Ok(Frame::data(std::mem::take(bytes)))), true),
        };
        if let (true, Some(Ok(frame)), false) = (is_stream, &frame, ended) {
            stall::handed_over(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Users { body } => body.is_end_stream(),
            Content::Ours { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Users { body } => body.size_hint(),
            Content::Ours { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
