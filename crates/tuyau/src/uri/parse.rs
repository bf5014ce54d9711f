//! From text to a [`Uri`]. Never panics, whatever the text.

use std::ops::Range;

use super::encode::{decode, decode_text};
use super::error::{quote, shown};
use super::stack::{Role, Stack, find};
use super::{Uri, UriError, UriErrorKind, host, stack};
use crate::layers::ws::PATH;
use crate::schemes::{Form, Scheme, hops, schemes};
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
    /// What the ranges are of, if not of the URI: it was added.
    pub(crate) text: Option<String>,
    pub(crate) span: Range<usize>,
    pub(crate) name_span: Range<usize>,
    pub(crate) value_span: Range<usize>,
}

/// The name of an option, and the part that is to consume it, as far as it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionName<'a> {
    pub(crate) layer: Option<&'a str>,
    /// Which of several layers of that name, from 1.
    pub(crate) number: Option<usize>,
    pub(crate) name: &'a str,
}

impl UriOption {
    /// One that does not stand in the URI.
    pub(crate) fn added(name: &str, value: &str) -> Self {
        let text = format!("{name}={value}");
        Self {
            name: name.into(),
            value: Some(value.into()),
            span: 0..text.len(),
            name_span: 0..name.len(),
            value_span: name.len() + 1..text.len(),
            text: Some(text),
        }
    }

    /// `tls.sni`, `tls.2.sni` or `sni`, in its parts.
    pub(crate) fn split(&self) -> OptionName<'_> {
        let Some((layer, rest)) = self.name.split_once('.') else {
            return OptionName { layer: None, number: None, name: &self.name };
        };
        let numbered = rest.split_once('.').and_then(|(number, name)| Some((number.parse().ok()?, name)));
        match numbered {
            Some((number, name)) => OptionName { layer: Some(layer), number: Some(number), name },
            None => OptionName { layer: Some(layer), number: None, name: rest },
        }
    }

    /// Whether it stands behind the host, and not behind the question mark.
    pub(crate) fn is_path(&self) -> bool {
        self.name == PATH
    }

    /// Whether it sets what `other` sets.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (self.split(), other.split());
        let agree = |a: Option<&str>, b: Option<&str>| a.is_none() || b.is_none() || a == b;
        let one = a.number.is_none() || b.number.is_none() || a.number == b.number;
        a.name == b.name && agree(a.layer, b.layer) && one
    }
}

pub(crate) fn parse(text: &str, role: Role) -> Result<Uri, UriError> {
    if text.is_empty() || text.len() > LONGEST {
        let what = if text.is_empty() { "the URI is empty" } else { "the URI is too long" };
        return Err(UriError::new(UriErrorKind::Syntax, text, 0..text.len(), what)
            .with_hint(format!("at most {LONGEST} bytes, for example: {}", examples(role))));
    }
    let (stack, rest) = match text.split_once(':') {
        _ if text == "-" && role == Role::Target => match find(schemes(), "-") {
            Some(dash) => (Stack::alone(dash), 1..1),
            None => return Err(no_scheme(text, role)),
        },
        Some((stack, _)) if is_stack(stack) => {
            (stack::parse(text, stack, role)?, stack.len() + 1..text.len())
        }
        _ => return Err(no_scheme(text, role)),
    };
    let parts = Parts { text, scheme: stack.base.scheme };
    let (mut address_span, mut options) = match parts.scheme.form {
        // A command is taken as it is, question marks and all.
        Form::Argv | Form::Line => (rest, Vec::new()),
        _ => parts.split_options(rest)?,
    };
    let on_the_web = stack.layers.iter().any(|layer| layer.scheme.name == "ws");
    if on_the_web && parts.scheme.form == Form::Authority {
        let path = parts.take_path(&mut address_span)?;
        if let Some(given) =
            options.iter().find(|option| path.as_ref().is_some_and(|path| path.is_same(option)))
        {
            let message = format!("the option {} is given twice", quote(&given.name));
            return Err(UriError::new(UriErrorKind::Option, text, given.span.clone(), message));
        }
        options.extend(path);
    }
    let (user, address) = parts.address(address_span.clone())?;
    let text = text.into();
    Ok(Uri { text, stack, user, address, address_span, options, allow: Allow::NOTHING, hops: Vec::new() })
}

/// RFC 3986 section 3.1, but for the dot: what has one before the first colon is a host.
fn is_stack(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'-')
}

/// `localhost:80` and `/run/x.sock` are no URIs, but it is plain what they mean.
pub(crate) fn no_scheme(text: &str, role: Role) -> UriError {
    let shown = shown(text);
    let hint = match text.as_bytes() {
        _ if role == Role::Hop => format!("for example: {}", examples(role)),
        [b'/' | b'.' | b'@', ..] => format!("if it is a Unix socket: unix:{shown}"),
        [b'[', ..] => format!("if it is an address and a port: tcp://{shown}"),
        _ if is_host_and_port(text) => format!("if it is a host and a port: tcp://{shown}"),
        _ => format!("for example: {}", examples(role)),
    };
    UriError::new(UriErrorKind::Syntax, text, 0..text.len(), "there is no scheme").with_hint(hint)
}

pub(crate) fn is_host_and_port(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, port)| {
        !host.contains(['/', ' ']) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A few URIs, of what is most used.
fn examples(role: Role) -> String {
    let table = if role == Role::Hop { hops() } else { schemes() };
    let examples: Vec<_> = table.iter().take(3).map(|scheme| scheme.example).collect();
    examples.join(", ")
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

    /// Takes the path from behind the host, if there is one, as an option.
    fn take_path(&self, address: &mut Range<usize>) -> Result<Option<UriOption>, UriError> {
        let text = &self.text[address.clone()];
        let host = if text.starts_with("//") { 2 } else { 0 };
        let Some(slash) = text[host..].find('/').map(|at| address.start + host + at) else { return Ok(None) };
        let span = slash..address.end;
        address.end = slash;
        let value = decode_text(self.text, span.clone())?;
        if value == "/" {
            return Ok(None);
        }
        let (name, name_span) = (PATH.to_owned(), span.clone());
        Ok(Some(UriOption {
            name,
            value: Some(value),
            text: None,
            span: span.clone(),
            name_span,
            value_span: span,
        }))
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
        Ok(UriOption { name, value, text: None, span, name_span, value_span })
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
            let at = span.start..span.start;
            let right =
                format!("{}//{}", &self.text[..span.start], self.text[span.start..].trim_start_matches('/'));
            return Err(UriError::new(UriErrorKind::Host, self.text, at, "// is missing after the colon")
                .with_hint(format!("write {}", shown(&right))));
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
