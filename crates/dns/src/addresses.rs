//! The addresses of a name, as they become known.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::Poll;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tuyau_core::{BoxFuture, ConnectError, Many, Policy, Stop};

use crate::error;
use crate::net::DnsNet;
use crate::wire::{Answer, Question};

/// The Resolution Delay of RFC 8305 section 8: how long IPv4 addresses that came first wait for IPv6.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// What became of one family's query.
type Outcome = Result<Answer, ConnectError>;
type Query = BoxFuture<'static, Outcome>;

/// The addresses of `name`, completed by the search list: once the first are known; those of the other
/// family follow.
///
/// Only what does not exist is passed over in the search list; a server that does not answer ends it, for
/// a name further down would be another host.
pub(crate) async fn lookup(net: &DnsNet, name: &str, policy: &Policy) -> Result<Many<IpAddr>, ConnectError> {
    if let Some(ip) = literal(name) {
        return Ok(Many::All(vec![ip]));
    }
    policy.check_lookup(name)?;
    let candidates = net.dns().candidates(name)?;
    if is_localhost(name) {
        return Ok(Many::All(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]));
    }
    let mut without_address = None;
    for candidate in &candidates {
        if let Some(error) = error::special(candidate) {
            return Err(error);
        }
        match of_both_families(net, candidate, policy).await? {
            Found::Addresses(many) => return Ok(many),
            Found::NoName => {}
            Found::NoData(alias) => {
                without_address.get_or_insert_with(|| error::no_address(candidate, alias.as_ref()));
            }
        }
    }
    Err(without_address.unwrap_or_else(|| error::no_name(name, &candidates)))
}

enum Found {
    Addresses(Many<IpAddr>),
    NoName,
    NoData(Option<Name>),
}

async fn of_both_families(net: &DnsNet, name: &Name, policy: &Policy) -> Result<Found, ConnectError> {
    let ask = |kind| -> Query {
        let (net, policy) = (net.clone(), policy.clone());
        let question = Question { name: name.clone(), kind };
        Box::pin(async move { net.answer(&question, &policy).await })
    };
    let (mut v6, mut v4) = (ask(RecordType::AAAA), ask(RecordType::A));
    let (first, is_v6) = tokio::select! {
        biased;
        v6 = &mut v6 => (v6, true),
        v4 = &mut v4 => (v4, false),
    };
    let mut other = if is_v6 { v4 } else { v6 };
    match first {
        // It has no records of any type, whatever becomes of the other query (RFC 8020).
        Ok(Answer::NoName) => Ok(Found::NoName),
        Ok(Answer::Records(records)) => {
            let mut ready = addresses(records);
            if !is_v6 {
                let delay = net.dns().runtime().now() + RESOLUTION_DELAY;
                tokio::select! {
                    biased;
                    v6 = &mut other => return Ok(Found::Addresses(both(v6, ready))),
                    () = net.dns().runtime().sleep_until(delay) => {}
                }
            }
            // Those that come later are a stream's, even if no more come.
            Ok(Found::Addresses(followed_by(std::mem::take(&mut ready), other)))
        }
        Ok(Answer::NoData(alias)) => match other.await? {
            Answer::Records(records) => Ok(Found::Addresses(Many::All(addresses(records).into()))),
            Answer::NoData(_) => Ok(Found::NoData(alias)),
            Answer::NoName => Ok(Found::NoName),
        },
        Err(error) => match other.await {
            Ok(Answer::Records(records)) => {
                Ok(Found::Addresses(followed_by(addresses(records), Box::pin(async { Err(error) }))))
            }
            Ok(Answer::NoName) => Ok(Found::NoName),
            // Whether the name has addresses of the family that failed can't be known.
            Ok(Answer::NoData(_)) => Err(error),
            Err(also) => {
                let what = format!("{error}; {also}");
                let hint = error.hint().map(str::to_owned);
                let both = ConnectError::new(also.kind(), what).with_source(error);
                Err(match hint {
                    Some(hint) => both.with_hint(hint),
                    None => both,
                })
            }
        },
    }
}

/// IPv4 addresses, behind what became of IPv6.
fn both(v6: Outcome, v4: VecDeque<IpAddr>) -> Many<IpAddr> {
    match v6 {
        Ok(Answer::Records(records)) => Many::All(addresses(records).into_iter().chain(v4).collect()),
        Ok(_) => Many::All(v4.into()),
        Err(error) => followed_by(v4, Box::pin(async { Err(error) })),
    }
}

/// Addresses that are known, and then what `rest` ends with.
fn followed_by(mut ready: VecDeque<IpAddr>, rest: Query) -> Many<IpAddr> {
    let mut rest = Some(rest);
    Many::poll_fn(move |cx| {
        loop {
            if let Some(ip) = ready.pop_front() {
                return Poll::Ready(Some(Ok(ip)));
            }
            let Some(query) = &mut rest else { return Poll::Ready(None) };
            let Poll::Ready(outcome) = query.as_mut().poll(cx) else { return Poll::Pending };
            rest = None;
            match outcome {
                Ok(Answer::Records(records)) => ready = addresses(records),
                Ok(Answer::NoData(_) | Answer::NoName) => {}
                Err(error) => return Poll::Ready(Some(Err(Stop::from(error)))),
            }
        }
    })
}

fn addresses(records: Vec<RData>) -> VecDeque<IpAddr> {
    let mut found = VecDeque::new();
    for record in records {
        let ip = match record {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        if !found.contains(&ip) {
            found.push_back(ip);
        }
    }
    found
}

/// An IP literal, without its zone (RFC 4007 section 11) if it has one.
fn literal(name: &str) -> Option<IpAddr> {
    match name.split_once('%') {
        Some((ip, _zone)) => ip.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

/// Such names never leave the host (RFC 6761 section 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}
