//! Markdown tables, and their places in pages.

use anyhow::{Context, Result};

/// A table of text.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table with these column heads.
    pub fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&name| name.to_owned()).collect()],
        }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes the table in Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let (head, body) = self
            .rows
            .split_first()
            .unwrap_or((const { &Vec::new() }, &[]));
        let mut text = line(head);
        text += &format!("|{}\n", "---|".repeat(head.len()));
        text.extend(body.iter().map(|cells| line(cells)));
        text
    }
}

/// A number, or a dash where there is none.
pub fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// The middle one; the mean of the middle two; `None` of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// The largest; `None` of none.
pub fn largest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().max_by(f64::total_cmp)
}

/// The page with `text` between the markers of a benchmark.
///
/// # Errors
/// If it has no such markers.
pub fn put(page: &str, what: &str, text: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- bench {what}: begin -->"),
        format!("<!-- bench {what}: end -->"),
    );
    let split = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = split
        .with_context(|| format!("there is no line {begin} with {end} behind it: add both"))?;
    let text = text.trim_end();
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["1".to_owned(), number(None, 2)]);
        assert_eq!(table.markdown(), "| a | b |\n|---|---|\n| 1 | – |\n");
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(largest([1.0, 3.0, 2.0]), Some(3.0));
    }

    #[test]
    fn only_what_is_between_its_markers_is_replaced() {
        let page = "x\n<!-- bench a: begin -->\nold\n<!-- bench a: end -->\ny\n";
        let written = put(page, "a", "new\n").unwrap();
        assert_eq!(
            written,
            "x\n<!-- bench a: begin -->\nnew\n<!-- bench a: end -->\ny\n"
        );
        assert_eq!(put(&written, "a", "new").unwrap(), written);
        assert!(put(page, "b", "new").is_err());
        assert!(put("<!-- bench a: end -->\n<!-- bench a: begin -->", "a", "").is_err());
    }
}
