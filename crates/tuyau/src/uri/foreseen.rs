//! What a policy is known to forbid before anything is looked up or connected.

use std::net::IpAddr;

use tuyau_core::names::POLICY;
use tuyau_core::{AnyEndpoint, ConnectCx, ConnectError, Context, Policy, Protection, Report, Target};

use super::{Uri, UriError};
use crate::Via;
use crate::schemes::{Names, Reach};

impl Uri {
    /// What [`connect_in`](Self::connect_in) would try, without any I/O: the [plan](Context::plan) of the context that
    /// this is [applied](Self::apply) to. Unlike that, it also tells what the policy is known to forbid further down, at
    /// which hop, and notes what is known only once names are looked up. `known` has the addresses of a host and port
    /// that `ctx` would not look up, if there are such.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn plan_in(
        &self,
        ctx: &Context,
        known: impl Fn(&str, Option<u16>) -> Vec<IpAddr>,
    ) -> Result<Report, UriError> {
        let mut report = self.apply(ctx.clone())?.plan();
        // If there is none that is a plain value, the plan says so.
        let Ok(Some(policy)) = ConnectCx::new(ctx).and_then(|cx| cx.get(&POLICY)) else { return Ok(report) };
        let mut foresight = Foresight { ctx, known: &known, unknown: Vec::new() };
        let foreseen = foresight.target(self, &self.hops, &policy)?;
        report.notes.append(&mut foresight.unknown);
        Ok(match foreseen {
            Ok(()) => report,
            Err(why) => report.refused(&why),
        })
    }
}

/// Follows the way as connecting does: what is farthest first.
struct Foresight<'a> {
    ctx: &'a Context,
    known: &'a dyn Fn(&str, Option<u16>) -> Vec<IpAddr>,
    unknown: Vec<String>,
}

type Foreseen = Result<(), ConnectError>;

impl Foresight<'_> {
    /// Whether `uri` may be dialled through `hops`.
    fn target(&mut self, uri: &Uri, hops: &[Via], policy: &Policy) -> Result<Foreseen, UriError> {
        let mut endpoints = Vec::new();
        uri.bind_telling(self.ctx.clone(), |endpoint| endpoints.push(endpoint))?;
        Ok(check(&endpoints, policy).and_then(|()| self.base(uri, hops, policy)))
    }

    fn base(&mut self, uri: &Uri, hops: &[Via], policy: &Policy) -> Foreseen {
        let (host, port) = (uri.host().unwrap_or_default(), uri.port().or(uri.default_port()));
        match uri.base().reach {
            Reach::Inside => Ok(()),
            Reach::Host => self.host(&host, port, hops, policy),
            Reach::Ssh => {
                policy.check_address(None)?;
                let below = policy.for_hop(Protection::Authenticated);
                below.check_offer(&tuyau_tokio::TCP)?;
                self.configured(&host, port, hops, &below)
            }
            Reach::Local => {
                policy.check_address(None)?;
                hops.split_last().map_or(Ok(()), |(hop, before)| self.hop(hop, before, policy))
            }
        }
    }

    /// Whether the host may be dialled through `hops`.
    fn host(&mut self, host: &str, port: Option<u16>, hops: &[Via], policy: &Policy) -> Foreseen {
        let literal = host.split('%').next().and_then(|ip| ip.parse::<IpAddr>().ok());
        let Some((hop, before)) = hops.split_last() else { return self.here(host, literal, port, policy) };
        match hop.scheme().names {
            Names::Here => self.here(host, literal, port, policy)?,
            Names::Program if literal.is_none() => policy.check_lookup_by(host, &hop.to_string())?,
            Names::Program => {}
            Names::There => {
                let port = port.unwrap_or_default();
                let target =
                    literal.map_or_else(|| Target::name(host, port), |ip| Target::Addr((ip, port).into()));
                policy.check_target(&target, &hop.to_string())?;
            }
        }
        self.hop(hop, before, policy)
    }

    /// Whether `hop` may be dialled through those `before` it.
    fn hop(&mut self, hop: &Via, before: &[Via], policy: &Policy) -> Foreseen {
        let reach = hop.scheme().reach;
        let (own, failed) = match reach {
            Reach::Inside => return Ok(()),
            Reach::Ssh => (Protection::Authenticated, "reached"),
            Reach::Local => (Protection::Clear, "used"),
            Reach::Host => (Protection::Clear, "reached"),
        };
        let policy = policy.for_hop(own);
        let (host, port) = (hop.host().unwrap_or_default(), hop.port());
        let endpoints = hop.endpoints(self.ctx);
        let forbidden = |error: ConnectError| error.clone().with_what(format!("forbidden: {error}"));
        let foreseen = check(&endpoints, &policy).map_err(forbidden).and_then(|()| match reach {
            Reach::Inside | Reach::Local => policy.check_address(None),
            Reach::Ssh => self.configured(&host, port, before, &policy),
            Reach::Host => self.host(&host, port, before, &policy),
        });
        foreseen.map_err(|error| {
            let outermost = endpoints.last().map(|endpoint| format!("{}: ", endpoint.key_ref().name()));
            let what = format!("{hop} can't be {failed}: {}{error}", outermost.unwrap_or_default());
            let hint = error.hint().unwrap_or_default().to_owned();
            ConnectError::new(error.kind(), what).with_hint(hint)
        })
    }

    /// Whether the host of an SSH server may be dialled, which OpenSSH's configuration may call by another name.
    fn configured(&mut self, host: &str, port: Option<u16>, hops: &[Via], policy: &Policy) -> Foreseen {
        #[cfg(feature = "ssh")]
        if hops.is_empty()
            && matches!(ConnectCx::new(self.ctx).and_then(|cx| cx.get(&crate::SSH_CONFIG)), Ok(Some(_)))
        {
            if host.parse::<IpAddr>().is_err() {
                self.unknown.push(format!(
                    "what the policy says to the way to {host}, the configuration of OpenSSH decides"
                ));
            }
            return Ok(());
        }
        self.host(host, port, hops, policy)
    }

    /// Whether the host may be looked up, and dialled by its address.
    fn here(&mut self, host: &str, literal: Option<IpAddr>, port: Option<u16>, policy: &Policy) -> Foreseen {
        let known = literal.map_or_else(|| (self.known)(host, port), |ip| vec![ip]);
        let mut refusals = known.iter().map(|ip| policy.check_address(Some(*ip)));
        match refusals.next() {
            Some(first) => refusals.fold(first, |all, next| all.or(next)),
            None => {
                policy.check_lookup(host)?;
                if policy.check_address(None).is_err() {
                    self.unknown.push(format!(
                        "whether an address of {host} is in a network that the policy allows can't be known before it \
                         is looked up"
                    ));
                }
                Ok(())
            }
        }
    }
}

/// Whether these, innermost first, may be dialled.
fn check(endpoints: &[&'static dyn AnyEndpoint], policy: &Policy) -> Foreseen {
    let Some((outermost, below)) = endpoints.split_last() else { return Ok(()) };
    policy.check_offer(*outermost)?;
    below.iter().rev().try_for_each(|endpoint| policy.check_protocol(endpoint.key_ref()))
}
