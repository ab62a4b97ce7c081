//! A device's log: `<client>.log`, and its last lines in memory.
//!
//! Readable rather than raw: each line starts with the seconds since the fleet was started, escape
//! sequences and control characters are left out, and what the orchestrator has to say of the
//! device stands between the lines, marked by `--`. What a device writes is bounded in every
//! direction: a line, the lines kept, and the file.
//!
//! The log of a run that goes on is appended to, behind a mark, and its times go on as the run's do.
//! So they jump back at the mark by what was broken off and is done again.
//!
//! A log of a process with many devices has no open file: its lines wait in memory until [`DeviceLog::save`].

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zfl_clock::Instant;

use fl_client::Word;
use zfl_files::Dir;

use crate::fleet::Resumption;

/// Lines kept for the report of a death: a stack trace and what came before it.
const KEPT_LINES: usize = 30;

/// A longer line is broken.
const MAX_LINE_BYTES: usize = 1000;

/// A guest that writes without end must not fill the disk.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Text that waits for a file at most.
const WAITING_BYTES: usize = 8 << 10;

/// Longest wait of a text of a device that is run now and then.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The last line of a log that was full.
const FULL: &str = "-- the device writes too much; its log ends here\n";

/// Log that a device shares with whoever watches over it.
pub(crate) type SharedLog = Arc<Mutex<DeviceLog>>;

/// Locks a log; one that a device panicked with in its hands is still a log.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log of one device.
#[derive(Debug)]
pub(crate) struct DeviceLog {
    started: Instant,
    /// Time with which its times begin.
    before: Duration,
    file: Option<Sink>,
    file_bytes: u64,
    lost: Option<io::Error>,
    kept: VecDeque<String>,
    partial: Vec<u8>,
    escape: Escape,
    /// Secret that its shell echoes, and that is not written down.
    secret: Option<Word>,
}

/// Folder of the logs of devices that share a process.
#[derive(Debug)]
pub(crate) struct LogFolder {
    pub(crate) dir: Dir,
    /// The moment from which times count.
    pub(crate) started: Instant,
    pub(crate) resumed: Option<Resumption>,
}

/// File that a log goes to.
#[derive(Debug)]
enum Sink {
    Open(File),
    /// Opened to write what waits.
    InFolder {
        folder: Arc<LogFolder>,
        client: u32,
        waiting: String,
        /// Since when it waits.
        since: Instant,
        begun: bool,
        /// The device has done more than join.
        trained: bool,
    },
}

/// Place of the output in an escape sequence (ECMA-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Outside,
    /// After ESC.
    Start,
    /// After ESC [, up to a letter.
    Sequence,
}

impl DeviceLog {
    /// A log in a file, made anew.
    ///
    /// `started`: the moment from which its times count.
    pub(crate) fn create(file: File, started: Instant) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self::new(Some(Sink::Open(file)), started))
    }

    /// A log without an open file, anew or behind what an earlier part of the run wrote.
    pub(crate) fn in_folder(folder: Arc<LogFolder>, client: u32) -> Self {
        let started = folder.started;
        let before = folder.resumed.as_ref().map(|one| one.elapsed);
        let sink = Sink::InFolder {
            folder,
            client,
            waiting: String::new(),
            since: started,
            begun: false,
            trained: false,
        };
        Self {
            before: before.unwrap_or_default(),
            ..Self::new(Some(sink), started)
        }
    }

    /// Writes what waits, if the log has no open file.
    pub(crate) fn save(&mut self) {
        let Some(Sink::InFolder {
            folder,
            client,
            waiting,
            begun,
            ..
        }) = &mut self.file
        else {
            return;
        };
        if waiting.is_empty() {
            return;
        }
        match folder.write(*client, waiting, *begun) {
            Ok(()) => {
                *begun = true;
                *waiting = String::new();
            }
            Err(error) => {
                self.lost = Some(error);
                self.file = None;
            }
        }
    }

    /// Notes that the device has done more than join.
    pub(crate) fn has_trained(&mut self) {
        if let Some(Sink::InFolder { trained, .. }) = &mut self.file {
            *trained = true;
        }
    }

    /// Saves the log of a device that has done more than join.
    pub(crate) fn save_if_trained(&mut self) {
        if matches!(self.file, Some(Sink::InFolder { trained: true, .. })) {
            self.save();
        }
    }

    /// [`DeviceLog::save_if_trained`] of what has waited for a while: opening a file takes as long as an epoch.
    pub(crate) fn save_if_old(&mut self) {
        if matches!(&self.file, Some(Sink::InFolder { since, .. }) if since.elapsed() >= LONGEST_WAIT)
        {
            self.save_if_trained();
        }
    }

    /// Gives memory back that only a death would need: the lines that it told the log before.
    pub(crate) fn rest(&mut self) {
        (self.kept, self.partial) = (VecDeque::new(), Vec::new());
        if let Some(Sink::InFolder { waiting, .. }) = &mut self.file {
            waiting.shrink_to_fit();
        }
    }

    /// A log that goes on behind what is in the file, and behind the line `mark`.
    ///
    /// `before`: the time of the run at `started`. The bound of the file holds for all its parts, and
    /// one that was full before stays as it is.
    pub(crate) fn resume(
        mut file: File,
        started: Instant,
        before: Duration,
        mark: &str,
    ) -> io::Result<Self> {
        let (bytes, end) = end(&mut file)?;
        let is_full = end.ends_with(FULL.as_bytes());
        let file = Some(file).filter(|_| !is_full);
        let mut log = Self::new(file.map(Sink::Open), started);
        (log.before, log.file_bytes) = (before, bytes);
        // A line that was not written to its end is one all the same.
        if end.last().is_some_and(|&last| last != b'\n') {
            log.append("\n");
        }
        log.note(mark);
        Ok(log)
    }

    fn new(file: Option<Sink>, started: Instant) -> Self {
        Self {
            started,
            before: Duration::ZERO,
            file,
            file_bytes: 0,
            lost: None,
            kept: VecDeque::new(),
            partial: Vec::new(),
            escape: Escape::Outside,
            secret: None,
        }
    }

    /// Writes dots in place of a secret from now on.
    pub(crate) fn keep_secret(&mut self, secret: Word) {
        self.secret = Some(secret);
    }

    /// A text as it may be shown.
    pub(crate) fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.secret {
            Some(secret) if text.contains(secret.text()) => {
                text.replace(secret.text(), "...").into()
            }
            _ => text.into(),
        }
    }

    /// Takes in raw output and returns the lines that it completed.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match self.filter(byte) {
                Some(b'\n') => lines.push(self.complete()),
                Some(byte) => {
                    self.partial.push(byte);
                    if self.partial.len() >= MAX_LINE_BYTES {
                        lines.push(self.complete());
                    }
                }
                None => {}
            }
        }
        lines
    }

    /// The line that is not complete yet, such as a prompt.
    pub(crate) fn partial(&self) -> String {
        // Only now, since removing an escape sequence may have joined what was on both sides of it.
        let text = String::from_utf8_lossy(&self.partial);
        zfl_text::plain_lines(&text)
    }

    /// Writes a line of the device that came by another way than its serial line.
    pub(crate) fn line(&mut self, text: &str) {
        self.flush_partial();
        self.feed(text.as_bytes());
        self.flush_partial();
    }

    /// Writes a remark of the orchestrator about the device.
    pub(crate) fn note(&mut self, text: &str) {
        self.flush_partial();
        self.write(&format!("-- {}", zfl_text::plain(text)));
    }

    /// Ends the line that is not complete yet: nothing more comes.
    pub(crate) fn flush_partial(&mut self) {
        if !self.partial.is_empty() {
            self.complete();
        }
    }

    /// The last lines of the device, oldest first.
    pub(crate) fn last_lines(&mut self) -> Vec<String> {
        self.flush_partial();
        self.kept.iter().cloned().collect()
    }

    /// Error for which nothing is written to the file any more; told once.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        self.lost.take()
    }

    /// Leaves out escape sequences and control characters of one byte other than the end of a line and
    /// tabs; those of two are left out once a line is text.
    fn filter(&mut self, byte: u8) -> Option<u8> {
        let (next, kept) = match (self.escape, byte) {
            (_, 0x1b) => (Escape::Start, None),
            // Whatever it is that was opened, a line ends it.
            (_, b'\n') => (Escape::Outside, Some(byte)),
            (Escape::Start, b'[') => (Escape::Sequence, None),
            (Escape::Start, _) => (Escape::Outside, None),
            (Escape::Sequence, 0x40..=0x7e) => (Escape::Outside, None),
            (Escape::Sequence, _) => (Escape::Sequence, None),
            (Escape::Outside, b'\t') => (Escape::Outside, Some(byte)),
            (Escape::Outside, 0x00..=0x1f | 0x7f) => (Escape::Outside, None),
            (Escape::Outside, _) => (Escape::Outside, Some(byte)),
        };
        self.escape = next;
        kept
    }

    fn complete(&mut self) -> String {
        let line = self.partial();
        self.partial.clear();
        self.write(&line);
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(self.shown(&line).into_owned());
        line
    }

    fn write(&mut self, line: &str) {
        let seconds = (self.before + self.started.elapsed()).as_secs_f64();
        let line = format!("[{seconds:9.3}] {}\n", self.shown(line));
        self.append(&line);
    }

    fn append(&mut self, text: &str) {
        let Some(sink) = &mut self.file else { return };
        self.file_bytes += text.len() as u64;
        let full = self.file_bytes > MAX_FILE_BYTES;
        let text = if full { FULL } else { text };
        let written = match sink {
            Sink::Open(file) => file.write_all(text.as_bytes()),
            Sink::InFolder { waiting, since, .. } => {
                if waiting.is_empty() {
                    *since = Instant::now();
                }
                waiting.push_str(text);
                if full || waiting.len() >= WAITING_BYTES {
                    self.save();
                }
                Ok(())
            }
        };
        if let Err(error) = written {
            self.lost = Some(error);
            self.file = None;
        } else if full {
            self.file = None;
            let mib = MAX_FILE_BYTES >> 20;
            self.lost = Some(io::Error::other(format!("it ends at {mib} MiB")));
        }
    }
}

impl LogFolder {
    /// Writes a piece of a client's log: the first anew, or behind what is there and a mark.
    fn write(&self, client: u32, text: &str, begun: bool) -> io::Result<()> {
        let mut file = self.dir.append(&log_name(client))?;
        match &self.resumed {
            _ if begun => {}
            None => file.set_len(0)?,
            Some(Resumption { elapsed, mark }) => {
                let now = Instant::now();
                drop(DeviceLog::resume(file.try_clone()?, now, *elapsed, mark)?);
                if end(&mut file)?.1.ends_with(FULL.as_bytes()) {
                    return Ok(());
                }
            }
        }
        file.write_all(text.as_bytes())
    }
}

/// Name of the file of a client's log.
pub(crate) fn log_name(client: u32) -> String {
    format!("{client}.log")
}

/// Length of a file, and its last bytes: as many as the line that ends a full log has.
fn end(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(FULL.len() as u64)))?;
    let mut end = Vec::new();
    file.take(FULL.len() as u64).read_to_end(&mut end)?;
    Ok((bytes, end))
}

#[cfg(test)]
mod tests;
