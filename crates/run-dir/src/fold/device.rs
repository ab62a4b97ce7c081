//! One device.

use crate::fold::SinceBoot;
use crate::groups::FleetGroup;
use crate::metric::{Totals, Values};
use crate::{ClientRow, Meta};
use serde::Serialize;

/// Activity of a device, as far as it is known.
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

    /// Name in JSON.
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

    /// True if it waits for work.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Done)
    }

    /// True if it is at work.
    pub fn is_training(self) -> bool {
        matches!(self, Self::Training | Self::Sending)
    }
}

/// A device as it is now. What is missing is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Device {
    /// The client's ID.
    pub client: u32,
    /// Its activity.
    pub state: State,
    /// Reason for which it is dead, away or has failed.
    pub reason: Option<String>,
    /// True while it is frozen by remote control.
    pub frozen: bool,
    /// True while its link is cut by remote control.
    pub link_cut: bool,
    /// Its board, or its body if it has none.
    pub board: Option<String>,
    /// Its link profile.
    pub link: Option<String>,
    /// Its group of a mixed fleet.
    pub group: Option<String>,
    /// Speed of its processor, if slowed down, in million instructions a second.
    pub speed_mips: Option<f64>,
    /// Its memory, in MiB.
    pub memory_mib: Option<u64>,
    /// The last round that it took part in; 0 is none.
    pub round: u32,
    /// Training passes done in that round, of `total_examples`.
    pub done_examples: u32,
    /// Training passes to do.
    pub total_examples: u32,
    /// The last lines that it printed before it died.
    pub last_lines: Vec<String>,
    /// Its rounds, the first first.
    #[serde(skip)]
    pub history: Vec<HistoryRow>,
    /// The metrics of the rounds that it finished.
    #[serde(flatten)]
    pub totals: Totals,
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
    /// The metrics; what a device counts since its boot is what it counted since its update before.
    #[serde(flatten)]
    pub values: Values,
}

impl HistoryRow {
    /// True if there is an update.
    pub fn is_delivered(&self) -> bool {
        self.outcome != FAILED
    }
}

const FAILED: &str = "failed";
const RECEIVED: &str = "received";

impl Device {
    /// A device of which only the client is known.
    pub fn of(client: u32) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }

    /// Setting of its group, or else of the whole fleet.
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

    /// Takes in what came of a round: an update, or none.
    pub fn take_in(&mut self, row: &ClientRow) {
        match row.outcome.as_str() {
            "late" => self.received(row.round, "late", row.values),
            RECEIVED => self.received(row.round, RECEIVED, row.values),
            _ => self.missed(row.round),
        }
    }

    fn received(&mut self, round: u32, outcome: &'static str, mut values: Values) {
        self.counts.grow(&mut values);
        values.complete();
        self.totals.add(&values);
        self.round = self.round.max(round);
        self.done_examples = self.total_examples;
        self.history.push(HistoryRow {
            round,
            outcome,
            values,
        });
    }

    /// Takes in that no update counts in a round. One that came, and could not be used, was a row already.
    pub(super) fn missed(&mut self, round: u32) {
        self.round = self.round.max(round);
        let came = self.history.iter_mut().rev();
        let came = came.take_while(|row| row.round >= round);
        if let Some(row) = came
            .filter(|row| row.round == round)
            .find(|row| row.outcome == RECEIVED)
        {
            row.outcome = FAILED;
            return;
        }
        self.history.push(HistoryRow {
            round,
            outcome: FAILED,
            ..HistoryRow::default()
        });
    }
}
