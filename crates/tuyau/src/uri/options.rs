//! Options: what stands after the question mark, and what consumes it.

use tuyau_core::Context;

use super::error::quote;
use super::parse::UriOption;
use super::table::ATTEMPTS;
use super::{Uri, UriError, UriErrorKind};
use crate::schemes::{Form, SchemeKind};
use crate::{Allow, Scheme};

/// An option that a URI may have.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OptionInfo {
    /// As it is written; with the layer's name and a dot before it, too.
    pub name: &'static str,
    /// The layer that consumes it; `None` if it is for the connection as a whole.
    pub layer: Option<&'static str>,
    /// What it does, in a few words, with its default.
    pub what: &'static str,
    /// A value.
    pub example: &'static str,
    /// What it wants by [`Uri::allow`].
    pub wants: Allow,
    /// Whether listening consumes it too.
    pub listens: bool,
    /// Whether connecting consumes it.
    pub connects: bool,
    /// Whether it is of a socket that this machine opens: where there are hops, the first opens it.
    pub(crate) socket: bool,
    pub(crate) bind: fn(Context, &str) -> Result<Context, &'static str>,
}

/// What most options are.
pub(crate) const OPTION: OptionInfo = OptionInfo {
    name: "",
    layer: None,
    what: "",
    example: "",
    wants: Allow::NOTHING,
    listens: false,
    connects: true,
    socket: false,
    bind: |ctx, _| Ok(ctx),
};

/// Where a URI is put to use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Connect,
    Listen,
}

/// The options of a URI, each with the part that consumes it.
pub(crate) struct Assigned<'a> {
    uri: &'a Uri,
    options: Vec<(&'a UriOption, Consumer)>,
}

/// What consumes an option: a part of the stack, from the outermost, or the connection as a whole.
#[derive(Clone, Copy)]
struct Consumer {
    part: Option<usize>,
    known: &'static OptionInfo,
}

/// Finds what consumes each option of `uri`. One that nothing consumes is an error, and so is one that
/// could mean two parts.
pub(crate) fn assign(uri: &Uri, to: Use) -> Result<Assigned<'_>, UriError> {
    let assigned = uri.options.iter().map(|option| {
        let consumer = consumer(uri, option, to)?;
        let known = consumer.known;
        if !uri.allow.contains(known.wants) {
            let message = format!("the program has not allowed the option {}", quote(known.name));
            return Err(error_at(uri, option, UriErrorKind::NotAllowed, option.span.clone(), message)
                .with_hint(format!("if the URI is to be trusted: .allow({})", known.wants)));
        }
        if to == Use::Connect && known.socket && !uri.hops.is_empty() {
            let message =
                format!("the option {} is of a socket that {} opens", quote(known.name), uri.hops[0]);
            return Err(error_at(uri, option, UriErrorKind::Route, option.span.clone(), message)
                .with_hint("give it to the first hop in place of the destination"));
        }
        Ok((option, consumer))
    });
    Ok(Assigned { uri, options: assigned.collect::<Result<_, _>>()? })
}

impl Assigned<'_> {
    /// Binds what is for the connection as a whole.
    pub(crate) fn bind_whole(&self, ctx: Context) -> Result<Context, UriError> {
        self.bind(ctx, None)
    }

    /// Binds what is for the part of this number, from the outermost.
    pub(crate) fn bind_part(&self, ctx: Context, part: usize) -> Result<Context, UriError> {
        self.bind(ctx, Some(part))
    }

    fn bind(&self, ctx: Context, part: Option<usize>) -> Result<Context, UriError> {
        let own = self.options.iter().filter(|(_, consumer)| consumer.part == part);
        own.clone().try_fold(ctx, |ctx, (option, Consumer { known, .. })| {
            (known.bind)(ctx, option.value.as_deref().unwrap_or("")).map_err(|wanted| {
                let message = format!("not a value of {}", quote(known.name));
                error_at(self.uri, option, UriErrorKind::Option, option.value_span.clone(), message)
                    .with_hint(format!("{wanted}: {}={}", known.name, known.example))
            })
        })
    }
}

/// An error about `option`, wherever it was given.
fn error_at(
    uri: &Uri,
    option: &UriOption,
    kind: UriErrorKind,
    span: std::ops::Range<usize>,
    message: String,
) -> UriError {
    UriError::new(kind, option.text.as_deref().unwrap_or(&uri.text), span, message)
}

/// All that could consume `option`.
fn consumers(uri: &Uri, option: &UriOption, to: Use) -> Vec<Consumer> {
    let wanted = option.split();
    let parts: Vec<_> = uri.stack.parts().collect();
    let fits = |part: usize, scheme: &Scheme| {
        let number = parts[..=part].iter().filter(|it| it.name == scheme.name).count();
        wanted.layer.is_none_or(|layer| layer == scheme.name)
            && wanted.number.is_none_or(|wanted| wanted == number)
    };
    let of_parts =
        parts.iter().enumerate().filter(|(part, scheme)| fits(*part, scheme)).flat_map(|(part, scheme)| {
            scheme.own_options.iter().map(move |known| Consumer { part: Some(part), known })
        });
    let whole = uri.base().whole_options().iter().filter(|_| wanted.layer.is_none());
    let all = of_parts.chain(whole.map(|known| Consumer { part: None, known }));
    all.filter(|it| it.known.name == wanted.name && to.consumes(it.known)).collect()
}

/// What consumes `option`.
fn consumer(uri: &Uri, option: &UriOption, to: Use) -> Result<Consumer, UriError> {
    let error = |message: String, hint: String| {
        let error = error_at(uri, option, UriErrorKind::Option, option.name_span.clone(), message);
        Err(if hint.is_empty() { error } else { error.with_hint(hint) })
    };
    let wanted = option.split();
    match consumers(uri, option, to).as_slice() {
        [one] => return Ok(*one),
        [] => {}
        _ => {
            return error(
                format!("the option {} could mean two parts of the stack", quote(&option.name)),
                format!("write {}", uri.spellings(wanted.name, to).join(" or ")),
            );
        }
    }
    if let Some(layer) = wanted.layer {
        let count = uri.stack.parts().filter(|scheme| scheme.name == layer).count();
        let stack = format!("the stack is {}", quote(&uri.stack()));
        match wanted.number {
            _ if count == 0 => {
                return error(
                    format!("there is no layer {} here to consume the option", quote(layer)),
                    stack,
                );
            }
            Some(number) if number == 0 || number > count => {
                return error(
                    format!("there is no layer {} here", quote(&format!("{layer}.{number}"))),
                    stack,
                );
            }
            _ => {}
        }
    }
    let elsewhere = if to == Use::Listen { Use::Connect } else { Use::Listen };
    if !consumers(uri, option, elsewhere).is_empty() {
        let verb = if to == Use::Listen { "listening" } else { "connecting" };
        return error(format!("{verb} has no use for the option {}", quote(wanted.name)), String::new());
    }
    let of_parts = uri.stack.parts().flat_map(|scheme| scheme.own_options);
    let all = of_parts.chain(uri.base().whole_options()).filter(|known| to.consumes(known));
    let mut names: Vec<_> = Vec::new();
    for known in all {
        if !names.contains(&known.name) {
            names.push(known.name);
        }
    }
    let hint = did_you_mean("options", wanted.name, &names);
    error(format!("nothing here consumes the option {}", quote(&option.name)), hint)
}

impl Use {
    fn consumes(self, known: &OptionInfo) -> bool {
        match self {
            Self::Connect => known.connects,
            Self::Listen => known.listens,
        }
    }
}

impl Uri {
    /// How an option `name` would be spelt for each part that consumes it when connecting: empty if none
    /// does, `["sni"]` if one does, `["tls.1.sni", "tls.2.sni"]` if several do.
    pub fn option_spellings(&self, name: &str) -> Vec<String> {
        self.spellings(name, Use::Connect)
    }

    /// The same, when listening.
    pub fn listen_option_spellings(&self, name: &str) -> Vec<String> {
        self.spellings(name, Use::Listen)
    }

    /// Whether the option that is spelt so, which one part consumes when connecting, is given.
    pub fn has_option(&self, spelling: &str) -> bool {
        self.is_given(spelling, Use::Connect)
    }

    /// The same, when listening.
    pub fn has_listen_option(&self, spelling: &str) -> bool {
        self.is_given(spelling, Use::Listen)
    }

    fn is_given(&self, spelling: &str, to: Use) -> bool {
        let part = |option: &UriOption| match consumers(self, option, to).as_slice() {
            [one] => Some((one.part, one.known.name)),
            _ => None,
        };
        let wanted = part(&UriOption::added(spelling, ""));
        wanted.is_some() && self.options.iter().any(|option| part(option) == wanted)
    }

    fn spellings(&self, name: &str, to: Use) -> Vec<String> {
        let parts: Vec<_> = self.stack.parts().collect();
        let found = consumers(self, &UriOption::added(name, ""), to);
        let several = found.len() > 1;
        let spelt =
            found.iter().map(|it| match it.part.and_then(|part| Some((part, parts.get(part)?.name))) {
                Some((part, layer)) if several => {
                    let same = |to: usize| parts[..to].iter().filter(|it| it.name == layer).count();
                    match same(parts.len()) {
                        1 => format!("{layer}.{name}"),
                        _ => format!("{layer}.{}.{name}", same(part) + 1),
                    }
                }
                _ => name.into(),
            });
        spelt.collect()
    }

    /// Adds an option, as if it stood in the URI; a program has reason to take it from a flag. In this
    /// way `exec:` and `sh:` may have some, too.
    ///
    /// ```
    /// let uri = tuyau::uri("tcp://h:1")?.with_option("nodelay", "false")?;
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    ///
    /// # Errors
    /// If it is given already. Whether something consumes it shows when the URI is put to use.
    pub fn with_option(mut self, name: &str, value: &str) -> Result<Self, UriError> {
        let option = UriOption::added(name, value);
        if self.options.iter().any(|other| option.is_same(other)) {
            let message = format!("the option {} is given twice", quote(name));
            return Err(error_at(&self, &option, UriErrorKind::Option, option.name_span.clone(), message));
        }
        self.options.push(option);
        Ok(self)
    }
}

/// What there is, after the nearest spelling, if one is near.
pub(crate) fn did_you_mean(what: &str, name: &str, names: &[&str]) -> String {
    let all = names.join(", ");
    match nearest(name, names.iter().copied()) {
        _ if names.is_empty() => format!("there are no {what}"),
        Some((nearest, _)) => format!("did you mean {nearest}? The {what} are {all}"),
        None => format!("the {what} are {all}"),
    }
}

/// The one of `names` that `name` may be a misspelling of, and how far it is from that.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let near = names.map(|known| (known, strsim::damerau_levenshtein(known, name)));
    near.filter(|(known, distance)| distance * 2 < known.len()).min_by_key(|(_, distance)| *distance)
}

impl Scheme {
    /// Its options. Connecting and listening each consume those that [say so](OptionInfo::listens).
    pub fn options(&self) -> impl Iterator<Item = &'static OptionInfo> {
        let whole = if self.kind == SchemeKind::Transport { self.whole_options() } else { &[] };
        self.own_options.iter().chain(whole)
    }

    /// Of the connection as a whole.
    fn whole_options(&self) -> &'static [OptionInfo] {
        match self.form {
            Form::Authority | Form::Socket | Form::Path | Form::Name => ATTEMPTS,
            // A command is taken as it is, question marks and all.
            Form::OptionalName | Form::Argv | Form::Line | Form::Alone => &[],
        }
    }
}
