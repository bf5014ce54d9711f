//! Finds what must not be shown, also in what is no well-formed URI.

use std::ops::Range;

use crate::schemes::{Form, hops, schemes};

/// The bytes of `text` that must not be shown: the password of its user info, and the values of options
/// that are secrets by their names.
pub(crate) fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<_> = password(text).into_iter().collect();
    let mut start = text.find('?').map_or(text.len(), |mark| mark + 1);
    // An option that was given apart has no question mark before it.
    if start == text.len() && !text.contains(':') {
        start = 0;
    }
    for part in text[start..].split('&') {
        let span = start..start + part.len();
        start = span.end + 1;
        let Some((name, value)) = part.split_once('=') else { continue };
        if is_secret(name.rsplit('.').next().unwrap_or(name)) {
            found.extend(non_empty(span.end - value.len()..span.end));
        }
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Whether the value of an option of this name is never shown: also of protocols' options, which are
/// not known here.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // Misspelt ones as well: an unknown option is shown in the error.
    ["pass", "pwd", "secret", "token", "credential"].iter().any(|word| name.contains(word))
}

/// The bytes of the password in `text`, or of what may have been meant as one: a mistake in a URI
/// must not be what brings its password into a log.
fn password(text: &str) -> Option<Range<usize>> {
    let (scheme, after) = text.split_once(':')?;
    let Some(slashes) = text.find("://") else {
        // `user:password@host`, or `tcp:user:password@host`. Paths and commands have no user info.
        let base = scheme.rsplit('+').next().unwrap_or(scheme);
        let mut known = schemes().iter().chain(hops()).filter(|known| known.name.eq_ignore_ascii_case(base));
        let start = scheme.len() + 1;
        let end = start + after.rfind('@')?;
        return match known.next() {
            None => non_empty(start..end),
            Some(known) if known.form != Form::Authority => None,
            Some(_) => non_empty(start + text[start..end].find(':')? + 1..end),
        };
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
