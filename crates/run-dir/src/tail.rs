//! `events.jsonl`, read on as it grows.
//!
//! A run that was broken off and goes on has another file in its place, without what is done again.

use crate::{Fold, Meta, Record, damage, is_under_way};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zfl_files::Dir;

/// The file's name in the run directory.
pub const EVENTS: &str = "events.jsonl";

/// Longest line that is read: a cohort of every client that a fleet can have fits many times over.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// Most of a line that is passed over: behind that the file is none of a run, and may have no end.
const MAX_SKIPPED: u64 = 64 << 20;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// A file of events, and how far it has been read.
#[derive(Debug)]
pub struct Tail {
    run_dir: PathBuf,
    file: Option<File>,
    /// The start of a line whose end is not there yet.
    pending: Vec<u8>,
    /// Bytes of a line that is too long and is passed over; 0 if there is none.
    skipped: u64,
    unreadable: u64,
    modified: Option<SystemTime>,
}

impl Tail {
    /// Reader of a run directory, from its first event on; nothing needs to be there yet.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            file: None,
            pending: Vec::new(),
            skipped: 0,
            unreadable: 0,
            modified: None,
        }
    }

    /// Reads the events that are new; returns how many.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be read.
    pub fn poll(&mut self, mut apply: impl FnMut(Record)) -> io::Result<usize> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.run_dir)?,
        };
        let mut piece = vec![0; PIECE];
        let mut events = 0;
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            events += self.take_in(&piece[..read], &mut apply);
            if self.skipped > MAX_SKIPPED {
                let problem =
                    format!("it has a line of more than {MAX_SKIPPED} bytes, as no run has");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        self.modified = file.metadata()?.modified().ok();
        self.file = Some(file);
        Ok(events)
    }

    /// True if another file has taken the place of the one that was read: the run goes on from an
    /// earlier round, and everything has to be read anew.
    pub fn is_replaced(&self) -> bool {
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let read = self.file.as_ref().and_then(|file| file.metadata().ok());
        let there = open(&self.run_dir).and_then(|file| file.metadata()).ok();
        matches!((read.map(id), there.map(id)), (Some(read), Some(there)) if read != there)
    }

    /// Time at which the file last grew.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Lines that were no event: of another version, or cut off by a crash.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn take_in(&mut self, mut bytes: &[u8], apply: &mut impl FnMut(Record)) -> usize {
        let mut events = 0;
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.pending);
            let skipped = std::mem::take(&mut self.skipped) > 0;
            match serde_json::from_slice(&line) {
                Ok(record) if !skipped => {
                    apply(record);
                    events += 1;
                }
                _ => self.unreadable += 1,
            }
        }
        self.keep(bytes);
        events
    }

    fn keep(&mut self, bytes: &[u8]) {
        let length = self.pending.len() + bytes.len();
        if self.skipped > 0 || length > MAX_LINE {
            self.skipped += length as u64;
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(bytes);
        }
    }
}

fn open(run_dir: &Path) -> io::Result<File> {
    Ok(Dir::open(run_dir)?.open_file(EVENTS, u64::MAX)?)
}

/// Everything that the events of a run directory tell. A run without an end is taken to be broken off
/// unless the process that makes it is there.
///
/// # Errors
/// If there are none, or a file there cannot be read.
pub fn replay(run_dir: &Path) -> Result<Fold> {
    let mut fold = Fold::new(Meta::load(run_dir)?);
    let mut tail = Tail::new(run_dir);
    tail.poll(|record| fold.apply(record)).with_context(|| {
        format!(
            "{} is not the directory of a run: read {EVENTS}",
            run_dir.display()
        )
    })?;
    fold.set_unreadable(tail.unreadable());
    fold.set_damage(damage(run_dir));
    fold.set_interrupted(!fold.is_over() && !is_under_way(run_dir));
    Ok(fold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;
    use std::io::Write;

    const READY: &str = r#"{"time_ms":1,"at":"","event":"client_ready","client":7}"#;

    fn read(tail: &mut Tail) -> usize {
        tail.poll(|record| assert!(matches!(record.event, Event::ClientReady { client: 7 })))
            .unwrap()
    }

    #[test]
    fn lines_come_when_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(dir.path());
        assert_eq!(
            tail.poll(|_| ()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let mut file = File::create(dir.path().join(EVENTS)).unwrap();
        write!(file, "{READY}\n{}", &READY[..20]).unwrap();
        assert_eq!(read(&mut tail), 1);
        assert_eq!(read(&mut tail), 0);
        writeln!(file, "{}\n{READY}", &READY[20..]).unwrap();
        assert_eq!(read(&mut tail), 2);
        assert_eq!(tail.unreadable(), 0);
    }

    #[test]
    fn a_file_in_the_place_of_another_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(dir.path());
        assert!(!tail.is_replaced(), "there is none yet");
        let file = dir.path().join(EVENTS);
        std::fs::write(&file, format!("{READY}\n{READY}\n")).unwrap();
        assert_eq!(read(&mut tail), 2);
        assert!(!tail.is_replaced());
        let new = dir.path().join("new");
        std::fs::write(&new, format!("{READY}\n")).unwrap();
        std::fs::rename(new, &file).unwrap();
        assert!(tail.is_replaced());
        std::fs::remove_file(&file).unwrap();
        assert!(!tail.is_replaced(), "what was read is all that there is");
    }

    #[test]
    fn what_is_no_event_is_passed_over_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(dir.path());
        let long = "x".repeat(MAX_LINE + 1);
        let text = format!("\n{{}}\n\u{fffd}\n{long}\n{READY}\n");
        std::fs::write(dir.path().join(EVENTS), text).unwrap();
        assert_eq!(read(&mut tail), 1);
        assert_eq!(tail.unreadable(), 4);
        assert!(tail.pending.capacity() <= MAX_LINE);
    }

    #[test]
    fn a_file_without_an_end_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join(EVENTS)).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = replay(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains("as no run has"), "{error:#}");
    }

    #[test]
    fn a_folder_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(EVENTS)).unwrap();
        assert!(Tail::new(dir.path()).poll(|_| ()).is_err());
        assert!(replay(dir.path()).is_err());
    }
}
