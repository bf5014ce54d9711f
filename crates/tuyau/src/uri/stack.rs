//! What stands before the colon: a base transport, what lies on it, and what is gone through.

use std::ops::Range;

use super::error::quote;
use super::options::{did_you_mean, nearest};
use super::parse::{is_host_and_port, no_scheme};
use super::{UriError, UriErrorKind};
use crate::schemes::{ABSENT, DEFAULT_TRANSPORT, Form, Scheme, SchemeKind, Wiring, hops, schemes};

/// What a URI is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To connect to or listen on.
    Target,
    /// To go through.
    Hop,
}

/// A scheme of a stack, and where it is named.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) scheme: &'static Scheme,
    pub(crate) span: Range<usize>,
}

/// What stands before the colon.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    /// What is gone through, if it is a hop.
    pub(crate) hop: Option<Part>,
    /// The layers, outermost first.
    pub(crate) layers: Vec<Part>,
    /// What all lies on; a hop that lies on nothing, itself.
    pub(crate) base: Part,
}

impl Stack {
    pub(crate) fn alone(scheme: &'static Scheme) -> Self {
        Self { hop: None, layers: Vec::new(), base: Part { scheme, span: 0..scheme.name.len() } }
    }

    /// Its parts, outermost first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &'static Scheme> {
        let base = Some(&self.base).filter(|base| base.scheme.kind != SchemeKind::Hop);
        self.hop.iter().chain(&self.layers).chain(base).map(|part| part.scheme)
    }
}

/// The parts of `stack`, with which `text` begins.
pub(crate) fn parse(text: &str, stack: &str, role: Role) -> Result<Stack, UriError> {
    let mut start = 0;
    let mut parts: Vec<Part> = Vec::new();
    for name in stack.split('+') {
        let span = start..start + name.len();
        start = span.end + 1;
        if name.is_empty() {
            return Err(UriError::new(UriErrorKind::Stack, text, span, "a layer is missing")
                .with_hint("layers go from the outermost to the base transport, like tls+tcp"));
        }
        let role = if parts.is_empty() { role } else { Role::Target };
        let known = scheme_named(text, name, span.clone(), role)?;
        if let Some(above) = parts.last().filter(|above| !lies_on_others(above.scheme)) {
            let message = format!("{} lies on nothing else", quote(above.scheme.name));
            return Err(UriError::new(UriErrorKind::Stack, text, above.span.clone(), message)
                .with_hint("a base transport comes last, and alone"));
        }
        match known.wiring {
            Wiring::Short(names) => {
                for (i, name) in names.iter().enumerate() {
                    let table = if i == 0 && role == Role::Hop { hops() } else { schemes() };
                    parts.extend(find(table, name).map(|scheme| Part { scheme, span: span.clone() }));
                }
            }
            _ => parts.push(Part { scheme: known, span }),
        }
    }
    let mut parts = parts.into_iter().peekable();
    let hop = parts.next_if(|part| part.scheme.kind == SchemeKind::Hop);
    let mut layers: Vec<Part> = parts.collect();
    let base = match layers.pop_if(|last| last.scheme.kind == SchemeKind::Transport) {
        Some(base) => Some(base),
        None => match &hop {
            Some(hop) if !lies_on_others(hop.scheme) => Some(hop.clone()),
            _ => find(schemes(), DEFAULT_TRANSPORT)
                .map(|scheme| Part { scheme, span: stack.len()..stack.len() }),
        },
    };
    match base {
        Some(base) => Ok(Stack { hop, layers, base }),
        None => Err(no_scheme(text, role)),
    }
}

/// Whether something may come after it in a stack.
fn lies_on_others(scheme: &Scheme) -> bool {
    scheme.kind != SchemeKind::Transport && scheme.form == Form::Authority
}

fn scheme_named(
    text: &str,
    written: &str,
    span: Range<usize>,
    role: Role,
) -> Result<&'static Scheme, UriError> {
    let name = written.to_ascii_lowercase();
    let (table, other) = if role == Role::Hop { (hops(), schemes()) } else { (schemes(), hops()) };
    let unavailable = |message: String, hint: String| {
        Err(UriError::new(UriErrorKind::UnavailableScheme, text, span.clone(), message).with_hint(hint))
    };
    if let Some(known) = find(table, &name) {
        return match known.feature {
            _ if known.available => Ok(known),
            Some(feature) if cfg!(unix) => unavailable(
                format!("this build has no {}", quote(known.name)),
                format!("it needs a build with the feature {}", quote(feature)),
            ),
            _ => unavailable(
                format!("this build has no {}", quote(known.name)),
                "it needs a Unix system".into(),
            ),
        };
    }
    if let Some((_, advice)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        return unavailable(format!("there is no {} here", quote(written)), (*advice).into());
    }
    if is_host_and_port(text) {
        return Err(no_scheme(text, role));
    }
    let what = if role == Role::Hop { "hops" } else { "schemes" };
    let names: Vec<_> = table.iter().filter(|known| known.available).map(|known| known.name).collect();
    let (message, hint) = match (find(other, &name), role) {
        (Some(misplaced), Role::Target) => (
            format!("{} is not to connect to, but to go through", quote(written)),
            format!("it is a hop: --via {}", misplaced.example),
        ),
        (Some(_), Role::Hop) => (
            format!("{} is not to go through", quote(written)),
            format!(
                "it leads no further by itself; name what is spoken there: the hops are {}",
                names.join(", ")
            ),
        ),
        (None, _) => {
            let message = format!("unknown {} {}", what.trim_end_matches('s'), quote(written));
            let known = nearest(&name, names.iter().copied()).map(|(_, distance)| distance);
            let absent = nearest(&name, ABSENT.iter().map(|(absent, _)| *absent))
                .filter(|(_, distance)| known.is_none_or(|known| *distance < known));
            let advice = absent.and_then(|(absent, _)| ABSENT.iter().find(|(name, _)| *name == absent));
            (
                message,
                match advice {
                    Some((absent, advice)) => format!("did you mean {absent}? {advice}"),
                    None => did_you_mean(what, &name, &names),
                },
            )
        }
    };
    Err(UriError::new(UriErrorKind::UnknownScheme, text, span, message).with_hint(hint))
}

pub(crate) fn find(table: &'static [Scheme], name: &str) -> Option<&'static Scheme> {
    table.iter().find(|known| known.name == name)
}
