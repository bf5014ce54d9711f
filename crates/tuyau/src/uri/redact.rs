//! Finds what must not be shown, also in what is no well-formed URI.

use std::ops::Range;

use crate::schemes::schemes;

/// The bytes of the password in `text`, or of what may have been meant as one: a mistake in a URI
/// must not be what brings its password into a log.
pub(crate) fn secret(text: &str) -> Option<Range<usize>> {
    let (scheme, after) = text.split_once(':')?;
    let Some(slashes) = text.find("://") else {
        // `user:password@host`, or `tcp:user:password@host`. Paths and commands have no user info.
        let local = schemes().iter().any(|known| known.name.eq_ignore_ascii_case(scheme) && !known.network);
        let at = after.rfind('@').filter(|_| !local)?;
        return non_empty(scheme.len() + 1..scheme.len() + 1 + at);
    };
    let start = slashes + 3;
    let rest = &text[start..];
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let colon = authority.find(':').filter(|_| !authority.starts_with('['))?;
    // An unencoded slash or question mark in a password ends the authority too early. An @ of an
    // option is no reason to hide a port.
    let port = authority[colon + 1..].bytes().all(|byte| byte.is_ascii_digit());
    let searched = if port { rest.split('?').next().unwrap_or(rest) } else { rest };
    let at = searched.rfind('@').filter(|at| *at > colon)?;
    non_empty(start + colon + 1..start + at)
}

fn non_empty(range: Range<usize>) -> Option<Range<usize>> {
    (!range.is_empty()).then_some(range)
}
