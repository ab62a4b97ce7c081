//! The fleet: all devices of one run, behind one handle.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fl_client::Overrides;
use futures::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::device::{Command, Emulated, Identity, Native, Shared};
use crate::event::{BootReport, FleetEvent};
use crate::log::DeviceLog;
use crate::machine::{Machines, Qemu, QemuError, Usage};
use crate::network::{Bridge, MAX_BRIDGE_PORTS, Network, Subnet, UserNet};
use crate::sandbox::{self, Isolation, Sandbox};

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
    /// Its number in the fleet: of its log, in events, and for [`Fleet::kill`]. Unique.
    pub client: u32,
    /// The ID that it asks the aggregator for; `None` if it takes whatever it gets.
    pub join_as: Option<u32>,
    /// What it is made of.
    pub body: DeviceBody,
    /// Values that go before those that the aggregator sends.
    pub overrides: Overrides,
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
        Self {
            parallel: None,
            prompt_timeout: Duration::from_secs(20),
            attempts: 2,
        }
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

/// Why a fleet could not be made, or a device not be reached.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The configuration cannot be carried out; the text says what to change.
    #[error("{0}")]
    Config(String),
    /// The emulator of a board is missing or does not fit it.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such device.
    #[error("the fleet has no device {0}")]
    Unknown(u32),
    /// The device is in no state for that.
    #[error("device {0} is not in a state for that")]
    State(u32),
}

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
        check_devices(&config.devices)?;
        let emulators = find_emulators(&config.devices)?;
        make_room_for_files(config.devices.len())?;
        let serial_dir = &config.serial_dir;
        std::fs::create_dir_all(serial_dir).map_err(|e| system(serial_dir.display(), e))?;
        let network = start_network(&sandbox, config.devices.len()).await?;
        let warning = pace_warning(&network, &config.devices).await;
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
        let started = Instant::now();
        let mut devices = BTreeMap::new();
        for (index, spec) in config.devices.into_iter().enumerate() {
            let log = open_log(serial_dir, spec.client, started)?;
            let identity = Identity {
                client: spec.client,
                join_as: spec.join_as,
                overrides: spec.overrides,
                log: Arc::new(Mutex::new(log)),
                shared: Arc::clone(&shared),
            };
            let (commands, receiver) = mpsc::channel(8);
            let task = match spec.body {
                DeviceBody::Native => tokio::spawn(Native { identity }.live(receiver)),
                DeviceBody::Emulated(board) => {
                    let qemu = emulators[&board.name].clone();
                    tokio::spawn(
                        Emulated {
                            identity,
                            index,
                            board,
                            qemu,
                        }
                        .live(receiver),
                    )
                }
            };
            devices.insert(spec.client, Handle { commands, task });
        }
        Ok(Self {
            shared,
            warnings: warning.into_iter().collect(),
            devices,
        })
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
    ) -> Result<Result<crate::Booted, crate::Death>, FleetError> {
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

fn check_devices(devices: &[DeviceSpec]) -> Result<(), FleetError> {
    let mut seen = std::collections::BTreeSet::new();
    match devices.iter().find(|spec| !seen.insert(spec.client)) {
        Some(spec) => Err(FleetError::Config(format!(
            "there are two devices {}",
            spec.client
        ))),
        None if devices.is_empty() => Err(FleetError::Config("a fleet of no devices".into())),
        None => Ok(()),
    }
}

fn boards(devices: &[DeviceSpec]) -> impl Iterator<Item = &Arc<Board>> {
    devices.iter().filter_map(|spec| match &spec.body {
        DeviceBody::Native => None,
        DeviceBody::Emulated(board) => Some(board),
    })
}

/// Finds the image and the emulator of every board before anything is started.
fn find_emulators(devices: &[DeviceSpec]) -> Result<BTreeMap<String, Qemu>, FleetError> {
    let mut emulators = BTreeMap::new();
    for board in boards(devices) {
        if emulators.contains_key(&board.name) {
            continue;
        }
        let image = &board.kernel.image;
        if !image.is_file() {
            let (image, guest) = (image.display(), board.body);
            return Err(FleetError::Config(format!(
                "the firmware {image} is not there; build it with: \
                 cargo xtask build-guest --body {guest}"
            )));
        }
        emulators.insert(board.name.clone(), Qemu::find(board)?);
    }
    Ok(emulators)
}

/// Raises the number of files that may be open as far as it goes, and checks that it is enough.
fn make_room_for_files(devices: usize) -> Result<(), FleetError> {
    /// A native device with all of its streams; an emulated one needs six.
    const PER_DEVICE: u64 = 10;
    /// The data set, the aggregator and its connections.
    const OTHERS: u64 = 256;
    let limit = Resource::RLIMIT_NOFILE;
    let (_, most) = getrlimit(limit).map_err(|e| system("open files", e.into()))?;
    setrlimit(limit, most, most).map_err(|e| system("open files", e.into()))?;
    let needed = PER_DEVICE * devices as u64 + OTHERS;
    if needed > most {
        return Err(FleetError::Config(format!(
            "{devices} devices need {needed} open files, this process may have {most}; \
             raise the limit (`ulimit -Hn`, as root) or take fewer devices"
        )));
    }
    Ok(())
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

/// A guest that loses frames above a rate and cannot be paced works, but is slow and retransmits.
async fn pace_warning(network: &Network, devices: &[DeviceSpec]) -> Option<String> {
    let limited = |board: &&Arc<Board>| board.nic.max_kbit_per_s.is_some();
    let board = boards(devices).find(limited)?;
    let why = network.can_pace().await.err()?;
    let name = &board.name;
    Some(format!(
        "board {name} loses frames that come too fast, and nothing here slows them: {why}"
    ))
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
