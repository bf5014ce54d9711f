//! What is answered to a request for a file.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use percent_encoding::percent_decode_str;
use tower::{Service, service_fn};
use tower_http::compression::Compression;
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, DefaultServeDirFallback};
use tuyau::http::{BoxError, Incoming};

use super::files::Files;
use super::listing::{Order, page};
use super::unwanted::Unwanted;
use crate::access::{Asked, Entry, Logged, Told, Unanswered, length};
use crate::output::Output;
use crate::promised::Promised;

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Site {
    files: Files,
    dir: ServeDir<DefaultServeDirFallback, Files>,
    listing: bool,
}

impl Site {
    pub(super) fn new(files: Files, listing: bool) -> Self {
        let dir = ServeDir::with_backend(files.root(), files.clone())
            .precompressed_gzip()
            .precompressed_br()
            .precompressed_zstd()
            // All of it is allowed as well (RFC 9110 section 14.2).
            .ignore_multi_range_requests(true)
            .with_buf_chunk_size(CHUNK);
        Self { files, dir, listing }
    }

    async fn answer(&self, mut head: Parts) -> Response<Body> {
        let path = head.uri.path().to_owned();
        // A redirect to it would lead to another host.
        if path.starts_with("//") {
            return said(StatusCode::NOT_FOUND);
        }
        if head.method != Method::GET {
            let mut said = said(StatusCode::METHOD_NOT_ALLOWED);
            said.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
            return said;
        }
        if self.listing && path.ends_with('/') {
            let order = Order::of(head.uri.query());
            if let Some(listed) = self.list(&path, order).await {
                return listed;
            }
        }
        // Other units are none of ours.
        if head.headers.get(RANGE).is_some_and(|range| !range.as_bytes().starts_with(b"bytes=")) {
            head.headers.remove(RANGE);
        }
        let response = match self.dir.clone().try_call(Request::from_parts(head, Empty::<Bytes>::new())).await
        {
            Ok(response) => response,
            Err(error) => {
                return said(match error.kind() {
                    ErrorKind::NotFound | ErrorKind::NotADirectory => StatusCode::NOT_FOUND,
                    ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                });
            }
        };
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let mut said = said(status);
            // What the range could have been.
            if let Some(range) = response.headers().get(CONTENT_RANGE) {
                said.headers_mut().insert(CONTENT_RANGE, range.clone());
            }
            return said;
        }
        Promised::response(response.map(|body| body.map_err(BoxError::from))).map(BodyExt::boxed_unsync)
    }

    /// The listing of the directory at `path`, if it is one and has no index.
    async fn list(&self, path: &str, order: Order) -> Option<Response<Body>> {
        let relative = decoded(path)?;
        let dir = self.files.root().join(&relative);
        if self.files.metadata(dir.join("index.html")).await.is_ok() {
            return None;
        }
        let entries = match self.files.list(dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Some(said(StatusCode::FORBIDDEN));
            }
            Err(_) => return None,
        };
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
    let text = format!("{status}\n");
    let length = text.len().into();
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, length);
    response
}

/// The site as a service, compressed where that pays. Requests are logged, or only what fails in the middle.
pub(super) fn service(
    site: Arc<Site>,
    out: Output,
    quiet: bool,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Logged>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    let answer = service_fn(move |request: Request<()>| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request.into_parts().0).await) }
    });
    let compressed = Compression::new(answer).compress_when(pays);
    service_fn(move |request: Request<Incoming>| {
        let unanswered = Unanswered::new(match quiet {
            true => Told::failure_of(&request, Asked::Path, out),
            false => Told::Entry(Entry::of(&request, Asked::Path, out)),
        });
        let compressed = compressed.clone();
        async move {
            let (mut head, unwanted) = request.into_parts();
            let is_head = head.method == Method::HEAD;
            if is_head {
                // What GET would get, but for ranges (RFC 9110 section 14.2).
                head.method = Method::GET;
                head.headers.remove(RANGE);
            }
            let version = head.version;
            let response = conditional(compressed, head).await;
            let told = unanswered.answered();
            let mut response = match response.status() {
                // With the file, still.
                StatusCode::NOT_ACCEPTABLE => Logged::response(said(StatusCode::NOT_ACCEPTABLE), told),
                _ if is_head => Logged::response(response.map(|_| Empty::new()), told),
                _ => Logged::response(response.map(|body| Unwanted::after(body, unwanted, version)), told),
            };
            response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            Ok(response)
        }
    })
}

/// What `site` answers, as the client's conditions have it: they are about the response that there would be without them,
/// which may be a compressed one.
async fn conditional<S, B>(mut site: S, head: Parts) -> Response<B>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let conditions = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE];
    let whole = conditions.iter().any(|name| head.headers.contains_key(name)).then(|| head.clone());
    let mut response = called(&mut site, head).await;
    let Some(mut whole) = whole else { return response };
    let version = whole.headers.remove(IF_RANGE);
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE] {
        whole.headers.remove(name);
    }
    match (response.status(), version) {
        (StatusCode::NOT_MODIFIED, _) => {
            let whole = called(&mut site, whole).await;
            for name in [ETAG, VARY] {
                if let Some(value) = whole.headers().get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response
        }
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, Some(version)) => {
            let whole = called(&mut site, whole).await;
            if is_version(&version, whole.headers()) { response } else { whole }
        }
        _ => response,
    }
}

async fn called<S, B>(site: &mut S, head: Parts) -> Response<B>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let Ok(mut response) = site.call(Request::from_parts(head, ())).await;
    let headers = response.headers_mut();
    // What is made of a file on the way may be made otherwise another time, byte by byte (RFC 9110 section 8.8.3.3).
    if !headers.contains_key(CONTENT_LENGTH)
        && headers.contains_key(CONTENT_ENCODING)
        && let Some(tag) = headers.get_mut(ETAG)
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        *tag = weak;
    }
    response
}

/// Whether `headers` are of the version that `If-Range` names (RFC 9110 section 13.1.5). What has a weak entity tag is no
/// version byte by byte, and its date names none either.
fn is_version(version: &HeaderValue, headers: &HeaderMap) -> bool {
    let tag = headers.get(ETAG);
    match tag.is_some_and(|tag| tag.as_bytes().starts_with(b"W/")) {
        true => false,
        false => [tag, headers.get(LAST_MODIFIED)].contains(&Some(version)),
    }
}

/// Whether it pays to compress: text, and not too little of it.
fn pays(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let text = kind.starts_with("text/")
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
        || matches!(
            kind,
            "application/json" | "application/javascript" | "application/xml" | "application/wasm"
        );
    status == StatusCode::OK && text && length(headers).unwrap_or(u64::MAX) >= 860
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
