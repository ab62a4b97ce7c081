//! A sweep: many runs of one experiment, with other values of some of its keys.
//!
//! A sweep file names the experiment and the values: lists in `[grid]`, of which every combination is a run,
//! ranges in `[random]` to draw from, and `[[cases]]` that set several keys together. [`Sweep::read`] reads
//! it, [`Sweep::points`] are the runs that it asks for, [`Plan::of`] resolves and checks every one, and
//! [`Folder`] holds what they leave.
//!
//! Invariants
//! - A run's name and its values follow from the sweep file alone: what is added to a file later renames no
//!   run, and redraws none.
//! - Every run is checked before the first begins.
//! - Nothing here starts a process.

#![forbid(unsafe_code)]

mod draw;
mod file;
mod folder;
mod keys;
mod name;
mod plan;
mod points;
mod settings;
mod table;

pub use file::Sweep;
pub use folder::{Folder, RUNS, Standing};
pub use plan::{Plan, Planned};
pub use points::Point;
pub use table::{Row, Status};
