//! One query to one server, by UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::UdpSocket;
use tuyau_core::{ConnectError, FlowError};

use crate::wire::{Bad, Question};

/// What became of a query, where there is no answer to it.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// None came in time; so many came that were not to this query, or made no sense.
    TimedOut { strays: u32 },
    /// The server could not be reached.
    Connect(Arc<ConnectError>),
    /// It hung up, or the connection broke. Others may have waited for it as well.
    Flow(Arc<FlowError>),
    /// The system could not send or receive.
    Io(io::Error),
    /// It answered nonsense.
    Bad(String),
    /// It answered that it won't, or can't.
    Code(ResponseCode),
}

impl From<Bad> for Trouble {
    fn from(bad: Bad) -> Self {
        Self::Bad(bad.0)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks by UDP, from a port that the system chooses at random. What does not answer this query is
/// counted in `strays`, and waited past: anybody can send it (RFC 5452 section 9.2).
pub(crate) async fn udp(
    server: SocketAddr,
    question: &Question,
    id: u16,
    strays: &mut u32,
) -> Result<Message, Trouble> {
    let request = question.request(id)?;
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // So that the system drops what others send.
    socket.connect(server).await?;
    socket.send(&request).await?;
    let mut datagram = vec![0; 65_535];
    loop {
        let n = socket.recv(&mut datagram).await?;
        match Message::from_vec(&datagram[..n]) {
            Ok(message) if question.is_answered_by(id, &message) => return Ok(message),
            _ => *strays += 1,
        }
    }
}
