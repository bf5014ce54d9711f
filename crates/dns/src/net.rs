//! DNS on a net.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tuyau_core::names::NET;
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Key, Listener, Many, Net, Policy,
    SharedNet, Stop, Target,
};

use crate::Dns;
use crate::addresses;
use crate::pipe::Pipes;
use crate::wire::{Answer, Question};

/// The lookups that [`srv`](crate::srv) and [`https`](crate::https) use: [`DnsNet::bind`] binds it.
pub static DNS: Key<DnsNet> = Key::new("dns");

/// A net that looks names up by DNS, and passes all else on to the net below. Cheap to clone.
///
/// A flow to a *name* is one to the first of its addresses that connects; in a context, addresses are
/// candidates of their own, and race.
#[derive(Clone)]
pub struct DnsNet {
    dns: Dns,
    net: SharedNet,
    udp: bool,
    pipes: Pipes,
}

impl DnsNet {
    pub(crate) fn new(dns: Dns, net: SharedNet, udp: bool) -> Self {
        Self { dns, net, udp, pipes: Pipes::default() }
    }

    /// `ctx`, dialling and looking names up by this: it replaces [`NET`], and is bound to [`DNS`].
    pub fn bind(self, ctx: Context) -> Context {
        ctx.replace(&NET, Arc::new(self.clone())).replace(&DNS, self)
    }

    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Whether servers are asked by UDP, from this machine.
    pub(crate) fn udp(&self) -> bool {
        self.udp
    }

    /// What lies below.
    pub(crate) fn net(&self) -> &SharedNet {
        &self.net
    }

    pub(crate) fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    pub(crate) async fn answer(&self, question: &Question, policy: &Policy) -> Result<Answer, ConnectError> {
        self.dns.answer(question, self, policy).await
    }

    async fn connect_name(&self, host: &str, port: u16, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let mut addresses = cx.hop("lookup", host, addresses::lookup(self, host, cx.policy())).await?;
        let (mut unknown, mut failed) = (None, Vec::new());
        while let Some(ip) = next(&mut addresses).await {
            let address = match ip {
                Ok(ip) => SocketAddr::new(ip, port),
                Err(Stop::Fail(error)) => {
                    let what = format!("some addresses of `{host}`");
                    unknown
                        .get_or_insert(ConnectError::new(ConnectErrorKind::Other, what).with_source(error));
                    continue;
                }
                Err(Stop::Decline(_)) => continue,
            };
            match cx.hop("tcp", address, self.net.connect(&address.into(), cx)).await {
                Ok(flow) => return Ok(flow),
                Err(error) => failed.push((address, error)),
            }
        }
        Err(match unknown {
            Some(error) if failed.is_empty() => error,
            Some(error) => ConnectError::of_addresses(host, failed).with_source(error),
            None => ConnectError::of_addresses(host, failed),
        })
    }
}

async fn next(many: &mut Many<IpAddr>) -> Option<Result<IpAddr, Stop>> {
    match many {
        Many::All(all) if all.is_empty() => None,
        Many::All(all) => Some(Ok(all.remove(0))),
        Many::Stream(stream) => std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await,
    }
}

impl Net for DnsNet {
    fn describe(&self) -> String {
        let servers: Vec<_> = self.dns.servers().iter().map(ToString::to_string).collect();
        format!("{} with DNS by {}", self.net.describe(), servers.join(" and "))
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        match target {
            Target::Name { host, port } => Box::pin(self.connect_name(host, *port, cx)),
            _ => self.net.connect(target, cx),
        }
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        self.net.listen(target, cx)
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        Box::pin(addresses::lookup(self, name, policy))
    }
}

impl fmt::Debug for DnsNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsNet({}, {:?})", self.describe(), self.dns)
    }
}
