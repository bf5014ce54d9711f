//! What came of what: reads lead to candidates, and candidates to the steps on their way.

use std::collections::BTreeSet;
use std::fmt::Write;

use maud::{Markup, PreEscaped, html};
use rust_sugiyama::configure::{Config, RankingType};
use rust_sugiyama::from_vertices_and_edges;
use tuyau::Report;
use tuyau::report::{Candidate, Hop, Read, ReadOutcome, safe, took};

use super::{Class, outcome};

/// More nodes than this are no picture.
const SHOWN: usize = 160;
/// How many characters of a text a box shows; all of it when pointed at.
const CLIP: usize = 36;
/// About the width of a character, and the height of a box, in pixels.
const CHARACTER: f64 = 6.9;
const HEIGHT: f64 = 42.0;
/// Between boxes of a column, and, in addition, between columns.
const SPACE: f64 = 26.0;
const COLUMN: f64 = 50.0;

/// A box of the drawing.
struct Node {
    shape: &'static str,
    class: Class,
    title: String,
    /// The second line.
    line: String,
    /// All there is to say.
    tip: String,
    needs: Vec<usize>,
}

pub(super) fn graph(report: &Report) -> Markup {
    let shown = candidates_shown(report);
    let nodes = nodes(report, &shown);
    let drawing = draw(&nodes);
    let left_out = report.candidates.len() - shown.len();
    html! {
        div.graph { (PreEscaped(drawing)) }
        @if left_out > 0 { p.hint { (left_out) " more candidates are left out of the picture." } }
    }
}

/// As many candidates as a picture can bear, the winner before all others; in their order.
fn candidates_shown(report: &Report) -> Vec<usize> {
    let mut shown = Vec::new();
    let others = (0..report.candidates.len()).filter(|&index| report.winner != Some(index));
    for index in report.winner.into_iter().chain(others) {
        shown.push(index);
        let steps: usize = shown.iter().map(|&index| 1 + report.candidates[index].hops.len()).sum();
        if shown.len() > 1 && steps + reads_of(report, &shown).len() > SHOWN {
            shown.pop();
            break;
        }
    }
    shown.sort_unstable();
    shown
}

/// What these candidates read, directly or not; not many more than a picture can bear.
fn reads_of(report: &Report, candidates: &[usize]) -> BTreeSet<usize> {
    let mut reads = BTreeSet::new();
    let mut queue: Vec<_> = candidates.iter().flat_map(|&index| &report.candidates[index].needs).collect();
    while let Some(&index) = queue.pop() {
        if reads.len() <= SHOWN
            && let Some(read) = report.reads.get(index)
            && reads.insert(index)
        {
            queue.extend(&read.needs);
        }
    }
    reads
}

/// What the shown candidates read, then they and their steps.
fn nodes(report: &Report, shown: &[usize]) -> Vec<Node> {
    let wanted = reads_of(report, shown);
    let place = |read: &usize| wanted.iter().position(|it| it == read);
    let known = |needs: &[usize]| needs.iter().filter_map(place).collect::<Vec<_>>();
    let mut nodes: Vec<Node> = wanted
        .iter()
        .map(|&index| of_read(&report.reads[index], known(&report.reads[index].needs)))
        .collect();
    for &index in shown {
        let candidate = &report.candidates[index];
        nodes.push(of_candidate(candidate, known(&candidate.needs)));
        for hop in &candidate.hops {
            let before = nodes.len() - 1;
            nodes.push(of_hop(hop, vec![before]));
        }
    }
    nodes
}

fn of_read(read: &Read, needs: Vec<usize>) -> Node {
    let value = read.value.as_deref().map(|value| safe(value).to_string());
    let time = read.took.map(|time| format!(" in {}", took(time))).unwrap_or_default();
    let what = match &read.outcome {
        ReadOutcome::Value => "given".to_string(),
        ReadOutcome::Derived { of: 0 | 1, .. } => format!("derived{time}"),
        ReadOutcome::Derived { choice, of } => format!("derived{time}, {} of {of}", choice.saturating_add(1)),
        ReadOutcome::Missing if read.binding.is_none() => "not bound".into(),
        ReadOutcome::Missing => "missing".into(),
        ReadOutcome::Declined(why) => format!("declined: {}", safe(why)),
        ReadOutcome::Failed(cause) => format!("failed{time}: {}", safe(&cause.what)),
        ReadOutcome::Unfinished => format!("unfinished{time}"),
        _ => "would be derived".into(),
    };
    let key = safe(read.key).to_string();
    Node {
        shape: "read",
        class: Class::of_read(&read.outcome),
        tip: format!("{key}{}: {what}", value.as_ref().map(|it| format!(" = {it}")).unwrap_or_default()),
        line: value.filter(|_| Class::of_read(&read.outcome) == Class::Plain).unwrap_or(what),
        title: key,
        needs,
    }
}

fn of_candidate(candidate: &Candidate, needs: Vec<usize>) -> Node {
    let (became, _) = outcome(candidate);
    let endpoint = candidate.endpoint.as_deref().map(|it| safe(it).to_string());
    Node {
        shape: "candidate",
        class: Class::of_candidate(candidate),
        title: safe(candidate.key).to_string(),
        tip: format!("{}: {became}", super::name(candidate)),
        line: endpoint.unwrap_or(became),
        needs,
    }
}

fn of_hop(hop: &Hop, needs: Vec<usize>) -> Node {
    let time = hop.took.map(|time| format!(" in {}", took(time))).unwrap_or_default();
    let (name, address) = (safe(&hop.name).to_string(), safe(&hop.address));
    let detail = hop.detail.as_deref().map(|detail| format!(", {}", safe(detail))).unwrap_or_default();
    let became = match &hop.outcome {
        Some(Ok(())) => format!("done{time}{detail}"),
        Some(Err(why)) => format!("failed{time}: {}", safe(why)),
        None => format!("under way at the end{time}"),
    };
    Node {
        shape: "hop",
        class: Class::of_hop(hop.outcome.as_ref()),
        tip: format!("{name} {address}: {became}"),
        line: if matches!(hop.outcome, Some(Err(_))) { became } else { address.to_string() },
        title: name,
        needs,
    }
}

/// Where a box is: its middle, and its width.
#[derive(Clone, Copy, Default)]
struct Spot {
    x: f64,
    y: f64,
    width: f64,
}

/// Positions for `nodes`, from left to right, and the size of the whole.
fn lay_out(nodes: &[Node]) -> (Vec<Spot>, f64, f64) {
    let id = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let width = |node: &Node| {
        let characters = node.title.chars().count().max(node.line.chars().count()).min(CLIP + 1);
        characters as f64 * CHARACTER + 28.0
    };
    // The layout goes from top to bottom: turned over, from left to right.
    let vertices: Vec<_> =
        nodes.iter().enumerate().map(|(index, node)| (id(index), (HEIGHT, width(node) + COLUMN))).collect();
    let edges: Vec<_> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.needs.iter().map(move |&need| (id(need), id(index))))
        .collect();
    let config = Config {
        vertex_spacing: SPACE,
        dummy_size: 0.5,
        ranking_type: RankingType::MinimizeEdgeLength,
        ..Config::default()
    };
    let mut spots: Vec<Spot> =
        nodes.iter().map(|node| Spot { width: width(node), ..Spot::default() }).collect();
    let (mut right, mut bottom) = (0.0f64, 0.0f64);
    for (placed, ..) in from_vertices_and_edges(&vertices, &edges, &config) {
        let least =
            |axis: fn(&(f64, f64)) -> f64| placed.iter().map(|(_, at)| axis(at)).fold(f64::MAX, f64::min);
        let (top, left) = (least(|at| at.0), least(|at| at.1));
        let mut lowest = bottom;
        for (index, (down, along)) in &placed {
            let Some(spot) = spots.get_mut(*index) else { continue };
            spot.x = along - left;
            spot.y = down - top + bottom + HEIGHT / 2.0;
            right = right.max(spot.x + spot.width);
            lowest = lowest.max(spot.y + HEIGHT / 2.0);
        }
        bottom = lowest + SPACE;
    }
    (spots, right, bottom)
}

fn draw(nodes: &[Node]) -> String {
    let (spots, width, height) = lay_out(nodes);
    let related = related(nodes);
    let mut svg = String::new();
    let _ = write!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="-4 -4 {:.0} {:.0}" role="img" aria-label="What came of what">"#,
        width + 8.0,
        height + 8.0
    );
    // Whoever points at a box sees the rest fade: by rules alone, since the page runs no script.
    svg.push_str("<style>");
    for index in 0..nodes.len() {
        let _ = write!(svg, "svg:has(#n{index}:hover) :is(.node,.edge):not(.of{index}){{opacity:.13}}");
    }
    svg.push_str("</style>");
    let classes = |of: &dyn Fn(usize) -> bool| -> String {
        (0..nodes.len()).filter(|&index| of(index)).map(|index| format!(" of{index}")).collect()
    };
    for (index, node) in nodes.iter().enumerate() {
        for &need in &node.needs {
            let (from, to) = (spots[need], spots[index]);
            let (x1, x2) = (from.x + from.width, to.x);
            let bend = ((x2 - x1) / 2.0).max(12.0);
            let both = classes(&|of| related[of].contains(&need) && related[of].contains(&index));
            let _ = write!(
                svg,
                r#"<path class="edge {}{both}" d="M{x1:.1} {:.1}C{:.1} {:.1} {:.1} {:.1} {x2:.1} {:.1}"/>"#,
                class(node.class),
                from.y,
                x1 + bend,
                from.y,
                x2 - bend,
                to.y,
                to.y
            );
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        let spot = spots[index];
        let of = classes(&|of| related[of].contains(&index));
        let radius = if node.shape == "read" { HEIGHT / 2.0 } else { 6.0 };
        let markup = html! {
            g id={ "n" (index) } class={ "node " (node.shape) " " (node.class) (of) }
                transform={ "translate(" (format!("{:.1} {:.1}", spot.x, spot.y - HEIGHT / 2.0)) ")" } {
                title { (node.tip) }
                rect width=(format!("{:.1}", spot.width)) height=(HEIGHT) rx=(radius) {}
                text x="14" y="18" class="title" { (clip(&node.title)) }
                text x="14" y="33" { (clip(&node.line)) }
            }
        };
        svg.push_str(&markup.into_string());
    }
    svg.push_str("</svg>");
    svg
}

fn class(class: Class) -> String {
    html! { (class) }.into_string()
}

/// Of each node: itself, all it depends on, and all that depends on it.
fn related(nodes: &[Node]) -> Vec<BTreeSet<usize>> {
    let reach = |from: usize, next: &dyn Fn(usize) -> Vec<usize>| {
        let mut reached = BTreeSet::from([from]);
        let mut queue = vec![from];
        while let Some(at) = queue.pop() {
            queue.extend(next(at).into_iter().filter(|&it| reached.insert(it)));
        }
        reached
    };
    let needs = |at: usize| nodes[at].needs.clone();
    let needed_by = |at: usize| (0..nodes.len()).filter(|&it| nodes[it].needs.contains(&at)).collect();
    (0..nodes.len()).map(|index| &reach(index, &needs) | &reach(index, &needed_by)).collect()
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(CLIP) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
