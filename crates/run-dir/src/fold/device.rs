//! One device.

use crate::ClientRecord;
use crate::Meta;
use crate::fold::{Counts, SinceBoot};
use crate::groups::FleetGroup;
use serde::Serialize;

/// What a device does, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Has not said that it is ready.
    #[default]
    Joining,
    /// Its machine starts.
    Booting,
    /// Has its data and waits.
    Ready,
    /// Trains.
    Training,
    /// Has trained, and its update is on the way.
    Sending,
    /// Its update was taken in.
    Done,
    /// Has no update in the round.
    Failed,
    /// Is not there, and expected back.
    Away,
    /// Is gone.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Joining,
        Self::Booting,
        Self::Ready,
        Self::Training,
        Self::Sending,
        Self::Done,
        Self::Failed,
        Self::Away,
        Self::Dead,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Training => "training",
            Self::Sending => "sending",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Away => "away",
            Self::Dead => "dead",
        }
    }

    /// Whether it waits for work.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Done)
    }

    /// Whether it is at work.
    pub fn is_training(self) -> bool {
        matches!(self, Self::Training | Self::Sending)
    }
}

/// A device as it is now. What is missing is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Device {
    /// The client's ID.
    pub client: u32,
    /// What it does.
    pub state: State,
    /// Why it is dead, away or has failed.
    pub reason: Option<String>,
    /// Whether it was frozen by hand, and stands still.
    pub frozen: bool,
    /// Whether its link was cut by hand, and is not healed.
    pub link_cut: bool,
    /// Its board, or its body if it has none.
    pub board: Option<String>,
    /// Its link profile.
    pub link: Option<String>,
    /// Its group of a mixed fleet.
    pub group: Option<String>,
    /// What its processor is slowed down to, in million instructions a second.
    pub speed_mips: Option<f64>,
    /// Its memory, in MiB.
    pub memory_mib: Option<u64>,
    /// The last round that it took part in; 0 is none.
    pub round: u32,
    /// Training passes done in that round, of `total_examples`.
    pub done_examples: u32,
    /// Training passes to do.
    pub total_examples: u32,
    /// Its own training time in the last round that it finished, by its own clock, in microseconds.
    pub train_us: Option<u64>,
    /// From choosing the cohort to its update in that round, in seconds.
    pub round_s: Option<f64>,
    /// That round's training by the clock that its board is given, in seconds.
    pub virtual_s: Option<f64>,
    /// Simulated time that its link took in that round, in seconds.
    pub link_s: Option<f64>,
    /// What that round took of its battery, in joules: an estimate.
    pub energy_j: Option<f64>,
    /// Mean training loss of the last local epoch of that round.
    pub loss: Option<f32>,
    /// Instructions of that round's training.
    pub instructions: Option<u64>,
    /// Most heap ever in use, in bytes.
    pub heap_peak_bytes: Option<u32>,
    /// Most stack ever in use, in bytes.
    pub stack_peak_bytes: Option<u32>,
    /// TCP segments that it sent again, in all its boots; in each up to its last update.
    pub retransmissions: Option<u64>,
    /// Segments that its link carried twice in the rounds that it finished.
    pub link_retransmissions: Option<u64>,
    /// Segments that its link dropped in those rounds.
    pub link_dropped: Option<u64>,
    /// HTTP bytes from it in the rounds that it finished.
    pub bytes_up: u64,
    /// HTTP bytes to it in those rounds.
    pub bytes_down: u64,
    /// Memory of the host that is its alone, in bytes.
    pub host_bytes: Option<u64>,
    /// Processor time of the host that it took so far, in seconds.
    pub cpu_s: Option<f64>,
    /// From the start of its machine to its prompt, in milliseconds.
    pub boot_ms: Option<u64>,
    /// The last lines that it printed before it died.
    pub last_lines: Vec<String>,
    /// Its rounds, the first first.
    #[serde(skip)]
    pub history: Vec<HistoryRow>,
    #[serde(skip)]
    counts: SinceBoot,
}

/// A device in one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HistoryRow {
    /// The round.
    pub round: u32,
    /// `received`, `late` or `failed`.
    pub outcome: &'static str,
    /// Its own training time, by its own clock, in microseconds.
    pub train_us: Option<u64>,
    /// From choosing the cohort to its update, in seconds.
    pub round_s: Option<f64>,
    /// Training by the clock that its board is given, in seconds.
    pub virtual_s: Option<f64>,
    /// Simulated time that its link took, in seconds.
    pub link_s: Option<f64>,
    /// What it took of its battery, in joules: an estimate.
    pub energy_j: Option<f64>,
    /// Mean training loss of the last local epoch.
    pub loss: Option<f32>,
    /// Instructions of the training.
    pub instructions: Option<u64>,
    /// Most heap in use since its boot, in bytes.
    pub heap_peak_bytes: Option<u32>,
    /// Most stack in use since its boot, in bytes.
    pub stack_peak_bytes: Option<u32>,
    /// TCP segments that it sent again since its update before, or since its boot if that was later.
    pub retransmissions: Option<u64>,
    /// Segments that its link carried twice.
    pub link_retransmissions: Option<u64>,
    /// Segments that its link dropped.
    pub link_dropped: Option<u64>,
    /// Processor time of the host, in seconds.
    pub cpu_s: Option<f64>,
    /// Memory of the host that is its alone, in bytes.
    pub host_bytes: Option<u64>,
    /// HTTP bytes from it.
    pub bytes_up: u64,
    /// HTTP bytes to it.
    pub bytes_down: u64,
}

impl Device {
    /// What its group says of it, else what is said of the whole fleet.
    pub(super) fn new(client: u32, group: FleetGroup, meta: &Meta) -> Self {
        let board = group.board.or_else(|| meta.board.clone());
        Self {
            client,
            board: board.or_else(|| meta.body.clone()),
            link: group.link.or_else(|| meta.link.clone()),
            group: group.name,
            speed_mips: group.speed_mips,
            memory_mib: group.memory_mib,
            ..Self::default()
        }
    }

    pub(super) fn received(&mut self, record: &ClientRecord) {
        let (cost, host) = (record.cost.as_ref(), record.host.as_ref());
        let boot_ms = host.and_then(|host| host.boot_ms);
        let counts = cost.map(Counts::from).unwrap_or_default();
        let grown = self.counts.grow(boot_ms, counts);
        let row = HistoryRow {
            round: record.round,
            outcome: if record.outcome == "late" {
                "late"
            } else {
                "received"
            },
            train_us: cost.map(|cost| cost.train_us),
            round_s: record.round_s,
            virtual_s: host.and_then(|host| host.virtual_s),
            link_s: host.and_then(|host| host.link_s),
            energy_j: host.and_then(|host| host.energy_j),
            loss: record.loss,
            instructions: cost.and_then(|cost| cost.instructions),
            heap_peak_bytes: cost.and_then(|cost| cost.heap_peak_bytes),
            stack_peak_bytes: cost.and_then(|cost| cost.stack_peak_bytes),
            retransmissions: grown.retransmissions,
            link_retransmissions: host.and_then(|host| host.link_retransmissions),
            link_dropped: host.and_then(|host| host.link_dropped),
            cpu_s: host.and_then(|host| host.cpu_s),
            host_bytes: host.and_then(|host| host.private_bytes),
            bytes_up: record.bytes_up,
            bytes_down: record.bytes_down,
        };
        self.round = self.round.max(row.round);
        self.done_examples = self.total_examples;
        self.train_us = row.train_us;
        self.round_s = row.round_s;
        self.virtual_s = row.virtual_s;
        self.link_s = row.link_s;
        self.energy_j = row.energy_j;
        self.loss = row.loss;
        self.instructions = row.instructions;
        self.heap_peak_bytes = row.heap_peak_bytes.max(self.heap_peak_bytes);
        self.stack_peak_bytes = row.stack_peak_bytes.max(self.stack_peak_bytes);
        self.retransmissions = self.counts.total().retransmissions;
        self.link_retransmissions = sum(self.link_retransmissions, row.link_retransmissions);
        self.link_dropped = sum(self.link_dropped, row.link_dropped);
        self.cpu_s = row
            .cpu_s
            .map(|s| s + self.cpu_s.unwrap_or(0.0))
            .or(self.cpu_s);
        self.host_bytes = row.host_bytes.or(self.host_bytes);
        self.boot_ms = boot_ms.or(self.boot_ms);
        self.bytes_up = self.bytes_up.saturating_add(row.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(row.bytes_down);
        self.history.push(row);
    }

    pub(super) fn missed(&mut self, round: u32) {
        self.round = self.round.max(round);
        self.history.push(HistoryRow {
            round,
            outcome: "failed",
            ..HistoryRow::default()
        });
    }
}

/// The sum of what is known.
fn sum(before: Option<u64>, more: Option<u64>) -> Option<u64> {
    more.map(|more| before.unwrap_or(0).saturating_add(more))
        .or(before)
}
