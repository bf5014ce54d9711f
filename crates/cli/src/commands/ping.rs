//! `tuyau ping`.

use std::time::Duration;

use tuyau::report::{Candidate, Hop, ReadOutcome, Report};

use crate::agreed;
use crate::app::App;
use crate::cli::Connecting;
use crate::exit::Failure;
use crate::output::{Took, Visible};
use crate::route::{Routed, route_to};
use crate::signals::{self, Signals};
use crate::stats::Summary;
use crate::told::told;

pub(crate) async fn run(
    app: &App,
    uri: &str,
    connecting: &Connecting,
    count: Option<u64>,
    interval: Duration,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let Routed { uri, ctx, .. } = route_to(uri, connecting)?;
    app.out.line(format_args!("ping {uri}"))?;
    // An address needs no lookup, and what it takes to see that is not worth a line.
    let named = uri.host().is_some_and(|host| host.parse::<std::net::IpAddr>().is_err());
    let mut tally = Tally::default();
    let mut notes = Vec::new();
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
                    let report = agreed::report(&resolved);
                    let _ = resolved.shutdown().await;
                    drop(resolved);
                    app.show(&report);
                    // What was agreed on, once, as long as it stays so.
                    if report.notes != notes {
                        notes.clone_from(&report.notes);
                        notes.iter().try_for_each(|note| app.out.line(Visible(note)))?;
                    }
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
                    if signals::has_come() {
                        tally.tried -= 1;
                        app.out.tell(told(report.without_places().to_string()).trim_end());
                        break;
                    }
                    app.show(&report);
                    app.out.line(format_args!("seq={seq} {}", told(report.summary().to_string())))?;
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

/// What the winner took: the lookup, other derivations that ran for it, each hop without those inside of it, and
/// what is left, which is the connection itself, or the handshake of the outermost layer.
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
            "ip" => ("lookup", named && matches!(read.outcome, ReadOutcome::Derived { .. })),
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
    for (index, hop) in winner.hops.iter().enumerate() {
        let Some((from, to)) = span(hop) else { continue };
        let inside = |other: &Hop| span(other).is_some_and(|(start, end)| from <= start && end <= to);
        let around = |other: &Hop| span(other).is_some_and(|(start, end)| start <= from && to <= end);
        // Each hop is inside of those that came before it in the list, if at the same times.
        if !winner.hops[..index].iter().any(around) {
            rest = rest.saturating_sub(to - from);
        }
        let mut own = to - from;
        let mut until = from;
        for (start, end) in winner.hops[index + 1..].iter().filter(|it| inside(it)).filter_map(span) {
            if start >= until {
                own = own.saturating_sub(end - start);
                until = end;
            }
        }
        match steps.iter_mut().find(|(name, _)| *name == hop.name) {
            Some((_, took)) => *took += own,
            None => steps.push((hop.name.clone(), own)),
        }
    }
    let (name, worth_a_word) = match winner.key {
        "tcp" => ("connect", winner.hops.is_empty()),
        _ if winner.hops.is_empty() => ("connect", true),
        layer => (layer, true),
    };
    if worth_a_word {
        steps.push((name.into(), rest));
    }
    steps
}

/// From when to when, if it ended well.
fn span(hop: &Hop) -> Option<(Duration, Duration)> {
    match (&hop.outcome, hop.started, hop.took) {
        (Some(Ok(())), Some(started), Some(took)) => Some((started, started + took)),
        _ => None,
    }
}
