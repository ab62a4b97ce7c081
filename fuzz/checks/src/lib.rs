//! Readers of foreign input, each with the properties that hold for any input at all.
//!
//! A [`Target`] feeds octets to one reader and panics if the reader breaks a property. `fuzz/fuzz_targets`
//! wraps each for cargo-fuzz, and `tests/corpora.rs` runs each over `fuzz/corpus/<name>/` and over damaged
//! copies of these files, with the stable compiler.
//!
//! # Invariants
//! - A check depends on its input alone: no clock, no random number, no state from earlier inputs.
//! - [`Verdict::Accepted`] means that the reader took the input. Corpus files called `valid-…` must be
//!   accepted, so a corpus that a change of format has made stale is noticed.

#![forbid(unsafe_code)]

mod aggregator;
mod archive;
mod board;
mod device;
mod experiment;
mod gateway;
mod hub;
mod idx;
mod link;
mod message;
mod model;
mod radio;
mod radio_line;
mod relay;
mod run_dir;
mod sums;
mod table;
mod trace;

pub mod seeds;

/// Outcome of a check whose properties held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The reader took the input.
    Accepted,
    /// The reader refused the input.
    Refused,
}

impl Verdict {
    /// [`Verdict::Accepted`] for `Ok`.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(_) => Self::Refused,
        }
    }
}

/// One reader and its properties.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the target, of its corpus folder and of its wrapper for cargo-fuzz.
    pub name: &'static str,
    /// Feeds an input to the reader; panics if a property is broken.
    pub check: fn(&[u8]) -> Verdict,
    /// Damaged copies that the plain test makes of each corpus file: fewer for a slow reader.
    pub damaged: u32,
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target {
        name: "aggregator-request",
        check: aggregator::check,
        damaged: 8,
    },
    Target {
        name: "board",
        check: board::check,
        damaged: 100,
    },
    Target {
        name: "device-answer",
        check: device::check_answer,
        damaged: 100,
    },
    Target {
        name: "device-request",
        check: device::check_request,
        damaged: 100,
    },
    Target {
        name: "experiment",
        check: experiment::check,
        damaged: 50,
    },
    Target {
        name: "gateway-answer",
        check: gateway::check_answer,
        damaged: 100,
    },
    Target {
        name: "gateway-request",
        check: gateway::check_request,
        damaged: 30,
    },
    Target {
        name: "hub",
        check: hub::check,
        damaged: 300,
    },
    Target {
        name: "idx",
        check: idx::check,
        damaged: 50,
    },
    Target {
        name: "link",
        check: link::check,
        damaged: 300,
    },
    Target {
        name: "message",
        check: message::check,
        damaged: 300,
    },
    Target {
        name: "model",
        check: model::check,
        damaged: 200,
    },
    Target {
        name: "radio",
        check: radio::check,
        damaged: 300,
    },
    Target {
        name: "radio-line",
        check: radio_line::check,
        damaged: 300,
    },
    Target {
        name: "relay",
        check: relay::check,
        damaged: 100,
    },
    Target {
        name: "run-dir",
        check: run_dir::check,
        damaged: 15,
    },
    Target {
        name: "sums",
        check: sums::check,
        damaged: 100,
    },
    Target {
        name: "table",
        check: table::check,
        damaged: 300,
    },
    Target {
        name: "trace",
        check: trace::check,
        damaged: 500,
    },
];

/// Checks an input against the target of this name.
///
/// # Panics
/// If a property is broken, or there is no such target.
pub fn check(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").check)(input);
}

/// A folder that is removed when it is dropped, with these files in it.
fn folder<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        let parent = path.parent().expect("a file has a folder");
        std::fs::create_dir_all(parent).expect("a folder in a temporary folder");
        std::fs::write(path, content).expect("a file in a temporary folder");
    }
    folder
}
