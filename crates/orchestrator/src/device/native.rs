//! The task of a native device.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::{Command, Identity};
use crate::event::{Booted, FleetEvent};
use crate::native::{End, Spec, Thread};

const NO_SHELL: &str = "a native device has no shell; emulate it";

/// A device as a thread of this process.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) identity: Identity,
}

impl Native {
    /// Does what it is told until nobody can tell it anything any more.
    pub(crate) async fn live(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Boot(server, done) => match self.boot(server) {
                    Ok((thread, ended, booted)) => {
                        let _ = done.send(Ok(booted));
                        self.watch(thread, ended, &mut commands).await;
                    }
                    Err(error) => {
                        let death = self
                            .identity
                            .death(format!("it cannot be started: {error}"));
                        self.identity.tell(FleetEvent::Died(death.clone()));
                        let _ = done.send(Err(death));
                    }
                },
                Command::Kill(done) => _ = done.send(()),
                Command::Freeze | Command::Thaw => {}
                Command::Type(_, done) => _ = done.send(Err(NO_SHELL.into())),
            }
        }
    }

    fn boot(&self, server: SocketAddr) -> std::io::Result<(Thread, Ended, Booted)> {
        let Identity {
            client,
            join_as,
            overrides,
            log,
            ..
        } = &self.identity;
        let (client, start) = (*client, Instant::now());
        self.identity
            .tell(FleetEvent::Booting { client, attempt: 1 });
        let spec = Spec {
            client,
            join_as: *join_as,
            overrides: *overrides,
        };
        let events = self.identity.shared.events.clone();
        let refused = move |reason| {
            // A caller that dropped its end does not want to know.
            let _ = events.send(FleetEvent::Refused { client, reason });
        };
        let (thread, ended) = Thread::start(&spec, server, Arc::clone(log), refused)?;
        let boot_ms = start.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.identity.tell(FleetEvent::Running {
            client,
            address: thread.address,
            boot_ms,
        });
        Ok((
            thread,
            ended,
            Booted {
                client,
                boot_ms,
                attempts: 1,
            },
        ))
    }

    async fn watch(
        &self,
        thread: Thread,
        mut ended: Ended,
        commands: &mut mpsc::Receiver<Command>,
    ) {
        let client = self.identity.client;
        let done = loop {
            tokio::select! {
                end = &mut ended => return match end {
                    Ok(End::Finished) => self.identity.tell(FleetEvent::Finished { client }),
                    Ok(End::Panicked(why)) => self.identity.died(why),
                    Ok(End::Stopped) | Err(_) => self.identity.died("its thread is gone".into()),
                },
                command = commands.recv() => match command {
                    Some(Command::Kill(done)) => break Some(done),
                    Some(Command::Freeze) => thread.freeze(),
                    Some(Command::Thaw) => thread.thaw(),
                    Some(Command::Type(_, done)) => _ = done.send(Err(NO_SHELL.into())),
                    // It runs already: the answer to that is no answer.
                    Some(Command::Boot(..)) => {}
                    None => break None,
                },
            }
        };
        // It may be in the middle of a training step.
        let _ = tokio::task::spawn_blocking(move || thread.stop()).await;
        self.identity.note("killed on demand");
        self.identity.tell(FleetEvent::Stopped { client });
        let _ = done.map(|done| done.send(()));
    }
}

type Ended = tokio::sync::oneshot::Receiver<End>;
