//! The summary of a run: `summary.json`, and the block at the end of the terminal's output.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::level::LevelRecord;
use crate::round::RoundRecord;
use crate::seal::{check_text, with_checksum};

/// The training of a run, as the aggregator knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// True if every round completed.
    pub success: bool,
    /// Reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Clients that there may be.
    pub clients: u32,
    /// Rounds that were to be.
    pub rounds: u32,
    /// Rounds that completed.
    pub rounds_completed: u32,
    /// Accuracy of the last model on the test set.
    pub final_accuracy: Option<f64>,
    /// Its mean cross-entropy on the test set, in nats.
    pub final_loss: Option<f64>,
    /// The best accuracy of any round.
    pub best_accuracy: Option<f64>,
    /// Epsilon of differential privacy after the last round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Levels of aggregators in the complete rounds together; none without edges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelRecord>,
    /// Accuracies on the examples that devices hold out, at the last evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_devices: Option<Box<OnDevices>>,
    /// HTTP bytes from devices.
    pub bytes_up: u64,
    /// HTTP bytes to devices.
    pub bytes_down: u64,
    /// From the first wait for devices to the last evaluation, in seconds. Of a run that was resumed,
    /// without what was broken off and done again.
    pub train_s: f64,
    /// SHA-256 of the last model's parameters as little-endian f32.
    pub model_sha256: String,
    /// Seed of every random stream.
    pub seed: u64,
    /// Reasons for which another run of the same seed may have another model: time decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on_time: Vec<String>,
    /// Clients of a cohort that had no update in it; in a run's summary they are among the failures.
    #[serde(skip)]
    pub client_failures: Vec<ClientFailure>,
}

/// Accuracies on the examples that devices hold out, from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnDevices {
    /// The round whose model it was.
    pub round: u32,
    /// Devices that evaluated it.
    pub devices: u32,
    /// Mean over devices.
    pub mean: f64,
    /// Mean weighted by examples.
    pub weighted_mean: f64,
    /// Mean of the worst tenth of the devices.
    pub worst_decile: f64,
    /// Standard deviation over devices.
    pub deviation: f64,
    /// Mean of their personal models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal_mean: Option<f64>,
    /// Mean of the worst tenth of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal_worst_decile: Option<f64>,
}

impl OnDevices {
    /// The last evaluation of these rounds, if there was one.
    pub fn of(rounds: &[RoundRecord]) -> Option<Self> {
        let of_round = |record: &RoundRecord| {
            Some(Self {
                round: record.round,
                devices: record.devices_evaluated?,
                mean: record.device_accuracy_mean?,
                weighted_mean: record.device_accuracy_weighted_mean?,
                worst_decile: record.device_accuracy_worst_decile?,
                deviation: record.device_accuracy_deviation?,
                personal_mean: record.personal_accuracy_mean,
                personal_worst_decile: record.personal_accuracy_worst_decile,
            })
        };
        rounds.iter().rev().find_map(of_round)
    }

    /// A line for people.
    fn describe(&self) -> String {
        let [mean, worst, deviation] =
            [self.mean, self.worst_decile, self.deviation].map(|share| 100.0 * share);
        let own = self.personal_mean.zip(self.personal_worst_decile);
        let own = own.map_or_else(String::new, |(mean, worst)| {
            let [mean, worst] = [mean, worst].map(|share| 100.0 * share);
            format!("; personal models {mean:.2} %, worst tenth {worst:.2} %")
        });
        format!(
            "{mean:.2} % on what {} devices hold out, deviation {deviation:.2}, worst tenth {worst:.2} %{own}",
            self.devices
        )
    }
}

/// A client of a cohort that had no update in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFailure {
    /// The client.
    pub client: u32,
    /// The round.
    pub round: u32,
    /// Reason, in words.
    pub reason: String,
}

/// A device that ended without being asked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The device.
    pub client: u32,
    /// Manner of the end, in words.
    pub reason: String,
    /// The last lines that it wrote, oldest first.
    pub last_lines: Vec<String>,
}

/// The whole of a run: what the aggregator knows and what the orchestrator knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run's name.
    pub name: String,
    /// The aggregator's part; successful unless a signal ended the run.
    #[serde(flatten)]
    pub training: TrainingSummary,
    /// The signal that ended the run early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted_by: Option<String>,
    /// Body of the devices; absent for a server, which does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The machine of an emulated device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// From the start of the program to the end of the fleet, of all parts of the run. One that was
    /// broken off counts from its first event to its last.
    pub wall_s: f64,
    /// The orchestrator's part.
    #[serde(flatten)]
    pub fleet: FleetSummary,
    /// Devices that died, and updates that were asked for and did not come.
    pub failures: Vec<Failure>,
}

/// The fleet of a run, as the orchestrator knows it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FleetSummary {
    /// The network that emulated devices had, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Part of the time in rounds that were interrupted and done again; absent unless resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_s: Option<f64>,
    /// From the start of the first machine until all devices ran, of all parts that completed a round;
    /// absent if that did not come in one of them, or not before its last round.
    pub boot_s: Option<f64>,
    /// Memory of the host that each device's machine had to itself at the end of the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Counts of the fleet's frames; absent without a switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_stats: Option<NetworkStats>,
    /// Number of planned faults of each kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u32>,
    /// Actions by hand from the dashboard, counted: with any, the command does not repeat this run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_hand: BTreeMap<String, u32>,
    /// The last complete round at each time that the run was broken off and resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed_from: Vec<u32>,
    /// Devices that died; in a run's summary they are among the failures.
    #[serde(skip)]
    pub deaths: Vec<Death>,
}

/// A failure of one device.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// It was asked for an update, and none came.
    NoUpdate(ClientFailure),
    /// It ended without being asked to.
    Died(Death),
}

/// Private memory of the emulated machines, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Machines that were measured.
    pub devices: u32,
    /// Memory of the largest.
    pub private_bytes_max: u64,
    /// Mean memory.
    pub private_bytes_mean: u64,
}

impl Memory {
    /// Memory of machines with these private bytes; `None` if there are none.
    pub fn of(machines: impl IntoIterator<Item = u64>) -> Option<Self> {
        let bytes: Vec<u64> = machines.into_iter().collect();
        Some(Self {
            devices: bytes.len() as u32,
            private_bytes_max: bytes.iter().copied().max()?,
            private_bytes_mean: bytes.iter().sum::<u64>() / bytes.len() as u64,
        })
    }
}

/// Frames on all links together, as the switch counted them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkStats {
    /// The first round that is counted, if the run was resumed: the switch of before took its counts
    /// with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_round: Option<u32>,
    /// From devices.
    pub up: Frames,
    /// To devices.
    pub down: Frames,
    /// Mean time by which a frame left its link later than it should have.
    pub mean_late_ms: f64,
    /// The worst.
    pub worst_late_ms: f64,
    /// Frames that left more than a millisecond late.
    pub late_frames: u64,
    /// True if the switch ran in a real-time class; otherwise a busy host delayed it.
    pub real_time: bool,
}

/// Frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Handed to a link.
    pub offered: u64,
    /// Their bytes, with Ethernet headers.
    pub offered_bytes: u64,
    /// Taken by the loss that was asked for.
    pub lost: u64,
    /// Dropped for a full queue or a cut link.
    pub dropped: u64,
    /// TCP segments among those offered.
    pub tcp_segments: u64,
    /// TCP segments whose data, SYN or FIN were sent before.
    pub tcp_retransmissions: u64,
    /// TCP segments among those lost and dropped.
    pub tcp_dropped: u64,
}

impl RunSummary {
    /// Its file in the run directory.
    pub const FILE: &str = "summary.json";

    /// The summary in a run directory.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn load(run: &Path) -> Result<Self> {
        let path = run.join(Self::FILE);
        let text = zfl_files::Dir::open(run)?.read(Self::FILE, crate::MAX_FACTS)?;
        check_text(&path, &text)?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Writes the summary into a run directory, whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn save(&self, run: &Path) -> Result<()> {
        Ok(zfl_files::Dir::open(run)?.write(Self::FILE, &with_checksum(self)?)?)
    }

    /// For people, with the run directory as they would type it.
    pub fn describe(&self, out: &Path) -> String {
        let mut text = String::from("\n");
        let mut row = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<10} {value}");
        };
        row(
            "rounds",
            format!(
                "{} of {} completed",
                self.training.rounds_completed, self.training.rounds
            ),
        );
        if let (Some(accuracy), Some(loss)) =
            (self.training.final_accuracy, self.training.final_loss)
        {
            let best = self.training.best_accuracy.unwrap_or(accuracy);
            let (accuracy, best) = (100.0 * accuracy, 100.0 * best);
            row(
                "accuracy",
                format!("{accuracy:.2} % on the test images, best {best:.2} %"),
            );
            row("loss", format!("{loss:.4}"));
        }
        if let Some(epsilon) = self.training.epsilon {
            row("epsilon", format!("{epsilon:.2}"));
        }
        if let Some(on_devices) = &self.training.on_devices {
            row("on devices", on_devices.describe());
        }
        let (up, down) = (
            megabytes(self.training.bytes_up),
            megabytes(self.training.bytes_down),
        );
        row("traffic", format!("{up} from devices, {down} to devices"));
        for level in &self.training.levels {
            let (up, down) = (megabytes(level.bytes_up), megabytes(level.bytes_down));
            let (name, below) = (level.name(), level.below);
            row(
                &name,
                format!(
                    "{up} from the {below} that join it, {down} to them; {:.3} s of adding up, {} of sums",
                    level.add_us as f64 / 1e6,
                    megabytes(level.held_bytes)
                ),
            );
        }
        let boot = self
            .fleet
            .boot_s
            .map_or(String::new(), |boot_s| format!(", boot {boot_s:.1} s"));
        row(
            "time",
            format!(
                "{:.1} s, training {:.1} s{boot}",
                self.wall_s, self.training.train_s
            ),
        );
        if let Some(lost_s) = self.fleet.lost_s {
            let rounds: Vec<_> = self.fleet.resumed_from.iter().map(u32::to_string).collect();
            let word = if rounds.len() == 1 { "round" } else { "rounds" };
            let rounds = rounds.join(", ");
            row(
                "resumed",
                format!("after {word} {rounds}; {lost_s:.1} s went into what was broken off"),
            );
        }
        if let Some(memory) = self.fleet.memory {
            let max = megabytes(memory.private_bytes_max);
            row("memory", format!("{max} private to a device at most"));
        }
        if !self.fleet.faults.is_empty() {
            let each = self
                .fleet
                .faults
                .iter()
                .map(|(name, count)| format!("{count} {name}"));
            row("faults", each.collect::<Vec<_>>().join(", "));
        }
        if !self.fleet.by_hand.is_empty() {
            let each = self
                .fleet
                .by_hand
                .iter()
                .map(|(action, count)| format!("{count} {action}"));
            let each = each.collect::<Vec<_>>().join(", ");
            row(
                "by hand",
                format!("{each}, from the dashboard: the command does not repeat this run"),
            );
        }
        for line in self.failures_in_short() {
            row("failures", line);
        }
        if let Some(first) = self.training.depends_on_time.first() {
            let more = match self.training.depends_on_time.len() - 1 {
                0 => String::new(),
                more => format!("; and {more} more, see summary.json"),
            };
            row(
                "time",
                format!("this run's model depends on it: {first}{more}"),
            );
        }
        row("model", format!("sha256 {}", self.training.model_sha256));
        row("results", out.display().to_string());
        if let Some(reason) = &self.training.reason {
            row("stopped", reason.clone());
        }
        text.trim_end().to_owned()
    }

    fn failures_in_short(&self) -> Vec<String> {
        let missing = |failure: &&Failure| matches!(failure, Failure::NoUpdate(_));
        let missing = self.failures.iter().filter(missing).count();
        let mut lines = Vec::new();
        if missing > 0 {
            lines.push(format!("{missing} updates did not come, see clients.csv"));
        }
        for failure in &self.failures {
            if let Failure::Died(Death { client, reason, .. }) = failure {
                lines.push(format!(
                    "client {client} died: {reason}, see serial/{client}.log"
                ));
            }
        }
        lines
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_the_largest() {
        let memory = Memory::of([10, 20]);
        let expected = Memory {
            devices: 2,
            private_bytes_max: 20,
            private_bytes_mean: 15,
        };
        assert_eq!(memory, Some(expected));
        assert_eq!(Memory::of([]), None);
    }
}
