//! The fleet: all devices of one run, behind one handle.

mod checks;
mod config;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use config::{BootPolicy, DeviceBody, DeviceSpec, FleetConfig, FleetError};

use crate::device::{Command, Emulated, Identity, Native, Shared};
use crate::event::{BootReport, Booted, Death, FleetEvent};
use crate::log::DeviceLog;
use crate::machine::{Machines, Qemu, Usage};
use crate::network::{Bridge, MAX_BRIDGE_PORTS, Network, Subnet, UserNet};
use crate::sandbox::{self, Isolation, Sandbox};

/// The devices of one run.
///
/// [`Fleet::stop`] ends them and waits. Dropping the fleet ends them too, but does not wait for
/// native devices.
pub struct Fleet {
    shared: Arc<Shared>,
    warnings: Vec<String>,
    devices: BTreeMap<u32, Handle>,
}

struct Handle {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Checks that everything needed is there and makes the network; nothing is booted yet.
    ///
    /// # Errors
    /// If the fleet cannot work as described; the message says what to change.
    pub async fn start(
        sandbox: Sandbox,
        config: FleetConfig,
        events: mpsc::UnboundedSender<FleetEvent>,
    ) -> Result<Self, FleetError> {
        checks::devices(&config.devices)?;
        let emulators = checks::emulators(&config.devices)?;
        checks::open_files(config.devices.len())?;
        let serial_dir = &config.serial_dir;
        std::fs::create_dir_all(serial_dir).map_err(|e| system(serial_dir.display(), e))?;
        let network = start_network(&sandbox, config.devices.len()).await?;
        let warning = checks::pace(&network, &config.devices).await;
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let shared = Arc::new(Shared {
            network,
            scratch: sandbox.scratch,
            machines: Machines::start().map_err(|e| system("the thread of the machines", e))?,
            policy: config.boot,
            paces: warning.is_none(),
            permits: Semaphore::new(config.boot.parallel.unwrap_or(processors).max(1)),
            events,
            pids: Mutex::default(),
        });
        let mut fleet = Self {
            shared,
            warnings: warning.into_iter().collect(),
            devices: BTreeMap::new(),
        };
        let started = Instant::now();
        for (index, spec) in config.devices.into_iter().enumerate() {
            let log = open_log(serial_dir, spec.client, started)?;
            fleet.add(index, spec, log, &emulators);
        }
        Ok(fleet)
    }

    /// Starts the task of a device, which waits to be told to boot.
    fn add(
        &mut self,
        index: usize,
        spec: DeviceSpec,
        log: DeviceLog,
        emulators: &BTreeMap<String, Qemu>,
    ) {
        let client = spec.client;
        let identity = Identity {
            client,
            join_as: spec.join_as,
            overrides: spec.overrides,
            log: Arc::new(Mutex::new(log)),
            shared: Arc::clone(&self.shared),
        };
        let (commands, told) = mpsc::channel(8);
        let task = match spec.body {
            DeviceBody::Native => tokio::spawn(Native { identity }.live(told)),
            DeviceBody::Emulated(board) => {
                let qemu = emulators[&board.name].clone();
                let device = Emulated {
                    identity,
                    index,
                    board,
                    qemu,
                };
                tokio::spawn(device.live(told))
            }
        };
        self.devices.insert(client, Handle { commands, task });
    }

    /// What will not be as the boards want it, for people; most fleets have none.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The address on which the aggregator must listen, at any port.
    pub fn server_ip(&self) -> IpAddr {
        self.shared.network.server_ip().into()
    }

    /// Boots every device and starts its client; returns when each runs or has failed.
    ///
    /// `server` is where the aggregator listens: [`Fleet::server_ip`] and its port. Native devices
    /// can join an aggregator elsewhere.
    pub async fn boot(&self, server: SocketAddr) -> BootReport {
        let clients = self.devices.keys();
        let outcomes = join_all(clients.map(|&client| self.boot_one(client, server))).await;
        let mut report = BootReport::default();
        for outcome in outcomes.into_iter().flatten() {
            match outcome {
                Ok(booted) => report.booted.push(booted),
                Err(death) => report.failed.push(death),
            }
        }
        report
    }

    /// Boots one device, for the first time or after its end.
    ///
    /// # Errors
    /// [`FleetError::State`] if it runs, or is killed before it does.
    pub async fn boot_one(
        &self,
        client: u32,
        server: SocketAddr,
    ) -> Result<Result<Booted, Death>, FleetError> {
        let (done, outcome) = oneshot::channel();
        self.command(client, Command::Boot(server, done)).await?;
        outcome.await.map_err(|_| FleetError::State(client))
    }

    /// Kills a device as a crash would, and waits until it is gone. No harm if it is already.
    pub async fn kill(&self, client: u32) -> Result<(), FleetError> {
        let (done, gone) = oneshot::channel();
        self.command(client, Command::Kill(done)).await?;
        gone.await.map_err(|_| FleetError::State(client))
    }

    /// Makes a device stand still as it is; its connections stay open.
    pub async fn freeze(&self, client: u32) -> Result<(), FleetError> {
        self.command(client, Command::Freeze).await
    }

    /// Lets a frozen device go on.
    pub async fn thaw(&self, client: u32) -> Result<(), FleetError> {
        self.command(client, Command::Thaw).await
    }

    /// What an emulated device costs its host now; `None` if it does not run or is native.
    pub fn usage(&self, client: u32) -> Option<Usage> {
        let pid = self.shared.with_pids(|pids| pids.get(&client).copied())?;
        Usage::of(pid)
    }

    /// The process of each emulated device that runs, by client, as numbered inside the sandbox.
    pub fn pids(&self) -> BTreeMap<u32, u32> {
        self.shared.with_pids(|pids| pids.clone())
    }

    /// Kills every device and waits until all are gone, booting ones included.
    pub async fn stop(self) {
        join_all(self.devices.keys().map(|&client| self.kill(client))).await;
        let tasks = self.devices.into_values().map(|Handle { task, .. }| task);
        // The tasks end when nobody can command them any more; none is cancelled.
        join_all(tasks).await;
        // The last owner: its drop waits for whatever machine was about to start.
        let _ = tokio::task::spawn_blocking(move || drop(self.shared)).await;
    }

    async fn command(&self, client: u32, command: Command) -> Result<(), FleetError> {
        let device = self
            .devices
            .get(&client)
            .ok_or(FleetError::Unknown(client))?;
        device
            .commands
            .send(command)
            .await
            .map_err(|_| FleetError::State(client))
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}

async fn start_network(sandbox: &Sandbox, devices: usize) -> Result<Network, FleetError> {
    let failed = |error| system("the fleet's network", error);
    Ok(match sandbox.network {
        sandbox::Network::Loopback => Network::Loopback,
        sandbox::Network::User => {
            let own_loopback = sandbox.isolation != Isolation::None;
            Network::User(UserNet::start(own_loopback).await.map_err(failed)?)
        }
        sandbox::Network::Bridge if devices > MAX_BRIDGE_PORTS => {
            return Err(FleetError::Config(format!(
                "a Linux bridge has {MAX_BRIDGE_PORTS} ports, not {devices}; \
                 take fewer devices or `--network user`"
            )));
        }
        sandbox::Network::Bridge => {
            let subnet = Subnet::for_devices(devices);
            let subnet = subnet.expect("the range is larger than any bridge");
            Network::Bridge(Bridge::start(subnet).await.map_err(failed)?)
        }
    })
}

fn open_log(folder: &Path, client: u32, started: Instant) -> Result<DeviceLog, FleetError> {
    let path = folder.join(format!("{client}.log"));
    DeviceLog::create(&path, started).map_err(|e| system(path.display(), e))
}

fn system(what: impl fmt::Display, source: std::io::Error) -> FleetError {
    FleetError::System {
        what: what.to_string(),
        source,
    }
}
