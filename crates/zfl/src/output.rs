//! All that zfl prints: a reader that went away or a full disk is no panic, and ends no run.

use anyhow::{Context, Result};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard output, or error, has no reader any more: a reason to end quietly, as for `| head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NobodyReads;

impl fmt::Display for NobodyReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads what is printed")
    }
}

impl std::error::Error for NobodyReads {}

/// Prints what was asked for.
///
/// # Errors
/// [`NobodyReads`], or that it cannot be written.
pub fn print(text: &str) -> Result<()> {
    asked_for(write(&mut io::stdout().lock(), text))
}

/// Prints a line that was asked for.
///
/// # Errors
/// As of [`print()`].
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Outcome of writing what was asked for.
///
/// # Errors
/// As of [`print()`].
pub fn asked_for(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Tells on standard output how something goes that goes on if nobody hears of it; that the line is
/// lost is told once.
pub fn say(text: &str) {
    lost(&write(&mut io::stdout().lock(), &format!("{text}\n")));
}

/// Notes the outcome of writing a line that may be lost.
pub fn lost(written: &io::Result<()>) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        warn(&format!(
            "standard output: {error}; what happens is no longer shown there"
        ));
    }
}

/// Prints a line on standard error.
pub fn note(text: &str) {
    // There is nobody left to tell.
    let _ = write(&mut io::stderr().lock(), &format!("{text}\n"));
}

/// Prints a warning on standard error.
pub fn warn(text: &str) {
    note(&format!("warning: {text}"));
}

/// Writes a text, whole.
pub fn write(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_told_from_a_disk_that_is_full() {
        let of = |kind: ErrorKind| asked_for(Err(kind.into())).unwrap_err();
        assert!(of(ErrorKind::BrokenPipe).is::<NobodyReads>());
        let full = of(ErrorKind::StorageFull);
        assert!(!full.is::<NobodyReads>());
        assert!(format!("{full:#}").starts_with("cannot write to standard output: "));
    }
}
