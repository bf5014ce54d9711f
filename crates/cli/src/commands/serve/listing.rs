//! A directory as a page: self-contained, without script, light or dark as the browser is.

use std::fs::Metadata;
use std::path::{Component, Path};
use std::time::SystemTime;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself in a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const STYLE: &str = "
:root { color-scheme: light dark; --ink: light-dark(#1c2128, #d8dee6); --soft: light-dark(#66707c, #8b96a3);
  --line: light-dark(#e4e8ec, #2b3139); --page: light-dark(#f6f7f9, #14171b); --card: light-dark(#fff, #1b1f25);
  --link: light-dark(#0b5cad, #7ab8f5); --hover: light-dark(#eef4fb, #222831) }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 2.5rem auto; padding: 0 1rem }
h1 { font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere }
h1 a { font-weight: 500 } h1 span { color: var(--soft); margin: 0 .3em }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; border-spacing: 0; border-collapse: separate; overflow: hidden }
th { text-align: left; font-size: .8rem; font-weight: 600 } th a { color: var(--soft) }
th, td { padding: .45rem .9rem; border-bottom: 1px solid var(--line) } tr:last-child td { border-bottom: 0 }
tbody tr:hover { background: var(--hover) }
.size, .date { text-align: right; white-space: nowrap; color: var(--soft); font-variant-numeric: tabular-nums }
td:first-child { overflow-wrap: anywhere; width: 100% }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
.dir { font-weight: 600 } footer { color: var(--soft); font-size: .85rem; margin-top: .8rem }
@media (max-width: 34rem) { .date { display: none } }
";

/// By what a listing is sorted; directories come first in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    by: By,
    down: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Name,
    Size,
    Date,
}

impl Order {
    /// What a query asks for: `sort=size&order=down`. What it does not say, or nobody knows, is by name.
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut order = Self { by: By::Name, down: false };
        for pair in query.unwrap_or_default().split('&') {
            match pair {
                "sort=size" => order.by = By::Size,
                "sort=date" => order.by = By::Date,
                "order=down" => order.down = true,
                _ => {}
            }
        }
        order
    }

    fn link(self, by: By) -> &'static str {
        let down = self.by == by && !self.down;
        match (by, down) {
            (By::Name, false) => "?sort=name",
            (By::Name, true) => "?sort=name&order=down",
            (By::Size, false) => "?sort=size",
            (By::Size, true) => "?sort=size&order=down",
            (By::Date, false) => "?sort=date",
            (By::Date, true) => "?sort=date&order=down",
        }
    }

    fn mark(self, by: By) -> &'static str {
        match (self.by == by, self.down) {
            (true, false) => " ↑",
            (true, true) => " ↓",
            (false, _) => "",
        }
    }
}

/// The page of the directory at `path` beneath the root.
pub(super) fn page(path: &Path, entries: Vec<(String, Metadata)>, order: Order) -> String {
    let entries = entries.into_iter().map(|(name, meta)| Entry {
        dir: meta.is_dir(),
        size: meta.len(),
        date: meta.modified().ok(),
        name,
    });
    let mut entries: Vec<_> = entries.collect();
    sort(&mut entries, order);
    markup(path, &entries, order).into_string()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    dir: bool,
    size: u64,
    date: Option<SystemTime>,
}

fn sort(entries: &mut [Entry], order: Order) {
    let Order { by, down } = order;
    entries.sort_by(|a, b| {
        let names = || a.name.to_lowercase().cmp(&b.name.to_lowercase()).then_with(|| a.name.cmp(&b.name));
        let how = match by {
            By::Name => names(),
            By::Size if a.dir && b.dir => names(),
            By::Size => a.size.cmp(&b.size).then_with(names),
            By::Date => a.date.cmp(&b.date).then_with(names),
        };
        b.dir.cmp(&a.dir).then(if down { how.reverse() } else { how })
    });
}

fn markup(path: &Path, entries: &[Entry], order: Order) -> Markup {
    let parts: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    let up = |levels: usize| if levels == 0 { "./".into() } else { "../".repeat(levels) };
    let title = format!("/{}", parts.join("/"));
    let (dirs, files) = entries.iter().fold((0, 0), |(dirs, files), entry| match entry.dir {
        true => (dirs + 1, files),
        false => (dirs, files + 1),
    });
    let size: u64 = entries.iter().filter(|entry| !entry.dir).map(|entry| entry.size).sum();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 {
                        a href=(up(parts.len())) { "/" }
                        @for (index, part) in parts.iter().enumerate() {
                            @if index > 0 { span { "/" } }
                            a href=(up(parts.len() - 1 - index)) { (part) }
                        }
                    }
                    table {
                        thead { tr {
                            th { a href=(order.link(By::Name)) { "Name" (order.mark(By::Name)) } }
                            th.size { a href=(order.link(By::Size)) { "Size" (order.mark(By::Size)) } }
                            th.date { a href=(order.link(By::Date)) { "Changed (UTC)" (order.mark(By::Date)) } }
                        } }
                        tbody {
                            @if !parts.is_empty() {
                                tr { td { a.dir href="../" { "../" } } td {} td {} }
                            }
                            @for entry in entries { (row(entry)) }
                        }
                    }
                    footer {
                        (counted(dirs, "directory", "directories")) ", " (counted(files, "file", "files"))
                        @if files > 0 { ", " (bytes(size)) }
                    }
                }
            }
        }
    }
}

fn row(entry: &Entry) -> Markup {
    let Entry { name, dir, size, date } = entry;
    // With `./`, so that a colon in the name does not make a scheme of it.
    let href = format!("./{}{}", utf8_percent_encode(name, PLAIN), if *dir { "/" } else { "" });
    html! {
        tr {
            td { a.dir[*dir] href=(href) { (name) @if *dir { "/" } } }
            td.size title=[(!dir).then(|| format!("{size} bytes"))] { @if !dir { (bytes(*size)) } }
            td.date { (date.and_then(day).unwrap_or_default()) }
        }
    }
}

fn day(date: SystemTime) -> Option<String> {
    Some(Timestamp::try_from(date).ok()?.strftime("%Y-%m-%d %H:%M").to_string())
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `512 B`, `1.5 KiB`, `23 MiB`.
fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{value:.*} {unit}", usize::from(value < 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, dir: bool, size: u64) -> Entry {
        Entry { name: name.into(), dir, size, date: None }
    }

    #[test]
    fn names_are_escaped_as_text_and_as_links() {
        let name = "<script>\"&'javascript:x?#%.html";
        let page = markup(Path::new("a/<b>"), &[entry(name, false, 1)], Order::of(None)).into_string();
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
        assert!(page.contains("href=\"./%3Cscript%3E%22%26%27javascript%3Ax%3F%23%25.html\""), "{page}");
    }

    #[test]
    fn sorted_directories_first() {
        let names = |query| {
            let mut entries =
                vec![entry("b", false, 1), entry("Z", true, 0), entry("A", false, 3), entry("c", false, 2)];
            sort(&mut entries, Order::of(Some(query)));
            entries.into_iter().map(|entry| entry.name).collect::<String>()
        };
        assert_eq!(names(""), "ZAbc");
        assert_eq!(names("order=down"), "ZcbA");
        assert_eq!(names("sort=size"), "ZbcA");
        assert_eq!(names("sort=size&order=down"), "ZAcb");
        assert_eq!(Order::of(Some("sort=size")).link(By::Size), "?sort=size&order=down");
    }

    #[test]
    fn sizes_for_people() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (24 << 20, "24 MiB"), (u64::MAX, "16 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
