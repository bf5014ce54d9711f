//! Fields that a proxy takes off, adds, or looks at.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderName, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Method, Version};
use http_body::Frame;
use tuyau_core::{Protection, Target};

use super::forwarded::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, complete, element};
use crate::connection::Connection;

/// What is meant for one hop (RFC 9110 section 7.6.1), whether `Connection` names it or not.
static OF_ONE_HOP: [HeaderName; 10] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
];

/// The frame, of trailers without what counts in a head only (RFC 9110 section 6.5.1): what frames, routes, or is meant
/// for one hop.
pub(crate) fn of_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            for name in OF_ONE_HOP.iter().chain(&[CONTENT_LENGTH, HOST]) {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Takes off what is meant for one hop, but for `TE: trailers`.
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    // RFC 9110 section 8.6: lengths that say the same are one; RFC 9112 section 6.3: with a coding, none counts.
    let length = tokens(headers, &CONTENT_LENGTH).next().and_then(|length| length.parse::<u64>().ok());
    match length.filter(|_| !headers.contains_key(TRANSFER_ENCODING)) {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
    let trailers = tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    for name in tokens(headers, &CONNECTION).filter_map(|name| name.parse().ok()).collect::<Vec<HeaderName>>()
    {
        if name != HOST && name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in &OF_ONE_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The elements of a field that is a list.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// HTTP/2 may have several fields of cookies, HTTP/1 has one (RFC 9113 section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(mut joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

/// Says that a message came by `version` to the proxy of this name (RFC 9110 section 7.6.3).
pub(super) fn add_via(headers: &mut HeaderMap, version: Version, name: &str) {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    if let Ok(value) = HeaderValue::try_from(format!("{version} {name}")) {
        headers.append(VIA, value);
    }
}

/// Whether it was at the proxy of this name before.
pub(super) fn came_via(headers: &HeaderMap, name: &str) -> bool {
    tokens(headers, &VIA).any(|via| via.split_whitespace().nth(1) == Some(name))
}

/// Counts `Max-Forwards` down (RFC 9110 section 7.6.2): whether `method` goes on.
pub(super) fn goes_on(headers: &mut HeaderMap, method: &Method) -> bool {
    if method != Method::OPTIONS {
        return true;
    }
    let most = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let Some(most) = most else { return true };
    if most > 0 {
        headers.insert(MAX_FORWARDS, HeaderValue::from(most - 1));
    }
    most > 0
}

/// Whether a server may read in the field of this name who asked for what. For those that have them from CGI (RFC 3875
/// section 4.1.18), `_` is `-`.
fn tells_who(name: &HeaderName) -> bool {
    let begins = |with: &str| {
        let letters = name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        letters.take(with.len()).eq(with.bytes())
    };
    begins("x-forwarded-") || begins("x-real-ip") || name == FORWARDED
}

/// Tells the server who asked for what, by `Forwarded` (RFC 7239) and the `X-Forwarded-` fields before it. What the
/// client said itself is dropped, unless it is to be believed: then it is said in both forms.
pub(super) fn add_forwarded(headers: &mut HeaderMap, connection: Option<&Connection>, believed: bool) {
    if believed {
        complete(headers);
    } else {
        for name in headers.keys().filter(|name| tells_who(name)).cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
    let address = connection.and_then(Connection::peer).and_then(Target::ip).map(|ip| ip.to_canonical());
    let security = connection.map(Connection::security).unwrap_or_default();
    let scheme = if security == Protection::Clear { "http" } else { "https" };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    append(headers, FORWARDED, &element(address, &host, scheme));
    if let Some(address) = address {
        append(headers, X_FORWARDED_FOR, &address.to_string());
    }
    for (name, value) in [(X_FORWARDED_HOST, host.as_str()), (X_FORWARDED_PROTO, scheme)] {
        if !value.is_empty()
            && !headers.contains_key(&name)
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
    }
}

/// As the last of a list, in one field: many look at one only.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let list: Vec<&str> = tokens(headers, &name).chain([element]).collect();
    if let Ok(value) = HeaderValue::try_from(list.join(", ")) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn fields_of_one_hop_are_taken_off() {
        let mut all = headers(&[
            ("connection", "close, X-Once"),
            ("connection", "host,content-length,keep-alive,te"),
            ("host", "a"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("x-once", "1"),
            ("keep-alive", "timeout=1"),
            ("te", "gzip, Trailers"),
            ("proxy-authorization", "Basic eA=="),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("trailer", "x-sum"),
            ("x-stays", "1"),
        ]);
        end_to_end(&mut all);
        let mut left: Vec<_> =
            all.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        let stays = [("host", "a"), ("te", "trailers"), ("trailer", "x-sum"), ("x-stays", "1")];
        assert_eq!(left, stays);
        let mut coded = headers(&[
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("connection", "transfer-encoding"),
        ]);
        end_to_end(&mut coded);
        assert_eq!(coded, headers(&[]), "the length did not count");
        for (said, length) in
            [(&["2", "2"][..], Some("2")), (&["2, 2"], Some("2")), (&["02"], Some("2")), (&[""], None)]
        {
            let mut sized = HeaderMap::new();
            for value in said {
                sized.append(CONTENT_LENGTH, value.parse().unwrap());
            }
            end_to_end(&mut sized);
            let lengths: Vec<_> = sized.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(lengths, Vec::from_iter(length), "{said:?}");
        }
        let mut sized =
            headers(&[("content-length", "1"), ("connection", "content-length, host"), ("host", "a")]);
        end_to_end(&mut sized);
        assert_eq!(
            sized,
            headers(&[("content-length", "1"), ("host", "a")]),
            "nobody may have these removed"
        );
    }

    #[test]
    fn cookies_become_one_field() {
        let mut all = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut all);
        assert_eq!(all.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn a_proxy_knows_itself() {
        let mut all = headers(&[("via", "1.0 other (a comment), 1.1 another")]);
        assert!(!came_via(&all, "us"));
        add_via(&mut all, Version::HTTP_2, "us");
        assert!(came_via(&all, "us") && came_via(&all, "other"));
        assert_eq!(all.get_all(VIA).iter().next_back().unwrap(), "2 us");
    }

    #[test]
    fn forwards_are_counted_down() {
        let mut two = headers(&[("max-forwards", "1")]);
        assert!(goes_on(&mut two, &Method::OPTIONS));
        assert_eq!(two[MAX_FORWARDS], "0");
        assert!(!goes_on(&mut two, &Method::OPTIONS));
        assert!(goes_on(&mut two, &Method::GET));
    }

    #[test]
    fn what_a_stranger_says_of_others_is_not_believed() {
        let said = [
            ("host", "a\"b"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.9"),
        ];
        let mut all = headers(&said);
        for name in ["x_forwarded_for", "x-forwarded-port", "x-forwarded_prefix", "x-real-ip"] {
            all.insert(name, "203.0.113.9".parse().unwrap());
        }
        add_forwarded(&mut all, None, false);
        assert!(!format!("{all:?}").contains("203.0.113.9"), "{all:?}");
        assert_eq!(all[FORWARDED], "for=unknown;host=\"a\\\"b\";proto=http");
        assert!(!all.contains_key(X_FORWARDED_FOR));
        assert_eq!(all[X_FORWARDED_PROTO], "http");
        let mut all = headers(&said);
        add_forwarded(&mut all, None, true);
        assert_eq!(all[FORWARDED], "for=203.0.113.9, for=unknown;host=\"a\\\"b\";proto=http");
        assert_eq!(
            (&all[X_FORWARDED_FOR], &all[X_FORWARDED_PROTO]),
            (&"203.0.113.9".parse().unwrap(), &"https".parse().unwrap())
        );
        let mut all = headers(&[("host", "")]);
        add_forwarded(&mut all, None, false);
        assert_eq!(
            all,
            headers(&[("host", ""), ("forwarded", "for=unknown;proto=http"), ("x-forwarded-proto", "http")])
        );
    }
}
