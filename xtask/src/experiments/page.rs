//! The page of the reproductions.

use super::results::{Results, shown};
use super::rows::{Measure, Row};
use crate::bench::table::Table;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

const HEAD: &str = "\
# Published numbers, made again

Written by `cargo xtask experiments`, row by row; `cargo xtask experiments --list` tells the rows and how long each takes.
A row is a [sweep](sweeps.md) of [experiments/sweeps](../experiments/README.md): its runs stay in the target folder, so a
chore that was broken off goes on. Three seeds each: mean ± standard deviation of the sample. The rows and the published
numbers stand in [experiments.toml](experiments.toml). Runs are native unless the row says otherwise; a fleet in QEMU
gives the same models with the same seeds.
";

/// The page with these sections.
pub fn whole(sections: &[String]) -> String {
    format!("{HEAD}\n{}", sections.join("\n"))
}

/// The section of a row: with its results, or, if there are none, as the page had it, or as not run.
///
/// # Errors
/// If there is a mistake in the row.
pub fn section(row: &Row, results: Option<&Results>, before: &str) -> Result<String> {
    let (begin, end) = (marker(row, "begin"), marker(row, "end"));
    let numbers = match results {
        Some(results) => {
            known(row, results)?;
            measured(row, results)
        }
        None => match between(before, &begin, &end) {
            Some(kept) => kept,
            None => not_run(row),
        },
    };
    let Row {
        title,
        about,
        source,
        remark,
        ..
    } = row;
    let remark = match remark.trim() {
        "" => String::new(),
        remark => format!("\n{remark}\n"),
    };
    Ok(format!(
        "## {title}\n\n{}\n\nPublished: {source}\n\n{begin}\n{}\n{end}\n{remark}",
        about.trim(),
        numbers.trim()
    ))
}

fn marker(row: &Row, what: &str) -> String {
    format!("<!-- row {}: {what} -->", row.name)
}

/// The numbers that a page has of a row that was run.
fn between(page: &str, begin: &str, end: &str) -> Option<String> {
    let (_, rest) = page.split_once(begin)?;
    let (kept, _) = rest.split_once(end)?;
    (!kept.contains(NOT_RUN)).then(|| kept.to_owned())
}

const NOT_RUN: &str = "Not run";

fn not_run(row: &Row) -> String {
    let names: BTreeSet<&str> = row
        .measures
        .iter()
        .flat_map(|measure| measure.published.keys().map(String::as_str))
        .collect();
    let mut text = String::new();
    if !names.is_empty() {
        let measures: Vec<&Measure> = row
            .measures
            .iter()
            .filter(|measure| !measure.published.is_empty())
            .collect();
        let heads: Vec<String> = measures
            .iter()
            .map(|measure| format!("published: {}", measure.head()))
            .collect();
        let heads: Vec<&str> = std::iter::once("case")
            .chain(heads.iter().map(String::as_str))
            .collect();
        let mut table = Table::new(&heads);
        for name in names {
            let cells = measures.iter().map(|measure| published(measure, name));
            table.row(std::iter::once(name.to_owned()).chain(cells));
        }
        text = table.markdown() + "\n";
    }
    format!(
        "{text}{NOT_RUN}: about {}; `cargo xtask experiments {}`",
        row.duration(),
        row.name
    )
}

/// Checks that every published number is of a case of the row.
fn known(row: &Row, results: &Results) -> Result<()> {
    let cases = row.measures.iter().flat_map(|one| one.published.keys());
    for case in cases {
        ensure!(
            results.cases.iter().any(|one| one.name == *case),
            "row {}: a number is published of {case}, which its sweep does not make",
            row.name
        );
    }
    Ok(())
}

fn measured(row: &Row, results: &Results) -> String {
    let mut heads = vec!["case".to_owned()];
    for measure in &row.measures {
        if !measure.published.is_empty() {
            heads.push(format!("published: {}", measure.head()));
        }
        heads.push(measure.head());
    }
    heads.push("runs".to_owned());
    let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for case in &results.cases {
        let mut cells = vec![case.name.clone()];
        for measure in &row.measures {
            if !measure.published.is_empty() {
                cells.push(published(measure, &case.name));
            }
            cells.push(match case.runs.is_empty() {
                true => "not run".to_owned(),
                false => shown(&case.runs, measure),
            });
        }
        cells.push(case.runs.len().to_string());
        table.row(cells);
    }
    let done: usize = results.cases.iter().map(|case| case.runs.len()).sum();
    let asked: usize = results.cases.iter().map(|case| case.asked).sum();
    let missing = match asked - done {
        0 => String::new(),
        missing => format!(" {missing} of {asked} runs are not done: the same command makes them."),
    };
    format!(
        "{}\n`cargo xtask experiments {}`, {}; {:.0} min of runs, added up.{missing}",
        table.markdown(),
        row.name,
        results.measured,
        (results.runs_s / 60.0).ceil()
    )
}

fn published(measure: &Measure, case: &str) -> String {
    measure
        .published
        .get(case)
        .cloned()
        .unwrap_or_else(|| "–".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::rows::Kind;

    fn row() -> Row {
        Row {
            name: "rounds".to_owned(),
            title: "Rounds".to_owned(),
            about: "About it.".to_owned(),
            source: "A paper.".to_owned(),
            minutes: 100.0,
            emulated: false,
            measures: vec![Measure {
                of: Kind::RoundsTo,
                target: Some(0.97),
                metric: None,
                published: [("iid".to_owned(), "87".to_owned())].into(),
            }],
            remark: String::new(),
        }
    }

    #[test]
    fn a_row_that_is_not_run_says_how_it_would_be() {
        let text = section(&row(), None, "").unwrap();
        assert!(text.contains("| iid | 87 |"), "{text}");
        assert!(
            text.contains("Not run: about 2 h; `cargo xtask experiments rounds`"),
            "{text}"
        );
        let same = section(&row(), None, &text).unwrap();
        assert_eq!(same, text);
    }

    #[test]
    fn a_row_keeps_the_numbers_of_another_machine() {
        let page = "<!-- row rounds: begin -->\n| case |\n<!-- row rounds: end -->";
        let text = section(&row(), None, page).unwrap();
        assert!(
            text.contains("| case |\n<!-- row rounds: end -->"),
            "{text}"
        );
        assert!(!text.contains("Not run"), "{text}");
    }
}
