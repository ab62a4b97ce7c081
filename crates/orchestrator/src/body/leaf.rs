//! Leaf of a mesh: a native device that has only a radio, on the thread of its mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use zfl_clock::Instant;

use fl_client::Config;
use fl_client::storage::Storage;
use tokio::sync::{mpsc, oneshot};
use zfl_mesh::{LeafEnd, LeafSpec, MeshFleet};

use super::{Body, Command, Identity, Up};
use crate::event::{Booted, Death, FleetEvent};
use crate::log::lock;
use crate::storage::FileStorage;

/// A device behind a radio.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) identity: Identity,
    pub(crate) mesh: Arc<MeshFleet>,
    /// Its number in the mesh.
    pub(crate) number: usize,
}

impl Body for Leaf {
    type Running = oneshot::Receiver<LeafEnd>;

    const NO_SHELL: &'static str = "a native device has no shell; emulate it";

    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn boot(&self, server: SocketAddr) -> Result<Up<Self::Running>, Death> {
        let (client, start) = (self.identity.client, Instant::now());
        self.identity
            .emit(FleetEvent::Booting { client, attempt: 1 });
        let (spec, ended) = self.spec(server).map_err(|error| self.failed(&error))?;
        let (mesh, number) = (Arc::clone(&self.mesh), self.number);
        let booted = tokio::task::spawn_blocking(move || mesh.boot(number, spec)).await;
        let booted = booted.map_err(std::io::Error::other).flatten();
        let address = booted.map_err(|error| self.failed(&error))?;
        Ok(Up {
            address,
            running: ended,
            booted: Booted {
                client,
                boot_ms: start.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
                attempts: 1,
            },
        })
    }

    async fn watch(&self, mut ended: Self::Running, commands: &mut mpsc::Receiver<Command>) {
        let client = self.identity.client;
        let done = loop {
            tokio::select! {
                end = &mut ended => return match end {
                    Ok(LeafEnd::Finished) => self.identity.emit(FleetEvent::Finished { client }),
                    Ok(LeafEnd::Stopped) | Err(_) => self.identity.died("its mesh is gone".into()),
                },
                command = commands.recv() => match command {
                    Some(Command::Kill(done)) => break Some(done),
                    Some(Command::Freeze) => self.mesh.freeze(self.number, true),
                    Some(Command::Thaw) => self.mesh.freeze(self.number, false),
                    Some(Command::Type(_, done)) => _ = done.send(Err(Self::NO_SHELL.into())),
                    // It runs already: the answer to that is no answer.
                    Some(Command::Boot(..)) => {}
                    None => break None,
                },
            }
        };
        let (mesh, number) = (Arc::clone(&self.mesh), self.number);
        // It may be in the middle of a training step.
        let _ = tokio::task::spawn_blocking(move || mesh.stop(number)).await;
        self.identity.stopped();
        let _ = done.map(|done| done.send(()));
    }
}

impl Leaf {
    fn failed(&self, error: &std::io::Error) -> Death {
        self.identity
            .death(format!("it cannot be started: {error}"))
    }

    fn spec(&self, server: SocketAddr) -> std::io::Result<(LeafSpec, oneshot::Receiver<LeafEnd>)> {
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
        let storage = storage.as_ref().map(FileStorage::again).transpose()?;
        let (log, client, events) = (Arc::clone(log), *client, shared.events.clone());
        let (tell, ended) = oneshot::channel();
        let spec = LeafSpec {
            config: Config {
                client: *join_as,
                secret: *secret,
                overrides: *overrides,
                isa: Some(std::env::consts::ARCH),
                ..Config::default()
            },
            server,
            log: Box::new(move |line| lock(&log).line(line)),
            storage: storage.map(|storage| Box::new(storage) as Box<dyn Storage + Send>),
            // A caller that dropped its end does not want to know.
            end: Box::new(move |end| _ = tell.send(end)),
            refused: Box::new(move |reason| {
                _ = events.send(FleetEvent::Refused { client, reason });
            }),
        };
        Ok((spec, ended))
    }
}
