//! URLs of HTTP as they may be shown. (Those of the library mask themselves.)

use clap::error::{ContextKind, ContextValue};

/// `url` as it may be shown: without the user, who may have a password.
pub(crate) fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match (if is_cut_short(url) { rest } else { authority }).rfind('@') {
        Some(at) => format!("{scheme}***@{}", &rest[at + 1..]),
        None => url.into(),
    }
}

/// Whether a character of the password ends the authority of `url` too early: what should be a port is none.
pub(crate) fn is_cut_short(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !after.contains('@') || authority.contains('@') || authority.ends_with(']') {
        return false;
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| after.starts_with('#') || !port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is wrong with the command line, which repeats parts of it.
pub(crate) fn in_error(mut error: clap::Error) -> clap::Error {
    let shown = |text: &String| match text.split_once('@') {
        Some((before, _)) if before.contains(':') && !before.contains(' ') => masked(text),
        _ => text.clone(),
    };
    let masked: Vec<(ContextKind, ContextValue)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, ContextValue::String(shown(text)))),
            ContextValue::Strings(texts) => {
                Some((kind, ContextValue::Strings(texts.iter().map(shown).collect())))
            }
            _ => None,
        })
        .collect();
    for (kind, value) in masked {
        error.insert(kind, value);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("https://u:pass@h/@x", "https://***@h/@x"),
            ("htps://u:pa/ss@h/", "htps://***@h/"),
            ("http://u:1$2?a@h/", "http://***@h/"),
            ("http://u:12#a@h/", "http://***@h/"),
            ("u:pa#ss@h", "***@h"),
            ("u:pass@h", "***@h"),
            ("http://h:80/@x?y=a@b", "http://h:80/@x?y=a@b"),
            ("http://[::1]/@x", "http://[::1]/@x"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
