//! Bodies of devices: one task each, which boots the device, watches over it, and serves commands.

mod conversation;
mod emulated;
mod leaf;
mod native;
mod session;

pub(crate) use emulated::{Emulated, RadioNode};
pub(crate) use leaf::Leaf;
pub use native::SharedExamples;
pub(crate) use native::{NO_SHELL, Native, Pool};

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use fl_client::{Overrides, Word};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::sync::{Semaphore, mpsc, oneshot};
use zfl_machine::Machines;

use crate::doors::Doors;
use crate::event::{Booted, Death, FleetEvent};
use crate::fabric::Fabric;
use crate::log::{SharedLog, lock};
use crate::spec::BootPolicy;
use crate::storage::FileStorage;

/// Body of a device: boots it and watches over it.
pub(crate) trait Body: Sync {
    /// Handle of a device that runs.
    type Running: Send;

    /// Refusal of a line for the shell of a device that does not run.
    const NO_SHELL: &'static str = "it does not run";

    fn identity(&self) -> &Identity;

    /// Boots the device and starts its client. Dropping the future ends what it has begun.
    fn boot(
        &self,
        server: SocketAddr,
    ) -> impl Future<Output = Result<Up<Self::Running>, Death>> + Send;

    /// Serves commands until the device ends, one way or another.
    fn watch(
        &self,
        running: Self::Running,
        commands: &mut mpsc::Receiver<Command>,
    ) -> impl Future<Output = ()> + Send;
}

/// Device that runs.
pub(crate) struct Up<R> {
    running: R,
    booted: Booted,
    /// Address at which the aggregator reaches it.
    address: SocketAddr,
}

/// Serves commands until nobody can give any more.
pub(crate) async fn live<B: Body>(body: B, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Boot(server, done) => boot(&body, server, done, &mut commands).await,
            Command::Kill(done) => _ = done.send(()),
            Command::Freeze | Command::Thaw => {}
            Command::Type(_, done) => _ = done.send(Err(B::NO_SHELL.into())),
        }
    }
}

/// Boots a device, unless it is killed meanwhile, and watches over it until it ends.
async fn boot<B: Body>(
    body: &B,
    server: SocketAddr,
    done: oneshot::Sender<Result<Booted, Death>>,
    commands: &mut mpsc::Receiver<Command>,
) {
    let identity = body.identity();
    let outcome = tokio::select! {
        // A boot that is over at once leaves later commands for `watch`.
        biased;
        outcome = body.boot(server) => outcome,
        Some(answer) = killed(commands) => {
            drop(done);
            identity.stopped();
            let _ = answer.send(());
            return;
        }
    };
    match outcome {
        Ok(Up {
            running,
            booted,
            address,
        }) => {
            let Booted {
                client, boot_ms, ..
            } = booted;
            identity.emit(FleetEvent::Running {
                client,
                address,
                boot_ms,
            });
            let _ = done.send(Ok(booted));
            body.watch(running, commands).await;
        }
        Err(death) => {
            identity.emit(FleetEvent::Died(death.clone()));
            let _ = done.send(Err(death));
        }
    }
}

/// Waits for the command to end; every other one makes no sense to a device that boots.
async fn killed(commands: &mut mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
    loop {
        if let Command::Kill(answer) = commands.recv().await? {
            return Some(answer);
        }
    }
}

/// Command to a device. The answers come when it is done.
#[derive(Debug)]
pub(crate) enum Command {
    /// Boot, unless it runs, and start the client.
    Boot(SocketAddr, oneshot::Sender<Result<Booted, Death>>),
    /// End at once, whatever it does.
    Kill(oneshot::Sender<()>),
    /// Stand still, whatever it does.
    Freeze,
    /// Go on.
    Thaw,
    /// Type a line into the shell.
    Type(String, oneshot::Sender<Result<(), String>>),
}

/// Possessions that every device of a fleet shares.
#[derive(Debug)]
pub(crate) struct FleetShared {
    pub(crate) fabric: Box<dyn Fabric>,
    pub(crate) machines: Machines,
    pub(crate) policy: BootPolicy,
    /// The network can hold a guest to the rate that its card takes.
    pub(crate) paces: bool,
    /// A permit for each machine that may boot at the same time.
    pub(crate) permits: Semaphore,
    pub(crate) events: mpsc::UnboundedSender<FleetEvent>,
    /// The processes of the machines that run, by client.
    pub(crate) pids: Mutex<BTreeMap<u32, u32>>,
    /// Doors for debuggers.
    pub(crate) doors: Option<Doors>,
    /// The pages in which plugins count, by client.
    pub(crate) pages: Mutex<BTreeMap<u32, File>>,
}

impl FleetShared {
    pub(crate) fn with_pids<T>(&self, change: impl FnOnce(&mut BTreeMap<u32, u32>) -> T) -> T {
        change(&mut self.pids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Identity of a device, by which it logs and emits events.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) client: u32,
    /// The ID to ask for.
    pub(crate) join_as: Option<u32>,
    pub(crate) overrides: Overrides,
    /// Secret that it shows when it joins; it stays the same over reboots.
    pub(crate) secret: Option<Word>,
    pub(crate) log: SharedLog,
    /// Storage that stays over reboots.
    pub(crate) storage: Option<FileStorage>,
    pub(crate) shared: Arc<FleetShared>,
    /// It is no device of its own: nobody is told of it.
    pub(crate) is_silent: bool,
}

impl Identity {
    fn emit(&self, event: FleetEvent) {
        if !self.is_silent {
            // A caller that dropped its end does not want to know.
            let _ = self.shared.events.send(event);
        }
        self.check_log();
    }

    fn check_log(&self) {
        if let Some(error) = lock(&self.log).take_error() {
            let lost = FleetEvent::LogLost {
                client: self.client,
                error: error.to_string(),
            };
            let _ = self.shared.events.send(lost);
        }
    }

    fn note(&self, text: &str) {
        lock(&self.log).note(text);
    }

    /// Takes down an end that nobody asked for.
    fn death(&self, reason: String) -> Death {
        let mut log = lock(&self.log);
        let reason = log.shown(&reason).into_owned();
        log.note(&reason);
        Death {
            client: self.client,
            reason,
            last_lines: log.last_lines(),
        }
    }

    fn died(&self, reason: String) {
        self.emit(FleetEvent::Died(self.death(reason)));
    }

    /// Takes down an end that was asked for.
    fn stopped(&self) {
        self.forget_pid();
        self.note("killed on demand");
        self.emit(FleetEvent::Stopped {
            client: self.client,
        });
    }

    /// A page in which the plugin of this device's next machine counts, instead of the one before.
    fn fresh_page(&self) -> io::Result<OwnedFd> {
        let page = memfd_create(c"counts", MFdFlags::MFD_CLOEXEC)?;
        let page = File::from(page);
        page.set_len(zfl_twin::PAGE_BYTES as u64)?;
        let its = page.try_clone()?;
        let pages = self.shared.pages.lock();
        pages
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.client, page);
        Ok(its.into())
    }

    fn forget_pid(&self) {
        self.shared.with_pids(|pids| pids.remove(&self.client));
    }
}
