//! `zfl devices RUN`: what each device of a run paid.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A row of `clients.csv`, as far as it goes in here.
#[derive(Debug, Deserialize)]
struct Row {
    client: u32,
    outcome: String,
    loss: Option<f32>,
    bytes_up: u64,
    bytes_down: u64,
    train_us: Option<u64>,
    instructions: Option<u64>,
    heap_peak_bytes: Option<u64>,
    stack_peak_bytes: Option<u64>,
    segments_sent: Option<u64>,
    segments_received: Option<u64>,
    retransmissions: Option<u64>,
}

/// What one device paid over all rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Device {
    /// The client.
    pub client: u32,
    /// Rounds whose update it delivered.
    pub rounds: u32,
    /// Rounds that it failed.
    pub failures: u32,
    /// Loss of its last update.
    pub loss: Option<f32>,
    /// Mean training time of a round by its own clock, in microseconds.
    pub mean_train_us: Option<u64>,
    /// Mean instructions of a round's training.
    pub mean_instructions: Option<u64>,
    /// Most heap ever in use, in bytes.
    pub heap_peak_bytes: Option<u64>,
    /// Most stack ever in use, in bytes.
    pub stack_peak_bytes: Option<u64>,
    /// HTTP bytes from it.
    pub bytes_up: u64,
    /// HTTP bytes to it.
    pub bytes_down: u64,
    /// TCP segments that it sent.
    pub segments_sent: Option<u64>,
    /// TCP segments that it received.
    pub segments_received: Option<u64>,
    /// TCP segments that it sent again.
    pub retransmissions: Option<u64>,
    #[serde(skip)]
    train_us: u64,
    #[serde(skip)]
    instructions: u64,
    #[serde(skip)]
    counted: u64,
}

impl Device {
    fn add(&mut self, row: Row) {
        self.client = row.client;
        if !matches!(row.outcome.as_str(), "received" | "late") {
            self.failures += 1;
            return;
        }
        self.rounds += 1;
        self.loss = row.loss.or(self.loss);
        self.bytes_up += row.bytes_up;
        self.bytes_down += row.bytes_down;
        self.train_us += row.train_us.unwrap_or(0);
        if let Some(instructions) = row.instructions {
            self.instructions += instructions;
            self.counted += 1;
        }
        // These count since boot, so the last row of a device has them all.
        self.heap_peak_bytes = row.heap_peak_bytes.max(self.heap_peak_bytes);
        self.stack_peak_bytes = row.stack_peak_bytes.max(self.stack_peak_bytes);
        self.segments_sent = row.segments_sent.max(self.segments_sent);
        self.segments_received = row.segments_received.max(self.segments_received);
        self.retransmissions = row.retransmissions.max(self.retransmissions);
    }

    fn finish(mut self) -> Self {
        self.mean_train_us = self.train_us.checked_div(u64::from(self.rounds));
        self.mean_instructions = self.instructions.checked_div(self.counted);
        self
    }
}

/// Reads what the devices of a run paid.
///
/// # Errors
/// If the folder is no run directory.
pub fn read(run: &Path) -> Result<Vec<Device>> {
    let path = run.join("clients.csv");
    let mut rows = csv::Reader::from_path(&path).with_context(|| {
        format!(
            "{} is no run directory: no clients.csv in it",
            run.display()
        )
    })?;
    let mut devices: BTreeMap<u32, Device> = BTreeMap::new();
    for row in rows.deserialize() {
        let row: Row =
            row.with_context(|| format!("{} is not as zfl writes it", path.display()))?;
        devices.entry(row.client).or_default().add(row);
    }
    Ok(devices.into_values().map(Device::finish).collect())
}

/// Prints the table, or JSON.
///
/// # Errors
/// If the folder is no run directory.
pub fn show(run: &Path, json: bool) -> Result<()> {
    let devices = read(run)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&devices)?);
    } else {
        print!("{}", table(&devices));
    }
    Ok(())
}

const HEAD: [&str; 11] = [
    "client",
    "rounds",
    "failed",
    "train ms",
    "M instr.",
    "heap kB",
    "stack kB",
    "up kB",
    "down kB",
    "segments",
    "sent again",
];

fn table(devices: &[Device]) -> String {
    let mut text = String::new();
    let mut line = |cells: [String; 11]| {
        for (cell, head) in cells.iter().zip(HEAD) {
            // Writing to a string does not fail.
            let _ = write!(text, "{cell:>width$}  ", width = head.len().max(8));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    line(HEAD.map(str::to_owned));
    let kilo = |bytes: Option<u64>| maybe(bytes, |n| format!("{:.1}", n as f64 / 1e3));
    for d in devices {
        let segments = d
            .segments_sent
            .zip(d.segments_received)
            .map(|(sent, received)| sent + received);
        line([
            d.client.to_string(),
            d.rounds.to_string(),
            d.failures.to_string(),
            maybe(d.mean_train_us, |us| format!("{:.2}", us as f64 / 1e3)),
            maybe(d.mean_instructions, |n| format!("{:.2}", n as f64 / 1e6)),
            kilo(d.heap_peak_bytes),
            kilo(d.stack_peak_bytes),
            kilo(Some(d.bytes_up)),
            kilo(Some(d.bytes_down)),
            maybe(segments, |n| n.to_string()),
            maybe(d.retransmissions, |n| n.to_string()),
        ]);
    }
    text
}

fn maybe(value: Option<u64>, show: impl Fn(u64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "\
round,client,outcome,num_examples,loss,round_s,bytes_up,bytes_down,train_us,instructions,heap_peak_bytes,stack_peak_bytes,device_bytes_received,device_bytes_sent,segments_sent,segments_received,retransmissions
1,3,received,600,0.9,0.5,1000,2000,4000,10000000,900000,,1,1,10,20,0
2,3,\"/start of round 2: connection refused\",600,,,0,0,,,,,,,,,
3,3,received,600,0.5,0.5,1000,2000,6000,10000000,950000,,1,1,30,50,2
3,1,received,600,0.4,0.5,7,8,100,,,,1,1,,,
";

    #[test]
    fn rounds_add_up_by_device() {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("clients.csv"), CSV).unwrap();
        let devices = read(run.path()).unwrap();
        let [one, three] = &devices[..] else {
            panic!("{devices:?}")
        };
        assert_eq!(
            (one.client, one.rounds, one.mean_instructions),
            (1, 1, None)
        );
        assert_eq!(
            (three.rounds, three.failures, three.mean_train_us),
            (2, 1, Some(5000))
        );
        assert_eq!(
            (three.mean_instructions, three.retransmissions),
            (Some(10_000_000), Some(2))
        );
        assert_eq!(
            (three.bytes_up, three.heap_peak_bytes),
            (2000, Some(950_000))
        );
        let text = table(&devices);
        assert!(
            text.lines().nth(2).unwrap().contains("    5.00     10.00"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() < 120), "{text}");
    }

    #[test]
    fn another_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("no run directory")
        );
    }
}
