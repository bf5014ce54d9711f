//! A name server that does as the test says, on UDP and TCP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// What is sent for a query: messages, in this order.
pub(crate) type Script = Arc<dyn Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    pub(crate) async fn new(script: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).await.expect("the same port");
        let mut tasks = JoinSet::new();
        let see = {
            let seen = seen.clone();
            move |bytes: &[u8], over| {
                let query = Message::from_vec(bytes).expect("a query");
                let asked = &query.queries[0];
                seen.lock()
                    .expect("nobody panicked")
                    .push(format!("{} {} {over:?}", asked.name, asked.query_type));
                script(&query, over)
            }
        };
        let see_udp = see.clone();
        tasks.spawn(async move {
            let mut datagram = [0; 1500];
            while let Ok((n, from)) = udp.recv_from(&mut datagram).await {
                for reply in see_udp(&datagram[..n], Over::Udp) {
                    let _ = udp.send_to(&reply, from).await;
                }
            }
        });
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((mut stream, _)) = tcp.accept().await {
                let see = see.clone();
                streams.spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut query = vec![0; length.into()];
                        stream.read_exact(&mut query).await.expect("a query");
                        let replies = see(&query, Over::Tcp);
                        if replies.is_empty() {
                            return;
                        }
                        for reply in replies {
                            stream.write_u16(reply.len() as u16).await.expect("write");
                            stream.write_all(&reply).await.expect("write");
                        }
                    }
                });
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    /// What was asked so far, sorted.
    pub(crate) fn seen(&self) -> Vec<String> {
        let mut seen = self.seen.lock().expect("nobody panicked").clone();
        seen.sort();
        seen
    }
}

pub(crate) fn kind(query: &Message) -> RecordType {
    query.queries[0].query_type
}

pub(crate) fn empty(query: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.metadata.response_code = code;
    message.add_query(query.queries[0].clone());
    message
}

/// `192.0.2.1` or `2001:db8::1`, whichever was asked for.
pub(crate) fn address(query: &Message, ttl: u32) -> Message {
    let data = match kind(query) {
        RecordType::A => RData::A(A::new(192, 0, 2, 1)),
        _ => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    let mut message = empty(query, ResponseCode::NoError);
    message.add_answer(Record::from_rdata(query.queries[0].name.clone(), ttl, data));
    message
}

pub(crate) fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message")
}
