//! Support of the end-to-end tests: the built program, runs of it, and the processes that it starts.
//!
//! Time limits here end what hangs; no test asserts that something is fast.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test file is a program of its own and uses a part of this"
)]

mod choices;
mod page;
mod process;
mod pty;
mod run;

pub use choices::{choosing, encodings};
pub use page::Page;
pub use process::{Guarded, LIMIT, descendants, is_alive, is_stopped, signal, wait_until};
pub use pty::Pty;
pub use run::{Live, Run};

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The program under test, at the repository's root, with nobody at the keyboard.
pub fn zfl() -> Command {
    let mut zfl = Command::new(env!("CARGO_BIN_EXE_zfl"));
    zfl.current_dir(root()).stdin(Stdio::null());
    zfl
}

/// Flags of a run on native devices that is small enough for a debug build.
pub const SMALL: [&str; 8] = [
    "--body",
    "native",
    "--examples",
    "120",
    "--epochs",
    "2",
    "--batch-size",
    "60",
];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder that goes when the test ends.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder can be made")
}

/// Runs a script of sh in which `"$@"` is the command.
pub fn by_sh(script: &str, command: &Command) -> Command {
    let mut sh = Command::new("sh");
    sh.args(["-c", script, "sh"]).arg(command.get_program());
    sh.args(command.get_args()).current_dir(root());
    sh
}

/// Output of a finished program.
#[derive(Debug)]
pub struct Said {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end.
///
/// # Panics
/// If it hangs.
#[track_caller]
pub fn finish(command: &mut Command) -> Said {
    let folder = folder();
    let file = |name: &str| File::create(folder.path().join(name)).expect("the disk has room");
    let mut child = Guarded::start(command.stdout(file("stdout")).stderr(file("stderr")));
    let status = child.finish().code();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    Said {
        status,
        out: text("stdout"),
        err: text("stderr"),
    }
}
