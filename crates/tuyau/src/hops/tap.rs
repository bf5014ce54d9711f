//! A TCP/IP stack of our own on a TAP device (Linux).

use crate::Allow;
use crate::schemes::{BASE, Form, HopWiring, Names, Scheme, SchemeKind, Wiring};

pub(crate) const HOP: Scheme = Scheme {
    name: "tap",
    what: "a TCP/IP stack inside this process, on a TAP device",
    example: "tap:tap0?addr=10.0.0.2/24",
    kind: SchemeKind::Hop,
    feature: Some("tap"),
    available: cfg!(all(target_os = "linux", feature = "tap")),
    wants: Allow::ROUTE,
    form: Form::Name,
    names: Names::Here,
    own_options: wired::OPTIONS,
    wiring: Wiring::Hop(HopWiring { default_port: |_| 0, net: wired::net }),
    ..BASE
};

#[cfg(not(all(target_os = "linux", feature = "tap")))]
mod wired {
    pub(super) use crate::hops::absent as net;

    pub(super) const OPTIONS: &[crate::OptionInfo] = &[];
}

#[cfg(all(target_os = "linux", feature = "tap"))]
mod wired {
    use std::error::Error;
    use std::hash::{BuildHasher, RandomState};
    use std::io;
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use tuyau_core::names::RUNTIME;
    use tuyau_core::{
        BoxFuture, ConnectCx, ConnectError, Context, Flow, Key, Listener, Many, Net, Policy, SharedNet,
        SharedRuntime, Target,
    };
    use tuyau_stack::{Config, Stack, TunTap};

    use crate::uri::{Address, OPTION};
    use crate::{OptionInfo, Uri, UriError};

    static ADDRESSES: Key<Vec<(IpAddr, u8)>> = Key::new("tap-addresses");
    static GATEWAYS: Key<Vec<IpAddr>> = Key::new("tap-gateways");
    static NAME_SERVERS: Key<Vec<IpAddr>> = Key::new("tap-name-servers");

    const ANY: OptionInfo = OptionInfo { layer: Some("tap"), listens: true, ..OPTION };

    pub(super) const OPTIONS: &[OptionInfo] = &[
        OptionInfo {
            name: "addr",
            what: "the addresses of the stack, with the bits of their network, and commas between them; there is no \
                   default",
            example: "10.0.0.2/24",
            bind: |ctx, value| {
                Ok(ctx.with(&ADDRESSES, list(value, network).ok_or("like 10.0.0.2/24,fd00::2/64")?))
            },
            ..ANY
        },
        OptionInfo {
            name: "gw",
            what: "the routers to all other networks, with commas between them; none by default",
            example: "10.0.0.1",
            bind: |ctx, value| Ok(ctx.with(&GATEWAYS, list(value, |it| it.parse().ok()).ok_or("addresses")?)),
            ..ANY
        },
        OptionInfo {
            name: "dns",
            what: "the name servers that the stack asks, with commas between them; none by default",
            example: "10.0.0.1",
            bind: |ctx, value| {
                Ok(ctx.with(&NAME_SERVERS, list(value, |it| it.parse().ok()).ok_or("addresses")?))
            },
            ..ANY
        },
    ];

    fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        text.split(',').map(parse).collect()
    }

    fn network(text: &str) -> Option<(IpAddr, u8)> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
    }

    pub(super) fn net(uri: &Uri, outer: Context, _: bool) -> Result<SharedNet, UriError> {
        let cx = ConnectCx::new(&outer);
        let get = || -> Result<_, ConnectError> {
            let cx = cx?;
            Ok((cx.get(&ADDRESSES)?, cx.get(&GATEWAYS)?, cx.get(&NAME_SERVERS)?, cx.get(&RUNTIME)?))
        };
        let (addresses, gateways, servers, runtime) =
            get().map_err(|error| uri.unusable(&error.to_string()))?;
        let Some(addresses) = addresses else {
            return Err(uri.unusable("the address is missing: tap:NAME?addr=10.0.0.2/24"));
        };
        let Some(runtime) = runtime else { return Err(uri.unusable("the context has no runtime")) };
        let Address::Name(name) = &uri.address else { return Err(uri.unusable("a name is wanted here")) };
        let mut config = Config::new();
        for (address, bits) in addresses {
            config = config.address(address, bits);
        }
        config = gateways.into_iter().flatten().fold(config, Config::gateway);
        config = servers.into_iter().flatten().fold(config, Config::name_server);
        let tap =
            Tap { name: name.clone(), shown: uri.to_string(), config, runtime, stack: Mutex::default() };
        Ok(Arc::new(tap))
    }

    /// How long whoever has the device is waited for: a stack of before, whose connections end in the background.
    const BUSY: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(10);

    /// The device is opened when the stack is first used, and by whoever uses it first.
    struct Tap {
        name: String,
        shown: String,
        config: Config,
        runtime: SharedRuntime,
        stack: Mutex<Option<SharedNet>>,
    }

    impl Tap {
        async fn stack(&self) -> Result<SharedNet, ConnectError> {
            let until = self.runtime.now() + BUSY;
            loop {
                match self.try_stack() {
                    Err(error) if is_busy(&error) && self.runtime.now() < until => {
                        self.runtime.sleep_until(self.runtime.now() + PAUSE).await;
                    }
                    made => return made,
                }
            }
        }

        fn try_stack(&self) -> Result<SharedNet, ConnectError> {
            let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(stack) = &*stack {
                return Ok(stack.clone());
            }
            let device = TunTap::tap(&self.name, hardware_address())?;
            let made: SharedNet = Stack::new(self.config.clone(), device, self.runtime.clone())?.into();
            Ok(stack.insert(made).clone())
        }
    }

    /// Whether somebody else has the device open.
    fn is_busy(error: &ConnectError) -> bool {
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|source| source.kind() == io::ErrorKind::ResourceBusy)
    }

    /// At random, and marked as given out locally (IEEE 802).
    fn hardware_address() -> [u8; 6] {
        let [a, b, c, d, e, ..] = RandomState::new().hash_one("tap").to_le_bytes();
        [0x02, a, b, c, d, e]
    }

    impl Net for Tap {
        fn describe(&self) -> String {
            self.shown.clone()
        }

        fn connect<'a>(
            &'a self,
            target: &'a Target,
            cx: &'a ConnectCx<'_>,
        ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
            Box::pin(async move { self.stack().await?.connect(target, cx).await })
        }

        fn listen<'a>(
            &'a self,
            target: &'a Target,
            cx: &'a ConnectCx<'_>,
        ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
            Box::pin(async move { self.stack().await?.listen(target, cx).await })
        }

        fn lookup<'a>(
            &'a self,
            name: &'a str,
            policy: &'a Policy,
        ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
            Box::pin(async move { self.stack().await?.lookup(name, policy).await })
        }
    }
}
