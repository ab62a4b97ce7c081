//! The fleet (skeleton: types only, for now).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::board::Board;
use crate::event::{BootReport, FleetEvent};
use crate::sandbox::Sandbox;

/// What a device is.
#[derive(Clone, Debug)]
pub enum DeviceBody {
    /// A thread of this process.
    Native,
    /// A firmware image on an emulated machine.
    Emulated(Arc<Board>),
}

/// One device to be.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// The client that it is; unique in the fleet.
    pub client: u32,
    /// What it is made of.
    pub body: DeviceBody,
}

/// How devices are booted.
#[derive(Clone, Copy, Debug)]
pub struct BootPolicy {
    /// How many machines boot at a time; `None`: as many as there are processors.
    pub parallel: Option<usize>,
    /// How long a guest may take to show its prompt on an idle host; more on a loaded one.
    pub prompt_timeout: Duration,
    /// How often a device is booted before it counts as dead.
    pub attempts: u32,
}

impl Default for BootPolicy {
    fn default() -> Self {
        Self { parallel: None, prompt_timeout: Duration::from_secs(20), attempts: 2 }
    }
}

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// The devices.
    pub devices: Vec<DeviceSpec>,
    /// Where `<client>.log` of every device goes; made if it is not there.
    pub serial_dir: PathBuf,
    /// How devices are booted.
    pub boot: BootPolicy,
}

/// Why a fleet could not be made or a device not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FleetError(String);

/// What a device costs its host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Memory that belongs to it alone, in bytes.
    pub private_bytes: u64,
    /// Processor time since its start, in seconds.
    pub cpu_s: f64,
}

/// The devices of one run.
#[derive(Debug)]
pub struct Fleet {
    _private: (),
}

impl Fleet {
    /// Makes the network; nothing is booted yet.
    pub async fn start(
        _sandbox: Sandbox,
        _config: FleetConfig,
        _events: mpsc::UnboundedSender<FleetEvent>,
    ) -> Result<Self, FleetError> {
        Err(FleetError("not built yet".into()))
    }

    /// The address on which the aggregator must listen, at any port.
    pub fn server_ip(&self) -> IpAddr {
        unreachable!("a fleet cannot be started yet")
    }

    /// Boots every device and starts its client; returns when each runs or has failed.
    ///
    /// `server` is where the aggregator listens: [`Fleet::server_ip`] and its port.
    pub async fn boot(&self, _server: SocketAddr) -> BootReport {
        unreachable!("a fleet cannot be started yet")
    }

    /// Kills a device as a crash would, and waits until it is gone.
    pub async fn kill(&self, _client: u32) -> Result<(), FleetError> {
        unreachable!("a fleet cannot be started yet")
    }

    /// What a device costs its host now; `None` if it does not run or cannot be measured.
    pub fn usage(&self, _client: u32) -> Option<Usage> {
        unreachable!("a fleet cannot be started yet")
    }

    /// The process of each emulated device that runs.
    pub fn pids(&self) -> Vec<(u32, u32)> {
        unreachable!("a fleet cannot be started yet")
    }

    /// Kills every device and waits until all are gone.
    pub async fn stop(self) {
        unreachable!("a fleet cannot be started yet")
    }
}
