//! Where a response leads, and what of a request goes there.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE,
    COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use url::Url;

use super::error::{Error, Stage};

/// What the next request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) url: Uri,
    pub(super) method: Method,
    /// Whether the body is sent again.
    pub(super) body: bool,
}

/// Where `response` to `method` and `from` leads, if it does (RFC 9110 section 15.4).
pub(super) fn next<B>(response: &Response<B>, from: &Uri, method: &Method) -> Result<Option<Next>, Error> {
    let (method, body) = match response.status() {
        // Some change POST into GET since ever; section 15.4.2 allows it, and nobody may change anything else.
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if method == Method::POST => (Method::GET, false),
        StatusCode::SEE_OTHER if method == Method::HEAD => (Method::HEAD, false),
        StatusCode::SEE_OTHER => (Method::GET, false),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => (method.clone(), true),
        _ => return Ok(None),
    };
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let wrong = |why: &str| Error::what(Stage::Redirect, format!("{why}: {location:?}"));
    let text = location.to_str().map_err(|_| wrong("its location is not text"))?;
    let base = Url::parse(&from.to_string()).map_err(|error| Error::caused(Stage::Redirect, error))?;
    let mut url = base.join(text).map_err(|_| wrong("its location is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("its location is not of HTTP"));
    }
    // Of use to the user agent only (RFC 9110 section 4.2.5); and whose credentials these are, nobody knows.
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let url = url.as_str().parse().map_err(|_| wrong("its location is no URL"))?;
    Ok(Some(Next { url, method, body }))
}

/// Takes from the fields of a request what does not belong into the next one.
pub(super) fn strip(headers: &mut HeaderMap, from: &Uri, next: &Next) {
    headers.remove(HOST);
    if !next.body {
        for field in [
            CONTENT_ENCODING,
            CONTENT_LANGUAGE,
            CONTENT_LENGTH,
            CONTENT_LOCATION,
            CONTENT_TYPE,
            TRANSFER_ENCODING,
        ] {
            headers.remove(field);
        }
    }
    // Cookies are those of the jar, if there is one, for the new URL.
    if origin(from) != origin(&next.url) {
        for field in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE] {
            headers.remove(field);
        }
    }
}

fn origin(url: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let port = url.port_u16().or(match url.scheme_str() {
        Some("https") => Some(443),
        _ => Some(80),
    });
    (url.scheme_str(), url.host().map(str::to_ascii_lowercase), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(status: u16, method: Method, location: &str) -> Option<Next> {
        let response = Response::builder().status(status).header(LOCATION, location).body(()).unwrap();
        next(&response, &Uri::from_static("http://a/b/c?d"), &method).unwrap()
    }

    #[test]
    fn methods_are_kept_but_where_the_rules_say_otherwise() {
        for (status, method, then, body) in [
            (301, Method::POST, Method::GET, false),
            (302, Method::POST, Method::GET, false),
            (302, Method::PUT, Method::PUT, true),
            (303, Method::PUT, Method::GET, false),
            (303, Method::HEAD, Method::HEAD, false),
            (307, Method::POST, Method::POST, true),
            (308, Method::DELETE, Method::DELETE, true),
        ] {
            let next = lead(status, method.clone(), "/x").unwrap();
            assert_eq!((next.method, next.body), (then, body), "{status} {method}");
        }
        assert_eq!(lead(304, Method::GET, "/x"), None);
        assert_eq!(lead(300, Method::GET, "/x"), None);
    }

    #[test]
    fn locations_are_relative_to_the_url() {
        for (location, to) in [
            ("x", "http://a/b/x"),
            ("/x#f", "http://a/x"),
            ("//h/x", "http://h/x"),
            ("https://u:p@h:8443/", "https://h:8443/"),
            ("?q", "http://a/b/c?q"),
        ] {
            assert_eq!(lead(302, Method::GET, location).unwrap().url, to, "{location}");
        }
        let response =
            Response::builder().status(302).header(LOCATION, "file:///etc/passwd").body(()).unwrap();
        let error = next(&response, &Uri::from_static("http://a/"), &Method::GET).unwrap_err();
        assert_eq!(error.stage(), Stage::Redirect);
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let from = Uri::from_static("https://a/");
        for (to, stays) in [
            ("https://a:443/x", true),
            ("https://A/x", true),
            ("http://a/x", false),
            ("https://a:444/", false),
            ("https://b/", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, "x".parse().unwrap());
            let next = Next { url: to.parse().unwrap(), method: Method::GET, body: true };
            strip(&mut headers, &from, &next);
            assert_eq!(headers.contains_key(AUTHORIZATION), stays, "{to}");
        }
    }
}
