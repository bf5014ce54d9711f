//! `tuyau ping`.

use std::time::Duration;

use tuyau::Uri;
use tuyau::report::{Candidate, ReadOutcome, Report};

use crate::app::App;
use crate::cli::Connecting;
use crate::confirm::confirmed;
use crate::exit::Failure;
use crate::output::{Took, Visible, wrapped};
use crate::route::{Routed, route_to, way_to};
use crate::signals::{self, Signals};
use crate::stats::Summary;
use crate::told::{self, told};

pub(crate) async fn run(
    app: &App,
    uri: &str,
    connecting: &Connecting,
    count: Option<u64>,
    interval: Duration,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let asked = uri;
    let Routed { uri, ctx, .. } = route_to(asked, connecting)?;
    let title = way_to(&shown_of(asked, &uri), &uri);
    app.out.line(format_args!("ping {}", Visible(&title)))?;
    // An address needs no lookup, and what it takes to see that is not worth a line.
    let named = uri.host().is_some_and(|host| host.parse::<std::net::IpAddr>().is_err());
    let mut tally = Tally::default();
    let mut details = Vec::new();
    let pinging = async {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_nanos(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while count.is_none_or(|count| tally.tried < count) {
            if !interval.is_zero() {
                ticks.tick().await;
            }
            tally.tried += 1;
            let seq = tally.tried;
            let report = match uri.connect_in(&ctx).await {
                Ok(resolved) => confirmed(&uri, resolved).await,
                Err(tuyau::Error::Connect(error)) => error.report(),
                Err(error) => return Err(error.into()),
            };
            let winner = report.winner.and_then(|winner| report.candidates.get(winner));
            if winner.is_none() && signals::has_come() {
                app.out.tell(wrapped(&told::report(report), &std::io::stderr()));
                break;
            }
            app.show(&report);
            let Some(winner) = winner else {
                tally.failed += 1;
                app.out.line(format_args!("seq={seq} {}", told(report.summary().to_string())))?;
                continue;
            };
            // What was agreed on, once, as long as it stays so.
            let agreed = detailed(winner);
            if agreed != details {
                agreed.iter().try_for_each(|detail| app.out.line(Visible(detail)))?;
                details = agreed;
            }
            let (steps, total) = steps(&report, winner, named);
            let words: Vec<_> = steps.iter().map(|(name, took)| format!("{name} {}", Took(*took))).collect();
            app.out.line(format_args!(
                "{}: seq={seq} {}: {}",
                Visible(winner.endpoint.as_deref().unwrap_or("?")),
                words.join(", "),
                Took(total)
            ))?;
            tally.add(steps, total);
        }
        Ok(())
    };
    match signals.end(pinging).await {
        Ok(()) | Err(Failure::Signal(_)) => {}
        Err(failure) => return Err(failure),
    }
    tally.print(app, &Visible(&title).to_string())?;
    if tally.total.is_empty() { Err(Failure::Told) } else { Ok(()) }
}

/// What was asked for, as it may be shown: a URL of HTTP is not the URI that it comes to.
fn shown_of(asked: &str, uri: &Uri) -> String {
    #[cfg(feature = "web")]
    if crate::web::is_url(asked) {
        return crate::masked::masked(asked);
    }
    let _ = asked;
    uri.to_string()
}

/// What was measured, step by step.
#[derive(Debug, Default)]
struct Tally {
    tried: u64,
    failed: u64,
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

    fn print(&self, app: &App, title: &str) -> Result<(), Failure> {
        let Self { tried, failed, total, .. } = self;
        let connected = total.len() as u64;
        let interrupted = match tried - connected - failed {
            0 => "",
            _ => ", 1 interrupted",
        };
        let lost = match connected + failed {
            // It is not known what would have become of it.
            0 => String::new(),
            ended => format!(", {}% failed", 100 * failed / ended),
        };
        app.out.line(format_args!(
            "\n--- {title} ---\n{tried} tried, {connected} connected{interrupted}{lost}"
        ))?;
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

/// `tls db.test: TLS 1.3, …`, of each step that tells more.
fn detailed(winner: &Candidate) -> Vec<String> {
    let told = winner.hops.iter().filter_map(|hop| hop.detail.as_ref().map(|detail| (hop, detail)));
    told.map(|(hop, detail)| format!("{} {}: {detail}", hop.name, hop.address)).collect()
}

/// What the winner took: the lookup, other derivations that ran for it and each hop, or the connection itself if
/// there is none; and how long all of it took.
fn steps(report: &Report, winner: &Candidate, named: bool) -> (Vec<(String, Duration)>, Duration) {
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
    let connecting = ended.saturating_sub(started.max(derived));
    if winner.hops.is_empty() {
        steps.push(("connect".into(), connecting));
    }
    for hop in &winner.hops {
        let (Some(Ok(())), Some(took)) = (&hop.outcome, hop.took) else { continue };
        let name = |nth: usize| if nth == 1 { hop.name.clone() } else { format!("{} #{nth}", hop.name) };
        let free = (1..).map(name).find(|name| steps.iter().all(|(known, _)| known != name));
        steps.extend(free.map(|name| (name, took)));
    }
    (steps, derived + connecting)
}
