//! One stage: the same client, whatever carries it.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tuyau::names::{DEADLINE, NET};
use tuyau::{Context, Flow, Report, Target};

use super::rows::{Connect, Server, Stage};
use crate::commands::demo::Seen;
use crate::exit::in_a_line;
use crate::pingpong::{self, PingPongError};
use crate::route::typed;
use crate::stats::Summary;
use crate::via::parse_all;

/// How many pings are timed.
const PINGS: usize = 200;
/// How long lines are poured for the throughput.
const POURING: Duration = Duration::from_millis(200);
/// How much is poured before the clock is looked at.
const PORTION: u64 = 1024 * 1024;
/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long one stage may take.
const STAGE: Duration = Duration::from_secs(60);

/// What came of one stage.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The transports, outermost first.
    pub(super) stack: String,
    pub(super) uri: String,
    /// What is gone through, nearest first.
    pub(super) via: Vec<String>,
    /// The endpoint that connected.
    pub(super) resolved: String,
    /// What the server saw.
    pub(super) server: Seen,
    pub(super) connect_ms: Option<f64>,
    pub(super) rtt: Option<Summary>,
    /// Bytes per second, each way at the same time.
    pub(super) throughput: Option<f64>,
    /// `None`: this machine does not have it.
    pub(super) ok: Option<bool>,
    /// Why it is not ok.
    pub(super) why: Option<String>,
}

impl Row {
    /// What was resolved to, where there is little room: of a command, its name and first words.
    pub(super) fn short(&self) -> String {
        const WORDS: usize = 4;
        if !matches!(&*self.stack, "exec" | "sh") {
            return self.resolved.clone();
        }
        let words: Vec<_> = self.resolved.split(' ').collect();
        let name = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let some = words.iter().skip(1).take(WORDS - 1).map(|word| format!(" {word}")).collect::<String>();
        format!("{name}{some}{}", if words.len() > WORDS { " …" } else { "" })
    }
}

/// Runs `stage` to its end. The report too, if it was connected.
pub(super) async fn measure(stage: &Stage, ctx: &Context) -> (Row, Option<Report>) {
    let mut row = Row { name: stage.name, ..Row::default() };
    if let Some(why) = stage.absent {
        row.why = Some(why.into());
        return (row, None);
    }
    let mut report = None;
    let result = tokio::time::timeout(STAGE, stage.run(ctx, &mut row, &mut report)).await;
    let result = result.unwrap_or_else(|_| Err(format!("it took more than {STAGE:?}")));
    row.ok = Some(result.is_ok());
    row.why = result.err();
    (row, report)
}

impl Stage {
    async fn run(&self, ctx: &Context, row: &mut Row, report: &mut Option<Report>) -> Result<(), String> {
        match &self.server {
            Server::Program { connect, seen } => {
                self.visit(connect, ctx, row, report).await?;
                let lines =
                    std::fs::read_to_string(seen).map_err(|error| format!("what the server saw: {error}"))?;
                row.server = serde_json::from_str(lines.lines().next().unwrap_or_default())
                    .map_err(|error| format!("what the server saw: {error}"))?;
                Ok(())
            }
            Server::Here { listen, connect, options } => {
                let (there, here) = match self.nets.clone() {
                    Some((there, here)) => {
                        (ctx.clone().replace(&NET, there), ctx.clone().replace(&NET, here))
                    }
                    None => (ctx.clone(), ctx.clone()),
                };
                let uri =
                    typed(listen).map_err(|failure| failure.message().unwrap_or_default().to_owned())?;
                let listener = uri.listen_in(&there).await.map_err(|error| in_a_line(&error))?;
                let local = listener.local();
                let without_options = listen.split('?').next().unwrap_or_default();
                let uri = match (connect, &local) {
                    (Connect::Host(host), Target::Addr(address)) => {
                        let scheme = without_options.split(':').next().unwrap_or_default();
                        format!("{scheme}://{host}:{}{options}", address.port())
                    }
                    _ => format!("{without_options}{options}"),
                };
                let (tell, told) = mpsc::channel();
                let serving = tuyau::serve(listener, move |flow: Flow| {
                    let _ = tell.send(Seen::of(&flow, &local.to_string()));
                    async move {
                        if let Err(error) = pingpong::handler(flow).await {
                            tracing::warn!("the server of the tour: {}", in_a_line(&error));
                        }
                    }
                });
                tokio::select! {
                    served = serving => return Err(format!("the server has ended: {served}")),
                    visited = self.visit(&uri, &here, row, report) => visited?,
                }
                row.server = told.try_recv().map_err(|_| "the server saw nobody")?;
                Ok(())
            }
        }
    }

    async fn visit(
        &self,
        uri: &str,
        ctx: &Context,
        row: &mut Row,
        report: &mut Option<Report>,
    ) -> Result<(), String> {
        visit(uri, &self.via, ctx, row, report).await
    }
}

/// The client.
async fn visit(
    uri: &str,
    hops: &[String],
    ctx: &Context,
    row: &mut Row,
    report: &mut Option<Report>,
) -> Result<(), String> {
    row.uri = uri.into();
    let mut uri = typed(uri).map_err(|failure| failure.message().unwrap_or_default().to_owned())?;
    for hop in parse_all(hops).map_err(|error| in_a_line(&error))? {
        row.via.push(hop.to_string());
        uri = uri.via(hop);
    }
    row.stack = uri.stack();
    let ctx = uri.apply(ctx.clone().with(&DEADLINE, CONNECTING)).map_err(|error| in_a_line(&error))?;
    let mut client = pingpong::client(&ctx).await.map_err(|error| in_a_line(&error))?;
    let report = report.insert(client.report());
    if let Some(winner) = report.winner.and_then(|winner| report.candidates.get(winner)) {
        row.resolved = winner.endpoint.clone().unwrap_or_default();
    }
    row.connect_ms = report.took.map(|took| took.as_secs_f64() * 1e3);
    let talk = async {
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let started = Instant::now();
            match client.ask(b"ping").await? {
                Some(answer) if answer == b"pong" => times.push(started.elapsed()),
                Some(_) => return Err(PingPongError::WrongAnswer),
                None => return Err(PingPongError::AnswerBrokeOff),
            }
        }
        row.rtt = Summary::of(&times);
        let (started, mut poured) = (Instant::now(), 0);
        while started.elapsed() < POURING {
            poured += client.pour(&[b'.'; 4094], PORTION).await?;
        }
        row.throughput = Some(poured as f64 / started.elapsed().as_secs_f64());
        // A server that ends badly says so here: a program by its exit status.
        let mut flow = client.close().await?;
        match flow.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(PingPongError::WrongAnswer),
        }
    };
    talk.await.map_err(|error: PingPongError| in_a_line(&error))
}
