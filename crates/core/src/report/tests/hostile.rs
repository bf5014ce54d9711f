//! Texts from peers must stay texts.

use alloc::format;
use alloc::string::{String, ToString};

use super::make::*;
use crate::report::{Candidate, Outcome, Read, Report};

/// Clears the screen, sets the title, forges a line, types over the line, ends a C1 sequence,
/// reorders text, hides some, breaks out of a DOT label and of an SVG.
const BANNER: &str = "\x1b[2J\x1b]0;pwned\x07\n> 2. tls: connected\r\0\u{9b}31m\u{202e}drowssap\u{200b}\" ]; x -> y; \\N &#27; </svg>\x7f";

fn everywhere() -> Report {
    let candidate = Candidate {
        needs: [0].into(),
        hops: [hop(BANNER, BANNER, Some(Err(BANNER)), 9)].into(),
        ..tcp(BANNER, failed(BANNER, BANNER))
    };
    let refused = tcp(BANNER, forbidden(BANNER));
    let read = Read { value: Some(BANNER.into()), ..value("banner", "", 3) };
    Report { notes: [BANNER.into()].into(), ..report([candidate, refused], &[read]) }
}

fn is_tame(c: char) -> bool {
    !c.is_control() && !"\u{9b}\u{202e}\u{200b}".contains(c)
}

#[test]
fn no_rendering_lets_control_characters_through() {
    let report = everywhere();
    let texts =
        [format!("{report}"), format!("{report:#}"), report.summary().to_string(), report.dot().to_string()];
    for text in texts {
        assert!(text.contains("pwned"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || is_tame(c)), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("> 2.")), "a peer forged a line:\n{text}");
    }
    check("hostile", &report);
}

#[test]
fn no_text_breaks_out_of_a_dot_label() {
    let dot = everywhere().dot().to_string();
    for line in dot.lines().filter(|line| line.contains("label=")) {
        // Inside the label every quote and every backslash is escaped: take the pairs out, and two quotes remain.
        let rest = line.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(rest.matches('"').count() % 2, 0, "{line}");
        let label = rest.split('"').nth(1).unwrap_or_default();
        assert!(!label.replace("\\n", "").contains('\\') && !label.contains("&#"), "{line}");
    }
    assert!(!dot.contains("\n  x -> y"));
}

#[cfg(feature = "serde")]
#[test]
fn json_is_tame_even_when_decoded() {
    let report = everywhere();
    let json = serde_json::to_string(&report).expect("JSON");
    assert!(json.chars().all(is_tame), "{json}");
    let decoded: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let note = decoded["notes"][0].as_str().expect("a note");
    assert!(note.chars().all(is_tame) && note.contains("pwned"), "{note}");
}

#[test]
fn an_endless_text_is_cut_but_for_who_asks_for_all() {
    let long: String = "x".repeat(1_000_000);
    let report = report([tcp("a:1", failed(&long, "hint"))], &[]);
    assert!(format!("{report}").len() < 1_000, "{report}");
    assert!(report.summary().to_string().contains("… 999,600 more characters"));
    assert!(report.dot().to_string().len() < 1_000);
    assert!(format!("{report:#}").len() > 1_000_000);
}

#[test]
fn indices_that_point_nowhere_and_loops_are_survived() {
    let lost = Candidate { needs: [0, 7, usize::MAX].into(), ..tcp("", Outcome::WouldDerive) };
    let reads = [
        derivation("a", crate::report::ReadOutcome::WouldRun, 1, &[1, 99]),
        derivation("b", crate::report::ReadOutcome::WouldRun, 2, &[0, 1]),
    ];
    let report = Report { winner: Some(5), ..report([lost], &reads) };
    let text = format!("{report}{report:#}{}{}", report.summary(), report.dot());
    assert!(text.contains("derives b (src/main.rs:2), then a (src/main.rs:1)"), "{text}");
    assert!(!text.contains("r99"), "{text}");
}
