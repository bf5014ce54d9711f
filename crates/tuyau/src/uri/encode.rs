//! Percent-encoding (RFC 3986 section 2.1), strictly.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str};

use super::{UriError, UriErrorKind};

/// What is encoded in names, zones and options: all but the unreserved characters.
pub(crate) const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What is encoded in paths and values.
pub(crate) const PATH: &AsciiSet = &PLAIN.remove(b'/').remove(b'@').remove(b':').remove(b'+').remove(b',');

/// The bytes that `text[span]` stands for.
pub(crate) fn decode(text: &str, span: Range<usize>) -> Result<Vec<u8>, UriError> {
    let part = &text[span.clone()];
    for (at, _) in part.match_indices('%') {
        let digits = part.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let start = span.start + at;
            return Err(UriError::new(
                UriErrorKind::Syntax,
                text,
                start..start + 1,
                "a percent sign without two hexadecimal digits",
            )
            .with_hint("the percent sign itself is written %25"));
        }
    }
    Ok(percent_decode_str(part).collect())
}

/// The text that `text[span]` stands for.
pub(crate) fn decode_text(text: &str, span: Range<usize>) -> Result<String, UriError> {
    String::from_utf8(decode(text, span.clone())?)
        .map_err(|_| UriError::new(UriErrorKind::Syntax, text, span, "what is encoded here is not UTF-8"))
}
