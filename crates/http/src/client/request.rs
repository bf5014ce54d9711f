//! Requests, piece by piece.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use url::Url;

use super::body::Body;
use super::error::{Error, Stage};
use super::keys::Scheme;
use super::multipart::Multipart;
use super::pool::Origin;
use super::response::ResponseBody;
use super::{Client, Options};

/// A request in the making. What is wrong with it, [`send`](Self::send) says.
#[must_use = "nothing is sent before `send`"]
pub struct RequestBuilder {
    client: Client,
    request: Result<Request<Body>, Error>,
    /// Fields for what the request was told by other means, unless it has them.
    fields: HeaderMap,
    options: Options,
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, url: &str) -> Self {
        let mut fields = HeaderMap::new();
        let request = parse(url).map(|(url, authorization)| {
            let mut request = Request::new(Body::empty());
            (*request.method_mut(), *request.uri_mut()) = (method, url);
            fields.extend(authorization.map(|authorization| (AUTHORIZATION, authorization)));
            request
        });
        Self { client, request, fields, options: Options::default() }
    }

    /// With this field, in addition to others of its name that were given so. It stands in place of what the URL's user,
    /// [`form`](Self::form), [`multipart`](Self::multipart) or [`expect_continue`](Self::expect_continue) would have
    /// in such a field, of [`Client::header`], and of the jar's cookies.
    pub fn header<V>(self, name: HeaderName, value: V) -> Self
    where
        V: TryInto<HeaderValue>,
        V::Error: Into<crate::BoxError>,
    {
        self.change(|request| {
            let value = value.try_into().map_err(|error| Error::caused(Stage::Request, error))?;
            request.headers_mut().append(name, value);
            Ok(())
        })
    }

    /// With these parameters after the URL's own, as forms encode them (WHATWG URL, section 5).
    pub fn query<K: AsRef<str>, V: AsRef<str>>(self, parameters: impl IntoIterator<Item = (K, V)>) -> Self {
        self.change(|request| {
            let mut url = Url::parse(&request.uri().to_string()).map_err(bad_url)?;
            url.query_pairs_mut().extend_pairs(parameters);
            *request.uri_mut() = url.as_str().parse().map_err(bad_url)?;
            Ok(())
        })
    }

    /// With this body: bytes, text, or any stream ([`Body::new`]).
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.change(|request| {
            *request.body_mut() = body.into();
            Ok(())
        })
    }

    /// With a form as its body (`application/x-www-form-urlencoded`).
    pub fn form<K: AsRef<str>, V: AsRef<str>>(self, fields: impl IntoIterator<Item = (K, V)>) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.typed("application/x-www-form-urlencoded", Body::from(body))
    }

    /// With a form of several parts as its body.
    pub fn multipart(self, form: Multipart) -> Self {
        let (media_type, body) = form.finish();
        self.typed(&media_type, body)
    }

    fn typed(mut self, media_type: &str, body: Body) -> Self {
        match HeaderValue::try_from(media_type) {
            Ok(value) => drop(self.fields.insert(CONTENT_TYPE, value)),
            Err(error) => return self.change(|_| Err(Error::caused(Stage::Request, error))),
        }
        self.body(body)
    }

    /// How long the request may take in all, in place of [`Client::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.total = Some(timeout);
        self
    }

    /// Sends the body only once the server wants it (RFC 9110 section 10.1.1), or has not said no for a second. Over
    /// HTTP/2, where the server can stop a body at any time, it is sent at once.
    pub fn expect_continue(mut self) -> Self {
        self.options.expect_continue = true;
        self.fields.insert(EXPECT, HeaderValue::from_static("100-continue"));
        self
    }

    /// Is told the informational responses of HTTP/1.1 (RFC 9110 section 15.2), as 103 (RFC 8297). Called by the
    /// connection's task: it must not block.
    pub fn on_informational(self, f: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static) -> Self {
        self.change(|request| {
            let told = Informational(Arc::new(f));
            request.extensions_mut().insert(told.clone());
            hyper::ext::on_informational(request, move |response| {
                (told.0)(response.status(), response.headers())
            });
            Ok(())
        })
    }

    /// Is told each response that leads elsewhere: the ones before that which [`send`](Self::send) gives, and the one that
    /// is an error of [`Stage::Redirect`]. Called where the request is: it must not block.
    pub fn on_redirect(mut self, f: impl Fn(&Response<ResponseBody>) + Send + Sync + 'static) -> Self {
        self.options.on_redirect = Some(Box::new(f));
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Request<Body>) -> Result<(), Error>) -> Self {
        self.request = self.request.and_then(|mut request| {
            change(&mut request)?;
            Ok(request)
        });
        self
    }

    /// The request itself.
    ///
    /// # Errors
    /// If something that it was made of makes no sense.
    pub fn build(self) -> Result<Request<Body>, Error> {
        self.finish().1
    }

    /// Sends it: see [`Client::request`].
    ///
    /// # Errors
    /// If there is no response, or something that the request was made of makes no sense.
    pub async fn send(self) -> Result<Response<ResponseBody>, Error> {
        let (client, request, options) = self.finish();
        client.execute(request?, options).await
    }

    fn finish(self) -> (Client, Result<Request<Body>, Error>, Options) {
        let Self { client, mut request, fields, options } = self;
        if let Ok(request) = &mut request {
            for (name, value) in &fields {
                request.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
        }
        (client, request, options)
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and URL may hold secrets.
        let method = self.request.as_ref().map(|request| request.method());
        f.debug_struct("RequestBuilder").field("method", &method).finish_non_exhaustive()
    }
}

fn bad_url(error: impl Into<crate::BoxError>) -> Error {
    Error::caused(Stage::Request, error)
}

/// The URL without user and fragment, and what the user is as a field (RFC 7617).
fn parse(url: &str) -> Result<(Uri, Option<HeaderValue>), Error> {
    use base64::Engine;
    let mut url = Url::parse(url).map_err(bad_url)?;
    url.set_fragment(None);
    let mut authorization = None;
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        let user =
            [&decoded(url.username())[..], b":", &decoded(url.password().unwrap_or_default())].concat();
        let basic = base64::engine::general_purpose::STANDARD.encode(user);
        let mut value = HeaderValue::try_from(format!("Basic {basic}")).map_err(bad_url)?;
        value.set_sensitive(true);
        authorization = Some(value);
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    Ok((url.as_str().parse().map_err(bad_url)?, authorization))
}

/// The user of a URL is a field, as [`parse`] has it, unless there is one.
pub(super) fn user_to_field(request: &mut Request<Body>) -> Result<(), Error> {
    if request.uri().authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let (url, authorization) = parse(&request.uri().to_string())?;
        *request.uri_mut() = url;
        if let Some(authorization) = authorization {
            request.headers_mut().entry(AUTHORIZATION).or_insert(authorization);
        }
    }
    Ok(())
}

/// Where a request goes.
pub(super) fn origin(url: &Uri) -> Result<Origin, Error> {
    let scheme = match url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        Some(other) => {
            return Err(Error::what(
                Stage::Request,
                format!("`{other}` is no scheme of HTTP: `http` and `https` are"),
            ));
        }
        None => return Err(Error::what(Stage::Request, "the URL is not absolute")),
    };
    let host = url.host().filter(|host| !host.is_empty());
    let Some(host) = host else { return Err(Error::what(Stage::Request, "the URL has no host")) };
    // `http` takes anything after the colon.
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let bare = authority.rsplit('@').next().unwrap_or_default();
    if url.port_u16().is_none() && bare.trim_end_matches(':') != host {
        return Err(Error::what(Stage::Request, "the URL's port is no number up to 65535"));
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_u16().unwrap_or(scheme.port());
    Ok(Origin { scheme, host: host.to_ascii_lowercase().into(), port })
}

/// Lets the body go once the server says so, if there is one.
pub(super) fn hold_back(request: &mut Request<Body>) {
    if request.body().is_end_stream() {
        request.headers_mut().remove(EXPECT);
        return;
    }
    let wanted = Mutex::new(Some(request.body_mut().held_back()));
    let told = request.extensions().get::<Informational>().cloned();
    hyper::ext::on_informational(request, move |response| {
        if let Some(told) = &told {
            (told.0)(response.status(), response.headers());
        }
        if response.status() == StatusCode::CONTINUE
            && let Some(wanted) = wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        {
            let _ = wanted.send(());
        }
    });
}

/// Whom the user wants told of informational responses.
#[derive(Clone)]
struct Informational(Arc<Told>);

type Told = dyn Fn(StatusCode, &HeaderMap) + Send + Sync;
