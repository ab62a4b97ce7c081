//! The table of docs/cost.md, which is made of the table of metrics.

use std::fmt::Write as _;
use std::fs;
use zfl_run_dir::metric::METRICS;

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cost.md");

/// The rows of `clients.csv` that are no metric, and the heads.
const HEAD: &str = "\
| column | by | meaning | exact? |
|---|---|---|---|
| `round`, `client` | | the round from 1, the client from 0 | |
| `outcome` | server | `received`, or in words the reason why the update is missing; `late` is an additional row, written with the round in which the update came | |
| `num_examples` | device | the update's weight | |
";

fn table() -> String {
    let mut table = HEAD.to_owned();
    for metric in METRICS.iter().filter(|metric| metric.is_column()) {
        let (name, by) = (metric.name, metric.by.name());
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| `{name}` | {by} | {} | {} |",
            metric.doc, metric.exact
        );
    }
    table
}

/// `UPDATE_EXPECT=1 cargo test -p zfl-run-dir --test cost` puts it there.
#[test]
fn the_page_has_the_table_of_metrics() {
    let page = fs::read_to_string(DOC).unwrap();
    let begin = page.find("| column | by |").expect("the page has a table");
    let end = begin + page[begin..].find("\n\n").expect("the table has an end") + 1;
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(
            DOC,
            format!("{}{}{}", &page[..begin], table(), &page[end..]),
        )
        .unwrap();
        return;
    }
    let what = "docs/cost.md is behind; put it right with UPDATE_EXPECT=1 cargo test -p zfl-run-dir --test cost";
    assert!(page[begin..end] == table(), "{what}\n{}", table());
}

#[test]
fn every_column_is_described() {
    for metric in METRICS.iter().filter(|metric| metric.is_column()) {
        let told = [metric.label, metric.doc, metric.exact];
        assert!(told.iter().all(|text| !text.is_empty()), "{}", metric.name);
    }
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len(), "a name for each");
}
