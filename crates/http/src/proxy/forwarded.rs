//! The two forms in which a server is told who asked for what: `Forwarded` (RFC 7239), and the `X-Forwarded-` fields
//! before it.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::fields::tokens;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where one form only is there, makes the other of it (RFC 7239 section 7.4): whoever reads either is told the same.
pub(super) fn complete(headers: &mut HeaderMap) {
    let before = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO];
    let has_before = before.iter().any(|name| headers.contains_key(name));
    match (headers.contains_key(FORWARDED), has_before) {
        (false, true) => of_those_before(headers),
        (true, false) => those_before(headers),
        _ => {}
    }
}

fn of_those_before(headers: &mut HeaderMap) {
    let first = |name| tokens(headers, name).next().unwrap_or_default();
    let (host, scheme) = (first(&X_FORWARDED_HOST), first(&X_FORWARDED_PROTO));
    let mut nodes: Vec<Option<IpAddr>> = tokens(headers, &X_FORWARDED_FOR).map(address).collect();
    if nodes.is_empty() {
        nodes.push(None);
    }
    // What was asked for was asked by the first.
    let said = |(at, node): (usize, &Option<IpAddr>)| match at {
        0 => element(*node, host, scheme),
        _ => element(*node, "", ""),
    };
    let elements: Vec<String> = nodes.iter().enumerate().map(said).collect();
    if let Ok(value) = HeaderValue::try_from(elements.join(", ")) {
        headers.insert(FORWARDED, value);
    }
}

fn those_before(headers: &mut HeaderMap) {
    let (mut nodes, mut host, mut scheme) = (Vec::new(), None, None);
    let values = headers.get_all(FORWARDED).into_iter().filter_map(|value| value.to_str().ok());
    for element in values.flat_map(|value| split(value, ',')).filter(|element| !element.is_empty()) {
        let mut node = None;
        for pair in split(element, ';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = unquoted(value.trim());
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => node = address(&value),
                "host" => drop(host.get_or_insert(value)),
                "proto" => drop(scheme.get_or_insert(value)),
                _ => {}
            }
        }
        nodes.push(node.map_or_else(|| "unknown".into(), |node| node.to_string()));
    }
    let fields =
        [(X_FORWARDED_FOR, Some(nodes.join(", "))), (X_FORWARDED_HOST, host), (X_FORWARDED_PROTO, scheme)];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty())
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
    }
}

/// An element of `Forwarded`, without what is not known.
pub(super) fn element(node: Option<IpAddr>, host: &str, scheme: &str) -> String {
    let mut element = match node {
        Some(IpAddr::V4(address)) => format!("for={address}"),
        Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
        None => "for=unknown".into(),
    };
    if !host.is_empty() {
        let quoted = host.replace('\\', "\\\\").replace('"', "\\\"");
        element.push_str(&format!(";host=\"{quoted}\""));
    }
    // It is not quoted: nothing else would be a scheme (RFC 3986 section 3.1).
    if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        element.push_str(&format!(";proto={scheme}"));
    }
    element
}

/// Of a node (RFC 7239 section 6), which may have a port.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    bare.parse().ok().or_else(|| node.parse().ok().map(|node: SocketAddr| node.ip()))
}

/// The parts of `text` between each `at` that is not quoted.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == at && !quoted,
        }
        false
    };
    text.split(ends).map(str::trim)
}

fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let kept = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    quoted.chars().filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().expect("a value"));
        }
        complete(&mut headers);
        headers
    }

    #[test]
    fn either_form_is_made_of_the_other() {
        for (before, said) in [
            (["192.0.2.43", "", "https"], "for=192.0.2.43;proto=https"),
            (
                ["192.0.2.43, 2001:db8::1", "a:1", "https"],
                "for=192.0.2.43;host=\"a:1\";proto=https, for=\"[2001:db8::1]\"",
            ),
            (["", "a", "http"], "for=unknown;host=\"a\";proto=http"),
        ] {
            let fields = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].into_iter().zip(before);
            let fields: Vec<_> = fields.filter(|(_, value)| !value.is_empty()).collect();
            let forth = completed(&fields);
            assert_eq!(forth[FORWARDED], said);
            let back = completed(&[(FORWARDED, said)]);
            for (name, value) in fields {
                assert_eq!(back[name], value, "{said}");
            }
        }
    }

    #[test]
    fn what_can_not_be_said_is_unknown() {
        let odd =
            completed(&[(X_FORWARDED_FOR, "192.0.2.1:80, _x\";, 10.0.0.1"), (X_FORWARDED_PROTO, "a;b=c")]);
        assert_eq!(odd[FORWARDED], "for=192.0.2.1, for=unknown, for=10.0.0.1");
        let quoted =
            "For=\"[2001:db8::1]:80\";by=_p;Host=\"a\\\",;b\" , for=_hidden;proto=http, for=\"192.0.2.1:8\"";
        let odd = completed(&[(FORWARDED, quoted)]);
        assert_eq!(odd[X_FORWARDED_FOR], "2001:db8::1, unknown, 192.0.2.1");
        assert_eq!(
            (&odd[X_FORWARDED_HOST], &odd[X_FORWARDED_PROTO]),
            (&"a\",;b".parse().expect("a value"), &"http".parse().expect("a value"))
        );
    }

    #[test]
    fn who_says_both_is_left_alone() {
        let both = [(FORWARDED, "for=192.0.2.1"), (X_FORWARDED_PROTO, "https")];
        assert_eq!(completed(&both).len(), 2);
        assert!(completed(&[]).is_empty());
    }
}
