//! How a run ended: `summary.json`, and the block at the end of the terminal's output.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use zfl_experiment::{Choice, Experiment};
use zfl_orchestrator::switch::{LaneStats, SwitchStats};
use zfl_orchestrator::{Death, Usage};

/// The whole of a run, what the aggregator knows and what the orchestrator knows.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The run's name.
    pub name: String,
    /// Whether every round completed.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The signal that ended the run early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted_by: Option<&'static str>,
    /// What a device was; absent for a server, which does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'static str>,
    /// The machine of an emulated device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// The network that emulated devices had, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Clients that there could be.
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
    /// HTTP bytes from devices.
    pub bytes_up: u64,
    /// HTTP bytes to devices.
    pub bytes_down: u64,
    /// From the start of the program to the end of the fleet, of all parts of the run. One that was
    /// broken off counts from its first event to its last.
    pub wall_s: f64,
    /// How much of that went into rounds that were broken off and done again; absent unless resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_s: Option<f64>,
    /// From the start of the first machine until all devices ran, of all parts that completed a round;
    /// absent if that did not come in one of them, or not before its last round.
    pub boot_s: Option<f64>,
    /// From the first wait for devices to the last evaluation, of all parts, without what was lost.
    pub train_s: f64,
    /// Memory of the host that each device's machine had to itself at the end of the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// What became of the fleet's frames; absent where no switch counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_stats: Option<NetworkStats>,
    /// SHA-256 of the last model's parameters as little-endian f32.
    pub model_sha256: String,
    /// What every random stream was derived from.
    pub seed: u64,
    /// How often each kind of planned fault happened.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u32>,
    /// How often a hand did what from the dashboard: with any, the command does not repeat this run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_hand: BTreeMap<String, u32>,
    /// The last complete round at each time that the run was broken off and resumed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resumed_from: Vec<u32>,
    /// Devices that died, and updates that were asked for and did not come.
    pub failures: Vec<Failure>,
}

/// What went wrong with one device.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// It was asked for an update, and none came.
    NoUpdate {
        /// The device.
        client: u32,
        /// The round.
        round: u32,
        /// Why.
        reason: String,
    },
    /// It ended without being asked to.
    Died {
        /// The device.
        client: u32,
        /// How.
        reason: String,
        /// The last lines that it wrote.
        last_lines: Vec<String>,
    },
}

/// Private memory of the emulated machines, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Machines that were measured.
    pub devices: u32,
    /// Of the largest.
    pub private_bytes_max: u64,
    /// Of the mean one.
    pub private_bytes_mean: u64,
}

impl Memory {
    /// Of these machines; `None` if there are none.
    pub fn of(usages: impl IntoIterator<Item = Usage>) -> Option<Self> {
        let bytes: Vec<u64> = usages
            .into_iter()
            .map(|usage| usage.private_bytes)
            .collect();
        Some(Self {
            devices: bytes.len() as u32,
            private_bytes_max: bytes.iter().copied().max()?,
            private_bytes_mean: bytes.iter().sum::<u64>() / bytes.len() as u64,
        })
    }
}

/// Frames on all links together, as the switch counted them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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
    /// Whether the switch ran in a real-time class; if not, a busy host made it later.
    pub real_time: bool,
}

/// Frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

impl NetworkStats {
    /// Of all links of a switch.
    pub fn of(switch: &SwitchStats) -> Self {
        let (mut up, mut down) = (Frames::default(), Frames::default());
        for client in switch.clients.values() {
            up.add(&client.uplink);
            down.add(&client.downlink);
        }
        let punctuality = switch.punctuality;
        Self {
            since_round: None,
            up,
            down,
            // A fleet without frames was never late.
            mean_late_ms: punctuality.late_ns as f64 / punctuality.timed_frames.max(1) as f64 / 1e6,
            worst_late_ms: punctuality.worst_late_ns as f64 / 1e6,
            late_frames: punctuality.late_frames,
            real_time: switch.real_time,
        }
    }
}

impl Frames {
    fn add(&mut self, lane: &LaneStats) {
        self.offered += lane.frames;
        self.offered_bytes += lane.bytes;
        self.lost += lane.lost;
        self.dropped += lane.queue_drops + lane.cut_drops;
        self.tcp_segments += lane.tcp_segments;
        self.tcp_retransmissions += lane.tcp_retransmissions;
        self.tcp_dropped += lane.tcp_dropped;
    }
}

/// What only the fleet's side knows.
#[derive(Debug, Default)]
pub struct FleetSide {
    /// The network, in words.
    pub network: Option<String>,
    /// See [`Summary::boot_s`].
    pub boot_s: Option<f64>,
    /// See [`Summary::memory`].
    pub memory: Option<Memory>,
    /// See [`Summary::network_stats`].
    pub network_stats: Option<NetworkStats>,
    /// Devices that died.
    pub deaths: Vec<Death>,
    /// See [`Summary::faults`].
    pub faults: BTreeMap<String, u32>,
    /// See [`Summary::by_hand`].
    pub by_hand: BTreeMap<String, u32>,
    /// See [`Summary::resumed_from`].
    pub resumed_from: Vec<u32>,
    /// See [`Summary::lost_s`].
    pub lost_s: Option<f64>,
}

impl Summary {
    /// Both sides together.
    pub fn new(
        experiment: &Experiment,
        learned: zfl_aggregator::Summary,
        fleet: FleetSide,
        interrupted_by: Option<&'static str>,
        wall_s: f64,
    ) -> Self {
        let no_update = learned
            .client_failures
            .into_iter()
            .map(|failure| Failure::NoUpdate {
                client: failure.client,
                round: failure.round,
                reason: failure.reason,
            });
        let died = fleet.deaths.into_iter().map(|death| Failure::Died {
            client: death.client,
            reason: death.reason,
            last_lines: death.last_lines,
        });
        Self {
            name: experiment.name.clone(),
            success: learned.success && interrupted_by.is_none(),
            reason: learned.reason,
            interrupted_by,
            body: match experiment.body {
                None if !experiment.groups.is_empty() => Some("mixed"),
                body => body.map(|body| body.name()),
            },
            board: experiment.board.as_ref().map(|board| board.name.clone()),
            network: fleet.network,
            clients: learned.clients,
            rounds: learned.rounds,
            rounds_completed: learned.rounds_completed,
            final_accuracy: learned.final_accuracy,
            final_loss: learned.final_loss,
            best_accuracy: learned.best_accuracy,
            bytes_up: learned.bytes_up,
            bytes_down: learned.bytes_down,
            wall_s,
            lost_s: fleet.lost_s,
            boot_s: fleet.boot_s,
            train_s: learned.train_s,
            memory: fleet.memory,
            network_stats: fleet.network_stats,
            model_sha256: learned.model_sha256,
            seed: learned.seed,
            faults: fleet.faults,
            by_hand: fleet.by_hand,
            resumed_from: fleet.resumed_from,
            failures: no_update.chain(died).collect(),
        }
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
            format!("{} of {} completed", self.rounds_completed, self.rounds),
        );
        if let (Some(accuracy), Some(loss)) = (self.final_accuracy, self.final_loss) {
            let best = self.best_accuracy.unwrap_or(accuracy);
            let (accuracy, best) = (100.0 * accuracy, 100.0 * best);
            row(
                "accuracy",
                format!("{accuracy:.2} % on the test images, best {best:.2} %"),
            );
            row("loss", format!("{loss:.4}"));
        }
        let (up, down) = (megabytes(self.bytes_up), megabytes(self.bytes_down));
        row("traffic", format!("{up} from devices, {down} to devices"));
        let boot = self
            .boot_s
            .map_or(String::new(), |boot_s| format!(", boot {boot_s:.1} s"));
        row(
            "time",
            format!("{:.1} s, training {:.1} s{boot}", self.wall_s, self.train_s),
        );
        if let Some(lost_s) = self.lost_s {
            let rounds: Vec<_> = self.resumed_from.iter().map(u32::to_string).collect();
            let word = if rounds.len() == 1 { "round" } else { "rounds" };
            let rounds = rounds.join(", ");
            row(
                "resumed",
                format!("after {word} {rounds}; {lost_s:.1} s went into what was broken off"),
            );
        }
        if let Some(memory) = self.memory {
            let max = megabytes(memory.private_bytes_max);
            row("memory", format!("{max} private to a device at most"));
        }
        if !self.faults.is_empty() {
            let each = self
                .faults
                .iter()
                .map(|(name, count)| format!("{count} {name}"));
            row("faults", each.collect::<Vec<_>>().join(", "));
        }
        if !self.by_hand.is_empty() {
            let each = self
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
        row("model", format!("sha256 {}", self.model_sha256));
        row("results", out.display().to_string());
        if let Some(reason) = &self.reason {
            row("stopped", reason.clone());
        }
        text.trim_end().to_owned()
    }

    fn failures_in_short(&self) -> Vec<String> {
        let missing = |failure: &&Failure| matches!(failure, Failure::NoUpdate { .. });
        let missing = self.failures.iter().filter(missing).count();
        let mut lines = Vec::new();
        if missing > 0 {
            lines.push(format!("{missing} updates did not come, see clients.csv"));
        }
        for failure in &self.failures {
            if let Failure::Died { client, reason, .. } = failure {
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
    use zfl_orchestrator::switch::ClientStats;

    #[test]
    fn frames_are_those_of_all_links() {
        let lane = |frames, lost| LaneStats {
            frames,
            lost,
            cut_drops: 1,
            ..LaneStats::default()
        };
        let client = |frames| ClientStats {
            uplink: lane(frames, 2),
            downlink: lane(1, 0),
            ..ClientStats::default()
        };
        let mut switch = SwitchStats {
            clients: [(0, client(10)), (1, client(20))].into(),
            ..SwitchStats::default()
        };
        assert_eq!(NetworkStats::of(&switch).mean_late_ms, 0.0);
        (switch.punctuality.timed_frames, switch.punctuality.late_ns) = (4, 2_000_000);
        let stats = NetworkStats::of(&switch);
        assert_eq!(
            (stats.up.offered, stats.up.lost, stats.up.dropped),
            (30, 4, 2)
        );
        assert_eq!(stats.down.offered, 2);
        assert_eq!(stats.mean_late_ms, 0.5);
    }

    #[test]
    fn memory_is_that_of_the_largest() {
        let usage = |private_bytes| Usage {
            private_bytes,
            cpu_s: 0.0,
        };
        let memory = Memory::of([usage(10), usage(20)]);
        let expected = Memory {
            devices: 2,
            private_bytes_max: 20,
            private_bytes_mean: 15,
        };
        assert_eq!(memory, Some(expected));
        assert_eq!(Memory::of([]), None);
    }
}
