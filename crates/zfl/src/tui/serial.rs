//! The end of a device's serial log.

use crate::terminal::text::clean;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Length of a log's end that is read, in bytes: more lines than a screen has.
const END: u64 = 16 << 10;

/// The last lines of one log.
#[derive(Debug, Default)]
pub struct Serial {
    /// Client and length of what was read.
    read: Option<(u32, Option<u64>)>,
    /// The last lines, the oldest first.
    pub lines: Vec<String>,
}

impl Serial {
    /// Reads on, of this client; returns whether something is different.
    pub fn refresh(&mut self, run: &Path, client: u32) -> bool {
        let file = zfl_run_dir::log(run, client).ok();
        let length = file
            .as_ref()
            .and_then(|file| Some(file.metadata().ok()?.len()));
        let there = Some((client, length));
        if there == self.read {
            return false;
        }
        let lines = file
            .zip(length)
            .and_then(|(file, length)| last_lines(file, length));
        self.lines = lines.unwrap_or_default();
        self.read = there;
        true
    }
}

fn last_lines(mut file: File, length: u64) -> Option<Vec<String>> {
    let from = length.saturating_sub(END);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The first one is cut off.
    let skipped = usize::from(from > 0);
    Some(text.lines().skip(skipped).map(clean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_and_clean() {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join("serial")).unwrap();
        let mut serial = Serial::default();
        serial.refresh(run.path(), 3);
        assert!(serial.lines.is_empty(), "there is no log yet");
        let log = "x".repeat(20_000) + "\n\x1b[31mred\x1b[0m\r\n\x1b[2J\x07end";
        std::fs::write(run.path().join("serial/3.log"), log).unwrap();
        assert!(serial.refresh(run.path(), 3));
        assert_eq!(serial.lines, ["red", "\u{fffd}end"]);
        assert!(!serial.refresh(run.path(), 3));
        assert!(serial.refresh(run.path(), 4) && serial.lines.is_empty());
    }
}
