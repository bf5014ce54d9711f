//! Why a lookup gave nothing, and what to do about it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use tuyau_core::{ConnectError, ConnectErrorKind};

use crate::config::{Config, Server};
use crate::exchange::Trouble;
use crate::wire::Question;

pub(crate) fn parse_name(text: &str) -> Result<Name, ConnectError> {
    let no_name = |why: String| {
        ConnectError::new(ConnectErrorKind::Misuse, format!("lookup of `{text}`: that is no name ({why})"))
            .with_hint("a name is labels of 1 to 63 bytes with dots between them, 253 in all")
    };
    if text.is_empty() {
        return Err(no_name("it is empty".into()));
    }
    let mut name = Name::from_str_relaxed(text).map_err(|error| no_name(error.to_string()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Names that no server is to be asked for.
pub(crate) fn special(name: &Name) -> Option<ConnectError> {
    let top = name.iter().next_back()?.to_ascii_lowercase();
    let hint = match top.as_slice() {
        b"onion" => {
            "`.onion` names are never looked up by DNS (RFC 7686): go through Tor's SOCKS proxy, which takes names"
        }
        b"invalid" => "`.invalid` names never exist (RFC 6761)",
        _ => return None,
    };
    Some(ConnectError::new(ConnectErrorKind::NotFound, format!("lookup of {name}")).with_hint(hint))
}

/// None of `tried` exists.
pub(crate) fn no_name(name: &str, tried: &[Name]) -> ConnectError {
    let others = tried.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let what = match tried {
        [_] => format!("lookup of `{name}`: there is no such name (NXDOMAIN)"),
        _ => format!("lookup of `{name}`: there is no such name (NXDOMAIN); tried {others}"),
    };
    ConnectError::new(ConnectErrorKind::NotFound, what)
        .with_hint("check the spelling; a name without dots needs a search list")
}

/// `name` exists, and has no address of either family.
pub(crate) fn no_address(name: &Name, alias: Option<&Name>) -> ConnectError {
    let of = alias.map(|alias| format!(", an alias of `{alias}`,")).unwrap_or_default();
    ConnectError::new(
        ConnectErrorKind::NotFound,
        format!("lookup of `{name}`: it exists{of} but has neither A nor AAAA records"),
    )
    .with_hint("it may serve mail or be a zone only: is there another name for the host, like `www.`?")
}

/// What went wrong with one server, and ends the lookup.
pub(crate) fn ends_it(question: &Question, server: &Server, error: Arc<ConnectError>) -> ConnectError {
    let hint = error.hint().unwrap_or("no other name server is asked in its place").to_owned();
    ConnectError::new(error.kind(), format!("lookup of {question}: {server} could not be reached"))
        .with_hint(hint)
        .with_source(unshared(error))
}

/// No server gave an answer: what each said instead.
pub(crate) fn no_answer(
    question: &Question,
    config: &Config,
    troubles: Vec<(&Server, Trouble)>,
) -> ConnectError {
    let mut told: Vec<(String, usize)> = Vec::new();
    for (server, trouble) in &troubles {
        let text = format!("{server} {}", tell(trouble, config));
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, times)) => *times += 1,
            None => told.push((text, 1)),
        }
    }
    let times = |(text, times): &(String, usize)| match times {
        1 => text.clone(),
        _ => format!("{text} ({times} times)"),
    };
    let told = told.iter().map(times).collect::<Vec<_>>().join("; ");
    let (kind, hint) = troubles.last().map_or((ConnectErrorKind::Other, ""), |(_, trouble)| judge(trouble));
    let error = ConnectError::new(kind, format!("lookup of {question}: {told}")).with_hint(hint);
    match troubles.into_iter().next_back() {
        Some((_, Trouble::Connect(source))) => error.with_source(unshared(source)),
        Some((_, Trouble::Flow(source))) => error.with_source(unshared(source)),
        Some((_, Trouble::Io(source))) => error.with_source(source),
        _ => error,
    }
}

/// The error itself, where it is nobody else's as well.
fn unshared<E: Error + Send + Sync + 'static>(error: Arc<E>) -> Box<dyn Error + Send + Sync> {
    match Arc::try_unwrap(error) {
        Ok(error) => error.into(),
        Err(shared) => shared.into(),
    }
}

fn tell(trouble: &Trouble, config: &Config) -> String {
    match trouble {
        Trouble::TimedOut { strays: 0 } => format!("did not answer within {:?}", config.timeout),
        Trouble::TimedOut { strays } => format!(
            "did not answer within {:?} ({strays} that came were garbled, or not to this query)",
            config.timeout
        ),
        Trouble::Connect(error) => format!("could not be reached: {error}"),
        Trouble::Flow(error) => format!("hung up: {error}"),
        Trouble::Io(error) => format!("could not be asked: {error}"),
        Trouble::Bad(why) => format!("answered nonsense: {why}"),
        Trouble::Code(ResponseCode::ServFail) => "could not find out (SERVFAIL)".into(),
        Trouble::Code(ResponseCode::Refused) => "refused (REFUSED)".into(),
        Trouble::Code(code) => format!("answered with an error: {code}"),
    }
}

fn judge(trouble: &Trouble) -> (ConnectErrorKind, &'static str) {
    match trouble {
        Trouble::TimedOut { .. } => (
            ConnectErrorKind::TimedOut,
            "is the name server's address right, and does a firewall let DNS pass?",
        ),
        Trouble::Connect(error) => (error.kind(), "is that a name server, and does it take DNS over TCP?"),
        Trouble::Flow(_) => (ConnectErrorKind::Closed, "does the name server take DNS over TCP?"),
        Trouble::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            (ConnectErrorKind::Refused, "nobody listens there: is the name server's address right?")
        }
        Trouble::Io(_) => (ConnectErrorKind::Unreachable, "is the network up?"),
        Trouble::Bad(_) => (ConnectErrorKind::Protocol, "is that a name server?"),
        Trouble::Code(ResponseCode::ServFail) => (
            ConnectErrorKind::Unreachable,
            "the name's own servers are down, or its DNSSEC signatures are wrong: ask another server",
        ),
        Trouble::Code(ResponseCode::Refused) => (
            ConnectErrorKind::Refused,
            "the name server does not serve us, or not that name: ask another one",
        ),
        Trouble::Code(_) => (ConnectErrorKind::Protocol, "ask another name server"),
    }
}
