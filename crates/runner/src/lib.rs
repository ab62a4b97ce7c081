//! A run as a library: aggregator and fleet side by side, from an experiment to its summary.
//!
//! ```no_run
//! use zfl_experiment::{Experiment, Out, Root, Settings};
//!
//! let settings = Settings { clients: Some(4), rounds: Some(3), ..Settings::default() };
//! let experiment = Experiment::of_run(&settings, Out::New(None), &Root::find(None)?)?;
//! let summary = zfl_runner::run(experiment, ())?;
//! assert!(summary.training.success);
//! # anyhow::Ok(())
//! ```
//!
//! [`run()`] blocks until the run is over. An [`Observer`] is told what happens; a [`Runner`] holds what can
//! be chosen beyond the experiment: the page, remote control, captures, signals. Native devices are threads
//! of the calling process.
//!
//! # Emulated devices
//! Emulated devices live in namespaces of their own, and so does the rest of the run: [`run()`] forks before
//! it starts a runtime. The caller must have a single thread then, so it calls [`run()`] early, and from no
//! asynchronous code. The observer is called in the forked process: what it prints is seen, what it keeps
//! in memory is lost. The summary comes back by the run directory.
//!
//! Invariants
//! - Whatever can be refused is refused before a folder is made or a process is started.
//! - Nothing here reads arguments, knows a terminal or ends the process.

#![forbid(unsafe_code)]

mod background;
mod control;
mod edge;
mod edges;
mod faults;
mod fleet;
pub mod launch;
mod meter;
mod observer;
mod page;
mod places;
mod resume;
mod run;
mod runner;
mod server;
mod session;
mod storage;
mod summary;
mod watchdog;

pub use control::{ControlToken, TOKEN_VARIABLE};
pub use edge::EdgeProcess;
pub use fleet::{Capture, DOORS};
pub use observer::{Begin, Observer};
pub use page::open as open_page;
pub use resume::changed_since;
pub use runner::{Ended, Runner, run};
pub use server::Listening;
pub use session::{Interrupt, Interrupts, block_on};
