//! Results read from a run directory.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    pub summary: Summary,
    /// From round 1 on.
    pub rounds: Vec<Round>,
    pub updates: Vec<Update>,
    pub faults: BTreeSet<Fault>,
    /// The load average before it.
    pub load: f64,
}

/// The part of `summary.json` that tables show.
#[derive(Debug, Deserialize)]
pub struct Summary {
    pub rounds: u32,
    pub rounds_completed: u32,
    pub final_accuracy: Option<f64>,
    pub network: Option<String>,
    pub wall_s: f64,
    pub boot_s: Option<f64>,
    pub train_s: f64,
    pub memory: Option<Memory>,
    pub network_stats: Option<NetworkStats>,
    pub model_sha256: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Memory {
    pub private_bytes_max: u64,
    pub private_bytes_mean: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct NetworkStats {
    pub up: Frames,
    pub down: Frames,
    pub mean_late_ms: f64,
    pub worst_late_ms: f64,
    pub late_frames: u64,
    pub real_time: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Frames {
    pub offered: u64,
    pub offered_bytes: u64,
    pub lost: u64,
    pub tcp_retransmissions: u64,
    pub tcp_dropped: u64,
}

impl Frames {
    /// The share of frames that the link lost, in percent.
    pub fn loss_percent(&self) -> f64 {
        100.0 * self.lost as f64 / self.offered.max(1) as f64
    }
}

/// The part of a row of `rounds.csv` that tables show.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Round {
    pub round: u32,
    pub wait_s: f64,
    pub round_s: f64,
    /// Since the start of the run, at the end of the round.
    pub elapsed_s: f64,
}

/// The part of a row of `clients.csv` that tables show.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Update {
    pub round: u32,
    pub client: u32,
    pub outcome: String,
    pub boot_ms: Option<u64>,
    pub host_cpu_s: Option<f64>,
    /// Of the training; missing where nothing counts them.
    pub instructions: Option<u64>,
}

/// Something that was made to go wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub round: u64,
    pub client: u64,
    pub kind: String,
}

impl Run {
    /// Reads a run directory.
    ///
    /// # Errors
    /// If something is missing or not as expected.
    pub fn read(out: &Path, load: f64) -> Result<Self> {
        let text = |name: &str| {
            let path = out.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let summary = serde_json::from_str(&text("summary.json")?).context("summary.json")?;
        let mut rounds: Vec<Round> = rows(&text("rounds.csv")?).context("rounds.csv")?;
        // The evaluation before the first round is no round.
        rounds.retain(|round| round.round > 0);
        Ok(Self {
            summary,
            rounds,
            updates: rows(&text("clients.csv")?).context("clients.csv")?,
            faults: faults(&text("events.jsonl")?),
            load,
        })
    }

    /// Accuracy on the test set, in percent.
    pub fn accuracy_percent(&self) -> Option<f64> {
        self.summary.final_accuracy.map(|share| 100.0 * share)
    }

    /// Processor time that each device's machine took until its last update, in seconds.
    pub fn host_cpu_s(&self) -> Vec<f64> {
        let mut clients = BTreeMap::<u32, f64>::new();
        for update in &self.updates {
            if let Some(cpu_s) = update.host_cpu_s {
                *clients.entry(update.client).or_default() += cpu_s;
            }
        }
        clients.into_values().collect()
    }

    /// Updates that were asked for and are in no model.
    pub fn missing(&self) -> BTreeSet<(u32, u32, &str)> {
        let missing = self.updates.iter().filter(|one| one.outcome != "received");
        missing
            .map(|one| (one.round, one.client, one.outcome.as_str()))
            .collect()
    }
}

/// The rows of a table with a head.
fn rows<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The events that are written whole.
pub fn events(text: &str) -> impl Iterator<Item = Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
}

fn faults(text: &str) -> BTreeSet<Fault> {
    let told = events(text).filter(|event| event["event"] == "fleet" && event["what"] == "fault");
    let fault = |event: Value| {
        Some(Fault {
            round: event["detail"]["round"].as_u64()?,
            client: event["client"].as_u64()?,
            kind: event["detail"]["fault"].as_str()?.to_owned(),
        })
    };
    told.filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{
        "name": "x", "success": true, "rounds": 2, "rounds_completed": 2, "final_accuracy": 0.5,
        "wall_s": 3.5, "boot_s": 1.0, "train_s": 2.0, "seed": 1,
        "memory": {"devices": 2, "private_bytes_max": 9, "private_bytes_mean": 8},
        "network_stats": {
            "up": {"offered": 200, "offered_bytes": 9000, "lost": 3, "dropped": 0,
                   "tcp_segments": 190, "tcp_retransmissions": 2, "tcp_dropped": 3},
            "down": {"offered": 0, "offered_bytes": 0, "lost": 0, "dropped": 0,
                     "tcp_segments": 0, "tcp_retransmissions": 0, "tcp_dropped": 0},
            "mean_late_ms": 0.1, "worst_late_ms": 2.5, "late_frames": 1, "real_time": true
        },
        "model_sha256": "ab", "faults": {"crash": 1}, "failures": [{"kind": "no_update"}]
    }"#;
    const ROUNDS: &str = "round,cohort_size,wait_s,train_s,round_s,elapsed_s,simulated_s\n\
                          0,0,0.0,0.0,0.1,0.5,\n1,2,0.5,1.5,2.5,3.5,\n2,2,0.1,1.0,1.25,5.0,7.5\n";
    const CLIENTS: &str = "round,client,outcome,boot_ms,host_cpu_s\n\
                           1,0,received,80,0.5\n1,1,\"dead, it seems\",,\n2,0,received,80,0.25\n";
    const EVENTS: &str = r#"{"time_ms":1,"at":"x","event":"fleet","client":4,"what":"fault","detail":{"fault":"crash","reboot":true,"round":2}}
{"time_ms":2,"at":"x","event":"fleet","client":4,"what":"booting","detail":{"attempt":1}}
{"time_ms":3,"at":"x","event":"client_started","client":4,"round":3}
{"time_ms":4,"at":"x","event":"cli"#;

    fn run() -> Run {
        Run {
            summary: serde_json::from_str(SUMMARY).unwrap(),
            rounds: rows(ROUNDS).unwrap(),
            updates: rows(CLIENTS).unwrap(),
            faults: faults(EVENTS),
            load: 0.0,
        }
    }

    #[test]
    fn summary() {
        let run = run();
        assert_eq!(run.accuracy_percent(), Some(50.0));
        let stats = run.summary.network_stats.unwrap();
        assert_eq!(stats.up.loss_percent(), 1.5);
        assert_eq!(stats.down.loss_percent(), 0.0, "of no frames");
        assert!(
            serde_json::from_str::<Summary>("{}").is_err(),
            "nothing is made up"
        );
    }

    #[test]
    fn tables() {
        let run = run();
        assert_eq!(run.rounds[2].round_s, 1.25);
        assert_eq!(run.host_cpu_s(), [0.75], "client 1 was not measured");
        assert_eq!(
            run.missing().into_iter().collect::<Vec<_>>(),
            [(1, 1, "dead, it seems")]
        );
        assert!(
            rows::<Round>("round\n1\n").is_err(),
            "a column that is not there"
        );
    }

    #[test]
    fn a_line_that_is_half_written_is_no_event() {
        assert_eq!(events(EVENTS).count(), 3);
        let expected = Fault {
            round: 2,
            client: 4,
            kind: "crash".to_owned(),
        };
        assert_eq!(faults(EVENTS).into_iter().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_run_directory_is_read_as_a_whole() {
        let out = std::env::temp_dir().join(format!("xtask-results-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let files = [
            ("summary.json", SUMMARY),
            ("rounds.csv", ROUNDS),
            ("clients.csv", CLIENTS),
            ("events.jsonl", EVENTS),
        ];
        for (name, text) in files {
            assert!(Run::read(&out, 0.0).is_err(), "without {name}");
            fs::write(out.join(name), text).unwrap();
        }
        let run = Run::read(&out, 0.5);
        fs::remove_dir_all(&out).unwrap();
        let run = run.unwrap();
        assert_eq!((run.rounds.len(), run.faults.len()), (2, 1));
    }
}
