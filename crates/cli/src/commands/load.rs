//! `tuyau load`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use http::Method;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tuyau::ConnectError;
use tuyau::http::{Client, Error, RequestBuilder};

use crate::app::App;
use crate::exit::{Failure, in_a_line, joined};
use crate::masked::masked;
use crate::output::{Count, Took};
use crate::request::{Field, Message, overlay};
use crate::signals::{self, Signals};
use crate::table::Table;
use crate::told::told;
use crate::web::{Asked, Way, asked, said};

/// How long what is under way has after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// How a server is put under load.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// http://, https:// or http+unix://SOCKET/
    url: String,
    /// Send so many requests; 200 by default, and with -d as many as it takes
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// By so many clients at once, at most COUNT, each with a connection of its own
    #[arg(short = 'c', value_name = "CLIENTS", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// For so long
    #[arg(short = 'd', long, value_name = "SECS", value_parser = crate::cli::seconds)]
    duration: Option<Duration>,
    /// The method; by default GET, and POST with --data
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<Method>,
    /// Send this field, in place of a default one of its name; `Name:` leaves that out
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<Field>,
    /// Send DATA as the body, or with @FILE the file, as it is (@- standard input). Several are joined by &
    #[arg(long, value_name = "DATA")]
    data: Vec<String>,
    /// How long one request may take
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = crate::cli::seconds)]
    timeout: Duration,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way: Way,
}

/// Requests without -n and -d.
const REQUESTS: u64 = 200;

/// Times are kept to a thousandth of themselves.
const DIGITS: u8 = 3;

/// What came of it.
#[derive(Debug)]
struct Seen {
    /// Microseconds from the request to the end of its response.
    times: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<String, u64>,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    url: String,
    clients: u64,
    seconds: f64,
    requests: u64,
    failed: u64,
    requests_per_second: f64,
    bytes: u64,
    latency_ms: Option<Latency>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Latency {
    min: f64,
    mean: f64,
    stdev: f64,
    p50: f64,
    p75: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Asks until it is done, or a signal comes; then it sums up. It fails if any request did.
pub(crate) async fn run(app: &App, args: &LoadArgs, signals: &mut Signals) -> Result<(), Failure> {
    let LoadArgs { url, count, clients, duration, request, headers, data, timeout, json, way } = args;
    let mut message = Message::new(request.as_ref(), data).await?;
    overlay(&mut message.fields, headers);
    let message = Arc::new(message);
    let begun = Instant::now();
    let until = duration.and_then(|duration| begun.checked_add(duration));
    let left = count.or(duration.is_none().then_some(REQUESTS)).unwrap_or(u64::MAX);
    // More would have nothing to ask.
    let clients = left.min((*clients).into());
    let left = Arc::new(AtomicU64::new(left));
    let mut tasks = JoinSet::new();
    let (cut, _) = watch::channel(false);
    for _ in 0..clients {
        let Asked { url, client } = asked(app, url, way, false)?;
        let client = client.timeout(Some(*timeout));
        tasks.spawn(ask(client, url, message.clone(), left.clone(), until, cut.subscribe()));
    }
    let mut all = Seen::new()?;
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                Some(Ok(seen)) => all.add(seen?)?,
                Some(Err(_)) => return Err(Failure::Failed("a client ended by a bug of this program".into())),
                None => break,
            },
            _ = signals.next() => {
                // What is under way may end, as if it had been the last; a second signal ends it all.
                left.store(0, Relaxed);
                let ending = async {
                    if let Ok(ended) = timeout_at(Instant::now() + GRACE, drained(&mut tasks, &mut all)).await {
                        return ended;
                    }
                    cut.send_replace(true);
                    drained(&mut tasks, &mut all).await
                };
                match signals.end(ending).await {
                    Ok(()) => break,
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
    let summary = all.summary(url, clients, begun.elapsed());
    if *json {
        let json = serde_json::to_string_pretty(&summary)
            .map_err(|error| Failure::Failed(format!("the summary as JSON: {error}")))?;
        app.out.line(json)?;
    } else {
        app.out.print(told(summary.text()))?;
    }
    if summary.failed > 0 || summary.requests == 0 { Err(Failure::Told) } else { Ok(()) }
}

async fn drained(tasks: &mut JoinSet<Result<Seen, Failure>>, all: &mut Seen) -> Result<(), Failure> {
    while let Some(Ok(seen)) = tasks.join_next().await {
        all.add(seen?)?;
    }
    Ok(())
}

/// Waits until no request may go on.
async fn end(until: Option<Instant>, cut: &mut watch::Receiver<bool>) {
    let cut = cut.wait_for(|cut| *cut);
    match until {
        Some(until) => drop(timeout_at(until, cut).await),
        None => drop(cut.await),
    }
}

/// One client: a request after the other.
async fn ask(
    client: Client,
    url: String,
    message: Arc<Message>,
    left: Arc<AtomicU64>,
    until: Option<Instant>,
    mut cut: watch::Receiver<bool>,
) -> Result<Seen, Failure> {
    let mut seen = Seen::new()?;
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Relaxed, Relaxed, take).is_ok() {
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = one(message.to(&client, &url)) => answer,
            // What is cut off by the end is not counted.
            () = end(until, &mut cut) => break,
        };
        match answer {
            Ok((status, bytes)) => {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.times.record(micros.max(1)).map_err(|error| Failure::Failed(error.to_string()))?;
                *seen.statuses.entry(status).or_default() += 1;
                seen.bytes += bytes;
            }
            // It was cut off by the signal while it was being connected.
            Err(_) if signals::has_come() => break,
            Err(cause) => {
                *seen.failures.entry(cause).or_default() += 1;
                // Who is refused at once must not keep asking as fast as that goes.
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(seen)
}

/// The status and how many bytes the body had; or what failed.
async fn one(asking: RequestBuilder) -> Result<(u16, u64), String> {
    let response = asking.send().await.map_err(|error| cause(&error))?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| in_a_line(&error))?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok((status, bytes))
}

/// What failures are counted by: what went wrong last, where, and what to do about it.
fn cause(error: &Error) -> String {
    let Some(first) = error.resolution().and_then(|error| error.errors().next()) else {
        return joined(&said(error));
    };
    let line = in_a_line(first);
    match first.downcast_ref::<ConnectError>().and_then(ConnectError::hint) {
        // What a hop says may have it already.
        Some(hint) if !line.contains(hint) => format!("{line}; {hint}"),
        _ => line,
    }
}

impl Seen {
    fn new() -> Result<Self, Failure> {
        let times = Histogram::new(DIGITS).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { times, statuses: BTreeMap::new(), failures: BTreeMap::new(), bytes: 0 })
    }

    fn add(&mut self, other: Self) -> Result<(), Failure> {
        let Self { times, statuses, failures, bytes } = other;
        self.times.add(times).map_err(|error| Failure::Failed(error.to_string()))?;
        for (status, count) in statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (cause, count) in failures {
            *self.failures.entry(cause).or_default() += count;
        }
        self.bytes += bytes;
        Ok(())
    }

    fn summary(self, url: &str, clients: u64, took: Duration) -> Summary {
        let Self { times, statuses, failures, bytes } = self;
        let ms = |micros: u64| micros as f64 / 1e3;
        let at = |quantile| ms(times.value_at_quantile(quantile));
        let latency_ms = (!times.is_empty()).then(|| Latency {
            min: ms(times.min()),
            mean: times.mean() / 1e3,
            stdev: times.stdev() / 1e3,
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(times.max()),
        });
        let refused: u64 =
            statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, count)| count).sum();
        Summary {
            url: masked(url),
            clients,
            seconds: took.as_secs_f64(),
            requests: times.len(),
            failed: failures.values().sum::<u64>() + refused,
            requests_per_second: times.len() as f64 / took.as_secs_f64(),
            bytes,
            latency_ms,
            statuses,
            failures,
        }
    }
}

impl Summary {
    fn text(&self) -> String {
        let Self { url: _, clients, seconds, requests, failed, requests_per_second, bytes, .. } = self;
        let took = Took(Duration::from_secs_f64(*seconds));
        let mut text = format!(
            "{}, {} in {took}: {requests_per_second:.0} requests/s, {:.2} MB/s, {failed} failed\n",
            Count(*clients, "client"),
            Count(*requests, "response"),
            *bytes as f64 / seconds / 1e6,
        );
        if let Some(latency) = self.latency_ms {
            let Latency { min, mean, stdev, p50, p75, p90, p95, p99, p999, max } = latency;
            let mut table = Table::new(&["", "time"]);
            for (name, ms) in [
                ("min", min),
                ("50 %", p50),
                ("75 %", p75),
                ("90 %", p90),
                ("95 %", p95),
                ("99 %", p99),
                ("99.9 %", p999),
                ("max", max),
                ("mean", mean),
                ("stdev", stdev),
            ] {
                table.row([name.to_owned(), Took(Duration::from_secs_f64(ms / 1e3)).to_string()]);
            }
            text.push_str(&format!("\n{table}"));
        }
        text.push('\n');
        for (status, count) in &self.statuses {
            text.push_str(&format!("status {status}: {count}\n"));
        }
        for (cause, count) in &self.failures {
            text.push_str(&format!("{count} × {cause}\n"));
        }
        text
    }
}
