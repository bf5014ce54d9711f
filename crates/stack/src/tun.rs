//! TAP and TUN devices of Linux.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tuyau_core::{ConnectError, ConnectErrorKind};

use crate::device::{Device, Medium};

/// `IFNAMSIZ`, without the zero at the end.
const LONGEST: usize = 15;

/// A TAP or TUN device: packets to and from the host's own stack, or a bridge that the device is in.
///
/// It takes `CAP_NET_ADMIN` to make one, or one that was made for this user (`ip tuntap add tap0 mode tap user me`).
/// It lives on a tokio runtime. Setting the host's side up (its address, `ip link set … up`) is the host's business.
pub struct TunTap {
    device: tokio_tun::Tun,
    medium: Medium,
    mtu: usize,
}

impl TunTap {
    /// The device of that name for Ethernet frames (TAP), made if it is not there; an empty name lets the kernel choose
    /// one. `address` is the stack's own hardware address, not the host's.
    ///
    /// Panics outside of a tokio runtime, as tokio's own sockets do.
    pub fn tap(name: &str, address: [u8; 6]) -> Result<Self, ConnectError> {
        Self::open(name, Medium::Ethernet { address })
    }

    /// Likewise, for IP packets (TUN).
    pub fn tun(name: &str) -> Result<Self, ConnectError> {
        Self::open(name, Medium::Ip)
    }

    fn open(name: &str, medium: Medium) -> Result<Self, ConnectError> {
        // The kernel would be given a part of it, and make a device of that name.
        if name.len() > LONGEST || name.contains('\0') {
            let what = format!("open the packet device `{}`", name.escape_default());
            return Err(ConnectError::new(ConnectErrorKind::Misuse, what)
                .with_hint("the name of a network interface has at most 15 bytes"));
        }
        let builder = tokio_tun::Tun::builder().name(name);
        let builder = if medium == Medium::Ip { builder } else { builder.tap() };
        let failed = |error: tokio_tun::Error| {
            let source: io::Error = match error {
                tokio_tun::Error::NixError(number) => number.into(),
                tokio_tun::Error::IoError(error) => error,
            };
            ConnectError::new(ConnectErrorKind::Environment, format!("open the packet device `{name}`"))
                .with_source(source)
                .with_hint(
                    "it needs /dev/net/tun (`modprobe tun`), and CAP_NET_ADMIN or a device made for this user \
                     (`ip tuntap add … user …`) that nobody else has open",
                )
        };
        let mut devices = builder.close_on_exec().build().map_err(failed)?;
        let Some(device) = devices.pop() else {
            let what = format!("open the packet device `{name}`");
            return Err(ConnectError::new(ConnectErrorKind::Environment, what));
        };
        let mtu = device.mtu().map_err(failed)?;
        Ok(Self { device, medium, mtu: usize::try_from(mtu).unwrap_or(0) })
    }

    /// Its name: that which the kernel chose, if it was to.
    pub fn name(&self) -> &str {
        self.device.name()
    }
}

impl fmt::Debug for TunTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunTap")
            .field("name", &self.name())
            .field("medium", &self.medium)
            .finish_non_exhaustive()
    }
}

impl Device for TunTap {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(packet);
        ready!(Pin::new(&mut self.device).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        // The kernel takes it, or drops it as a wire would: there is no waiting.
        self.device.try_send(packet).map(drop)
    }
}
