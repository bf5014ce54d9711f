//! One query to one server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::UdpSocket;
use tuyau_core::{ConnectError, Flow, FlowError};

use crate::wire::{Bad, Question};

/// What became of a query, where there is no answer to it.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// None came in time; so many came that were not to this query, or made no sense.
    TimedOut { strays: u32 },
    /// The server could not be reached.
    Connect(ConnectError),
    /// It hung up, or the connection broke.
    Flow(FlowError),
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

impl From<FlowError> for Trouble {
    fn from(error: FlowError) -> Self {
        Self::Flow(error)
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

/// Asks over a flow (RFC 7766 section 8: each message after its length, both in one write).
pub(crate) async fn stream(flow: &mut Flow, question: &Question, id: u16) -> Result<Message, Trouble> {
    let request = question.request(id)?;
    let length = u16::try_from(request.len()).map_err(|_| Bad("the query is too long".into()))?;
    flow.write_all(&[&length.to_be_bytes(), request.as_slice()].concat()).await?;
    let mut length = [0; 2];
    flow.read_exact(&mut length).await?;
    let mut response = vec![0; u16::from_be_bytes(length).into()];
    flow.read_exact(&mut response).await?;
    let message = Message::from_vec(&response).map_err(|error| Bad(error.to_string()))?;
    if !question.is_answered_by(id, &message) {
        return Err(Bad("the answer is not to this query".into()).into());
    }
    Ok(message)
}
