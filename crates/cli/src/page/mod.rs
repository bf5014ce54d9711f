//! A report as one self-contained page: when what was tried, and what came of what.
//!
//! It loads nothing and runs nothing: styles and drawing are inside, and its content policy forbids
//! the rest, as texts in it may come from a peer.

mod graph;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use tuyau::Report;
use tuyau::report::{Candidate, Outcome, ReadOutcome, safe, took};

/// `report` of what was asked for by `asked`.
pub(crate) fn page(asked: &str, report: &Report) -> String {
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let text = format!("{report:#}");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "tuyau explain " (safe(asked)) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header {
                    p.program { "tuyau explain" }
                    h1 { (safe(asked)) }
                    (verdict(report))
                }
                main {
                    section {
                        h2 { "What was tried, and when" }
                        (timeline::timeline(report))
                    }
                    section {
                        h2 { "Where it came from" }
                        p.hint { "What a candidate was made of, from left to right. Point at a box to see what it depends \
                            on, and what depends on it." }
                        (graph::graph(report))
                    }
                    @if !report.notes.is_empty() {
                        section {
                            h2 { "Notes" }
                            ul { @for note in &report.notes { li { (safe(note)) } } }
                        }
                    }
                    section {
                        details { summary { "The whole report, as text" } pre { (text.trim_end()) } }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn verdict(report: &Report) -> Markup {
    let winner = report.winner.and_then(|index| report.candidates.get(index));
    let time = report.took.map(|time| format!(" in {}", took(time))).unwrap_or_default();
    let (verdict, class) = match winner {
        Some(it) => (format!("connected by {}{time}", name(it)), Class::Good),
        None => (format!("nothing was connected{time}"), Class::Bad),
    };
    html! { p class={ "verdict " (class) } { (verdict) } }
}

/// How something ended, as the style sheet calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Good,
    Bad,
    /// Neither: it declined, or was not tried.
    Off,
    /// It was had, as most is.
    Plain,
}

impl maud::Render for Class {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Off => "off",
            Self::Plain => "plain",
        });
    }
}

impl Class {
    fn of_candidate(candidate: &Candidate) -> Self {
        match candidate.outcome {
            Outcome::Connected => Self::Good,
            Outcome::Failed(_) | Outcome::Refused(_) => Self::Bad,
            _ => Self::Off,
        }
    }

    fn of_read(outcome: &ReadOutcome) -> Self {
        match outcome {
            ReadOutcome::Failed(_) => Self::Bad,
            ReadOutcome::Value | ReadOutcome::Derived { .. } => Self::Plain,
            _ => Self::Off,
        }
    }

    fn of_hop(outcome: Option<&Result<(), String>>) -> Self {
        match outcome {
            Some(Ok(())) => Self::Good,
            Some(Err(_)) => Self::Bad,
            None => Self::Off,
        }
    }
}

/// `tls example.org:443`.
fn name(candidate: &Candidate) -> String {
    match &candidate.endpoint {
        Some(endpoint) => format!("{} {}", safe(candidate.key), safe(endpoint)),
        None => safe(candidate.key).to_string(),
    }
}

/// What became of a candidate, and what to do about it.
fn outcome(candidate: &Candidate) -> (String, Option<&str>) {
    let caused = |verb: &str, cause: &tuyau::report::Cause| format!("{verb}: {}", safe(&cause.what));
    match &candidate.outcome {
        Outcome::Connected => ("connected".into(), None),
        Outcome::Absent(cause) => (caused("was not tried", cause), cause.hint.as_deref()),
        Outcome::Failed(cause) => (caused("failed", cause), cause.hint.as_deref()),
        Outcome::Refused(cause) => (caused("forbidden", cause), cause.hint.as_deref()),
        Outcome::Cancelled => ("was under way when another connected, or ended it for all".into(), None),
        Outcome::NotTried => ("its turn did not come".into(), None),
        _ => ("would be tried".into(), None),
    }
}

#[cfg(test)]
mod tests {
    use tuyau::{ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, Key, Protocol, req};

    use super::*;

    /// Says what a hostile peer might.
    struct Hostile;

    impl Protocol for Hostile {
        type Endpoint = u32;
        type Flow = Flow;

        async fn connect(&self, _: u32, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
            let said = "<script>alert(1)</script>\u{202e}'\"><b>";
            let refused = || async { Err(ConnectError::new(ConnectErrorKind::Refused, said)) };
            cx.hop("<i>", "&amp;", refused()).await
        }
    }

    static HOSTILE: Endpoint<Hostile> = Endpoint::new("hostile", &Hostile);
    static MANY: Key<u32> = Key::new("many").shown();

    fn tried(candidates: u32) -> Report {
        let ctx = Context::new()
            .derive_many(&MANY, (), move |()| async move { Ok((0..candidates).collect::<Vec<_>>()) })
            .derive(&HOSTILE, req(&MANY), |which| async move { Ok(which) })
            .offer(&HOSTILE);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(ctx.explain())
    }

    #[test]
    fn what_a_peer_says_stays_text() {
        let page = page("tcp://<a>", &tried(1));
        assert!(page.contains("tcp://&lt;a&gt;") && page.contains("&lt;script&gt;alert(1)"), "{page}");
        for markup in ["<script", "<i>", "<b>", "\u{202e}"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        // Nothing is fetched: no address but the name of SVG, and no import.
        assert_eq!(page.matches("http").count(), 2, "the content policy's name, and that of SVG");
        assert!(!page.contains("@import") && !page.contains("url("));
    }

    #[test]
    fn a_large_report_is_drawn_as_far_as_it_is_a_picture() {
        let report = tried(64);
        assert_eq!(report.candidates.len(), 64);
        let page = page("x", &report);
        let boxes = page.matches(r#"class="node"#).count();
        assert!((100..=160).contains(&boxes), "{boxes} boxes");
        assert!(page.contains("more candidates are left out of the picture"));
    }
}
