//! Tables of a run with the type of each column.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use zfl_files::Dir;
use zfl_run_dir::metric::{Kind, METRICS};
use zfl_run_dir::{Confusion, EvaluationRecord, MAX_TABLE, PARTITION};

/// Column of a round's numbers that the algorithm tells, as JSON; each becomes a column of its own.
const METRICS_COLUMN: &str = "metrics";

/// Columns of whole numbers that are no metrics of a client.
const WHOLE: [&str; 16] = [
    "round",
    "client",
    "cohort_size",
    "results",
    "failures",
    "rejected",
    "late",
    "bytes_up",
    "bytes_down",
    "devices_evaluated",
    "num_examples",
    "num_evaluated",
    "correct",
    "personal_correct",
    "evaluate_us",
    "instructions",
];

/// A table: columns of the same length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// Its name, without an ending.
    pub name: String,
    /// Its columns.
    pub columns: Vec<(String, Cells)>,
}

/// The cells of a column; none where nothing is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cells {
    Whole(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
}

impl Cells {
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(cells) => cells.len(),
            Self::Real(cells) => cells.len(),
            Self::Text(cells) => cells.len(),
        }
    }

    /// Cells of a column by its name.
    fn of(column: &str, cells: Vec<String>) -> Result<Self> {
        let known = |cell: String| (!cell.is_empty()).then_some(cell);
        let cells = cells.into_iter().map(known);
        let metric = METRICS.iter().find(|metric| metric.name == column);
        let is_whole = WHOLE.contains(&column)
            || metric.is_some_and(|metric| metric.kind == Kind::Whole)
            || column == "examples"
            || column.starts_with("label_");
        Ok(match column {
            "outcome" => Self::Text(cells.collect()),
            _ if is_whole => Self::Whole(numbers(cells)?),
            _ => Self::Real(numbers(cells)?),
        })
    }

    fn text(&self, row: usize) -> String {
        match self {
            Self::Whole(cells) => shown(cells.get(row)),
            Self::Real(cells) => shown(cells.get(row)),
            Self::Text(cells) => shown(cells.get(row)),
        }
    }

    fn value(&self, row: usize) -> Value {
        match self {
            Self::Whole(cells) => cells.get(row).copied().flatten().into(),
            Self::Real(cells) => cells.get(row).copied().flatten().into(),
            Self::Text(cells) => cells.get(row).cloned().flatten().into(),
        }
    }
}

fn numbers<T: std::str::FromStr>(
    cells: impl Iterator<Item = Option<String>>,
) -> Result<Vec<Option<T>>> {
    let number = |cell: String| {
        let number = cell.parse().ok();
        number.with_context(|| format!("`{}` is no number", cell.escape_debug()))
    };
    cells.map(|cell| cell.map(number).transpose()).collect()
}

fn shown<T: ToString>(cell: Option<&Option<T>>) -> String {
    cell.and_then(Option::as_ref)
        .map_or_else(String::new, ToString::to_string)
}

impl Table {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, cells)| cells.len())
    }

    /// The table as CSV.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let mut rows = csv::Writer::from_writer(Vec::new());
        rows.write_record(self.columns.iter().map(|(name, _)| name))?;
        for row in 0..self.rows() {
            rows.write_record(self.columns.iter().map(|(_, cells)| cells.text(row)))?;
        }
        Ok(rows.into_inner()?)
    }

    /// The table as an array of objects.
    pub fn json(&self) -> Value {
        let row = |row| {
            let columns = self.columns.iter();
            let cells = columns.map(|(name, cells)| (name.clone(), cells.value(row)));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        (0..self.rows()).map(row).collect()
    }

    /// A table of its text; a row at the end that is being written is left out.
    fn of_text(name: &str, text: &str) -> Result<Self> {
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut reader = csv::Reader::from_reader(whole.as_bytes());
        let head: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let mut cells = vec![Vec::new(); head.len()];
        for record in reader.records() {
            let record = record?;
            for (cells, cell) in cells.iter_mut().zip(&record) {
                cells.push(cell.to_owned());
            }
        }
        let mut columns = Vec::new();
        for (name, cells) in head.into_iter().zip(cells) {
            if name == METRICS_COLUMN {
                columns.extend(told(&cells)?);
                continue;
            }
            let cells = Cells::of(&name, cells);
            let cells = cells.with_context(|| format!("column {name}"))?;
            columns.push((name, cells));
        }
        let name = name.to_owned();
        Ok(Self { name, columns })
    }
}

/// Columns of the numbers that an algorithm tells: `metrics.NAME`.
fn told(cells: &[String]) -> Result<Vec<(String, Cells)>> {
    let object = |cell: &String| match cell.as_str() {
        "" => Ok(BTreeMap::new()),
        text => serde_json::from_str::<BTreeMap<String, f64>>(text),
    };
    let rows: Vec<_> = cells.iter().map(object).collect::<Result<_, _>>()?;
    let names: BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
    let column = |name: &String| {
        let cells = rows.iter().map(|row| row.get(name).copied());
        let cells = Cells::Real(cells.collect());
        (format!("{METRICS_COLUMN}.{name}"), cells)
    };
    Ok(names.into_iter().map(column).collect())
}

/// The tables of a run directory that are there.
///
/// # Errors
/// If one is not as zfl writes it.
pub(crate) fn of_run(run: &Path) -> Result<Vec<Table>> {
    let dir = Dir::open(run)?;
    let needed = ["rounds.csv", "clients.csv"];
    let others = ["traffic.csv", EvaluationRecord::FILE, PARTITION];
    let mut tables = Vec::new();
    for file in needed.into_iter().chain(others) {
        let text = match dir.read_text(file, MAX_TABLE) {
            Err(error) if error.is_missing() && !needed.contains(&file) => continue,
            text => text?,
        };
        let name = file.trim_end_matches(".csv");
        let table = Table::of_text(name, &text);
        let path = run.join(file);
        tables.push(table.with_context(|| format!("{} is not as zfl writes it", path.display()))?);
    }
    Ok(tables)
}

/// The table of what the last model took the classes of the test set for: a row for each pair.
pub(crate) fn of_classes(confusion: &Confusion) -> Table {
    let rows = confusion.taken_for.iter().enumerate();
    let pairs = rows.flat_map(|(class, row)| {
        let times = row.iter().enumerate();
        times.map(move |(taken_for, &times)| [class as i64, taken_for as i64, i64::from(times)])
    });
    let pairs: Vec<_> = pairs.collect();
    let column = |at: usize| Cells::Whole(pairs.iter().map(|row| Some(row[at])).collect());
    let names = ["class", "taken_for", "examples"].into_iter().enumerate();
    Table {
        name: "confusion".to_owned(),
        columns: names
            .map(|(at, name)| (name.to_owned(), column(at)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: &str =
        "round,test_loss,outcome,metrics\n0,,here,\n1,0.5,\"a,b\",\"{\"\"drift\"\":2.0}\"\n2,0.";

    #[test]
    fn columns_have_types_and_what_an_algorithm_tells_has_columns() {
        let table = Table::of_text("rounds", ROUNDS).unwrap();
        assert_eq!(table.rows(), 2, "a row that is being written is left out");
        let names: Vec<_> = table
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["round", "test_loss", "outcome", "metrics.drift"]);
        let csv = String::from_utf8(table.csv().unwrap()).unwrap();
        assert_eq!(
            csv,
            "round,test_loss,outcome,metrics.drift\n0,,here,\n1,0.5,\"a,b\",2\n"
        );
        let json = table.json();
        assert_eq!(json[1]["metrics.drift"], 2.0);
        assert!(json[0]["test_loss"].is_null() && json[0]["round"] == 0);
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_column() {
        let error = Table::of_text("rounds", "round,x\nzero,1\n").unwrap_err();
        assert!(format!("{error:#}").contains("column round: `zero` is no number"));
        assert!(Table::of_text("rounds", "round,x\n1\n").is_err());
    }
}
