//! From text to a [`Uri`]. Never panics, whatever the text.

use std::ops::Range;

use super::encode::{decode, decode_text};
use super::error::{quote, shown};
use super::options::did_you_mean;
use super::{Uri, UriError, UriErrorKind, host};
use crate::schemes::{ABSENT, Form, Scheme, schemes};
use crate::{Allow, UserInfo};

/// Longer texts are no URIs: no command line or host name gets near it.
const LONGEST: usize = 64 * 1024;

/// What stands behind the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Host {
        host: host::Host,
        port: Option<u16>,
    },
    /// Of a Unix socket; an abstract one begins with a NUL byte.
    Socket(Vec<u8>),
    Path(Vec<u8>),
    Name(String),
    Argv(Vec<String>),
    Line(String),
    Nothing,
}

/// An option, decoded, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct UriOption {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) span: Range<usize>,
    pub(crate) name_span: Range<usize>,
    pub(crate) value_span: Range<usize>,
}

impl UriOption {
    /// The layer that is to consume it, if it says so, and what that calls it.
    pub(crate) fn split(&self) -> (Option<&str>, &str) {
        match self.name.split_once('.') {
            Some((layer, name)) => (Some(layer), name),
            None => (None, &self.name),
        }
    }

    /// Whether it sets what `other` sets.
    fn is_same(&self, other: &Self) -> bool {
        let ((layer, name), (other_layer, other_name)) = (self.split(), other.split());
        name == other_name && (layer == other_layer || layer.is_none() || other_layer.is_none())
    }
}

pub(crate) fn parse(text: &str) -> Result<Uri, UriError> {
    if text.is_empty() || text.len() > LONGEST {
        let what = if text.is_empty() { "the URI is empty" } else { "the URI is too long" };
        return Err(UriError::new(UriErrorKind::Syntax, text, 0..text.len(), what)
            .with_hint(format!("at most {LONGEST} bytes, for example: {}", examples())));
    }
    let (scheme, rest) = match text.split_once(':') {
        _ if text == "-" => (find("-"), 1..1),
        Some((stack, _)) if is_stack(stack) => (base(text, stack)?, stack.len() + 1..text.len()),
        _ => return Err(no_scheme(text)),
    };
    let Some(scheme) = scheme else { return Err(no_scheme(text)) };
    if !scheme.available {
        let message = format!("this build has no {}", quote(scheme.name));
        let error = UriError::new(UriErrorKind::UnavailableScheme, text, 0..scheme.name.len(), message);
        return Err(match scheme.feature {
            Some(feature) if cfg!(unix) => {
                error.with_hint(format!("it needs a build with the feature {}", quote(feature)))
            }
            _ => error.with_hint("it needs a Unix system"),
        });
    }
    let parts = Parts { text, scheme };
    let (address_span, options) = match scheme.form {
        // A command is taken as it is, question marks and all.
        Form::Argv | Form::Line => (rest, Vec::new()),
        _ => parts.split_options(rest)?,
    };
    let (user, address) = parts.address(address_span.clone())?;
    Ok(Uri { text: text.into(), scheme, user, address, address_span, options, allow: Allow::NOTHING })
}

fn find(name: &str) -> Option<&'static Scheme> {
    schemes().iter().find(|known| known.name == name)
}

/// RFC 3986 section 3.1, but for the dot: what has one before the first colon is a host.
fn is_stack(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'-')
}

/// `localhost:80` and `/run/x.sock` are no URIs, but it is plain what they mean.
fn no_scheme(text: &str) -> UriError {
    let shown = shown(text);
    let hint = match text.as_bytes() {
        [b'/' | b'.' | b'@', ..] => format!("if it is a Unix socket: unix:{shown}"),
        [b'[', ..] => format!("if it is an address and a port: tcp://{shown}"),
        _ if is_host_and_port(text) => format!("if it is a host and a port: tcp://{shown}"),
        _ => format!("for example: {}", examples()),
    };
    UriError::new(UriErrorKind::Syntax, text, 0..text.len(), "there is no scheme").with_hint(hint)
}

fn is_host_and_port(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, port)| {
        !host.contains(['/', ' ']) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A few URIs, of what is most used.
fn examples() -> String {
    let examples: Vec<_> = schemes().iter().take(3).map(|scheme| scheme.example).collect();
    examples.join(", ")
}

/// The base transport of `stack`, with which `text` begins: the last of its layers.
fn base(text: &str, stack: &str) -> Result<Option<&'static Scheme>, UriError> {
    let mut start = 0;
    let mut last: Option<(&'static Scheme, Range<usize>)> = None;
    for layer in stack.split('+') {
        let span = start..start + layer.len();
        start = span.end + 1;
        if layer.is_empty() {
            return Err(UriError::new(UriErrorKind::Stack, text, span, "a layer is missing")
                .with_hint("layers go from the outermost to the base transport, like tls+tcp"));
        }
        let known = layer_named(text, layer, span.clone())?;
        if let Some((above, span)) = last.replace((known, span)) {
            let message = format!("{} lies on nothing else", quote(above.name));
            return Err(UriError::new(UriErrorKind::Stack, text, span, message)
                .with_hint("a base transport comes last, and alone"));
        }
    }
    Ok(last.map(|(base, _)| base))
}

fn layer_named(text: &str, layer: &str, span: Range<usize>) -> Result<&'static Scheme, UriError> {
    let name = layer.to_ascii_lowercase();
    if let Some(known) = find(&name) {
        return Ok(known);
    }
    if let Some((_, advice)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        let message = format!("there is no {} here", quote(layer));
        return Err(UriError::new(UriErrorKind::UnavailableScheme, text, span, message).with_hint(*advice));
    }
    if is_host_and_port(text) {
        return Err(no_scheme(text));
    }
    let available = schemes().iter().filter(|known| known.available);
    let hint = did_you_mean("schemes", &name, available.map(|known| known.name).collect());
    let message = format!("unknown scheme {}", quote(layer));
    Err(UriError::new(UriErrorKind::UnknownScheme, text, span, message).with_hint(hint))
}

/// The text and its scheme, for parsing what stands behind it.
struct Parts<'a> {
    text: &'a str,
    scheme: &'static Scheme,
}

type User = Option<(UserInfo, Range<usize>)>;

impl Parts<'_> {
    fn error(&self, kind: UriErrorKind, span: Range<usize>, message: &str) -> UriError {
        let hint = format!("for example: {}", self.scheme.example);
        UriError::new(kind, self.text, span, message).with_hint(hint)
    }

    /// Where the address is, and the options behind it.
    fn split_options(&self, rest: Range<usize>) -> Result<(Range<usize>, Vec<UriOption>), UriError> {
        let text = &self.text[rest.clone()];
        if let Some(hash) = text.find('#') {
            let span = rest.start + hash..rest.end;
            return Err(UriError::new(
                UriErrorKind::Syntax,
                self.text,
                span,
                "a fragment has no meaning here",
            )
            .with_hint("if it is part of a name, write %23"));
        }
        let Some(mark) = text.find('?') else { return Ok((rest, Vec::new())) };
        let address = rest.start..rest.start + mark;
        let mut options: Vec<UriOption> = Vec::new();
        let mut start = address.end + 1;
        for part in self.text[start..rest.end].split('&') {
            let span = start..start + part.len();
            start = span.end + 1;
            let option = self.option(span.clone())?;
            if options.iter().any(|other| option.is_same(other)) {
                let message = format!("the option {} is given twice", quote(&option.name));
                return Err(UriError::new(UriErrorKind::Option, self.text, span, message));
            }
            options.push(option);
        }
        Ok((address, options))
    }

    fn option(&self, span: Range<usize>) -> Result<UriOption, UriError> {
        let part = &self.text[span.clone()];
        let name_end = span.start + part.find('=').unwrap_or(part.len());
        let name_span = span.start..name_end;
        if name_span.is_empty() {
            return Err(UriError::new(UriErrorKind::Option, self.text, span, "an option is missing here")
                .with_hint("options are written ?name=value&name=value"));
        }
        let name = decode_text(self.text, name_span.clone())?;
        let value_span = (name_end + 1).min(span.end)..span.end;
        let value = match part.contains('=') {
            true => Some(decode_text(self.text, value_span.clone())?),
            false => None,
        };
        Ok(UriOption { name, value, span, name_span, value_span })
    }

    fn address(&self, span: Range<usize>) -> Result<(User, Address), UriError> {
        let address = match self.scheme.form {
            Form::Authority => return self.host(span),
            Form::Socket if self.text[span.clone()].starts_with('@') => {
                let name = span.start + 1..span.end;
                let decoded = decode(self.text, name.clone())?;
                if decoded.is_empty() {
                    return Err(self.error(UriErrorKind::Path, name, "the abstract name is missing"));
                }
                Address::Socket([&[0], decoded.as_slice()].concat())
            }
            Form::Socket => Address::Socket(self.path(span)?),
            Form::Path => Address::Path(self.path(span)?),
            Form::Name | Form::OptionalName => Address::Name(self.name(span)?),
            Form::Argv => Address::Argv(self.argv(span)?),
            Form::Line => Address::Line(self.line(span)?.to_owned()),
            Form::Alone if span.is_empty() => Address::Nothing,
            Form::Alone => return Err(self.error(UriErrorKind::Path, span, "nothing can follow here")),
        };
        Ok((None, address))
    }

    fn host(&self, span: Range<usize>) -> Result<(User, Address), UriError> {
        let Some(rest) = self.text[span.clone()].strip_prefix("//") else {
            return Err(self.error(
                UriErrorKind::Host,
                span.start..span.start,
                "// is missing after the colon",
            ));
        };
        let start = span.start + 2;
        let end = rest.find('/').map_or(span.end, |slash| start + slash);
        let authority = host::authority(self.text, start..end);
        if !matches!(&self.text[end..span.end], "" | "/") {
            let message = format!("{} has no path", self.scheme.name);
            let error = UriError::new(UriErrorKind::Path, self.text, end..span.end, message);
            return Err(match rest.contains('@') {
                true => error.with_hint("if it belongs to the password, write / as %2F"),
                false => error.with_hint("end after the port"),
            });
        }
        let host::Authority { user, host, port } = authority?;
        Ok((user, Address::Host { host, port }))
    }

    /// A path, with an empty authority before it or none: `unix:/run/x`, `unix:///run/x`, `unix:x`.
    fn path(&self, mut span: Range<usize>) -> Result<Vec<u8>, UriError> {
        if let Some(rest) = self.text[span.clone()].strip_prefix("//") {
            if !rest.starts_with('/') {
                let host = span.start + 2..span.end;
                let message = format!("{} has no host", self.scheme.name);
                return Err(self.error(UriErrorKind::Path, host, &message));
            }
            span.start += 2;
        }
        let path = decode(self.text, span.clone())?;
        if path.is_empty() {
            return Err(self.error(UriErrorKind::Path, span, "the path is missing"));
        }
        if path.contains(&0) {
            return Err(UriError::new(UriErrorKind::Path, self.text, span, "a path has no NUL byte")
                .with_hint("an abstract Unix socket is written unix:@name"));
        }
        Ok(path)
    }

    fn name(&self, span: Range<usize>) -> Result<String, UriError> {
        let name = decode_text(self.text, span.clone())?;
        if self.text[span.clone()].starts_with("//") {
            let slashes = span.start..span.start + 2;
            return Err(self.error(UriErrorKind::Path, slashes, "a name follows the colon at once"));
        }
        if name.is_empty() && self.scheme.form == Form::Name {
            return Err(self.error(UriErrorKind::Path, span, "the name is missing"));
        }
        Ok(name)
    }

    /// What is run, as it stands: nothing in it is decoded.
    fn line(&self, span: Range<usize>) -> Result<&str, UriError> {
        let line = &self.text[span.clone()];
        if line.trim().is_empty() {
            return Err(self.error(UriErrorKind::Command, span, "the command is missing"));
        }
        if let Some(nul) = line.find('\0') {
            let span = span.start + nul..span.start + nul + 1;
            return Err(UriError::new(UriErrorKind::Command, self.text, span, "a command has no NUL byte"));
        }
        Ok(line)
    }

    fn argv(&self, span: Range<usize>) -> Result<Vec<String>, UriError> {
        let line = self.line(span.clone())?;
        let argv = shell_words::split(line).map_err(|_| {
            UriError::new(UriErrorKind::Command, self.text, span.clone(), "a quote is not closed")
                .with_hint("quotes are as in the shell: 'as it is', \"with \\\" in it\", \\' alone")
        })?;
        match argv.first() {
            Some(program) if !program.is_empty() => Ok(argv),
            _ => Err(self.error(UriErrorKind::Command, span, "the command is missing")),
        }
    }
}
