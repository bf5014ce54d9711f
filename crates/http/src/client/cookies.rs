//! Cookies (RFC 6265).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cookie_store::CookieStore;
use http::header::{COOKIE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, Response, Uri};
use url::Url;

/// A jar of cookies. Clones are the same jar.
///
/// Without a list of public suffixes, a server may set cookies for all of `co.uk`: bring a
/// [`CookieStore`] with a list, where servers don't trust each other.
#[derive(Clone, Default)]
pub struct Cookies(Arc<Mutex<CookieStore>>);

impl Cookies {
    /// A jar of what `store` holds.
    pub fn new(store: CookieStore) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// Looks into the jar, to save or change what it holds.
    pub fn with<T>(&self, f: impl FnOnce(&mut CookieStore) -> T) -> T {
        f(&mut self.lock())
    }

    pub(super) fn add(&self, head: &mut Parts) {
        let Some(url) = to_url(&head.uri).filter(|_| !head.headers.contains_key(COOKIE)) else { return };
        let pairs: Vec<String> =
            self.lock().get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect();
        if let Ok(mut value) = HeaderValue::try_from(pairs.join("; "))
            && !pairs.is_empty()
        {
            value.set_sensitive(true);
            head.headers.insert(COOKIE, value);
        }
    }

    pub(super) fn store<B>(&self, response: &Response<B>, url: &Uri) {
        let Some(url) = to_url(url) else { return };
        let mut store = self.lock();
        for value in response.headers().get_all(SET_COOKIE) {
            // RFC 6265 section 5.2: what can't be parsed is ignored.
            if let Ok(text) = value.to_str() {
                let _ = store.parse(text, &url);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, CookieStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_url(url: &Uri) -> Option<Url> {
    Url::parse(&url.to_string()).ok()
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies")
    }
}
