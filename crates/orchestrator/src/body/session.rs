//! A machine that runs, and everything that comes out of it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tokio::net::unix::pipe::Receiver;
use zfl_machine::{Machine, Serial, read_now};

use crate::log::{SharedLog, lock};

/// Output of a machine.
#[derive(Debug)]
pub(super) enum Output {
    /// Lines that the guest completed; maybe none, if it has only begun one.
    Lines(Vec<String>),
    /// The end of the machine. All that it wrote is in the log.
    Ended {
        /// Its end, in words.
        how: String,
        /// Lines that it had completed and that were not read before.
        rest: Vec<String>,
    },
}

/// A machine, its serial line, and the complaints of its emulator. Dropping it kills the machine.
#[derive(Debug)]
pub(crate) struct Session {
    machine: Machine,
    pub(super) serial: Serial,
    /// `None` once it is closed.
    stderr: Option<Receiver>,
    /// The last line of that.
    complaint: Option<String>,
    kind: &'static str,
    log: SharedLog,
}

impl Session {
    /// `kind` is what its complaints are called in the log.
    pub(super) fn new(
        mut machine: Machine,
        (serial, log): (Serial, SharedLog),
        kind: &'static str,
    ) -> io::Result<Self> {
        let stderr = machine.stderr.take();
        let stderr = stderr
            .map(|stderr| Receiver::from_owned_fd(stderr.into()))
            .transpose()?;
        Ok(Self {
            machine,
            serial,
            stderr,
            complaint: None,
            kind,
            log,
        })
    }

    /// Last complaint of the emulator.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    pub(super) fn pid(&self) -> u32 {
        self.machine.pid
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.machine.signal(signal);
    }

    /// Waits for output. Can be dropped without losing any.
    pub(super) async fn output(&mut self) -> Output {
        let (mut serial, mut complaint) = ([0; 4096], [0; 1024]);
        tokio::select! {
            count = self.serial.read(&mut serial) => {
                // A line whose other end is open here, too, neither ends nor fails.
                let count = count.unwrap_or(0);
                Output::Lines(lock(&self.log).feed(&serial[..count]))
            }
            count = read(&mut self.stderr, &mut complaint) => {
                self.complain(&complaint[..count]);
                Output::Lines(Vec::new())
            }
            status = &mut self.machine.ended => {
                let (how, rest) = (describe(status.ok()), self.drain());
                Output::Ended { how, rest }
            }
        }
    }

    /// Kills the machine and waits until it is gone.
    pub(super) async fn kill(mut self) {
        if !self.machine.ended.is_terminated() {
            self.signal(Signal::SIGKILL);
            // An error means that the thread of the machines is gone, and with it the machine.
            let _ = (&mut self.machine.ended).await;
        }
        self.drain();
    }

    /// Reads the rest that was written before the end, and returns the lines that the guest completed.
    fn drain(&mut self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut lines = Vec::new();
        loop {
            match self.serial.read_now(&mut buffer) {
                0 => break,
                count => lines.extend(lock(&self.log).feed(&buffer[..count])),
            }
        }
        while let Some(stderr) = &self.stderr
            && let count @ 1.. = read_now(stderr, &mut buffer)
        {
            self.complain(&buffer[..count]);
        }
        lock(&self.log).flush_partial();
        lines
    }

    fn complain(&mut self, text: &[u8]) {
        for line in String::from_utf8_lossy(text).lines() {
            lock(&self.log).line(&format!("{}: {line}", self.kind));
            self.complaint = Some(line.trim().to_owned());
        }
    }
}

/// Reads, or waits forever once there is nothing to read any more.
async fn read(from: &mut Option<Receiver>, buffer: &mut [u8]) -> usize {
    use tokio::io::AsyncReadExt;
    if let Some(open) = from {
        match open.read(buffer).await {
            Ok(count @ 1..) => return count,
            _ => *from = None,
        }
    }
    std::future::pending().await
}

fn describe(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("its machine exited with status {code}"),
        Some((None, Some(signal))) => match Signal::try_from(signal) {
            Ok(signal) => format!("its machine was killed by {signal}"),
            Err(_) => format!("its machine was killed by signal {signal}"),
        },
        _ => "its machine is gone".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        let exit = |code: i32| describe(Some(ExitStatus::from_raw(code << 8)));
        assert_eq!(exit(35), "its machine exited with status 35");
        let signal = describe(Some(ExitStatus::from_raw(11)));
        assert_eq!(signal, "its machine was killed by SIGSEGV");
    }
}
