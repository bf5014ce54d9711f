//! What configures the layer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tuyau_core::{ConnectError, ConnectErrorKind, Key};

/// What a client asks for: a path, and a query if there is one. `/` if absent. For a server: the only path
/// that it serves; any, if absent.
pub static PATH: Key<Arc<str>> = Key::new("ws-path").sensitive();
/// The `Host` header of a client, where it is not `HOST` and `PORT`.
pub static HOST_HEADER: Key<Arc<str>> = Key::new("ws-host").shown();
/// The `Origin` header of a client. For a server: the only origin from which browsers may connect; any, if
/// absent. (Whoever is no browser sends none, or any.)
pub static ORIGIN: Key<Arc<str>> = Key::new("ws-origin").shown();
/// More headers of a client's request, names and values: cookies, `Authorization`.
pub static HEADERS: Key<Arc<[(String, String)]>> = Key::new("ws-headers").sensitive();
/// The subprotocol (RFC 6455 section 1.9) that both sides must agree on: `binary`, for old versions of
/// websockify. None if absent.
pub static SUBPROTOCOL: Key<Arc<str>> = Key::new("ws-subprotocol").shown();
/// The longest payload of one frame that is sent, in bytes: 64 KiB if absent. Frames that are received may
/// have any length: they are not kept.
pub static MAX_FRAME: Key<usize> = Key::new("ws-max-frame").shown();
/// After how long a silence the peer is asked by a ping whether it is still there; after as long again it is
/// given up. Never if absent.
pub static PING_INTERVAL: Key<Duration> = Key::new("ws-ping");
/// Where masks and keys come from: the operating system if absent.
pub static RANDOM: Key<Random> = Key::new("ws-random");

/// All that configures the layer: the values of the keys of this module. See there.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// [`PATH`].
    pub path: Option<Arc<str>>,
    /// [`HOST_HEADER`]: a client needs one.
    pub host: Option<Arc<str>>,
    /// [`ORIGIN`].
    pub origin: Option<Arc<str>>,
    /// [`HEADERS`].
    pub headers: Arc<[(String, String)]>,
    /// [`SUBPROTOCOL`].
    pub subprotocol: Option<Arc<str>>,
    /// [`MAX_FRAME`].
    pub max_frame: usize,
    /// [`PING_INTERVAL`].
    pub ping: Option<Duration>,
    /// [`RANDOM`].
    pub random: Random,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: None,
            host: None,
            origin: None,
            headers: Arc::new([]),
            subprotocol: None,
            max_frame: 64 * 1024,
            ping: None,
            random: Random::system(),
        }
    }
}

impl Settings {
    /// Refuses what can't be sent as it stands.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let bad = |what: String, hint: &'static str| {
            Err(ConnectError::new(ConnectErrorKind::Misuse, what).with_hint(hint))
        };
        if let Some(path) = &self.path
            && (!path.starts_with('/')
                || !path.bytes().all(|byte| byte.is_ascii_graphic())
                || path.contains('#'))
        {
            return bad(
                "the path of a WebSocket".into(),
                "it begins with `/`; spaces, `#` and what is not ASCII are written as percent escapes",
            );
        }
        let single = [("Host", &self.host), ("Origin", &self.origin)];
        for (name, value) in single.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            if !is_header_value(value) {
                return bad(format!("the header `{name}` of a WebSocket"), "it can't have line breaks in it");
            }
        }
        if let Some(subprotocol) = &self.subprotocol
            && !is_token(subprotocol)
        {
            return bad(
                format!("the subprotocol `{}`", subprotocol.escape_debug()),
                "it is a word of letters, digits, `-`, `.` and `_`",
            );
        }
        for (name, value) in self.headers.iter() {
            // The value is a secret, maybe.
            if !is_token(name) || !is_header_value(value) {
                let what = format!("the header `{}` of a WebSocket", name.escape_debug());
                return bad(what, "a name is a word, and a value can't have line breaks in it");
            }
            if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
                return bad(
                    format!("the header `{name}` of a WebSocket"),
                    "that one is set by the handshake",
                );
            }
        }
        if self.max_frame == 0 {
            return bad("a largest WebSocket frame of 0 bytes".into(), "it must hold something");
        }
        Ok(())
    }

    /// The path as reports may show it: a query may have a token in it.
    pub(crate) fn shown_path(&self) -> &str {
        let path = self.path.as_deref().unwrap_or("/");
        path.split_once('?').map_or(path, |(path, _query)| path)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path: _, host, origin, headers, subprotocol, max_frame, ping, random: _ } = self;
        f.debug_struct("Settings")
            .field("path", &self.shown_path())
            .field("host", host)
            .field("origin", origin)
            .field("headers", &headers.len())
            .field("subprotocol", subprotocol)
            .field("max_frame", max_frame)
            .field("ping", ping)
            .finish_non_exhaustive()
    }
}

/// Headers that a handshake sets itself.
const OURS: [&str; 9] = [
    "Host",
    "Origin",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Content-Length",
];

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

/// Where random bytes come from. Masks must not be guessed by whoever chooses what is sent (RFC 6455
/// section 10.3): outside of tests, use [`system`](Self::system).
#[derive(Clone)]
pub struct Random(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

impl Random {
    /// The operating system's.
    ///
    /// # Panics
    /// On use, if the system has none to give.
    pub fn system() -> Self {
        Self::new(|bytes| getrandom::fill(bytes).expect("the system gives random numbers"))
    }

    /// What `fill` fills in.
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.0)(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_request_is_refused_and_no_secret_shown() {
        let with_header = |name: &str, value: &str| Settings {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..Settings::default()
        };
        assert!(with_header("Authorization", "Bearer hunter2").check().is_ok());
        let settings = [
            with_header("Authorization", "hunter2\r\nHost: evil"),
            with_header("A: b\r\n", "hunter2"),
            with_header("", "hunter2"),
            with_header("host", "hunter2"),
            Settings { path: Some("no/slash".into()), ..Settings::default() },
            Settings { path: Some("/a b?hunter2".into()), ..Settings::default() },
            Settings { path: Some("/a\r\n".into()), ..Settings::default() },
            Settings { origin: Some("https://a\n".into()), ..Settings::default() },
            Settings { subprotocol: Some("a,b".into()), ..Settings::default() },
            Settings { max_frame: 0, ..Settings::default() },
        ];
        for settings in settings {
            let error = settings.check().expect_err("taken");
            assert_eq!(error.kind(), ConnectErrorKind::Misuse);
            let shown = format!("{error} {:?} {settings:?}", error.hint());
            assert!(!shown.contains("hunter2") && !shown.contains('\n'), "{shown}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
