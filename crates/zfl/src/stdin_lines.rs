//! Lines of a run, read from standard input by the process that shows it.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// Longest line that is kept whole, in bytes.
const MAX_LINE: usize = 16 << 10;

/// The lines of a run, as they come.
#[derive(Debug)]
pub struct StdinLines {
    lines: Receiver<String>,
}

impl StdinLines {
    /// Reads standard input by a thread: whoever writes there never waits for a slow terminal.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn read() -> io::Result<Self> {
        let (tell, lines) = mpsc::channel();
        let read = move || split(io::stdin(), |line| tell.send(line).is_ok());
        std::thread::Builder::new().spawn(read)?;
        Ok(Self { lines })
    }

    /// Waits until the end, at most this long; whether it has come. Lines are dropped.
    pub fn ended_within(&self, patience: Duration) -> bool {
        let word = self.lines.recv_timeout(patience);
        word == Err(RecvTimeoutError::Disconnected)
    }

    /// Hands out the lines that have come; returns whether more may follow.
    pub fn drain(&self, mut take: impl FnMut(String)) -> bool {
        loop {
            match self.lines.try_recv() {
                Ok(line) => take(line),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Waits for each line to come, until the end.
    pub fn rest(self) -> impl Iterator<Item = String> {
        self.lines.into_iter()
    }
}

/// Splits into lines, longer ones into several, until the end or until nobody takes them.
fn split(mut from: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut pending = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for &byte in &piece[..read] {
            let ends = byte == b'\n';
            if !ends {
                pending.push(byte);
            }
            if (ends || pending.len() >= MAX_LINE) && !take(text(&mut pending)) {
                return;
            }
        }
    }
    if !pending.is_empty() {
        take(text(&mut pending));
    }
}

fn text(bytes: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    bytes.clear();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_bounded() {
        let long = "x".repeat(MAX_LINE + 3);
        let said = format!("one\n\n{long}\nlast");
        let mut lines = Vec::new();
        split(said.as_bytes(), |line| {
            lines.push(line);
            true
        });
        assert_eq!(lines, ["one", "", &long[3..], "xxx", "last"]);
    }
}
