//! A proxy's answer (RFC 9112 section 4), without I/O.

use std::fmt;

use crate::error::line;

/// How many bytes of header are read, interim answers (RFC 9110 section 15.2) together with the final one.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// How many header fields a message may have.
pub(super) const MAX_FIELDS: usize = 128;
/// How many challenges are shown.
const MAX_CHALLENGES: usize = 8;

/// What matters of an answer's header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The length of the body, if the header tells.
    pub(super) length: Option<usize>,
    pub(super) challenges: Vec<Challenge>,
}

/// A way to authenticate that the proxy offers (RFC 9110 section 11.3): fit to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    realm: Option<String>,
}

impl Challenge {
    pub(super) fn is_basic(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("basic")
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
        match &self.realm {
            Some(realm) => write!(f, " for `{realm}`"),
            None => Ok(()),
        }
    }
}

pub(super) enum Parsed {
    /// More is needed.
    Partial,
    Head {
        head: Head,
        /// How many bytes it has.
        length: usize,
    },
}

/// Whether a header may end in `bytes`, of which `before` were looked at already: only then is a long one
/// worth parsing, else each byte of a slow peer would cost all bytes before it. A short one is: who does
/// not speak HTTP at all shows at once.
pub(super) fn is_worth_parsing(bytes: &[u8], before: usize) -> bool {
    let from = before.saturating_sub(3).min(bytes.len());
    bytes.len() < 512 || bytes[from..].windows(2).any(|two| two == b"\n\n" || two == b"\n\r")
}

/// Parses the header that `bytes` begin with.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes)? {
        httparse::Status::Partial => return Ok(Parsed::Partial),
        httparse::Status::Complete(length) => length,
    };
    let field = |name: &'static str| {
        let fields = response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| String::from_utf8_lossy(field.value))
    };
    let head = Head {
        status: response.code.unwrap_or_default(),
        length: field("content-length").next().and_then(|length| length.trim().parse().ok()),
        challenges: field("proxy-authenticate")
            .flat_map(|value| challenges(&value))
            .take(MAX_CHALLENGES)
            .collect(),
    };
    Ok(Parsed::Head { head, length })
}

/// The challenges of one field: several may share it, separated by commas like their parameters. What
/// follows a comma and has a space before any `=` begins a new one.
fn challenges(value: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    for part in split_unquoted(value) {
        let part = part.trim();
        let (first, rest) = part.split_once(' ').unwrap_or((part, ""));
        let mut parameter = part;
        if !first.is_empty() && !first.contains('=') {
            all.push(Challenge { scheme: line(first.as_bytes()), realm: None });
            parameter = rest;
        }
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("realm")
            && let Some(challenge) = all.last_mut()
        {
            challenge.realm = Some(line(value.trim().trim_matches('"').as_bytes()));
        }
    }
    all
}

/// Splits at commas that are in no quotes.
fn split_unquoted(value: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

/// The first line of text in a body that may be HTML, fit to be shown. `None` if there is none yet.
pub(super) fn text_of(body: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut tag = false;
    for c in String::from_utf8_lossy(body).chars() {
        match c {
            '<' => tag = true,
            '>' if tag => {
                tag = false;
                text.push('\n');
            }
            _ if !tag => text.push(c),
            _ => {}
        }
    }
    let shown = line(text.as_bytes());
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> (Head, usize) {
        match parse(text.as_bytes()) {
            Ok(Parsed::Head { head, length }) => (head, length),
            Ok(Parsed::Partial) => panic!("partial"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn challenges_are_told_apart() {
        let text = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate, Digest realm=\"a, b\", nonce=\"x\"\r\n\
                    proxy-authenticate: Basic realm=corp\r\nContent-Length: 3\r\n\r\nabc";
        let (head, length) = head(text);
        assert_eq!((head.status, head.length, length), (407, Some(3), text.len() - 3));
        let shown: Vec<_> = head.challenges.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["Negotiate", "Digest for `a, b`", "Basic for `corp`"]);
        assert!(head.challenges[2].is_basic() && !head.challenges[0].is_basic());
    }

    #[test]
    fn the_text_of_a_page_is_its_first_words() {
        let page = "<?xml version=\"1.0\"?>\n<html><head><title>500 Unable to connect</title></head>";
        assert_eq!(text_of(page.as_bytes()).as_deref(), Some("500 Unable to connect"));
        assert_eq!(text_of(b"\r\n plain \x1b[m\nmore").as_deref(), Some("plain \\u{1b}[m"));
        assert_eq!(text_of(b"<html>"), None);
    }
}
