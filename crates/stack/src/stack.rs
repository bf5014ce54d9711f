//! The stack as a net.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use smoltcp::iface::{self, Interface};
use smoltcp::socket::tcp::State as TcpState;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress};
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Flow, Listener, Many, Net, Policy, SharedNet,
    SharedRuntime, Target,
};

use crate::config::{Config, cidr};
use crate::core::{Core, On, Owner};
use crate::device::{Device, Medium, Phy};
use crate::driver::{Driver, smol};
use crate::error;
use crate::flow::TcpFlow;
use crate::link::Loopback;
use crate::listener::{Bound, TcpListener};
use crate::lookup;

/// TCP/IP in user space, over one packet device: a [`Net`].
///
/// * `connect` dials an IP address through the device, or through memory if it is the stack's own (or `127.0.0.1` or
///   `::1`, which are the stack's as well, and not the host's); or a name, whose addresses it tries one after the
///   other. (In a context they are candidates, and race.)
/// * `listen` takes an address of the stack, `0.0.0.0`, or `[::]` for both families.
/// * `lookup` asks the stack's own [name servers](Config::name_server), through itself, for A and AAAA records of
///   the families that it has addresses of. It counts as a lookup on this machine, which a policy may forbid.
///
/// Its policy is asked about each address dialled. Socket options of the host's transports mean nothing here, and
/// are not read; [`Config`] has the stack's.
///
/// Dropping a flow sends what was written and ends both sides, in the background. If bytes were left unread, or come
/// later, the peer is told by a reset, as the host's stack does.
///
/// One task of the [`Runtime`](tuyau_core::Runtime) drives it. The task ends, and drops the device, once the stack, its
/// clones, flows and listeners are all gone and what was written is sent, or given up after the
/// [timeout](Config::timeout). Cloning is cheap, and gives the same stack.
#[derive(Clone)]
pub struct Stack {
    wire: Arc<Owner>,
    /// What the stack says to itself; made when it first does.
    itself: Arc<OnceLock<Arc<Owner>>>,
}

impl Stack {
    /// A stack over `device`, driven by a task of `runtime`.
    ///
    /// Fails if `config` makes no sense ([`Misuse`](ConnectErrorKind::Misuse)) or if the system gives no randomness
    /// ([`Environment`](ConnectErrorKind::Environment)).
    pub fn new(config: Config, device: impl Device, runtime: SharedRuntime) -> Result<Self, ConnectError> {
        config.check()?;
        if !(1280..=65535).contains(&device.mtu()) {
            let what = format!("a packet device with an MTU of {} bytes", device.mtu());
            return Err(
                ConnectError::new(ConnectErrorKind::Misuse, what).with_hint("1280 to 65535 is possible")
            );
        }
        let seed = match config.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|source| {
                ConnectError::new(ConnectErrorKind::Environment, "the system's source of randomness")
                    .with_source(source)
            })?,
        };
        let wire = start(config, Box::new(device), runtime, seed)?;
        Ok(Self { wire, itself: Arc::new(OnceLock::new()) })
    }

    fn config(&self) -> &Config {
        &self.wire.0.config
    }

    /// What the stack says to itself goes through an interface of its own, in memory.
    fn itself(&self) -> Result<Arc<Owner>, ConnectError> {
        if let Some(itself) = self.itself.get() {
            return Ok(itself.clone());
        }
        let seed = self.wire.0.lock().random.u64(..);
        let mut config = Config { routes: Vec::new(), ..self.config().clone() };
        for (address, prefix) in &mut config.addresses {
            *prefix = if address.is_ipv4() { 32 } else { 128 };
        }
        config.addresses.insert(0, (Ipv4Addr::LOCALHOST.into(), 8));
        config.addresses.insert(1, (Ipv6Addr::LOCALHOST.into(), 128));
        let made = start(config, Box::new(Loopback::default()), self.wire.0.runtime.clone(), seed)?;
        // Another may have been as fast: then this one ends.
        Ok(self.itself.get_or_init(|| made).clone())
    }

    fn is_itself(&self, ip: IpAddr) -> bool {
        ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
            || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
            || self.config().is_own(ip)
    }

    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.wire
    }

    /// Dropping the future gives up, and resets what has begun.
    pub(crate) async fn dial(&self, address: SocketAddr) -> Result<Flow, ConnectError> {
        let remote = canonical(address);
        let (owner, local) = if self.is_itself(remote.ip()) {
            (self.itself()?, Some(remote.ip()))
        } else if self.config().has_route(remote.ip()) {
            (self.wire.clone(), None)
        } else {
            return Err(error::no_route(remote));
        };
        let connection = owner.0.dial(remote, local)?;
        let flow = TcpFlow::new(owner, connection);
        let core = flow.core();
        std::future::poll_fn(|cx| {
            let mut state = core.lock();
            let failed = match state.stream(connection) {
                Some(socket) => match socket.state() {
                    TcpState::SynSent | TcpState::SynReceived => {
                        socket.register_send_waker(cx.waker());
                        return Poll::Pending;
                    }
                    state => state == TcpState::Closed,
                },
                None => false, // it has come and gone
            };
            if failed {
                let trouble = state.dead.as_ref().or(state.trouble.as_ref());
                return Poll::Ready(Err(error::connect(remote, state.fate(connection), trouble)));
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        Ok(Flow::new(flow))
    }

    async fn connect_address(&self, address: SocketAddr, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        cx.policy().check_address(Some(address.ip()))?;
        self.dial(address).await
    }

    async fn connect_name(&self, host: &str, port: u16, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let addresses = cx.hop("lookup", host, lookup::lookup(self, host, cx.policy())).await?;
        let mut failed = Vec::new();
        for ip in addresses {
            let address = SocketAddr::new(ip, port);
            match cx.hop("tcp", address, self.connect_address(address, cx)).await {
                Ok(flow) => return Ok(flow),
                Err(error) => failed.push((address, error)),
            }
        }
        Err(ConnectError::of_addresses(host, failed))
    }

    fn listen_on(&self, address: SocketAddr) -> Result<Listener, ConnectError> {
        let address = canonical(address);
        let on = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => On::AnyV4,
            IpAddr::V6(ip) if ip.is_unspecified() => On::Any,
            ip if self.is_itself(ip) => On::One(IpAddress::from(ip)),
            _ => return Err(error::not_here(address, &self.config().addresses)),
        };
        let bind = |owner: Arc<Owner>, port| {
            owner.0.listen(on, port).map(|(listener, port)| (Bound { owner, listener }, port))
        };
        // A loopback address is heard by the stack itself only, but its port is then taken on the wire as well.
        let in_use = || error::in_use(address);
        let (wire, port) = bind(self.wire.clone(), address.port()).ok_or_else(in_use)?;
        let (itself, _) = bind(self.itself()?, port).ok_or_else(in_use)?;
        let local = Target::Addr(SocketAddr::new(address.ip(), port));
        Ok(Listener::new(TcpListener { on: vec![wire, itself], local, turn: 0 }))
    }
}

/// An interface, and the task that drives it.
fn start(
    config: Config,
    device: Box<dyn Device>,
    runtime: SharedRuntime,
    seed: u64,
) -> Result<Arc<Owner>, ConnectError> {
    let hardware = match device.medium() {
        Medium::Ip => HardwareAddress::Ip,
        Medium::Ethernet { address } if address[0] & 1 == 0 => EthernetAddress(address).into(),
        Medium::Ethernet { .. } => {
            return Err(ConnectError::new(
                ConnectErrorKind::Misuse,
                "a packet device with a group's hardware address",
            ));
        }
    };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut settings = iface::Config::new(hardware);
    settings.random_seed = random.u64(..);
    let mut phy = Phy::new(device);
    let mut iface = Interface::new(settings, &mut phy, smol(runtime.now()));
    // Their number, and that the routers are neighbours, was checked.
    iface.update_ip_addrs(|addresses| {
        for address in &config.addresses {
            let _ = addresses.push(cidr(*address));
        }
    });
    iface.routes_mut().update(|routes| {
        for (network, router) in &config.routes {
            let (cidr, via_router) = (cidr(*network), IpAddress::from(*router));
            let _ = routes.push(iface::Route { cidr, via_router, preferred_until: None, expires_at: None });
        }
    });
    let core = Core::new(iface, config, runtime.clone(), random.u64(..));
    runtime.spawn(Box::pin(Driver::new(core.clone(), phy)));
    Ok(Arc::new(Owner(core)))
}

impl Net for Stack {
    fn describe(&self) -> String {
        let own: Vec<String> =
            self.config().addresses.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
        format!("stack {}", own.join(" "))
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        match target {
            Target::Addr(address) => Box::pin(self.connect_address(*address, cx)),
            Target::Name { host, port } => Box::pin(self.connect_name(host, *port, cx)),
            other => Box::pin(std::future::ready(Err(error::unsupported("connect to", other)))),
        }
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        match target {
            Target::Addr(address) => Box::pin(async move { self.listen_on(*address) }),
            Target::Name { host, port } => Box::pin(async move {
                let found = lookup::lookup(self, host, cx.policy()).await?;
                // The first that is the stack's own: a listener has one address.
                let own = found.iter().find(|ip| self.is_itself(**ip)).or(found.first());
                match own {
                    Some(ip) => self.listen_on(SocketAddr::new(*ip, *port)),
                    None => Err(error::unsupported("listen on", target)),
                }
            }),
            other => Box::pin(std::future::ready(Err(error::unsupported("listen on", other)))),
        }
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        Box::pin(async move { lookup::lookup(self, name, policy).await.map(Many::All) })
    }
}

impl From<Stack> for SharedNet {
    fn from(stack: Stack) -> Self {
        Arc::new(stack)
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({})", self.describe())
    }
}

/// An IPv4 address that came as an IPv6 one is what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
