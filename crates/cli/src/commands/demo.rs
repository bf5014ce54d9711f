//! `tuyau demo`: the ping-pong server and client of the tutorial.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tuyau::names::{LOCAL, PEER};
use tuyau::{Context, Flow, Uri};

use super::connect::stdio;
use super::listen::{listen, peer, until_signal};
use crate::app::App;
use crate::base;
use crate::cli::{Connecting, ServerTls};
use crate::exit::{Chain, Failure};
use crate::output::{Count, Took, Visible};
use crate::pingpong::{self, Client, Lines, PingPongError};
use crate::relay::tls_hint;
use crate::route::{Routed, route, to_listen, way};
use crate::signals::Signals;
use crate::stats::Summary;

/// What a connection looks like from the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub(crate) struct Seen {
    /// The listener, or this end of the flow where it knows better.
    pub(crate) listener: String,
    pub(crate) peer: String,
}

impl Seen {
    pub(crate) fn of(flow: &Flow, listener: &str) -> Self {
        let peer = flow.fact(&PEER).map(|peer| peer.to_string()).unwrap_or_default();
        let listener = match flow.fact(&LOCAL) {
            Some(local) => local.to_string(),
            None => listener.into(),
        };
        Self { listener, peer }
    }
}

pub(crate) async fn server(
    app: &App,
    uri: &str,
    seen: Option<PathBuf>,
    tls: &ServerTls,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let uri = to_listen(uri, Some(tls))?;
    let ctx = base::context(&uri)?.under(pingpong::defaults());
    let listener = listen(app, &uri, &ctx).await?;
    let local: Arc<str> = listener.local().to_string().into();
    let (out, verbose) = (app.out, app.verbose);
    let handler = move |flow: Flow| {
        let (seen, local) = (seen.clone(), local.clone());
        async move {
            let peer = peer(&flow);
            if verbose {
                out.tell(format_args!("connection from {peer}"));
            }
            if let Some(file) = seen
                && let Err(error) = note(&file, &Seen::of(&flow, &local))
            {
                out.error(format_args!("{}: {error}", file.display()));
            }
            match pingpong::handler(flow).await {
                Ok(lines) => {
                    tracing::info!(%peer, lines, "served");
                    if verbose {
                        out.tell(format_args!("{peer}: {} answered", Count(lines, "line")));
                    }
                }
                Err(error) => out.error(format_args!("{peer}: {}", Chain(&error))),
            }
        }
    };
    until_signal(app, listener, None, handler, signals).await
}

fn note(file: &std::path::Path, seen: &Seen) -> std::io::Result<()> {
    let mut line = serde_json::to_string(seen)?;
    line.push('\n');
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

pub(crate) async fn client(
    app: &App,
    uri: &str,
    connecting: &Connecting,
    count: Option<u64>,
) -> Result<(), Failure> {
    let Routed { uri, ctx: base, .. } = route(uri, connecting, Some(pingpong::DEFAULT_PORT))?;
    let ctx = uri.apply(base.clone())?;
    let client = pingpong::client(&ctx).await.map_err(|error| app.failed_to_connect(error.into()))?;
    app.show(&client.report());
    let asked = match count {
        Some(count) => pings(app, &uri, client, count).await,
        None => lines(app, &base, client).await,
    };
    asked.map_err(|failed| failed.at(&way(&uri)))
}

/// Why there are no more answers.
enum Failed {
    Here(Failure),
    There(PingPongError),
}

impl Failed {
    fn at(self, server: &str) -> Failure {
        let error = match self {
            Self::Here(failure) => return failure,
            Self::There(error) => error,
        };
        let hint = match &error {
            PingPongError::Flow(error) => tls_hint(error),
            _ => None,
        };
        let hint = hint.unwrap_or("does it speak ping-pong, as `tuyau demo server` does?");
        let said = format!("{server}: {}\n  {hint}", Chain(&error));
        match error {
            PingPongError::LineTooLong => Failure::Failed(said),
            _ => Failure::Broken(said),
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

impl From<PingPongError> for Failed {
    fn from(error: PingPongError) -> Self {
        Self::There(error)
    }
}

/// The tutorial's client: each line of the input, and its answer. `base` offers nothing yet.
async fn lines(app: &App, base: &Context, mut client: Client) -> Result<(), Failed> {
    let prompts = std::io::stdin().is_terminal();
    let escapes = std::io::stdout().is_terminal();
    let mut console = stdio(base).await?;
    let mut input = Lines::default();
    loop {
        if prompts {
            app.out.print("> ")?;
        }
        let line = match input.next(&mut console).await {
            Ok(Some(line)) => line,
            Ok(None) => match input.rest() {
                Some(rest) => rest.to_vec(),
                None => break,
            },
            Err(error) => {
                return Err(Failure::Failed(format!("standard input: {}", Chain(&error))).into());
            }
        };
        if !prompts {
            app.out.bytes(&shown("> ", &line, escapes))?;
        }
        let answer = client.ask(&line).await?.ok_or(PingPongError::NoAnswer)?;
        app.out.bytes(&shown("<- ", &answer, escapes))?;
    }
    if prompts {
        app.out.print("\n")?;
    }
    client.close().await?;
    Ok(())
}

/// A line to be printed: as it is, but on a terminal, which would act on what a peer put into it.
fn shown(mark: &str, line: &[u8], escapes: bool) -> Vec<u8> {
    let mut shown = mark.as_bytes().to_vec();
    match escapes {
        true => shown.extend_from_slice(Visible(&String::from_utf8_lossy(line)).to_string().as_bytes()),
        false => shown.extend_from_slice(line),
    }
    shown.push(b'\n');
    shown
}

async fn pings(app: &App, uri: &Uri, mut client: Client, count: u64) -> Result<(), Failed> {
    let mut times = Vec::new();
    let result = async {
        for _ in 0..count {
            let started = Instant::now();
            match client.ask(b"ping").await? {
                Some(answer) if answer == b"pong" => times.push(started.elapsed()),
                Some(_) => return Err(PingPongError::WrongAnswer),
                None => return Err(PingPongError::NoAnswer),
            }
        }
        Ok(())
    }
    .await;
    let report = client.report();
    let connected = report.took.map(|took| format!(", connected in {}", Took(took))).unwrap_or_default();
    let (sent, came) =
        (Count((times.len() as u64 + 1).min(count), "ping"), Count(times.len() as u64, "pong"));
    app.out.line(format_args!("{uri}: {sent}, {came}{connected}"))?;
    if let Some(summary) = Summary::of(&times) {
        app.out.line(format_args!("rtt {summary}"))?;
    }
    result?;
    client.close().await?;
    Ok(())
}
