//! Who was tried when: a bar for each candidate, and below it one for each step on its way.

use std::time::Duration;

use maud::{Markup, html};
use tuyau::Report;
use tuyau::report::{Candidate, Hop, safe, took};

use super::{Class, name, outcome};

/// More candidates than this are counted rather than shown.
const SHOWN: usize = 100;

pub(super) fn timeline(report: &Report) -> Markup {
    let end = report.candidates.iter().flat_map(ends).chain(report.took).max().unwrap_or_default();
    let scale = Scale(end.as_secs_f64().max(1e-6));
    let left_out = report.candidates.len().saturating_sub(SHOWN);
    html! {
        div.timeline {
            div.axis {
                span {}
                div.track { @for (at, label) in scale.ticks() { span style={ "left:" (at) "%" } { (label) } } }
            }
            @for candidate in report.candidates.iter().take(SHOWN) { (row(candidate, &scale)) }
            @if left_out > 0 { p.hint { "… and " (left_out) " more" } }
            @if report.candidates.is_empty() { p.hint { "There was no candidate." } }
        }
    }
}

fn row(candidate: &Candidate, scale: &Scale) -> Markup {
    let class = Class::of_candidate(candidate);
    let (became, hint) = outcome(candidate);
    html! {
        div class={ "candidate " (class) } {
            div.row {
                span.label title=(name(candidate)) { (name(candidate)) }
                (bar(scale, candidate.started, candidate.took, class))
            }
            @for hop in &candidate.hops {
                @let class = Class::of_hop(hop.outcome.as_ref());
                @let label = format!("{} {}", safe(&hop.name), safe(&hop.address));
                @let detail = hop.detail.as_deref().map(|detail| format!(": {}", safe(detail)));
                div class={ "row hop " (class) } {
                    span.label title={ (label) (detail.unwrap_or_default()) } { (label) }
                    (bar(scale, hop.started, hop.took, class))
                }
            }
            p.outcome { (became) @if let Some(hint) = hint { span.hint { (safe(hint)) } } }
        }
    }
}

fn bar(scale: &Scale, started: Option<Duration>, lasted: Option<Duration>, class: Class) -> Markup {
    html! {
        div.track {
            @if let (Some(started), Some(lasted)) = (started, lasted) {
                @let (left, width) = (scale.percent(started), scale.percent(lasted));
                span class={ "bar " (class) } style={ "left:" (left) "%;width:" (width) "%" } {}
                // Beside the bar, on the side that has room.
                @if left + width < 80.0 {
                    span.took style={ "left:" (left + width) "%" } { (took(lasted)) }
                } @else {
                    span.took.before style={ "right:" (100.0 - left) "%" } { (took(lasted)) }
                }
            }
        }
    }
}

fn ends(candidate: &Candidate) -> impl Iterator<Item = Duration> {
    let end = |started: Option<Duration>, took: Option<Duration>| Some(started? + took?);
    let hops = candidate.hops.iter().filter_map(move |hop: &Hop| end(hop.started, hop.took));
    hops.chain(end(candidate.started, candidate.took))
}

/// How many seconds are all of the width.
struct Scale(f64);

impl Scale {
    fn percent(&self, time: Duration) -> f64 {
        (time.as_secs_f64() / self.0 * 1e4).round() / 1e2
    }

    /// Some round times, and where they are in percent.
    fn ticks(&self) -> Vec<(f64, String)> {
        let magnitude = 10f64.powf((self.0 / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
        let step = step.into_iter().find(|step| self.0 / step <= 6.0).unwrap_or(self.0);
        let times = (0..).map(|tick| f64::from(tick) * step).take_while(|time| *time <= self.0);
        times
            .map(Duration::from_secs_f64)
            .map(|time| {
                (self.percent(time), if time.is_zero() { "0".into() } else { took(time).to_string() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |seconds| Scale(seconds).ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(0.0031), ["0", "1 ms", "2 ms", "3 ms"]);
        assert_eq!(labels(0.25), ["0", "50 ms", "100 ms", "150 ms", "200 ms", "250 ms"]);
        for seconds in [1e-6, 3e-5, 0.002, 0.7, 12.0, 3600.0] {
            assert!((2..=7).contains(&labels(seconds).len()), "{seconds}: {:?}", labels(seconds));
        }
    }
}
