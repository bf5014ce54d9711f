//! Options: what stands after the question mark, and what consumes it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tuyau_core::names::{ATTEMPT_DELAY, ATTEMPT_TIMEOUT, DEADLINE};
use tuyau_core::{ConnectCx, Context, Key};
use tuyau_tokio::{BIND, FAST_OPEN, INTERFACE, KEEPALIVE, Keepalive, MARK, NODELAY};

use super::error::quote;
use super::parse::UriOption;
use super::{Uri, UriError, UriErrorKind};
use crate::schemes::Form;
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
    bind: fn(Context, &str) -> Result<Context, &'static str>,
}

/// Of the connection as a whole.
pub(crate) static ATTEMPTS: &[OptionInfo] = &[
    OptionInfo {
        name: "connect-timeout",
        what: "how long connecting may take in all; unlimited by default. Only ever shortens",
        example: "5s",
        bind: |ctx, value| shorten(ctx, &DEADLINE, value),
        ..BASE
    },
    OptionInfo {
        name: "attempt-timeout",
        what: "how long the attempt on one address may take; unlimited by default. Only ever shortens",
        example: "2s",
        bind: |ctx, value| shorten(ctx, &ATTEMPT_TIMEOUT, value),
        ..BASE
    },
    OptionInfo {
        name: "attempt-delay",
        what: "how long until the next address joins the race; 250ms by default",
        example: "100ms",
        bind: |ctx, value| Ok(ctx.with(&ATTEMPT_DELAY, duration(value)?)),
        ..BASE
    },
];

const BASE: OptionInfo = OptionInfo {
    name: "",
    layer: None,
    what: "",
    example: "",
    wants: Allow::NOTHING,
    listens: false,
    bind: |ctx, _| Ok(ctx),
};

const TCP: OptionInfo = OptionInfo { layer: Some("tcp"), listens: true, ..BASE };

/// Of TCP.
pub(crate) static TCP_OPTIONS: &[OptionInfo] = &[
    OptionInfo {
        name: "nodelay",
        what: "whether small writes go out at once; true by default",
        example: "false",
        bind: |ctx, value| Ok(ctx.with(&NODELAY, boolean(value)?)),
        ..TCP
    },
    OptionInfo {
        name: "keepalive",
        what: "whether, or after how long a silence, the system probes the peer; false by default",
        example: "30s",
        bind: keepalive,
        ..TCP
    },
    OptionInfo {
        name: "bind",
        what: "the local address, and port if it matters, to connect from; the system chooses by default",
        example: "192.0.2.1",
        wants: Allow::ROUTE,
        listens: false,
        bind: |ctx, value| Ok(ctx.with(&BIND, socket_address(value)?)),
        ..TCP
    },
    OptionInfo {
        name: "interface",
        what: "the network interface to use (Linux); the system chooses by default",
        example: "eth0",
        wants: Allow::ROUTE,
        bind: |ctx, value| match value {
            "" => Err("the name of an interface"),
            name => Ok(ctx.with(&INTERFACE, name.into())),
        },
        ..TCP
    },
    OptionInfo {
        name: "mark",
        what: "the mark of the packets, for routing and firewalls (Linux); none by default",
        example: "42",
        wants: Allow::ROUTE,
        bind: |ctx, value| Ok(ctx.with(&MARK, value.parse().map_err(|_| "a number of 32 bits")?)),
        ..TCP
    },
    OptionInfo {
        name: "fast-open",
        what: "whether the first write goes out with the SYN (Linux); false by default",
        example: "true",
        listens: false,
        bind: |ctx, value| Ok(ctx.with(&FAST_OPEN, boolean(value)?)),
        ..TCP
    },
];

/// Where a URI is put to use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Connect,
    Listen,
}

/// Binds what the options of `uri` say. One that nothing consumes is an error.
pub(crate) fn apply(uri: &Uri, ctx: Context, to: Use) -> Result<Context, UriError> {
    uri.options.iter().try_fold(ctx, |ctx, option| {
        let error = |span, message: String| UriError::new(UriErrorKind::Option, &uri.text, span, message);
        let known = consumer(uri, option, to)?;
        if !uri.allow.contains(known.wants) {
            let message = format!("the program has not allowed the option {}", quote(known.name));
            return Err(UriError::new(UriErrorKind::NotAllowed, &uri.text, option.span.clone(), message)
                .with_hint(format!("if the URI is to be trusted: .allow({})", known.wants)));
        }
        (known.bind)(ctx, option.value.as_deref().unwrap_or("")).map_err(|wanted| {
            error(option.value_span.clone(), format!("not a value of {}", quote(known.name)))
                .with_hint(format!("{wanted}: {}={}", known.name, known.example))
        })
    })
}

/// What consumes `option`.
fn consumer(uri: &Uri, option: &UriOption, to: Use) -> Result<&'static OptionInfo, UriError> {
    let error = |message: String, hint: String| {
        let error = UriError::new(UriErrorKind::Option, &uri.text, option.name_span.clone(), message);
        Err(if hint.is_empty() { error } else { error.with_hint(hint) })
    };
    let known = || uri.scheme.options().filter(|known| to == Use::Connect || known.listens);
    let (layer, name) = option.split();
    if let Some(layer) = layer
        && layer != uri.scheme.name
    {
        return error(
            format!("there is no layer {} here to consume the option", quote(layer)),
            format!("the stack is {}", quote(uri.scheme.name)),
        );
    }
    if let Some(found) = known().find(|known| known.name == name && (layer.is_none() || known.layer == layer))
    {
        return Ok(found);
    }
    if to == Use::Listen && uri.scheme.options().any(|known| known.name == name) {
        return error(format!("listening has no use for the option {}", quote(name)), String::new());
    }
    let hint = did_you_mean("options", name, known().map(|known| known.name).collect());
    error(format!("nothing here consumes the option {}", quote(&option.name)), hint)
}

/// The `names` there are, the nearest spelling first; what is as near as another stays in its order.
pub(crate) fn did_you_mean(what: &str, name: &str, mut names: Vec<&str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    names.sort_by_key(|known| distance(known));
    match names.first() {
        None => format!("there are no {what}"),
        Some(nearest) if distance(nearest) * 2 < nearest.len() => {
            format!("did you mean {nearest}? The {what} are {}", names.join(", "))
        }
        Some(_) => format!("the {what} are {}", names.join(", ")),
    }
}

impl Scheme {
    /// The options that connecting consumes. Listening consumes those that [say so](OptionInfo::listens).
    pub fn options(&self) -> impl Iterator<Item = &'static OptionInfo> {
        let layer = if self.name == "tcp" { TCP_OPTIONS } else { &[] };
        // A command is taken as it is, question marks and all.
        let whole = match self.form {
            Form::Authority | Form::Socket | Form::Path | Form::Name => ATTEMPTS,
            Form::OptionalName | Form::Argv | Form::Line | Form::Alone => &[],
        };
        layer.iter().chain(whole)
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "a time has a unit")
}

/// Binds `key` to the duration, or to what `ctx` has if that is shorter: a URI may come from a
/// stranger, who can't wait on our account.
fn shorten(ctx: Context, key: &'static Key<Duration>, text: &str) -> Result<Context, &'static str> {
    let wanted = duration(text)?;
    let bound = ConnectCx::new(&ctx).and_then(|cx| cx.get(key)).ok().flatten();
    Ok(ctx.with(key, bound.map_or(wanted, |bound| bound.min(wanted))))
}

fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

fn keepalive(ctx: Context, text: &str) -> Result<Context, &'static str> {
    match (boolean(text), duration(text)) {
        (Ok(true), _) => Ok(ctx.with(&KEEPALIVE, Keepalive::default())),
        (Ok(false), _) => Ok(ctx.without(&KEEPALIVE)),
        (_, Ok(idle)) => Ok(ctx.with(&KEEPALIVE, Keepalive { idle: Some(idle), ..Keepalive::default() })),
        _ => Err("true, false or a time with its unit"),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).map_err(|_| "an address, or address:port")
}
