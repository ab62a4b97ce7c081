//! Conversation between the orchestrator and a guest: the prompt, the command, and last words.

use std::time::Duration;
use zfl_clock::Instant;

use zfl_machine::{Action, Dialogue, Patience};

use super::Emulated;
use super::session::{Output, Session};
use crate::fabric::GuestAddress;
use crate::log::lock;

/// Time that a shell may take to answer, on an idle host.
const ANSWER: Duration = Duration::from_secs(3);

/// Time that a guest which reported its own end may go on to print its trace.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Failure of a shell to read a command.
#[derive(Debug)]
pub(super) enum ShellError {
    /// The machine has ended, in words.
    Ended(String),
    /// The guest reported its own end.
    Fatal(String),
    /// The guest goes on, and the shell did not take it.
    NotRead(String),
}

impl Emulated {
    /// Waits for the prompt and starts the client; returns how long the prompt took.
    pub(super) async fn converse(
        &self,
        session: &mut Session,
        guest: &GuestAddress,
        start: Instant,
    ) -> Result<u64, String> {
        let command = self.command_line(guest);
        let prompt_timeout = self.identity.shared.policy.prompt_timeout;
        match self
            .say(session, &command, false, prompt_timeout, start)
            .await
        {
            Ok(boot_ms) => Ok(boot_ms),
            Err(ShellError::Ended(how)) => Err(match session.complaint() {
                Some(complaint) => format!("{how} while it booted: {complaint}"),
                None => format!("{how} while it booted"),
            }),
            Err(ShellError::Fatal(reason) | ShellError::NotRead(reason)) => Err(reason),
        }
    }

    /// Types a line into the shell while the client runs.
    pub(super) async fn type_line(
        &self,
        session: &mut Session,
        line: &str,
    ) -> Result<(), ShellError> {
        let said = self.say(session, line, true, ANSWER, Instant::now()).await;
        said.map(drop)
    }

    /// Types a command after a prompt, and waits until it was read; returns how long the prompt took,
    /// in milliseconds since `start`. A shell that `is_awake` is asked for its prompt, any other is
    /// waited for.
    async fn say(
        &self,
        session: &mut Session,
        command: &str,
        is_awake: bool,
        prompt_timeout: Duration,
        start: Instant,
    ) -> Result<u64, ShellError> {
        let mut dialogue = Dialogue::new(&self.board.shell.prompt, command);
        let mut patience = Patience::new(session.pid(), prompt_timeout);
        let mut tick = zfl_clock::interval(Patience::TICK);
        let mut boot_ms = None;
        let mut next = is_awake.then(|| {
            let partial = lock(&self.identity.log).partial();
            match dialogue.on_output(&[], &partial) {
                Action::Wait => dialogue.ask(),
                action => action,
            }
        });
        loop {
            let action = if let Some(action) = next.take() {
                action
            } else {
                tokio::select! {
                    output = session.output() => match output {
                        Output::Ended { how, rest } => {
                            let reported = self.fatal(&rest).map(ShellError::Fatal);
                            return Err(reported.unwrap_or(ShellError::Ended(how)));
                        }
                        Output::Lines(lines) => {
                            if let Some(reason) = self.fatal(&lines) {
                                last_words(session).await;
                                return Err(ShellError::Fatal(reason));
                            }
                            let partial = lock(&self.identity.log).partial();
                            dialogue.on_output(&lines, &partial)
                        }
                    },
                    _ = tick.tick() => match (patience.is_over(), dialogue.has_begun()) {
                        (false, _) => Action::Wait,
                        (true, true) => dialogue.on_silence(),
                        (true, false) => {
                            let seconds = prompt_timeout.as_secs_f32();
                            return Err(ShellError::NotRead(format!("no prompt in {seconds} s")));
                        }
                    },
                }
            };
            match action {
                Action::Wait => {}
                Action::Type { text, paced } => {
                    boot_ms.get_or_insert_with(|| millis(start));
                    let typed = session.serial.type_text(&text, paced).await;
                    typed.map_err(|error| {
                        ShellError::NotRead(format!("its serial line is broken: {error}"))
                    })?;
                    patience = Patience::new(session.pid(), ANSWER);
                }
                Action::Done => return Ok(boot_ms.unwrap_or_else(|| millis(start))),
                Action::GiveUp(reason) => return Err(ShellError::NotRead(reason)),
            }
        }
    }

    fn command_line(&self, guest: &GuestAddress) -> String {
        let GuestAddress {
            ip,
            prefix,
            server,
            reached_at,
        } = guest;
        let mut line = format!("run {ip} server={server} mask={prefix}");
        let mut add = |key: &str, value: Option<u32>| {
            line.extend(value.map(|value| format!(" {key}={value}")));
        };
        add("client", self.identity.join_as);
        let told_here = !self.board.tells_speed();
        let speed = self.tuning.speed.filter(|_| told_here);
        add("icount", speed.map(|speed| speed.shift.into()));
        if let Some(secret) = &self.identity.secret {
            line += &format!(" secret={}", secret.text());
        }
        if reached_at.ip() != ip {
            line += &format!(" address={reached_at}");
        }
        line
    }

    /// The report of a guest's own end, if these lines hold one.
    pub(super) fn fatal(&self, lines: &[String]) -> Option<String> {
        let texts = &self.board.shell.fatal;
        // What stands before it is the prompt, most likely.
        let report = lines.iter().find_map(|line| {
            let start = texts.iter().find_map(|text| line.find(text))?;
            line.get(start..)
        })?;
        Some(format!("the guest failed: {}", report.trim()))
    }
}

/// Lets a guest that reported its own end print the rest.
pub(super) async fn last_words(session: &mut Session) {
    let rest = async { while let Output::Lines(_) = session.output().await {} };
    let _ = zfl_clock::timeout(LAST_WORDS, rest).await;
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}
