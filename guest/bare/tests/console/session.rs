//! A guest at the other end of a serial line, and what its transcript says of it.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::board::{Board, Extras};

/// Long enough for a host that does much else; only a guest that hangs takes it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A guest in QEMU and what it has printed.
pub struct Session {
    board: String,
    prompt: String,
    qemu: Child,
    output: Receiver<Vec<u8>>,
    /// Printed, and not matched yet.
    pending: String,
    /// Matched, for the message of a failure.
    seen: String,
}

impl Session {
    /// Starts QEMU as the board says.
    pub fn boot(name: &str) -> Self {
        Self::boot_with(name, &Extras::default())
    }

    /// Starts QEMU with something besides.
    pub fn boot_with(name: &str, extras: &Extras) -> Self {
        let board = Board::load(name);
        let mut command = board.command(extras);
        let mut qemu = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}: install QEMU first", board.machine.qemu));
        let mut stdout = qemu.stdout.take().expect("it is piped");
        let (sender, output) = channel();
        // Ends with QEMU, which closes the pipe.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        let (pending, seen) = (String::new(), String::new());
        Self {
            board: name.to_owned(),
            prompt: board.shell.prompt,
            qemu,
            output,
            pending,
            seen,
        }
    }

    /// Plays one line of a transcript.
    pub fn play(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix("{type} ") {
            return self.type_line(words);
        }
        if let Some(status) = line.strip_prefix("{status} ") {
            return self.expect_end(status.parse().expect("a status is a number"));
        }
        if let Some(many) = line.strip_prefix("{many} ") {
            return self.expect_many(many);
        }
        if let Some(words) = line.strip_prefix(&self.prompt).map(str::to_owned) {
            self.wait_for_prompt();
            self.type_line(&words);
        }
        let printed = self.read_line();
        self.expect(line, &printed);
    }

    fn expect(&self, pattern: &str, line: &str) {
        let Self {
            board,
            seen,
            pending,
            ..
        } = self;
        assert!(
            matches(pattern, line),
            "on {board}:\nexpected: {pattern}\n printed: {line}\n\n{seen}{pending}"
        );
    }

    fn expect_many(&mut self, pattern: &str) {
        let first = self.read_line();
        self.expect(pattern, &first);
        while self.has_line() && matches(pattern, self.peek_line()) {
            self.read_line();
        }
    }

    /// Types a line, prompt or not.
    pub fn type_line(&mut self, words: &str) {
        let stdin = self.qemu.stdin.as_mut().expect("it is piped");
        write!(stdin, "{words}\r")
            .and_then(|()| stdin.flush())
            .expect("QEMU reads its input");
    }

    /// Waits until a line holds this, and passes over it.
    pub fn wait_for(&mut self, text: &str) {
        while !self.read_line().contains(text) {}
    }

    fn wait_for_prompt(&mut self) {
        while !self.pending.ends_with(&self.prompt) {
            assert!(self.receive(), "no prompt:\n{}{}", self.seen, self.pending);
        }
    }

    /// True if another line comes before the guest ends.
    fn has_line(&mut self) -> bool {
        while !self.pending.contains('\n') {
            if !self.receive() {
                return false;
            }
        }
        true
    }

    fn peek_line(&self) -> &str {
        self.pending.lines().next().unwrap_or("")
    }

    fn read_line(&mut self) -> String {
        assert!(
            self.has_line(),
            "the console ended early:\n{}{}",
            self.seen,
            self.pending
        );
        let (line, rest) = self.pending.split_once('\n').expect("there is a line");
        let (line, rest) = (line.trim_end().to_owned(), rest.to_owned());
        self.seen += &format!("{line}\n");
        self.pending = rest;
        line
    }

    /// Takes what is printed next; `false` if the guest has ended.
    fn receive(&mut self) -> bool {
        match self.output.recv_timeout(PATIENCE) {
            Ok(bytes) => {
                self.pending += &String::from_utf8_lossy(&bytes);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} hangs:\n{}{}", self.board, self.seen, self.pending)
            }
        }
    }

    fn expect_end(&mut self, expected: i32) {
        while self.receive() {}
        let Self { seen, pending, .. } = self;
        assert_eq!(pending, "", "printed after its end:\n{seen}");
        let status = self.qemu.wait().expect("QEMU is our child");
        assert_eq!(status.code(), Some(expected), "{seen}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself, which is no failure.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Compares a line with a line of a transcript.
fn matches(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (pattern.trim_end(), line.trim_end());
    let Some((before, rest)) = pattern.split_once('{') else {
        return pattern == line;
    };
    let Some((name, pattern)) = rest.split_once('}') else {
        return pattern == line;
    };
    let Some(line) = line.strip_prefix(before) else {
        return false;
    };
    let belongs = |c: char| match name {
        "n" => c.is_ascii_digit(),
        "x" => c.is_ascii_hexdigit(),
        "path" => c != ':',
        other => panic!("a transcript has {{{other}}}"),
    };
    let len = line.find(|c| !belongs(c)).unwrap_or(line.len());
    len > 0 && matches(pattern, &line[len..])
}
