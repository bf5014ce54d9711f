//! Tables in plain text.

use std::fmt;

use unicode_width::UnicodeWidthStr;

use crate::output::HEAD;

/// Columns as wide as what is in them, two spaces apart.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|title| format!("{HEAD}{}{HEAD:#}", title.to_uppercase())).collect()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max();
        let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                f.write_str(cell)?;
                if column + 1 < row.len() {
                    write!(f, "{:fill$}  ", "", fill = widths[column] - width(cell))?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How many columns `cell` takes on a terminal, styles left out.
pub(crate) fn width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).to_string().width()
}

/// `text` in at most `most` columns: what is too much is cut out of the middle, where addresses differ least.
pub(crate) fn fitted(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.into();
    }
    let keep = most.saturating_sub(1);
    let (head, tail) = (keep / 2, keep - keep / 2);
    let start: String = take_width(text.chars(), head).into_iter().collect();
    let end: String = take_width(text.chars().rev(), tail).into_iter().rev().collect();
    format!("{start}…{end}")
}

fn take_width(chars: impl Iterator<Item = char>, most: usize) -> Vec<char> {
    let mut width = 0;
    chars
        .take_while(|c| {
            width += unicode_width::UnicodeWidthChar::width(*c).unwrap_or(0);
            width <= most
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_loses_its_middle() {
        assert_eq!(fitted("127.0.0.1:4343", 14), "127.0.0.1:4343");
        assert_eq!(fitted("/tmp/tuyau/socket", 9), "/tmp…cket");
        assert_eq!(fitted("日本語日本語", 7).width(), 5);
    }

    #[test]
    fn styles_take_no_columns() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["\u{1b}[1mwide\u{1b}[0m".into(), "x".into()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "A     B\nwide  x\n");
    }
}
