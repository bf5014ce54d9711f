//! What stacks are made of, and what it can do.

use tuyau_testing::Abilities;

use Element::{
    Http, Microsocks, OpenSsl, ProxyProtocol, Rustls, Socks5, Socks5h, Ssh, Sshd, Stack, Tinyproxy, Ws,
};

/// A layer, or a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// A layer: TLS by rustls, both sides.
    Rustls,
    /// A layer: TLS by OpenSSL, both sides.
    OpenSsl,
    /// A layer: WebSocket.
    Ws,
    /// A layer: a PROXY protocol header in front.
    ProxyProtocol,
    /// A net: a SOCKS5 proxy, embedded; it is given addresses.
    Socks5,
    /// A net: a SOCKS5 proxy, embedded, with a password; it is given names, where there are any.
    Socks5h,
    /// A net: an HTTP proxy (CONNECT), embedded.
    Http,
    /// A net: an SSH server, embedded.
    Ssh,
    /// A net: TCP/IP in user space. Its packets go through memory if it is the nearest, else through a flow of
    /// what is below it.
    Stack,
    /// A net: OpenSSH's server.
    Sshd,
    /// A net: the SOCKS5 proxy microsocks.
    Microsocks,
    /// A net: the HTTP proxy tinyproxy.
    Tinyproxy,
}

/// What is in this process on both sides, so that stacks of it are made quickly.
const EMBEDDED: [Element; 9] = [Rustls, OpenSsl, Ws, ProxyProtocol, Socks5, Socks5h, Http, Ssh, Stack];

impl Element {
    /// Whether it is a net; else it is a layer.
    pub fn is_net(self) -> bool {
        !matches!(self, Rustls | OpenSsl | Ws | ProxyProtocol)
    }

    fn abilities(self) -> Abilities {
        match self {
            // They pass all on as it is.
            ProxyProtocol | Stack => Abilities::ALL,
            // A reset without a close_notify is a truncation, and so is a drop.
            Rustls | OpenSsl => Abilities { reset: false, drop_ends: false, ..Abilities::ALL },
            // A drop without a Close is a truncation, and what the frame had still to send is lost.
            Ws => Abilities { reset: false, drop_delivers: false, ..Abilities::ALL },
            // Who relays does not pass on that somebody hung up on bytes unread, but ends the flow.
            Socks5 | Socks5h | Http | Ssh | Sshd | Microsocks | Tinyproxy => {
                Abilities { reset: false, ..Abilities::ALL }
            }
        }
    }
}

/// What a flow through `stack` can do: what all of its elements can. But whoever relays turns the drop of what was
/// before it into an end, or the other way round: only the layers behind the last net count for that.
///
/// TCP resets a connection that is dropped with bytes unread, and throws away what it had not yet sent; and who drops
/// TLS may not have read the server's session tickets. By the loopback all is sent by then, as it happens; where
/// somebody relays, or a stack of one's own sends, it may not be.
pub fn abilities(stack: &[Element]) -> Abilities {
    let last_net = stack.iter().rposition(|element| element.is_net());
    let mut all = Abilities { large: 1024 * 1024, ..Abilities::ALL };
    for (at, element) in stack.iter().enumerate() {
        let Abilities { reset, drop_delivers, drop_ends, vectored, broken_pipe, large: _ } =
            element.abilities();
        all.reset &= reset;
        all.drop_delivers &= drop_delivers;
        all.drop_ends &= drop_ends || last_net.is_some_and(|net| at < net);
        all.vectored &= vectored;
        all.broken_pipe &= broken_pipe;
    }
    let is_tls = |layer: &Element| matches!(layer, Rustls | OpenSsl);
    all.drop_delivers &= !last_net.is_some_and(|net| stack[net..].iter().any(is_tls));
    all
}

/// The stack of three to five elements that belongs to `seed`.
pub fn random(seed: u64) -> Vec<Element> {
    let mut random = fastrand::Rng::with_seed(seed);
    let depth = random.usize(3..=5);
    (0..depth).map(|_| EMBEDDED[random.usize(..EMBEDDED.len())]).collect()
}
