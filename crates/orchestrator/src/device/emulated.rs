//! The task of an emulated device.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::conversation::{Unheard, last_words};
use super::session::{Output, Session};
use super::{Command, Identity};
use crate::board::Board;
use crate::event::{Booted, Death, FleetEvent};
use crate::machine::{Launch, Qemu, Tuning, arguments};
use crate::network::{Attachment, GuestAddress};
use crate::serial::Serial;

/// A firmware image on an emulated machine.
#[derive(Debug)]
pub(crate) struct Emulated {
    pub(crate) identity: Identity,
    /// Which one of the fleet it is; decides on its addresses.
    pub(crate) index: usize,
    pub(crate) board: Arc<Board>,
    pub(crate) tuning: Tuning,
    pub(crate) qemu: Qemu,
}

/// A guest that answers.
struct Guest {
    session: Session,
    booted: Booted,
    address: SocketAddr,
}

impl Emulated {
    /// Does what it is told until nobody can tell it anything any more.
    pub(crate) async fn live(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Boot(server, done) => {
                    let outcome = tokio::select! {
                        outcome = self.boot(server) => outcome,
                        Some(answer) = killed(&mut commands) => {
                            drop(done);
                            self.stopped();
                            let _ = answer.send(());
                            continue;
                        }
                    };
                    let guest = match outcome {
                        Ok(guest) => guest,
                        Err(death) => {
                            self.identity.tell(FleetEvent::Died(death.clone()));
                            let _ = done.send(Err(death));
                            continue;
                        }
                    };
                    let Guest {
                        address,
                        booted:
                            Booted {
                                client, boot_ms, ..
                            },
                        ..
                    } = guest;
                    self.identity.tell(FleetEvent::Running {
                        client,
                        address,
                        boot_ms,
                    });
                    let _ = done.send(Ok(guest.booted));
                    self.watch(guest.session, &mut commands).await;
                }
                Command::Kill(done) => _ = done.send(()),
                Command::Freeze | Command::Thaw => {}
                Command::Type(_, done) => _ = done.send(Err("it does not run".into())),
            }
        }
    }

    /// Boots, again if it fails, as often as the policy allows.
    async fn boot(&self, server: SocketAddr) -> Result<Guest, Death> {
        let shared = &self.identity.shared;
        let mut attempt = 1;
        loop {
            // The semaphore is never closed.
            let permit = shared.permits.acquire().await;
            let outcome = self.attempt(server, attempt).await;
            drop(permit);
            match outcome {
                Ok(guest) => return Ok(guest),
                Err(reason) if attempt == shared.policy.attempts.max(1) => {
                    return Err(self.identity.death(reason));
                }
                Err(reason) => self.identity.note(&format!("{reason}; booting again")),
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, server: SocketAddr, attempt: u32) -> Result<Guest, String> {
        let client = self.identity.client;
        self.identity.tell(FleetEvent::Booting { client, attempt });
        let start = Instant::now();
        let (mut session, guest) = self.start(server).await?;
        let boot_ms = match self.converse(&mut session, &guest, start).await {
            Ok(boot_ms) => boot_ms,
            Err(reason) => {
                self.forget_pid();
                session.kill().await;
                return Err(reason);
            }
        };
        let booted = Booted {
            client,
            boot_ms,
            attempts: attempt,
        };
        Ok(Guest {
            session,
            booted,
            address: guest.reached_at.into(),
        })
    }

    /// Starts the machine.
    async fn start(&self, server: SocketAddr) -> Result<(Session, GuestAddress), String> {
        let shared = &self.identity.shared;
        let limit = self.board.nic.max_kbit_per_s.filter(|_| shared.paces);
        let client = self.identity.client;
        let attachment = shared
            .network
            .attach(self.index, client, limit, server)
            .await;
        let attachment = attachment.map_err(|error| format!("no network: {error}"))?;
        let guest = attachment.guest;
        let session = self.launch(attachment).await.map_err(|error| {
            format!(
                "its machine {} cannot be started: {error}",
                self.qemu.path.display()
            )
        })?;
        shared.with_pids(|pids| pids.insert(client, session.pid()));
        Ok((session, guest))
    }

    async fn launch(&self, attachment: Attachment) -> std::io::Result<Session> {
        let Identity {
            client,
            shared,
            log,
            ..
        } = &self.identity;
        let (serial, path) = Serial::open(&shared.scratch, *client)?;
        let launch = Launch {
            program: self.qemu.path.clone(),
            arguments: arguments(
                &self.board,
                self.tuning,
                &format!("zfl-{client}"),
                &attachment,
                &path,
            ),
            given: attachment.inherited.into_iter().collect(),
            shared: shared.scratch.fd().into_iter().collect(),
        };
        Session::new(
            shared.machines.launch(launch).await?,
            serial,
            Arc::clone(log),
        )
    }

    /// Keeps the log of a device that runs until it ends, one way or another.
    async fn watch(&self, mut session: Session, commands: &mut mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                output = session.output() => match output {
                    Output::Lines(lines) => {
                        self.identity.check_log();
                        if let Some(reason) = self.fatal(&lines) {
                            last_words(&mut session).await;
                            self.forget_pid();
                            session.kill().await;
                            return self.identity.died(reason);
                        }
                    }
                    Output::Ended { how, rest } => {
                        self.forget_pid();
                        return self.identity.died(self.fatal(&rest).unwrap_or(how));
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Kill(done)) => {
                        self.forget_pid();
                        session.kill().await;
                        self.stopped();
                        let _ = done.send(());
                        return;
                    }
                    Some(Command::Freeze) => session.signal(Signal::SIGSTOP),
                    Some(Command::Thaw) => session.signal(Signal::SIGCONT),
                    Some(Command::Type(line, done)) => {
                        let typed = self.type_line(&mut session, &line).await;
                        let (answer, end) = match typed {
                            Ok(()) => (Ok(()), None),
                            Err(Unheard::Refused(why)) => (Err(why), None),
                            Err(Unheard::Ended(how)) => (Err(how.clone()), Some(how)),
                            Err(Unheard::Fatal(why)) => (Err(why.clone()), Some(why)),
                        };
                        let _ = done.send(answer);
                        if let Some(reason) = end {
                            self.forget_pid();
                            session.kill().await;
                            return self.identity.died(reason);
                        }
                    }
                    // It runs already: the answer to that is no answer.
                    Some(Command::Boot(..)) => {}
                    None => {
                        self.forget_pid();
                        return session.kill().await;
                    }
                },
            }
        }
    }

    fn stopped(&self) {
        self.forget_pid();
        self.identity.note("killed on demand");
        self.identity.tell(FleetEvent::Stopped {
            client: self.identity.client,
        });
    }

    fn forget_pid(&self) {
        self.identity
            .shared
            .with_pids(|pids| pids.remove(&self.identity.client));
    }
}

/// Waits for the command to end; every other one makes no sense to a device that boots.
async fn killed(
    commands: &mut mpsc::Receiver<Command>,
) -> Option<tokio::sync::oneshot::Sender<()>> {
    loop {
        if let Command::Kill(answer) = commands.recv().await? {
            return Some(answer);
        }
    }
}
