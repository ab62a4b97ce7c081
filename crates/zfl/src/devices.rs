//! `zfl devices RUN`: what each device of a run paid.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use zfl_run_dir::Traffic;
use zfl_run_dir::fold::{Counts, SinceBoot};

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
    device_bytes_received: Option<u64>,
    device_bytes_sent: Option<u64>,
    segments_sent: Option<u64>,
    segments_received: Option<u64>,
    retransmissions: Option<u64>,
    boot_ms: Option<u64>,
    virtual_s: Option<f64>,
    link_s: Option<f64>,
    energy_j: Option<f64>,
    host_cpu_s: Option<f64>,
    host_private_bytes: Option<u64>,
    link_retransmissions: Option<u64>,
    link_dropped: Option<u64>,
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
    /// HTTP bytes from it, those of joining and of rounds that it failed included.
    pub bytes_up: u64,
    /// HTTP bytes to it, its data included.
    pub bytes_down: u64,
    /// TCP segments that it sent, in all its boots; in each up to its last update.
    pub segments_sent: Option<u64>,
    /// TCP segments that it received, likewise.
    pub segments_received: Option<u64>,
    /// TCP segments that it sent again, likewise.
    pub retransmissions: Option<u64>,
    /// From the start of its machine to its prompt, at its last boot, in milliseconds.
    pub boot_ms: Option<u64>,
    /// Training time of all its rounds at its clock rate, in seconds.
    pub virtual_s: Option<f64>,
    /// Time on its link of all its rounds, by the link's numbers, in seconds.
    pub link_s: Option<f64>,
    /// An estimate of the energy of all its rounds, in joules.
    pub energy_j: Option<f64>,
    /// Processor time of the host that its machine took, in seconds.
    pub host_cpu_s: Option<f64>,
    /// Most memory of the host that was its machine's alone, in bytes.
    pub host_private_bytes: Option<u64>,
    /// TCP segments, up or down, that its link saw sent again.
    pub link_retransmissions: Option<u64>,
    /// TCP segments, up or down, that its link dropped.
    pub link_dropped: Option<u64>,
    #[serde(skip)]
    train_us: Rounds,
    #[serde(skip)]
    instructions: Rounds,
    #[serde(skip)]
    counts: SinceBoot,
}

/// What is known of some rounds: the sum, and of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rounds {
    sum: u64,
    count: u64,
}

impl Rounds {
    fn add(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.sum = self.sum.saturating_add(value);
            self.count += 1;
        }
    }

    fn mean(self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }
}

impl Row {
    fn counts(&self) -> Counts {
        Counts {
            bytes_received: self.device_bytes_received,
            bytes_sent: self.device_bytes_sent,
            segments_sent: self.segments_sent,
            segments_received: self.segments_received,
            retransmissions: self.retransmissions,
        }
    }
}

impl Device {
    fn add(&mut self, row: Row) {
        self.client = row.client;
        self.bytes_up += row.bytes_up;
        self.bytes_down += row.bytes_down;
        if !matches!(row.outcome.as_str(), "received" | "late") {
            self.failures += 1;
            return;
        }
        self.rounds += 1;
        self.loss = row.loss.or(self.loss);
        self.train_us.add(row.train_us);
        self.instructions.add(row.instructions);
        self.heap_peak_bytes = row.heap_peak_bytes.max(self.heap_peak_bytes);
        self.stack_peak_bytes = row.stack_peak_bytes.max(self.stack_peak_bytes);
        self.counts.grow(row.boot_ms, row.counts());
        let all = self.counts.total();
        self.segments_sent = all.segments_sent;
        self.segments_received = all.segments_received;
        self.retransmissions = all.retransmissions;
        self.boot_ms = row.boot_ms.or(self.boot_ms);
        self.host_private_bytes = row.host_private_bytes.max(self.host_private_bytes);
        // These are each round's own.
        for (sum, more) in [
            (&mut self.virtual_s, row.virtual_s),
            (&mut self.link_s, row.link_s),
            (&mut self.energy_j, row.energy_j),
            (&mut self.host_cpu_s, row.host_cpu_s),
        ] {
            *sum = more.map(|more| sum.unwrap_or(0.0) + more).or(*sum);
        }
        for (sum, more) in [
            (&mut self.link_retransmissions, row.link_retransmissions),
            (&mut self.link_dropped, row.link_dropped),
        ] {
            *sum = more.map(|more| sum.unwrap_or(0) + more).or(*sum);
        }
    }

    fn finish(mut self) -> Self {
        self.mean_train_us = self.train_us.mean();
        self.mean_instructions = self.instructions.mean();
        self
    }
}

/// Reads what the devices of a run paid.
///
/// # Errors
/// If the folder is no run directory.
pub fn read(run: &Path) -> Result<(Vec<Device>, Ending)> {
    let path = run.join("clients.csv");
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "{} is no run directory: no clients.csv in it",
            run.display()
        )
    })?;
    let (whole, mut ending) = whole_rows(&text);
    let mut rows = csv::Reader::from_reader(whole);
    let mut devices: BTreeMap<u32, Device> = BTreeMap::new();
    for row in rows.deserialize() {
        let row: Row =
            row.with_context(|| format!("{} is not as zfl writes it", path.display()))?;
        devices.entry(row.client).or_default().add(row);
    }
    let traffic = run.join("traffic.csv");
    // A run of before there was this table has only what rounds cost.
    if traffic.exists() {
        let text =
            std::fs::read(&traffic).with_context(|| format!("read {}", traffic.display()))?;
        let (whole, end) = whole_rows(&text);
        count(&mut devices, whole)
            .with_context(|| format!("{} is not as zfl writes it", traffic.display()))?;
        if end == Ending::Cut {
            ending = end;
        }
    }
    let devices = devices.into_values().map(Device::finish).collect();
    Ok((devices, ending))
}

/// How a table ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a whole row.
    Whole,
    /// With a row that is being written, or that a crash or a full disk cut off; it is left out.
    Cut,
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

/// Takes the bytes of all devices from the table that has every one of them.
fn count(devices: &mut BTreeMap<u32, Device>, traffic: &[u8]) -> Result<()> {
    for device in devices.values_mut() {
        (device.bytes_up, device.bytes_down) = (0, 0);
    }
    for row in csv::Reader::from_reader(traffic).deserialize() {
        let row: Traffic = row?;
        let device = devices.entry(row.client).or_default();
        device.client = row.client;
        device.bytes_up += row.bytes_up;
        device.bytes_down += row.bytes_down;
    }
    Ok(())
}

/// Prints the table, or JSON.
///
/// # Errors
/// If the folder is no run directory.
pub fn show(run: &Path, json: bool) -> Result<()> {
    let (devices, ending) = read(run)?;
    if ending == Ending::Cut {
        eprintln!("warning: a table of the run ends within a row, which is left out");
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&devices)?);
    } else {
        print!("{}", table(&devices));
    }
    Ok(())
}

/// A column of the table: its head, and what stands in it.
type Column = (&'static str, fn(&Device) -> String);

/// The columns for people; those in which no device has anything are left out.
const COLUMNS: [Column; 18] = [
    ("client", |d| d.client.to_string()),
    ("rounds", |d| d.rounds.to_string()),
    ("failed", |d| d.failures.to_string()),
    ("train ms", |d| {
        maybe(d.mean_train_us, |us| decimals(us as f64 / 1e3, 2))
    }),
    ("M instr.", |d| {
        maybe(d.mean_instructions, |n| decimals(n as f64 / 1e6, 2))
    }),
    ("virtual s", |d| maybe(d.virtual_s, |s| decimals(s, 3))),
    ("link s", |d| maybe(d.link_s, |s| decimals(s, 3))),
    ("energy J*", |d| maybe(d.energy_j, |j| decimals(j, 3))),
    ("heap kB", |d| kilo(d.heap_peak_bytes)),
    ("stack kB", |d| kilo(d.stack_peak_bytes)),
    ("up kB", |d| kilo(Some(d.bytes_up))),
    ("down kB", |d| kilo(Some(d.bytes_down))),
    ("segments", |d| {
        let both = d.segments_sent.zip(d.segments_received);
        maybe(both, |(sent, received)| (sent + received).to_string())
    }),
    ("again", |d| {
        maybe(d.link_retransmissions.or(d.retransmissions), |n| {
            n.to_string()
        })
    }),
    ("dropped", |d| maybe(d.link_dropped, |n| n.to_string())),
    ("boot ms", |d| maybe(d.boot_ms, |ms| ms.to_string())),
    ("host s", |d| maybe(d.host_cpu_s, |s| decimals(s, 2))),
    ("host MB", |d| {
        maybe(d.host_private_bytes, |n| decimals(n as f64 / 1e6, 1))
    }),
];

/// What the table cannot say of itself.
const NOTE: &str = "* an estimate: docs/cost.md has the model, and what each number means";

const NOTHING: &str = "-";

/// A column as text: its head, and a cell for each device.
struct Filled {
    head: &'static str,
    cells: Vec<String>,
}

impl Filled {
    fn is_told(&self) -> bool {
        self.cells.iter().any(|cell| cell != NOTHING)
    }

    fn width(&self) -> usize {
        let widest = self.cells.iter().map(String::len).max();
        self.head.len().max(widest.unwrap_or(0))
    }
}

fn table(devices: &[Device]) -> String {
    let columns = COLUMNS.map(|(head, cell)| Filled {
        head,
        cells: devices.iter().map(cell).collect(),
    });
    let columns: Vec<_> = columns.into_iter().filter(Filled::is_told).collect();
    let line = |cell: &dyn Fn(&Filled) -> &str| {
        let cells = columns
            .iter()
            .map(|column| format!("{:>1$}", cell(column), column.width()));
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    let mut text = line(&|column| column.head);
    text.extend((0..devices.len()).map(|row| line(&|column| &column.cells[row])));
    if text.contains('*') {
        text += NOTE;
        text.push('\n');
    }
    text
}

fn kilo(bytes: Option<u64>) -> String {
    maybe(bytes, |n| decimals(n as f64 / 1e3, 1))
}

fn decimals(value: f64, count: usize) -> String {
    format!("{value:.count$}")
}

fn maybe<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "\
round,client,outcome,num_examples,loss,round_s,bytes_up,bytes_down,train_us,instructions,heap_peak_bytes,stack_peak_bytes,device_bytes_received,device_bytes_sent,segments_sent,segments_received,retransmissions,boot_ms,virtual_s,link_s,energy_j,host_cpu_s,host_private_bytes,link_retransmissions,link_dropped
1,3,received,600,0.9,0.5,1000,2000,4000,10000000,900000,,1,1,10,20,0,40,0.5,0.1,0.25,0.2,9000000,3,4
2,3,\"/start of round 2: connection refused\",600,,,5,6,,,,,,,,,,,,,,,,,
3,3,received,600,0.5,0.5,1000,2000,6000,10000000,950000,,1,1,30,50,2,41,0.5,0.1,0.25,0.3,8000000,1,0
3,1,received,600,0.4,0.5,7,8,100,,,,1,1,,,,,,,,,,,
";

    #[test]
    fn rounds_add_up_by_device() {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("clients.csv"), CSV).unwrap();
        let (devices, ending) = read(run.path()).unwrap();
        assert_eq!(ending, Ending::Whole);
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
            (2005, Some(950_000))
        );
        assert_eq!((three.boot_ms, three.virtual_s), (Some(41), Some(1.0)));
        assert_eq!((three.energy_j, three.host_cpu_s), (Some(0.5), Some(0.5)));
        assert_eq!(
            (three.link_retransmissions, three.link_dropped),
            (Some(4), Some(4))
        );
        assert_eq!((one.energy_j, one.link_dropped), (None, None));
        let text = table(&devices);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[2].contains("5.00     10.00      1.000"), "{text}");
        assert!(!lines[0].contains("stack kB"), "no device has any: {text}");
        assert_eq!(lines.last(), Some(&NOTE));
    }

    #[test]
    fn bytes_are_those_of_every_connection() {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("clients.csv"), CSV).unwrap();
        // Client 2 was never chosen; round 4 is what came after the last.
        let traffic = "round,client,bytes_up,bytes_down\n1,1,200,942000\n1,2,201,942001\n\
                       3,1,51000,52000\n4,1,90,110\n";
        std::fs::write(run.path().join("traffic.csv"), traffic).unwrap();
        let devices = read(run.path()).unwrap().0;
        let bytes = devices.iter().map(|d| (d.client, d.bytes_up, d.bytes_down));
        assert_eq!(
            bytes.collect::<Vec<_>>(),
            [(1, 51_290, 994_110), (2, 201, 942_001), (3, 0, 0)]
        );
        assert_eq!((devices[1].rounds, devices[1].failures), (0, 0));
    }

    #[test]
    fn segments_of_all_boots_and_rounds_of_which_something_is_known_are_counted() {
        let head = CSV.lines().next().unwrap();
        let rows =
            [(1, "4000"), (2, "6000"), (1, ""), (1, ""), (14, "")].map(|(again, train_us)| {
                format!("1,0,received,600,0.9,0.5,0,0,{train_us},,,,9,9,,,{again},,,,,,,,\n")
            });
        let run = tempfile::tempdir().unwrap();
        let text = format!("{head}\n{}", rows.concat());
        std::fs::write(run.path().join("clients.csv"), text).unwrap();
        let device = &read(run.path()).unwrap().0[0];
        assert_eq!(device.retransmissions, Some(16));
        assert_eq!((device.rounds, device.mean_train_us), (5, Some(5000)));
    }

    #[test]
    fn a_row_that_was_cut_off_is_left_out() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("clients.csv");
        let failures = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            let (devices, ending) = read(run.path()).unwrap();
            let rounds = devices.iter().map(|d| d.rounds + d.failures).sum::<u32>();
            (rounds, ending)
        };
        assert_eq!(failures(CSV.as_bytes()), (4, Ending::Whole));
        let last = CSV.len() - 1;
        for end in last - 10..=last {
            assert_eq!(failures(&CSV.as_bytes()[..end]), (3, Ending::Cut), "{end}");
        }
        // Within quotes, behind the end of a line there, and within a character.
        for more in [&b"4,1,\"a"[..], b"4,1,\"a\n", b"4,1,\"\xc3"] {
            let text = [CSV.as_bytes(), more].concat();
            assert_eq!(failures(&text), (4, Ending::Cut));
        }
        assert_eq!(failures(b""), (0, Ending::Whole));
        assert_eq!(failures(b"round,cl"), (0, Ending::Cut));
        // What is whole and wrong is still refused.
        std::fs::write(&path, [CSV.as_bytes(), b"4,x\n"].concat()).unwrap();
        assert!(read(run.path()).is_err());
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
