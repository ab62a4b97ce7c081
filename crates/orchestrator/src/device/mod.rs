//! Devices: one task each, which boots the device, watches over it, and does what it is told.

mod conversation;
mod emulated;
mod native;
mod session;

pub(crate) use emulated::Emulated;
pub(crate) use native::Native;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use fl_client::Overrides;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::event::{Booted, Death, FleetEvent};
use crate::fleet::BootPolicy;
use crate::machine::Machines;
use crate::native::{SharedLog, lock};
use crate::network::Network;
use crate::sandbox::Scratch;

/// What a device can be told. The answers come when it is done.
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

/// What every device of a fleet shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) network: Network,
    pub(crate) scratch: Scratch,
    pub(crate) machines: Machines,
    pub(crate) policy: BootPolicy,
    /// Whether the network can hold a guest to the rate that its card takes.
    pub(crate) paces: bool,
    /// A permit for each machine that may boot at the same time.
    pub(crate) permits: Semaphore,
    pub(crate) events: mpsc::UnboundedSender<FleetEvent>,
    /// The processes of the machines that run, by client.
    pub(crate) pids: Mutex<BTreeMap<u32, u32>>,
}

impl Shared {
    pub(crate) fn with_pids<T>(&self, change: impl FnOnce(&mut BTreeMap<u32, u32>) -> T) -> T {
        change(&mut self.pids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who a device is, and how it tells.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) client: u32,
    /// The ID to ask for.
    pub(crate) join_as: Option<u32>,
    pub(crate) overrides: Overrides,
    pub(crate) log: SharedLog,
    pub(crate) shared: Arc<Shared>,
}

impl Identity {
    fn tell(&self, event: FleetEvent) {
        // A caller that dropped its end does not want to know.
        let _ = self.shared.events.send(event);
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
        log.note(&reason);
        Death {
            client: self.client,
            reason,
            last_lines: log.last_lines(),
        }
    }

    fn died(&self, reason: String) {
        self.tell(FleetEvent::Died(self.death(reason)));
    }
}
