//! What is wrong with a URI, where, and what would be right.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

use super::redact;

/// Why a URI can't be used.
///
/// `Display` says what is wrong, shows the URI with the part underlined, and says what would be
/// right. The password of its user info is never shown, nor are control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct UriError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: UriErrorKind,
    message: String,
    hint: Option<String>,
    span: Range<usize>,
    /// The URI as it may be shown, and where the marks go under it.
    line: String,
    marks: Range<usize>,
}

/// What is wrong with a URI: which part, or which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UriErrorKind {
    /// It is empty, too long, has no scheme, or is badly encoded.
    Syntax,
    /// Nobody knows the scheme.
    UnknownScheme,
    /// This version, or this build, has not got the scheme.
    UnavailableScheme,
    /// The layers don't go together.
    Stack,
    /// The user info has no use here.
    User,
    /// The host is missing, or not a name or address.
    Host,
    /// The port is missing, or not a port.
    Port,
    /// The path or name is missing or can't be one.
    Path,
    /// The command is missing or its quotes don't match.
    Command,
    /// An option is not consumed by anything, given twice, or its value makes no sense.
    Option,
    /// The program did not allow it: see [`Uri::allow`](crate::Uri::allow).
    NotAllowed,
    /// It can't be connected to, or can't be listened on.
    Direction,
    /// The way to it can't be honoured: a hop that would not be used, or that can't come there.
    Route,
}

impl UriError {
    /// `span` is where in `text` it is wrong, in bytes.
    pub(crate) fn new(
        kind: UriErrorKind,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let (line, marks) = show(text, &span);
        Self(Box::new(Inner { kind, message: message.into(), hint: None, span, line, marks }))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What kind of mistake it is.
    pub fn kind(&self) -> UriErrorKind {
        self.0.kind
    }

    /// What is wrong, without where and without advice.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What would be right, if that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Where in the URI, as it was given: a range of bytes. Empty where something is missing.
    pub fn span(&self) -> Range<usize> {
        self.0.span.clone()
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind: _, message, hint, span: _, line, marks } = &*self.0;
        f.write_str(message)?;
        if !line.is_empty() {
            write!(f, "\n  {line}\n  {:skip$}{:^<width$}", "", "", skip = marks.start, width = marks.len())?;
        }
        match hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `fn main() -> Result<…>` prints of it.
        fmt::Display::fmt(self, f)
    }
}

impl Error for UriError {}

/// A part of a URI as it may be quoted in a message: short, and without control characters.
pub(crate) fn quote(part: &str) -> String {
    const MOST: usize = 40;
    let mut quoted = String::from("`");
    for (i, c) in part.chars().enumerate() {
        if i == MOST {
            quoted.push('…');
            break;
        }
        push_visible(&mut quoted, c);
    }
    quoted.push('`');
    quoted
}

/// A URI as it may be repeated in advice.
pub(crate) fn shown(text: &str) -> String {
    show(text, &(0..0)).0
}

/// Longer URIs are not repeated in errors.
const LONGEST_SHOWN: usize = 2048;

/// `text` without its password and control characters, and the columns of `span` in it, at least one.
fn show(text: &str, span: &Range<usize>) -> (String, Range<usize>) {
    if text.is_empty() || text.len() > LONGEST_SHOWN {
        return (String::new(), 0..0);
    }
    let secrets = redact::secrets(text);
    let mut line = String::new();
    let mut column = 0;
    let (mut start, mut end) = (None, None);
    for (at, c) in text.char_indices() {
        if at >= span.start {
            start.get_or_insert(column);
        }
        if at >= span.end {
            end.get_or_insert(column);
        }
        match secrets.iter().find(|secret| secret.contains(&at)) {
            Some(secret) if at == secret.start => {
                line.push_str("***");
                column += 3;
            }
            Some(_) => {}
            _ => column += push_visible(&mut line, c),
        }
    }
    let start = start.unwrap_or(column);
    (line, start..end.unwrap_or(column).max(start + 1))
}

/// Appends `c`, escaped if a terminal would act on it or hide it, and says how many columns it takes.
fn push_visible(line: &mut String, c: char) -> usize {
    let hidden = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    match c.width() {
        Some(width) if !hidden => {
            line.push(c);
            width
        }
        _ => {
            let escaped = c.escape_unicode();
            let width = escaped.len();
            line.extend(escaped);
            width
        }
    }
}
