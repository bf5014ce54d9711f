//! The resolver: which server is asked when, and what is remembered.

use std::fmt;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use tuyau_core::{ConnectError, ConnectErrorKind, Policy, SharedNet, SharedRuntime};

use crate::config::{Config, Random, Reach, Server};
use crate::exchange::{self, Trouble};
use crate::net::DnsNet;
use crate::pipe::Pipe;
use crate::wire::{self, Answer, Question};
use crate::{cache::Cache, error};

/// Lookups by DNS: a configuration, and a cache that lives as long as this and its clones.
///
/// An answer is kept for as long as its TTL says (at most a day); that there is no such name or record,
/// for as long as RFC 2308 says (at most three hours); without a TTL, not at all.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    config: Config,
    search: Vec<Name>,
    runtime: SharedRuntime,
    random: Random,
    cache: Cache,
}

impl Dns {
    /// Lookups as `config` says. `runtime` tells the time, for TTLs too.
    ///
    /// # Errors
    /// If there is no server, or a domain of the search list is no name.
    pub fn new(config: Config, runtime: SharedRuntime, random: Random) -> Result<Self, ConnectError> {
        if config.servers.is_empty() {
            return Err(ConnectError::new(ConnectErrorKind::Misuse, "lookups without a name server")
                .with_hint("name one, or use the system's resolver"));
        }
        let search =
            config.search.iter().map(|domain| error::parse_name(domain)).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Inner { config, search, runtime, random, cache: Cache::default() })))
    }

    /// A net that looks names up by DNS through `net`, by TCP, over a flow to each server that is kept
    /// for some seconds, and passes all else on to `net`.
    pub fn over(&self, net: SharedNet) -> DnsNet {
        DnsNet::new(self.clone(), net, false)
    }

    /// A net that looks names up by DNS, by UDP from this machine (or by TCP through `net` where an
    /// answer does not fit), and passes all else on to `net`: the host's own stack. Under any other net,
    /// these lookups would not go through it.
    pub fn on_host(&self, net: SharedNet) -> DnsNet {
        DnsNet::new(self.clone(), net, !self.0.config.tcp)
    }

    pub(crate) fn servers(&self) -> &[Server] {
        &self.0.config.servers
    }

    pub(crate) fn runtime(&self) -> &SharedRuntime {
        &self.0.runtime
    }

    pub(crate) fn random(&self) -> &Random {
        &self.0.random
    }

    /// The names that `name`, as somebody wrote it, may stand for, likeliest first.
    pub(crate) fn candidates(&self, name: &str) -> Result<Vec<Name>, ConnectError> {
        let as_it_is = error::parse_name(name)?;
        if name.ends_with('.') {
            return Ok(vec![as_it_is]);
        }
        let dots = u32::from(as_it_is.num_labels()).saturating_sub(1);
        let relative = as_it_is.clone();
        let completed = self.0.search.iter().filter_map(|domain| {
            let mut name = relative.clone();
            name.set_fqdn(false);
            // Too long a name is none.
            name.append_domain(domain).ok()
        });
        let mut names: Vec<Name> = completed.collect();
        let place = if dots >= self.0.config.ndots { 0 } else { names.len() };
        names.insert(place, as_it_is);
        Ok(names)
    }

    /// What the first server that knows says. Cancel safe.
    pub(crate) async fn answer(
        &self,
        question: &Question,
        over: &DnsNet,
        policy: &Policy,
    ) -> Result<Answer, ConnectError> {
        let Inner { config, search: _, runtime, random, cache } = &*self.0;
        policy.check_lookup(&question.to_string())?;
        if let Some(answer) = cache.get(question, runtime.now()) {
            return Ok(answer);
        }
        let first = if config.rotate { random.up_to(config.servers.len() as u32 - 1) as usize } else { 0 };
        let order = (first..config.servers.len()).chain(0..first);
        let mut troubles = Vec::new();
        for _ in 0..config.attempts.max(1) {
            for number in order.clone() {
                let server = &config.servers[number];
                let asked = self.ask(number, question, over, policy).await;
                match asked.and_then(|message| wire::read(question, message).map_err(Trouble::Code)) {
                    Ok((answer, ttl)) => {
                        cache.put(question.clone(), &answer, ttl, runtime.now());
                        return Ok(answer);
                    }
                    // What the policy forbids, no other server makes right; and one that may be an
                    // impostor is no reason to ask another, less protected.
                    Err(Trouble::Connect(error))
                        if matches!(
                            error.kind(),
                            ConnectErrorKind::Policy
                                | ConnectErrorKind::Verification
                                | ConnectErrorKind::Authentication
                        ) =>
                    {
                        return Err(error::ends_it(question, server, error));
                    }
                    Err(trouble) => troubles.push((server, trouble)),
                }
            }
        }
        Err(error::no_answer(question, config, troubles))
    }

    /// Asks one server, within its time.
    async fn ask(
        &self,
        number: usize,
        question: &Question,
        over: &DnsNet,
        policy: &Policy,
    ) -> Result<Message, Trouble> {
        let Inner { config, runtime, random, .. } = &*self.0;
        let server = &config.servers[number];
        let (mut strays, mut last) = (0, None);
        let asking = async {
            if let (Reach::At(address), true) = (&server.0, over.udp()) {
                policy.check_address(Some(address.ip())).map_err(|error| {
                    Trouble::Connect(Arc::new(
                        error.with_hint("the name servers must be in the allowed networks as well"),
                    ))
                })?;
                let message = exchange::udp(*address, question, random.id(), &mut strays).await?;
                if !message.metadata.truncation {
                    return Ok(message);
                }
            }
            loop {
                let open = || {
                    let (net, policy) = (over.net().clone(), policy.clone());
                    Pipe::open(server.clone(), net, policy, runtime, random.clone())
                };
                let (pipe, reused) = over.pipes().to(number, policy, open);
                last = Some(pipe.clone());
                match pipe.ask(question).await {
                    // Servers hang up when they like (RFC 7766 section 6.2.4).
                    Err(Trouble::Flow(_)) if reused => over.pipes().forget(&pipe),
                    answer => return answer,
                }
            }
        };
        tokio::select! {
            biased;
            answer = asking => return answer,
            () = runtime.sleep_until(runtime.now() + config.timeout) => {}
        }
        // It may be dead, and nobody told.
        if let Some(pipe) = last {
            over.pipes().forget(&pipe);
        }
        Err(Trouble::TimedOut { strays })
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn dns(search: &[&str], ndots: u32) -> Result<Dns, ConnectError> {
        let server = Server::at(SocketAddr::from(([127, 0, 0, 1], 53)));
        let search = search.iter().map(|domain| (*domain).to_owned()).collect();
        let config = Config { search, ndots, ..Config::new([server]) };
        Dns::new(config, tuyau_tokio::runtime(), Random::new(|| 0))
    }

    fn names(dns: &Dns, name: &str) -> Vec<String> {
        dns.candidates(name).unwrap().iter().map(Name::to_ascii).collect()
    }

    #[tokio::test]
    async fn names_are_completed_by_the_search_list() {
        let dns = dns(&["a.example", "b.example."], 1).unwrap();
        assert_eq!(names(&dns, "db"), ["db.a.example.", "db.b.example.", "db."]);
        assert_eq!(names(&dns, "db."), ["db."]);
        assert_eq!(names(&dns, "db.x"), ["db.x.", "db.x.a.example.", "db.x.b.example."]);
        assert_eq!(names(&dns, "bücher."), ["xn--bcher-kva."], "as international names are written");
        let dns = self::dns(&["a.example"], 2).unwrap();
        assert_eq!(names(&dns, "db.x"), ["db.x.a.example.", "db.x."]);
    }

    #[tokio::test]
    async fn nonsense_is_told_at_once() {
        assert_eq!(dns(&["a..b"], 1).unwrap_err().kind(), ConnectErrorKind::Misuse);
        let nobody = Dns::new(Config::new([]), tuyau_tokio::runtime(), Random::system());
        assert_eq!(nobody.unwrap_err().kind(), ConnectErrorKind::Misuse);
        let dns = dns(&[], 1).unwrap();
        for bad in ["", "a..b", &"x".repeat(64), &"abcdefg.".repeat(40)] {
            assert_eq!(dns.candidates(bad).unwrap_err().kind(), ConnectErrorKind::Misuse, "{bad}");
        }
    }
}
