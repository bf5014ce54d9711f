//! What is answered to a request for a file.

use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE,
    LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use percent_encoding::percent_decode_str;
use tower::{Service, service_fn};
use tower_http::compression::Compression;
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, DefaultServeDirFallback, ServeFileSystemResponseBody};
use tuyau::http::{BoxError, Incoming};

use super::files::Files;
use super::listing::{Order, page};
use crate::access::{Asked, Entry, Logged, Unanswered, length};
use crate::output::Output;
use crate::promised::Promised;

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// Whether `headers` are of the version that `If-Range` names (RFC 9110 section 13.1.5): a weak entity tag names none.
fn is_version(version: &HeaderValue, headers: &HeaderMap) -> bool {
    let of = if version.as_bytes().starts_with(b"\"") { ETAG } else { LAST_MODIFIED };
    headers.get(of) == Some(version)
}

#[derive(Debug)]
pub(super) struct Site {
    files: Files,
    dir: ServeDir<DefaultServeDirFallback, Files>,
    listing: bool,
}

/// So much of a body is read that nobody wants.
const UNWANTED: usize = 64 * 1024;

impl Site {
    pub(super) fn new(files: Files, listing: bool) -> Self {
        let dir = ServeDir::with_backend(files.root(), files.clone())
            .precompressed_gzip()
            .precompressed_br()
            .precompressed_zstd()
            .with_buf_chunk_size(CHUNK);
        Self { files, dir, listing }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        // A redirect to it would lead to another host.
        if path.starts_with("//") {
            return said(StatusCode::NOT_FOUND);
        }
        let asks = matches!(*request.method(), Method::GET | Method::HEAD);
        if !asks {
            // Nobody wants it, but a request is whole, or wrong, only at its end.
            let mut body = Limited::new(request.body_mut(), UNWANTED);
            while let Some(Ok(_)) = body.frame().await {}
        }
        if asks && self.listing && path.ends_with('/') {
            let order = Order::of(request.uri().query());
            if let Some(listed) = self.list(&path, order).await {
                return listed;
            }
        }
        let response = self.file(request).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let (head, _) = response.into_parts();
            let mut response = said(status);
            // What the range could have been, what the method could have been.
            for name in [ALLOW, http::header::CONTENT_RANGE] {
                if let Some(value) = head.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            return response;
        }
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    /// A part of a file is what was asked for only of the version that the client has of it.
    async fn file(&self, request: Request<Incoming>) -> Response<ServeFileSystemResponseBody> {
        let (head, body) = request.into_parts();
        let condition = head.headers.get(IF_RANGE).filter(|_| head.headers.contains_key(RANGE));
        let whole = condition.cloned().map(|version| (version, head.clone()));
        let Ok(response) = self.dir.clone().call(Request::from_parts(head, body)).await;
        match whole {
            Some((version, mut head))
                if response.status() == StatusCode::PARTIAL_CONTENT
                    && !is_version(&version, response.headers()) =>
            {
                head.headers.remove(RANGE);
                let Ok(whole) = self.dir.clone().call(Request::from_parts(head, Empty::<Bytes>::new())).await;
                whole
            }
            _ => response,
        }
    }

    /// The listing of the directory at `path`, if it is one and has no index.
    async fn list(&self, path: &str, order: Order) -> Option<Response<Body>> {
        let relative = decoded(path)?;
        let dir = self.files.root().join(&relative);
        if self.files.metadata(dir.join("index.html")).await.is_ok() {
            return None;
        }
        let entries = self.files.list(dir).await.ok()?;
        let page = page(&relative, entries, order);
        let mut response = Response::new(full(page));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        Some(response)
    }
}

/// The path beneath the root, if it can be one.
fn decoded(path: &str) -> Option<PathBuf> {
    let text = percent_decode_str(path.trim_start_matches('/')).decode_utf8().ok()?;
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let fits = !text.contains('\0') && Path::new(&*text).components().all(plain);
    fits.then(|| PathBuf::from(&*text))
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn said(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(format!("{status}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The site as a service, compressed where that pays, logged to `log`.
pub(super) fn service(
    site: Arc<Site>,
    log: Option<Output>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Logged>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    let answer = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(Promised::response(site.answer(request).await)) }
    });
    let compressed = Compression::new(answer).compress_when(pays);
    service_fn(move |request: Request<Incoming>| {
        let unanswered = Unanswered::new(log.map(|out| Entry::of(&request, Asked::Path, out)));
        let answering = compressed.clone().call(request);
        async move {
            let mut response = answering.await?;
            let headers = response.headers_mut();
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            // Ranges are those of the file, not of what is made of it on the way.
            if !headers.contains_key(CONTENT_LENGTH) && headers.contains_key(http::header::CONTENT_ENCODING) {
                headers.remove(ACCEPT_RANGES);
            }
            Ok(Logged::response(response, unanswered.answered()))
        }
    })
}

/// Whether it pays to compress: text, and not too little of it.
fn pays(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let text = kind.starts_with("text/")
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
        || matches!(
            kind,
            "application/json" | "application/javascript" | "application/xml" | "application/wasm"
        );
    text && length(headers).unwrap_or(u64::MAX) >= 860
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_beneath() {
        assert_eq!(decoded("/a%20b/c/"), Some("a b/c/".into()));
        assert_eq!(decoded("/"), Some("".into()));
        for bad in ["/../", "/a/../../b/", "/%2e%2e/", "/a%00/", "/%ff/"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
