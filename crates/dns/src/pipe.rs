//! Flows to name servers, each kept for a while and shared by the queries that come (RFC 7766 section 6.2.1).

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::sync::{mpsc, oneshot};
use tuyau_core::names::{POLICY, RUNTIME};
use tuyau_core::{
    ConnectCx, ConnectError, Context, Flow, FlowError, FlowErrorKind, Policy, SharedNet, SharedRuntime,
    Target,
};

use crate::config::{Random, Reach, Server};
use crate::exchange::Trouble;
use crate::wire::{Bad, Question};

/// How long a flow is kept that nobody asks anything over. A few seconds are what RFC 7766 section 6.2.3 has
/// in mind: servers have many clients.
const IDLE: Duration = Duration::from_secs(10);

/// The flows of one net. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Pipes(Arc<Mutex<Vec<Entry>>>);

/// What was dialled under one policy is not what another would have let pass.
struct Entry {
    server: usize,
    policy: Policy,
    pipe: Arc<Pipe>,
}

impl Pipes {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flow to a server, and whether there was one; else it is opened.
    pub(crate) fn to(
        &self,
        server: usize,
        policy: &Policy,
        open: impl FnOnce() -> Pipe,
    ) -> (Arc<Pipe>, bool) {
        let mut entries = self.entries();
        entries.retain(|entry| !entry.pipe.queries.is_closed());
        let found = entries.iter().find(|entry| entry.server == server && entry.policy == *policy);
        if let Some(entry) = found {
            return (entry.pipe.clone(), true);
        }
        let pipe = Arc::new(open());
        entries.push(Entry { server, policy: policy.clone(), pipe: pipe.clone() });
        (pipe, false)
    }

    /// Nobody else shall wait for this one.
    pub(crate) fn forget(&self, pipe: &Arc<Pipe>) {
        self.entries().retain(|entry| !Arc::ptr_eq(&entry.pipe, pipe));
    }
}

/// A flow to a server, or one that is being opened. Dropped, it is closed.
pub(crate) struct Pipe {
    queries: mpsc::UnboundedSender<Query>,
    _cut: oneshot::Sender<Infallible>,
}

struct Query {
    question: Question,
    answer: oneshot::Sender<Result<Message, Trouble>>,
}

impl Pipe {
    /// Opens it in a task of its own: whoever asks may be dropped or not polled, and others wait for it too.
    pub(crate) fn open(
        server: Server,
        net: SharedNet,
        policy: Policy,
        runtime: &SharedRuntime,
        random: Random,
    ) -> Self {
        let (queries, mut asked) = mpsc::unbounded_channel();
        let (cut, dropped) = oneshot::channel::<Infallible>();
        let (its_runtime, ctx) = (runtime.clone(), Context::new().with(&RUNTIME, runtime.clone()));
        let running = async move {
            match dial(&server, &net, &ctx.with(&POLICY, policy)).await {
                Ok(flow) => {
                    Driver { flow, random, unread: Vec::new(), waiting: HashMap::new() }
                        .run(&mut asked, &its_runtime)
                        .await
                }
                Err(error) => {
                    let error = Arc::new(error);
                    asked.close();
                    while let Some(query) = asked.recv().await {
                        let _ = query.answer.send(Err(Trouble::Connect(error.clone())));
                    }
                }
            }
        };
        runtime.spawn(Box::pin(async move {
            tokio::select! {
                _ = dropped => {}
                () = running => {}
            }
        }));
        Self { queries, _cut: cut }
    }

    /// Asks, beside whatever else is being asked. Cancel safe.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Message, Trouble> {
        let (answer, answered) = oneshot::channel();
        let hung_up = || Trouble::Flow(Arc::new(FlowErrorKind::UnexpectedEof.into()));
        let query = Query { question: question.clone(), answer };
        self.queries.send(query).map_err(|_| hung_up())?;
        answered.await.unwrap_or_else(|_| Err(hung_up()))
    }
}

async fn dial(server: &Server, net: &SharedNet, ctx: &Context) -> Result<Flow, ConnectError> {
    let cx = ConnectCx::new(ctx)?;
    match &server.0 {
        Reach::At(address) => net.connect(&Target::Addr(*address), &cx).await,
        Reach::Flow { name: _, ctx } => cx.resolve(ctx).await.map(|resolved| resolved.into_flow()),
    }
}

struct Driver {
    flow: Flow,
    random: Random,
    /// What came of the next message.
    unread: Vec<u8>,
    /// Who waits for the answer to which id.
    waiting: HashMap<u16, Query>,
}

impl Driver {
    async fn run(mut self, asked: &mut mpsc::UnboundedReceiver<Query>, runtime: &SharedRuntime) {
        let ended = loop {
            let nobody_waits = self.waiting.is_empty();
            let idle = async {
                match nobody_waits {
                    true => runtime.sleep_until(runtime.now() + IDLE).await,
                    false => pending().await,
                }
            };
            let going_on = tokio::select! {
                query = asked.recv() => match query {
                    Some(query) => self.send(query).await,
                    None => return,
                },
                message = receive(&mut self.flow, &mut self.unread) => message.and_then(|it| self.answer(it)),
                () = idle => return,
            };
            if let Err(trouble) = going_on {
                break trouble;
            }
        };
        asked.close();
        while let Some(query) = asked.recv().await {
            let _ = query.answer.send(Err(ended.clone().into()));
        }
        for (_, query) in self.waiting {
            let _ = query.answer.send(Err(ended.clone().into()));
        }
    }

    async fn send(&mut self, query: Query) -> Result<(), Ended> {
        let first = self.random.id();
        let free = (0..=u16::MAX).map(|n| first.wrapping_add(n)).find(|id| !self.waiting.contains_key(id));
        let request = match free {
            Some(id) => query.question.request(id).map(|request| (id, request)),
            None => Err(Bad("so many queries wait for it that there are no more numbers".into())),
        };
        match request {
            Ok((id, request)) => {
                // A name has at most 255 bytes.
                let length = (request.len() as u16).to_be_bytes();
                self.waiting.insert(id, query);
                // RFC 7766 section 8: both in one write.
                self.flow.write_all(&[&length, request.as_slice()].concat()).await.map_err(Ended::from)
            }
            Err(bad) => {
                let _ = query.answer.send(Err(bad.into()));
                Ok(())
            }
        }
    }

    /// Answers may come in any order (RFC 7766 section 6.2.1.1).
    fn answer(&mut self, message: Vec<u8>) -> Result<(), Ended> {
        let message = Message::from_vec(&message).map_err(|error| Ended::Bad(error.to_string()))?;
        let id = message.metadata.id;
        let Some(query) = self.waiting.remove(&id) else {
            return Err(Ended::Bad("the answer is not to this query".into()));
        };
        let answer = match query.question.is_answered_by(id, &message) {
            true => Ok(message),
            false => Err(Trouble::Bad("the answer is not to this query".into())),
        };
        // If nobody waits any more, it was asked in vain.
        let _ = query.answer.send(answer);
        Ok(())
    }
}

/// The next message. Cancel safe: what came of it stays in `unread`.
async fn receive(flow: &mut Flow, unread: &mut Vec<u8>) -> Result<Vec<u8>, Ended> {
    loop {
        let wanted = match unread.as_slice() {
            [high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if rest.len() == length {
                    let message = unread.split_off(2);
                    unread.clear();
                    return Ok(message);
                }
                length - rest.len()
            }
            some => 2 - some.len(),
        };
        let mut some = [0; 1024];
        let most = wanted.min(some.len());
        match flow.read(&mut some[..most]).await? {
            0 => return Err(Ended::from(FlowError::from(FlowErrorKind::UnexpectedEof))),
            n => unread.extend_from_slice(&some[..n]),
        }
    }
}

/// Why a flow is of no more use to anybody.
#[derive(Clone)]
enum Ended {
    Flow(Arc<FlowError>),
    Bad(String),
}

impl From<FlowError> for Ended {
    fn from(error: FlowError) -> Self {
        Self::Flow(Arc::new(error))
    }
}

impl From<Ended> for Trouble {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Flow(error) => Self::Flow(error),
            Ended::Bad(why) => Self::Bad(why),
        }
    }
}
