//! Files that others may have made: experiments, data, and the directories of runs.
//!
//! A file that the user names may be a link and may lie anywhere; [`read`] and [`open`] take it if it is
//! an ordinary file within a bound. A file of a folder is found through [`Dir`], which follows no link:
//! neither in reading nor in writing is the folder left. [`Lock`] is held on a folder for a run's life.
//!
//! # Invariants
//! - Nothing here waits for a file: a FIFO or a device is refused before it is opened.
//! - No size is believed: it is checked before the file is read, and again while it is.

#![forbid(unsafe_code)]

mod bounded;
mod dir;
mod error;
mod lines;
mod lock;

pub use bounded::{open, read, read_text};
pub use dir::{Dir, Prepared};
pub use error::{FileError, Reason};
pub use lines::read_line;
pub use lock::{Holder, Lock, Signal};

/// Most of an experiment, a board, a link or another text that people write, in bytes.
pub const MAX_TEXT: u64 = 1 << 20;
