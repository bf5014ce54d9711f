//! `tuyau ping`.

use std::time::Duration;

use tuyau::report::{Candidate, Report};

use crate::app::App;
use crate::cli::Connecting;
use crate::exit::Failure;
use crate::output::{Took, Visible};
use crate::route::{Routed, route};
use crate::signals::Signals;
use crate::stats::Summary;

pub(crate) async fn run(
    app: &App,
    uri: &str,
    connecting: &Connecting,
    count: Option<u64>,
    interval: Duration,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let Routed { uri, ctx } = route(uri, connecting, None)?;
    app.out.line(format_args!("ping {uri}"))?;
    // An address needs no lookup, and what it takes to see that is not worth a line.
    let named = uri.host().is_some_and(|host| host.parse::<std::net::IpAddr>().is_err());
    let mut tally = Tally::default();
    let pinging = async {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_nanos(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while count.is_none_or(|count| tally.tried < count) {
            if !interval.is_zero() {
                ticks.tick().await;
            }
            tally.tried += 1;
            let seq = tally.tried;
            match uri.connect_in(&ctx).await {
                Ok(mut resolved) => {
                    let report = resolved.report();
                    let _ = resolved.shutdown().await;
                    drop(resolved);
                    app.show(&report);
                    let steps = steps(&report, named);
                    let total = steps.iter().map(|(_, took)| *took).sum();
                    let to = winner(&report).and_then(|it| it.endpoint.as_deref()).unwrap_or("?");
                    let words: Vec<_> =
                        steps.iter().map(|(name, took)| format!("{name} {}", Took(*took))).collect();
                    app.out.line(format_args!(
                        "{}: seq={seq} {}: {}",
                        Visible(to),
                        words.join(", "),
                        Took(total)
                    ))?;
                    tally.add(steps, total);
                }
                Err(tuyau::Error::Connect(error)) => {
                    let report = error.report();
                    app.show(&report);
                    app.out.line(format_args!("seq={seq} {}", report.summary()))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    match signals.end(pinging).await {
        Ok(()) | Err(Failure::Signal(_)) => {}
        Err(failure) => return Err(failure),
    }
    tally.print(app, &uri.to_string())?;
    if tally.total.is_empty() { Err(Failure::Told) } else { Ok(()) }
}

/// What was measured, step by step.
#[derive(Debug, Default)]
struct Tally {
    tried: u64,
    total: Vec<Duration>,
    /// In the order in which they first came.
    steps: Vec<(String, Vec<Duration>)>,
}

impl Tally {
    fn add(&mut self, steps: Vec<(String, Duration)>, total: Duration) {
        self.total.push(total);
        for (name, took) in steps {
            match self.steps.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => times.push(took),
                None => self.steps.push((name, vec![took])),
            }
        }
    }

    fn print(&self, app: &App, uri: &str) -> Result<(), Failure> {
        let (tried, connected) = (self.tried, self.total.len() as u64);
        let lost = 100 * (tried - connected) / tried.max(1);
        app.out
            .line(format_args!("\n--- {uri} ---\n{tried} tried, {connected} connected, {lost}% failed"))?;
        let several = self.steps.len() > 1;
        let parts = self.steps.iter().filter(|_| several).map(|(name, times)| (name.as_str(), times));
        for (name, times) in parts.chain([("total", &self.total)]) {
            if let Some(summary) = Summary::of(times) {
                app.out.line(format_args!("{name} {summary}"))?;
            }
        }
        Ok(())
    }
}

fn winner(report: &Report) -> Option<&Candidate> {
    report.candidates.get(report.winner?)
}

/// What the winner took: the lookup, other derivations that ran for it, each hop, and what is left, which is
/// the connection itself.
fn steps(report: &Report, named: bool) -> Vec<(String, Duration)> {
    let Some(winner) = winner(report) else { return Vec::new() };
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let mut derived = Duration::ZERO;
    let mut left = winner.needs.clone();
    let mut met = Vec::new();
    while let Some(index) = left.pop() {
        let Some(read) = report.reads.get(index).filter(|_| !met.contains(&index)) else { continue };
        met.push(index);
        left.extend(&read.needs);
        let Some(took) = read.took else { continue };
        derived += took;
        let (name, worth_a_word) = match read.key {
            "ip" => ("lookup", named),
            other => (other, took >= Duration::from_millis(1)),
        };
        if worth_a_word {
            steps.insert(0, (name.into(), took));
        }
    }
    let started = winner.started.unwrap_or_default();
    let ended = started + winner.took.unwrap_or_default();
    // A candidate that came second shares the derivations of the first: they were over when it began.
    let mut rest = ended.saturating_sub(started.max(derived));
    for hop in &winner.hops {
        if let (Some(Ok(())), Some(took)) = (&hop.outcome, hop.took) {
            rest = rest.saturating_sub(took);
            steps.push((hop.name.clone(), took));
        }
    }
    steps.push(("connect".into(), rest));
    steps
}
