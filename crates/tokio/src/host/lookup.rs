//! The system's resolver, on threads of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::{Semaphore, oneshot};
use tuyau_core::{ConnectError, ConnectErrorKind, Policy};

use crate::error::connect_error;
use crate::ip::literal;

/// Bounds the lookups that are under way.
#[derive(Clone, Debug)]
pub(crate) struct Lookups(Arc<Semaphore>);

impl Lookups {
    pub(crate) fn new(places: Arc<Semaphore>) -> Self {
        Self(places)
    }

    /// The addresses of `name`, each once. Cancel safe; the thread goes on until the system
    /// answers, and keeps its place until then.
    pub(crate) async fn lookup(&self, name: &str, policy: &Policy) -> Result<Vec<IpAddr>, ConnectError> {
        self.lookup_with(name, policy, system_lookup).await
    }

    async fn lookup_with(
        &self,
        name: &str,
        policy: &Policy,
        ask: impl FnOnce(&str) -> Result<Vec<IpAddr>, LookupError> + Send + 'static,
    ) -> Result<Vec<IpAddr>, ConnectError> {
        if let Some((ip, _zone)) = literal(name) {
            return Ok(vec![ip]);
        }
        policy.check_lookup(name)?;
        if name.is_empty() || name.contains('\0') {
            return Err(ConnectError::new(ConnectErrorKind::Misuse, what(name)).with_hint("that is no name"));
        }
        if is_localhost(name) {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let place = self.0.clone().acquire_owned().await.map_err(|error| gave_up(name, error))?;
        let (answer, answered) = oneshot::channel();
        let asked = name.to_owned();
        // Not tokio's blocking pool: a lookup can't be stopped, so it would take a place there,
        // and the runtime would wait for it when it shuts down.
        std::thread::Builder::new()
            .name("lookup".into())
            .spawn(move || {
                let result = ask(&asked);
                drop(place);
                let _ = answer.send(result);
            })
            .map_err(|error| connect_error(what(name), error))?;
        let found = answered.await.map_err(|error| gave_up(name, error))?;
        match found {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            Ok(_) => Err(not_found(name)),
            Err(error) => Err(explain(name, error)),
        }
    }
}

/// Names that mean the loopback addresses of both families, whatever the system's tables say of them
/// (RFC 6761 section 6.3): many have one family only.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn system_lookup(name: &str) -> Result<Vec<IpAddr>, LookupError> {
    // One socket type, else each address comes once per type.
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let mut addresses = Vec::new();
    for info in getaddrinfo(Some(name), None, Some(hints))? {
        let ip = info.map_err(LookupError::from)?.sockaddr.ip();
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

fn what(name: &str) -> String {
    format!("lookup of `{name}`")
}

fn not_found(name: &str) -> ConnectError {
    ConnectError::new(ConnectErrorKind::NotFound, what(name))
        .with_hint("there is no such name, or it has no address: check the spelling")
}

fn gave_up(name: &str, error: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Other, what(name)).with_source(error)
}

fn explain(name: &str, error: LookupError) -> ConnectError {
    let (kind, hint) = match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => {
            return not_found(name).with_source(std::io::Error::from(error));
        }
        LookupErrorKind::Again => (
            ConnectErrorKind::Unreachable,
            "the name servers did not answer: is the network up? is /etc/resolv.conf right?",
        ),
        LookupErrorKind::Fail => {
            (ConnectErrorKind::Unreachable, "the name servers refused, or answered nonsense")
        }
        LookupErrorKind::Memory | LookupErrorKind::System => {
            (ConnectErrorKind::Environment, "the system's resolver could not do its work")
        }
        _ => (ConnectErrorKind::Other, "the system's resolver failed"),
    };
    ConnectError::new(kind, what(name)).with_hint(hint).with_source(std::io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn lookups(max: usize) -> Lookups {
        Lookups::new(Arc::new(Semaphore::new(max)))
    }

    #[tokio::test]
    async fn literals_are_never_looked_up_whatever_the_policy() {
        let policy = Policy::new().no_local_lookup();
        let lookups = lookups(1);
        assert_eq!(lookups.lookup("::1", &policy).await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(lookups.lookup("localhost", &policy).await.unwrap_err().kind(), ConnectErrorKind::Policy);
    }

    #[tokio::test]
    async fn localhost_is_the_loopback_address_of_both_families() {
        let loopback: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        for name in ["localhost", "LocalHost.", "db.localhost"] {
            let never = move |_: &str| -> Result<_, LookupError> { panic!("{name} is not looked up") };
            assert_eq!(lookups(1).lookup_with(name, &Policy::new(), never).await.unwrap(), loopback);
        }
        assert!(!is_localhost("notlocalhost"));
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_not_found() {
        let error = explain("x.invalid", LookupError::new(-2));
        assert_eq!(error.kind(), ConnectErrorKind::NotFound);
        assert!(error.hint().is_some());
        let error = lookups(1).lookup("", &Policy::new()).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    }

    #[tokio::test]
    async fn a_hung_lookup_keeps_its_place_after_its_waiter_has_gone() {
        let lookups = lookups(1);
        let (let_go, hung) = mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let waiter = tokio::spawn({
            let lookups = lookups.clone();
            async move {
                let hang = move |_: &str| {
                    let _ = started.send(());
                    let _ = hung.recv();
                    Ok(Vec::new())
                };
                lookups.lookup_with("a", &Policy::new(), hang).await
            }
        });
        has_started.await.unwrap();
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        assert_eq!(lookups.0.available_permits(), 0);
        let policy = Policy::new();
        let next = lookups.lookup_with("b", &policy, |_| Ok(vec![Ipv4Addr::LOCALHOST.into()]));
        let let_go = async move { drop(let_go) };
        let (next, ()) = tokio::join!(next, let_go);
        assert_eq!(next.unwrap(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
