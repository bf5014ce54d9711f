//! What every net must do.

pub mod net_checks;

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tuyau_core::names::NET;
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, Context, Flow, Listener, Many, Net, Policy, SharedNet, Target,
};

/// A net to be checked, and what it is to be asked.
pub struct NetCase {
    /// The net.
    pub net: SharedNet,
    /// Where it can listen, more than once: with a port that the net chooses, or a name of its own.
    pub listen: fn() -> Target,
    /// What configures it: the runtime at least.
    pub ctx: Context,
    /// A name that it looks up, if it looks names up.
    pub name: Option<&'static str>,
    /// A name that it finds nothing for.
    pub no_name: Option<&'static str>,
    /// What it can neither connect to nor listen on.
    pub unsupported: Target,
    /// What must live as long.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for NetCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetCase").field("net", &self.net).finish_non_exhaustive()
    }
}

/// A net that connects by one net, and listens on another: for those that can't listen themselves, but reach
/// what listens there.
#[derive(Debug)]
pub struct ListenOn {
    /// Connects, and looks names up.
    pub connects: SharedNet,
    /// Listens.
    pub listens: SharedNet,
}

impl Net for ListenOn {
    fn describe(&self) -> String {
        self.connects.describe()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        self.connects.connect(target, cx)
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        self.listens.listen(target, cx)
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        self.connects.lookup(name, policy)
    }
}

/// A net that counts the connections that it makes. Clones count together.
#[derive(Clone, Debug)]
pub struct CountingNet {
    net: SharedNet,
    made: Arc<AtomicUsize>,
}

impl CountingNet {
    /// Over `net`.
    pub fn new(net: SharedNet) -> Self {
        Self { net, made: Arc::default() }
    }

    /// How many connections came about.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// As the net of `ctx`.
    pub fn under(&self, ctx: Context) -> Context {
        ctx.replace(&NET, Arc::new(self.clone()))
    }
}

impl Net for CountingNet {
    fn describe(&self) -> String {
        self.net.describe()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            let connected = self.net.connect(target, cx).await;
            self.made.fetch_add(usize::from(connected.is_ok()), Ordering::SeqCst);
            connected
        })
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
        self.net.lookup(name, policy)
    }
}

/// Runs a check on a fresh case.
///
/// # Panics
/// If the check fails, or hangs for a minute.
pub async fn run_net<M, Fut, C>(make: M, check: C)
where
    M: Fn() -> Fut,
    Fut: Future<Output = NetCase>,
    C: Fn(NetCase) -> BoxFuture<'static, ()>,
{
    let one = async { check(make().await).await };
    assert!(tokio::time::timeout(Duration::from_secs(60), one).await.is_ok(), "hangs");
}
