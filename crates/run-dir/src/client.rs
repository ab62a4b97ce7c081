//! A client in a round as `clients.csv` has it.

use std::path::Path;

use anyhow::{Context, Result};

use zfl_files::Dir;

use crate::MAX_TABLE;
use crate::event::ClientRecord;
use crate::metric::{Id, Values};
use crate::write::Traffic;

/// The columns that are no metric.
const KEYS: [&str; 4] = ["round", "client", "outcome", "num_examples"];

/// A row of `clients.csv`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientRow {
    /// The round.
    pub round: u32,
    /// The client.
    pub client: u32,
    /// `received`, `late`, or why there is no update.
    pub outcome: String,
    /// Examples that the update stands for.
    pub num_examples: u32,
    /// The metrics.
    pub values: Values,
}

/// The end of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A whole row.
    Whole,
    /// A row that is being written, or that a crash or a full disk cut off; it is left out.
    Cut,
}

impl ClientRow {
    /// The names of the columns.
    pub fn head() -> impl Iterator<Item = &'static str> {
        KEYS.into_iter().chain(columns().map(|id| id.metric().name))
    }

    /// The row of a record.
    pub fn of(record: &ClientRecord) -> Self {
        Self {
            round: record.round,
            client: record.client,
            outcome: record.outcome.clone(),
            num_examples: record.num_examples,
            values: Values::of(record),
        }
    }

    /// The row as text.
    pub fn cells(&self) -> impl Iterator<Item = String> {
        let keys = [
            self.round.to_string(),
            self.client.to_string(),
            self.outcome.clone(),
            self.num_examples.to_string(),
        ];
        let cell = |id: Id| {
            let value = self.values.get(id);
            value.map_or_else(String::new, |value| id.metric().cell(value))
        };
        keys.into_iter().chain(columns().map(cell))
    }

    /// Reads the rows of a run; columns that are not there are not known.
    ///
    /// # Errors
    /// If there is no such table, or it is not as zfl writes it.
    pub fn read(run: &Path) -> Result<(Vec<Self>, Ending)> {
        let path = run.join("clients.csv");
        let text = Dir::open(run).and_then(|dir| dir.read("clients.csv", MAX_TABLE));
        let text = text.with_context(|| {
            format!(
                "{} is no run directory: no clients.csv in it",
                run.display()
            )
        })?;
        let (whole, ending) = whole_rows(&text);
        let rows = parse(whole);
        let rows = rows.with_context(|| format!("{} is not as zfl writes it", path.display()))?;
        Ok((rows, ending))
    }
}

impl Traffic {
    /// Reads the rows of a run; none of a run of before there was this table.
    ///
    /// # Errors
    /// If the table is not as zfl writes it.
    pub fn read(run: &Path) -> Result<Option<(Vec<Self>, Ending)>> {
        let path = run.join("traffic.csv");
        let text = match Dir::open(run)?.read("traffic.csv", MAX_TABLE) {
            Err(error) if error.is_missing() => return Ok(None),
            text => text?,
        };
        let (whole, ending) = whole_rows(&text);
        let rows = csv::Reader::from_reader(whole).into_deserialize();
        let rows = rows.collect::<Result<_, _>>();
        let rows = rows.with_context(|| format!("{} is not as zfl writes it", path.display()))?;
        Ok(Some((rows, ending)))
    }
}

fn columns() -> impl Iterator<Item = Id> {
    Id::all().filter(|id| id.metric().is_column())
}

fn parse(text: &[u8]) -> Result<Vec<ClientRow>> {
    let mut table = csv::Reader::from_reader(text);
    let head = table.headers()?.clone();
    let column = |name: &str| head.iter().position(|column| column == name);
    let [round, client, outcome, num_examples] = KEYS.map(column);
    let metrics: Vec<(Id, usize)> = columns()
        .filter_map(|id| Some((id, column(id.metric().name)?)))
        .collect();
    let row = |row: csv::Result<csv::StringRecord>| {
        let row = row?;
        let cell = |at: Option<usize>| at.and_then(|at| row.get(at)).unwrap_or_default();
        let mut values = Values::default();
        for &(id, at) in &metrics {
            let text = cell(Some(at));
            if !text.is_empty() {
                values.set(id, Some(text.parse()?));
            }
        }
        Ok(ClientRow {
            round: cell(round).parse()?,
            client: cell(client).parse()?,
            outcome: cell(outcome).to_owned(),
            num_examples: cell(num_examples).parse()?,
            values,
        })
    };
    table.records().map(row).collect()
}

/// The rows that have an end, and whether there is more.
fn whole_rows(text: &[u8]) -> (&[u8], Ending) {
    let (mut quoted, mut end) = (false, 0);
    for (at, byte) in text.iter().enumerate() {
        quoted ^= *byte == b'"';
        if *byte == b'\n' && !quoted {
            end = at + 1;
        }
    }
    let ending = if end == text.len() {
        Ending::Whole
    } else {
        Ending::Cut
    };
    (&text[..end], ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostCost;
    use fl_proto::Cost;

    #[test]
    fn the_columns_of_a_table_stay() {
        let head: Vec<_> = ClientRow::head().collect();
        let of_before = "round,client,outcome,num_examples,loss,round_s,bytes_up,bytes_down,train_us,\
            instructions,heap_peak_bytes,stack_peak_bytes,device_bytes_received,device_bytes_sent,\
            segments_sent,segments_received,retransmissions,boot_ms,virtual_s,link_s,energy_j,\
            host_cpu_s,host_private_bytes,link_segments_up,link_segments_down,link_retransmissions,\
            link_dropped";
        assert!(head.join(",").starts_with(of_before), "{head:?}");
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let record = ClientRecord {
            loss: Some(0.9),
            round_s: Some(1.25),
            bytes_up: 7,
            cost: Some(Cost {
                train_us: 4000,
                instructions: Some(81_234_567),
                ..Cost::default()
            }),
            host: Some(HostCost {
                boot_ms: Some(40),
                energy_j: Some(0.1),
                ..HostCost::default()
            }),
            ..ClientRecord::without_update(3, 1, 600, "gone, \"quoted\"".into())
        };
        let row = ClientRow::of(&record);
        let mut table = csv::Writer::from_writer(Vec::new());
        table.write_record(ClientRow::head()).unwrap();
        table.write_record(row.cells()).unwrap();
        let text = table.into_inner().unwrap();
        let written = String::from_utf8(text.clone()).unwrap();
        assert!(
            written.contains("600,0.9,1.250000,7,0,4000,81234567,"),
            "{written}"
        );
        let read = parse(&text).unwrap();
        let loss = Id::of("loss");
        assert_eq!(read[0].values.get(loss).map(|loss| loss as f32), Some(0.9));
        let cells = |row: &ClientRow| row.cells().collect::<Vec<_>>();
        assert_eq!(cells(&read[0]), cells(&row));
    }
}
