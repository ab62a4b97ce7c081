//! The record of a run: what is written while it goes on, and what everybody who shows it reads.
//!
//! A run directory holds `events.jsonl` ([`EventLog`], [`Tail`]), the tables `rounds.csv`, `clients.csv`
//! and `traffic.csv`, the model ([`RunDir`]), [`Meta`], and at the end `summary.json` ([`RunSummary`]).
//! [`Fold`] is what is known of a run after its events so far; [`replay`] makes one of a directory.
//!
//! # Invariants
//! - The events are the record: tables and folds are made of them, and never the other way round.
//! - A round counts once its model is in place; [`RunDir::resume`] takes away what came after it.
//! - What a resumed run reads is compared with the [`Checkpoint`]: it is as it was written, or refused.
//! - Nothing here talks to a network. A file is found through [`zfl_files::Dir`], which follows no link out of
//!   the directory, and is read up to a bound or in pieces.

#![forbid(unsafe_code)]

mod checkpoint;
mod client;
mod evaluation;
mod event;
mod event_log;
mod fleet;
pub mod fold;
mod groups;
mod history;
mod level;
mod lock;
mod logs;
mod meta;
pub mod metric;
mod resume;
mod round;
mod seal;
mod state;
mod summary;
mod tail;
mod together;
mod write;

/// Most of a JSON file or of `config.toml`, in bytes: a fleet of every client fits many times over.
pub const MAX_FACTS: u64 = 64 << 20;

/// Most of a table, in bytes: 500 devices in 3,000 rounds.
pub const MAX_TABLE: u64 = 512 << 20;

pub use checkpoint::{Checkpoint, CompleteRound, damage};
pub use client::{ClientRow, Ending};
pub use evaluation::{
    BINS, Confusion, Distribution, EvaluationRecord, ModelEvaluation, RoundEvaluation, Score,
};
pub use event::{Chosen, ClientRecord, Event, Record, RoundPhase};
pub use event_log::{EventLog, RunClock};
pub use fleet::{ByHand, FaultRecord, FleetRecord, MeshRecord};
pub use fold::Fold;
pub use groups::FleetGroup;
pub use history::{EDGE_LOST, RunHistory, time_decided};
pub use level::{LevelRecord, Levels};
pub use lock::{PID_FILE, claim, create_new, holder, is_under_way, lock};
pub use logs::log;
pub use meta::Meta;
pub use metric::HostCost;
pub use resume::Resumed;
pub use round::RoundRecord;
pub use seal::{Damaged, Seal};
pub use state::{StateDir, StatePart};
pub use summary::{
    ClientFailure, Death, Failure, FleetSummary, Frames, Memory, NetworkStats, OnDevices,
    RunSummary, TrainingSummary,
};
pub(crate) use tail::MAX_LINE;
pub use tail::{EVENTS, Tail, replay};
pub use write::{INPUTS, PARTITION, RoundEnd, RunDir, SCALING, Traffic, model_sha256};
