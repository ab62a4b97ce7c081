//! Native device: a thread of this process with sockets, started and watched over; or one of a [`Pool`].
//!
//! With sockets there is one thread per device, so that a device that trains or blocks holds up no other, and
//! so that one that panics ends alone.

mod panic;
mod pool;
mod port;
mod thread;

use std::net::SocketAddr;
use std::sync::Arc;
use zfl_clock::Instant;

use tokio::sync::{mpsc, oneshot};

pub(crate) use self::pool::Pool;
pub use self::pool::SharedExamples;
use self::thread::{Thread, ThreadEnd, ThreadSpec};
use super::{Body, Command, Identity, Up};
use crate::event::{Booted, Death, FleetEvent};
use crate::storage::FileStorage;

/// Refusal of a line for the shell of a native device.
pub(crate) const NO_SHELL: &str = "a native device has no shell; emulate it";

/// A device as a thread of this process.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) identity: Identity,
}

impl Body for Native {
    type Running = (Thread, oneshot::Receiver<ThreadEnd>);

    const NO_SHELL: &'static str = NO_SHELL;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn boot(&self, server: SocketAddr) -> Result<Up<Self::Running>, Death> {
        let (client, start) = (self.identity.client, Instant::now());
        self.identity
            .emit(FleetEvent::Booting { client, attempt: 1 });
        let running = self.start(server).map_err(|error| {
            self.identity
                .death(format!("it cannot be started: {error}"))
        })?;
        Ok(Up {
            address: running.0.address,
            running,
            booted: Booted {
                client,
                boot_ms: start.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
                attempts: 1,
            },
        })
    }

    async fn watch(
        &self,
        (thread, mut ended): Self::Running,
        commands: &mut mpsc::Receiver<Command>,
    ) {
        let client = self.identity.client;
        let done = loop {
            tokio::select! {
                end = &mut ended => return match end {
                    Ok(ThreadEnd::Finished) => self.identity.emit(FleetEvent::Finished { client }),
                    Ok(ThreadEnd::Panicked(why)) => self.identity.died(why),
                    Ok(ThreadEnd::Stopped) | Err(_) => {
                        self.identity.died("its thread is gone".into());
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Kill(done)) => break Some(done),
                    Some(Command::Freeze) => thread.freeze(),
                    Some(Command::Thaw) => thread.thaw(),
                    Some(Command::Type(_, done)) => _ = done.send(Err(Self::NO_SHELL.into())),
                    // It runs already: the answer to that is no answer.
                    Some(Command::Boot(..)) => {}
                    None => break None,
                },
            }
        };
        // It may be in the middle of a training step.
        let _ = tokio::task::spawn_blocking(move || thread.stop()).await;
        self.identity.stopped();
        let _ = done.map(|done| done.send(()));
    }
}

impl Native {
    fn start(&self, server: SocketAddr) -> std::io::Result<<Self as Body>::Running> {
        let Identity {
            client,
            join_as,
            overrides,
            secret,
            log,
            storage,
            shared,
            ..
        } = &self.identity;
        let spec = ThreadSpec {
            client: *client,
            join_as: *join_as,
            overrides: *overrides,
            secret: *secret,
            storage: storage.as_ref().map(FileStorage::again).transpose()?,
        };
        let (client, events) = (*client, shared.events.clone());
        let refused = move |reason| {
            // A caller that dropped its end does not want to know.
            let _ = events.send(FleetEvent::Refused { client, reason });
        };
        Thread::start(spec, server, Arc::clone(log), refused)
    }
}
