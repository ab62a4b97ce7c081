//! `zfl devices RUN`: the cost of each device of a run.

use crate::{output, runs};
use anyhow::Result;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use zfl_run_dir::fold::Device;
use zfl_run_dir::metric::{Folds, Id};
use zfl_run_dir::{ClientRow, Ending, Traffic};

/// The metrics of which `traffic.csv` knows more than `clients.csv`, and their sum.
const BYTES: [Id; 2] = [Id::of("bytes_up"), Id::of("bytes_down")];
const BOTH: Id = Id::of("bytes");

/// Reads the devices of a run.
///
/// # Errors
/// If the folder is no run directory.
pub fn read(run: &Path) -> Result<(Vec<Device>, Ending)> {
    let (rows, mut ending) = ClientRow::read(run)?;
    let mut devices: BTreeMap<u32, Device> = BTreeMap::new();
    for row in &rows {
        device(&mut devices, row.client).take_in(row);
    }
    let bytes: Vec<(u32, [f64; 2])> = match Traffic::read(run)? {
        Some((traffic, end)) => {
            if end == Ending::Cut {
                ending = end;
            }
            let bytes =
                |row: &Traffic| (row.client, [row.bytes_up, row.bytes_down].map(|n| n as f64));
            traffic.iter().map(bytes).collect()
        }
        // A run of before there was this table has only what rounds cost, those that failed included.
        None => {
            let known = |row: &ClientRow| BYTES.map(|bytes| row.values.get(bytes).unwrap_or(0.0));
            rows.iter().map(|row| (row.client, known(row))).collect()
        }
    };
    count(&mut devices, &bytes);
    Ok((devices.into_values().collect(), ending))
}

fn device(devices: &mut BTreeMap<u32, Device>, client: u32) -> &mut Device {
    devices.entry(client).or_insert_with(|| Device::of(client))
}

/// Sets the bytes of every device to the sum of its own among these.
fn count(devices: &mut BTreeMap<u32, Device>, bytes: &[(u32, [f64; 2])]) {
    let mut sums: BTreeMap<u32, [f64; 2]> =
        devices.keys().map(|&client| (client, [0.0; 2])).collect();
    for &(client, [up, down]) in bytes {
        let sum = sums.entry(client).or_default();
        *sum = [sum[0] + up, sum[1] + down];
    }
    for (client, [up, down]) in sums {
        let totals = &mut device(devices, client).totals;
        totals.note(BYTES[0], up);
        totals.note(BYTES[1], down);
        totals.note(BOTH, up + down);
    }
}

fn rounds(device: &Device) -> usize {
    let delivered = device.history.iter().filter(|row| row.is_delivered());
    delivered.count()
}

fn failures(device: &Device) -> usize {
    device.history.len() - rounds(device)
}

/// Prints the table, or JSON.
///
/// # Errors
/// If the folder is no run directory.
pub fn show(run: &Path, json: bool) -> Result<()> {
    let (devices, ending) = read(run)?;
    runs::warn_of_damage(run);
    if ending == Ending::Cut {
        output::warn("a table of the run ends within a row, which is left out");
    }
    if json {
        let devices: Vec<_> = devices.iter().map(object).collect();
        output::line(&serde_json::to_string_pretty(&devices)?)
    } else {
        output::print(&table(&devices))
    }
}

/// A device as JSON; a mean is called one.
fn object(device: &Device) -> Map<String, Value> {
    let keys = [
        ("client", device.client.into()),
        ("rounds", rounds(device).into()),
        ("failures", failures(device).into()),
    ];
    let keys = keys.map(|(key, value): (&str, Value)| (key.to_owned(), value));
    let metrics = Id::all().map(|id| {
        let metric = id.metric();
        let value = device.totals.over_rounds(id);
        let value = value.map_or(Value::Null, |value| metric.json(value));
        match metric.folds {
            Folds::Mean => (format!("mean_{}", metric.name), value),
            Folds::Sum | Folds::Max | Folds::Last => (metric.name.to_owned(), value),
        }
    });
    keys.into_iter().chain(metrics).collect()
}

/// A note on the columns of estimates.
const NOTE: &str = "* an estimate: docs/cost.md has the model, and what each number means";

const NOTHING: &str = "-";

/// A column as text: its head, and a cell for each device.
struct Column {
    head: &'static str,
    cells: Vec<String>,
}

impl Column {
    fn of(head: &'static str, devices: &[Device], cell: impl Fn(&Device) -> String) -> Self {
        let cells = devices.iter().map(cell).collect();
        Self { head, cells }
    }

    fn is_told(&self) -> bool {
        self.cells.iter().any(|cell| cell != NOTHING)
    }

    fn width(&self) -> usize {
        let widest = self.cells.iter().map(String::len).max();
        self.head.len().max(widest.unwrap_or(0))
    }
}

/// The columns for people.
fn columns(devices: &[Device]) -> Vec<Column> {
    let keys = [
        Column::of("client", devices, |device| device.client.to_string()),
        Column::of("rounds", devices, |device| rounds(device).to_string()),
        Column::of("failed", devices, |device| failures(device).to_string()),
    ];
    let metrics = Id::in_table().map(|(id, head)| {
        Column::of(head, devices, |device| {
            let value = device.totals.over_rounds(id);
            value.map_or_else(|| NOTHING.to_owned(), |value| id.metric().shown.text(value))
        })
    });
    // A column in which no device has anything is left out.
    keys.into_iter()
        .chain(metrics)
        .filter(Column::is_told)
        .collect()
}

fn table(devices: &[Device]) -> String {
    let columns = columns(devices);
    let line = |cell: &dyn Fn(&Column) -> &str| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        let [one, three] = [object(one), object(three)];
        for (device, expected) in [
            (
                &one,
                json!({"client": 1, "rounds": 1, "mean_instructions": null}),
            ),
            (
                &three,
                json!({"rounds": 2, "failures": 1, "mean_train_us": 5000}),
            ),
            (
                &three,
                json!({"mean_instructions": 10_000_000, "retransmissions": 2}),
            ),
            (
                &three,
                json!({"bytes_up": 2005, "heap_peak_bytes": 950_000, "loss": 0.5}),
            ),
            (
                &three,
                json!({"boot_ms": 41, "virtual_s": 1.0, "energy_j": 0.5}),
            ),
            (
                &three,
                json!({"host_cpu_s": 0.5, "link_retransmissions": 4, "link_dropped": 4}),
            ),
            (&one, json!({"energy_j": null, "link_dropped": null})),
        ] {
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&device[key], value, "{key} in {device:?}");
            }
        }
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
        let bytes = |d: &Device| {
            let [up, down] = BYTES.map(|bytes| d.totals.over_rounds(bytes).unwrap() as u64);
            (d.client, up, down)
        };
        assert_eq!(
            devices.iter().map(bytes).collect::<Vec<_>>(),
            [(1, 51_290, 994_110), (2, 201, 942_001), (3, 0, 0)]
        );
        assert_eq!((rounds(&devices[1]), failures(&devices[1])), (0, 0));
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
        let device = object(device);
        assert_eq!(device["retransmissions"], 16);
        assert_eq!(
            (&device["rounds"], &device["mean_train_us"]),
            (&json!(5), &json!(5000))
        );
    }

    #[test]
    fn a_row_that_was_cut_off_is_left_out() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("clients.csv");
        let failures = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            let (devices, ending) = read(run.path()).unwrap();
            let rounds = devices
                .iter()
                .map(|d| rounds(d) + failures(d))
                .sum::<usize>();
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
