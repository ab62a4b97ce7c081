//! The fleet: all devices of one run, behind one handle.

mod checks;
mod config;
mod confinement;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use zfl_clock::Instant;

use fl_client::{Overrides, Word};
use futures::future::join_all;
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use zfl_files::Dir;
use zfl_machine::{Emulator, HostUsage, Machines, Qemu, Tuning, Turns};
use zfl_mesh::MeshFleet;
use zfl_netsim::radio::NodeStats;
use zfl_netsim::{ClientStats, Link, SwitchHandle, SwitchStats};
use zfl_pipe::address_of;
use zfl_sandbox::{Isolation, NetworkKind, Sandbox, merges_memory};
use zfl_twin::Counts;

use confinement::{Confinement, confine};

pub use config::{FleetConfig, FleetError, PcapConfig, Resumption};

use crate::body::{
    Command, Emulated, FleetShared, Identity, Leaf, NO_SHELL, Native, Pool, RadioNode, live,
};
use crate::doors::Doors;
use crate::event::{BootReport, Booted, Death, FleetEvent};
use crate::fabric::{
    Bridge, Fabric, LinkChange, Loopback, NO_CAPTURES, Outlet, Subnet, Switchboard, UserNet,
};
use crate::log::{DeviceLog, LogFolder, lock, log_name};
use crate::spec::{DeviceBody, DeviceSpec, Proof};
use crate::storage::{FileStorage, RestingStorage, StorageConfig, image_name};

/// Refusal of a change to the link of a native device.
const NO_LINK: &str = "a native device has none; emulate it";

/// The devices of one run.
///
/// [`Fleet::stop`] ends them and waits. Dropping the fleet ends them too, but does not wait for
/// native devices.
pub struct Fleet {
    shared: Arc<FleetShared>,
    /// Clients whose frames are captured.
    captured: Vec<u32>,
    warnings: Vec<String>,
    devices: BTreeMap<u32, Handle>,
    /// Mesh of the native devices, and the place of each client in it.
    mesh: Option<Arc<MeshFleet>>,
    places: BTreeMap<u32, usize>,
    /// Gateway of the mesh, where its devices are emulated, until it is booted and after.
    gateway: Mutex<Option<Emulated>>,
    gateway_is_up: OnceCell<bool>,
    gateway_runs: Mutex<Option<(mpsc::Sender<Command>, JoinHandle<()>)>>,
    /// Devices that exchange in process, instead of `devices`.
    pool: Option<Pool>,
}

struct Handle {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
    /// A thread of this process, which has no link.
    is_native: bool,
    proof: Proof,
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
        let emulators = checks::emulators(&config.devices)?;
        Self::fits(sandbox.network(), &config, &emulators)?;
        checks::open_files(&config)?;
        if !config.oversubscribe {
            checks::memory_of_the_host(&config.devices)?;
        }
        let serial_dir = &config.serial_dir;
        let logs = Dir::make(serial_dir).map_err(|e| system("the logs", e.into()))?;
        let Confinement {
            emulators,
            jail,
            lacks,
        } = confine(
            sandbox.isolation(),
            &config.devices,
            config.plugin.as_deref(),
            &emulators,
        )?;
        let merging = config.merge_memory.then(merges_memory);
        let jail = jail.merging(matches!(merging, Some(Ok(()))));
        let unmerged = merging.and_then(Result::err);
        let unmerged = unmerged.map(|why| format!("this host merges no memory: {why}"));
        let fabric = start_fabric(&sandbox, &config).await?;
        let captured = start_captures(fabric.as_ref(), &config)?;
        let lack = fabric.lack();
        let warning = checks::pace(fabric.as_ref(), &config.devices).await;
        let start_mesh = match has_emulated_mesh(&config) {
            true => MeshFleet::start_emulated,
            false => MeshFleet::start,
        };
        let mesh = config.mesh.clone().map(start_mesh);
        let doors = config.doors.as_deref().map(Doors::open).transpose();
        let shared = Arc::new(FleetShared {
            doors: doors.map_err(|e| system("the folder of gdb's sockets", e))?,
            fabric,
            machines: Machines::start(jail).map_err(|e| system("the thread of the machines", e))?,
            policy: config.boot,
            paces: warning.is_none(),
            permits: Semaphore::new(config.boot.permits()),
            events,
            pids: Mutex::default(),
            pages: Mutex::default(),
        });
        let mut fleet = Self {
            shared,
            captured,
            warnings: lacks
                .into_iter()
                .chain(lack)
                .chain(warning)
                .chain(unmerged)
                .collect(),
            devices: BTreeMap::new(),
            mesh: mesh
                .transpose()
                .map_err(|e| system("the mesh", e))?
                .map(Arc::new),
            places: BTreeMap::new(),
            gateway: Mutex::new(None),
            gateway_is_up: OnceCell::new(),
            gateway_runs: Mutex::new(None),
            pool: None,
        };
        let started = Instant::now();
        if sandbox.network() == NetworkKind::InProcess {
            fleet.pool = Some(start_pool(config, logs, started, &fleet.shared)?);
            return Ok(fleet);
        }
        if has_emulated_mesh(&config) {
            let log = logs
                .append("gateway.log")
                .map_err(|e| system("gateway.log", e.into()))?;
            let log = DeviceLog::create(log, started).map_err(|e| system("gateway.log", e))?;
            fleet.add_gateway(&config, log, &emulators);
        }
        for (index, spec) in config.devices.into_iter().enumerate() {
            let log = open_log(&logs, spec.client, started, config.resumed.as_ref())?;
            let storage = match &config.storage {
                Some(storage) => Some(open_storage(
                    storage,
                    spec.client,
                    config.resumed.is_some(),
                )?),
                None => None,
            };
            fleet.add(index, spec, (log, storage), &emulators);
        }
        Ok(fleet)
    }

    /// Checks that a network and these emulators, by board, can carry a fleet; nothing is started.
    ///
    /// # Errors
    /// [`FleetError::Config`] with what to change.
    pub fn fits(
        network: NetworkKind,
        config: &FleetConfig,
        emulators: &BTreeMap<String, Qemu>,
    ) -> Result<(), FleetError> {
        checks::devices(&config.devices)?;
        checks::tuning(&config.devices)?;
        checks::network(network, config, emulators)?;
        checks::addresses(network, config.devices.len())
    }

    /// Readies the gateway of a mesh of machines, of the board of the first.
    fn add_gateway(
        &mut self,
        config: &FleetConfig,
        log: DeviceLog,
        emulators: &BTreeMap<String, Emulator>,
    ) {
        let (Some(board), Some(outlet), Some(mesh)) = (
            checks::boards(&config.devices).next(),
            outlets(config).first().copied(),
            self.mesh.clone(),
        ) else {
            return;
        };
        let Some(gateway) = self.gateway_address(outlet.index) else {
            return;
        };
        let node = RadioNode {
            mesh,
            leaf: None,
            gateway,
        };
        *lock(&self.gateway) = Some(Emulated {
            identity: Identity {
                client: outlet.client,
                join_as: None,
                overrides: Overrides::default(),
                secret: None,
                log: Arc::new(Mutex::new(log)),
                storage: None,
                shared: Arc::clone(&self.shared),
                is_silent: true,
            },
            outlet,
            board: Arc::clone(board),
            tuning: Tuning::default(),
            emulator: emulators[&board.name].command.clone(),
            plugin: None,
            node: Some(node),
        });
    }

    fn gateway_address(&self, index: usize) -> Option<(std::net::Ipv4Addr, u8)> {
        let prefix = subnet_for(index + 1).ok()?.prefix;
        Some((self.shared.fabric.own_address(index)?, prefix))
    }

    /// Boots the gateway of a mesh of machines once; it is kept running from then on. True if there is none.
    async fn boot_gateway(&self, server: SocketAddr) -> bool {
        let Some(gateway) = lock(&self.gateway).take() else {
            return true;
        };
        let (commands, told) = mpsc::channel(1);
        let (tell, booted) = oneshot::channel();
        let task = tokio::spawn(gateway.keep(server, tell, told));
        *lock(&self.gateway_runs) = Some((commands, task));
        booted.await.unwrap_or(false)
    }

    /// Starts the task of a device, which waits to be told to boot.
    fn add(
        &mut self,
        index: usize,
        spec: DeviceSpec,
        (mut log, storage): (DeviceLog, Option<FileStorage>),
        emulators: &BTreeMap<String, Emulator>,
    ) {
        let client = spec.client;
        let is_native = !matches!(spec.body, DeviceBody::Emulated(_));
        let proof = self.proof(index, &spec);
        let secret = match proof {
            Proof::Secret(secret) => Some(secret),
            Proof::Address(_) => spec.secret,
        };
        secret
            .into_iter()
            .for_each(|secret| log.keep_secret(secret));
        let identity = Identity {
            client,
            join_as: spec.join_as,
            overrides: spec.overrides,
            secret,
            log: Arc::new(Mutex::new(log)),
            storage,
            shared: Arc::clone(&self.shared),
            is_silent: false,
        };
        let (commands, told) = mpsc::channel(8);
        let tuning = Tuning {
            memory_mib: spec.memory_mib,
            speed: spec.speed,
        };
        let task = match spec.body {
            DeviceBody::Native if self.mesh.is_some() => {
                let number = client as usize;
                let Some(mesh) = self.mesh.clone() else {
                    return;
                };
                self.places.insert(client, number);
                let leaf = Leaf {
                    identity,
                    mesh,
                    number,
                };
                tokio::spawn(live(leaf, told))
            }
            DeviceBody::Native | DeviceBody::Pooled => {
                tokio::spawn(live(Native { identity }, told))
            }
            DeviceBody::Emulated(board) => {
                let emulator = &emulators[&board.name];
                let (emulator, plugin) = (emulator.command.clone(), emulator.plugin.clone());
                let outlet = Outlet {
                    index,
                    client,
                    link: spec.link,
                    max_kbit_per_s: board.nic.max_kbit_per_s,
                };
                let node = self.mesh.clone().map(|mesh| {
                    self.places.insert(client, client as usize);
                    RadioNode {
                        mesh,
                        leaf: Some(client as usize),
                        gateway: self
                            .gateway_address(0)
                            .unwrap_or((std::net::Ipv4Addr::UNSPECIFIED, 24)),
                    }
                });
                let device = Emulated {
                    node,
                    identity,
                    outlet,
                    board,
                    tuning,
                    emulator,
                    plugin,
                };
                tokio::spawn(live(device, told))
            }
        };
        let handle = Handle {
            commands,
            task,
            is_native,
            proof,
        };
        self.devices.insert(client, handle);
    }

    /// Proof of a device: its address where that is its alone, else a secret.
    fn proof(&self, index: usize, spec: &DeviceSpec) -> Proof {
        let address = match spec.body {
            DeviceBody::Native | DeviceBody::Pooled => None,
            // A leaf has none.
            DeviceBody::Emulated(_) if self.mesh.is_some() => None,
            DeviceBody::Emulated(_) => self.shared.fabric.own_address(index),
        };
        match (address, spec.secret) {
            (Some(address), _) => Proof::Address(address.into()),
            (None, Some(secret)) => Proof::Secret(secret),
            (None, None) => Proof::Secret(Word::random(rand::random())),
        }
    }

    /// Proof of each device, by client, for the aggregator to be told before anything is booted.
    pub fn proofs(&self) -> BTreeMap<u32, Proof> {
        if let Some(pool) = &self.pool {
            let proof = |client| (client, Proof::Address(address_of(client).ip()));
            return pool.clients().map(proof).collect();
        }
        let proof = |(client, device): (&u32, &Handle)| (*client, device.proof);
        self.devices.iter().map(proof).collect()
    }

    /// Wishes of the boards that will not come true, for people; most fleets have none.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The address on which the aggregator must listen, at any port.
    pub fn server_ip(&self) -> IpAddr {
        self.shared.fabric.server_ip().into()
    }

    /// Boots every device and starts its client; returns when each runs or has failed.
    ///
    /// `server` is where the aggregator listens: [`Fleet::server_ip`] and its port. Native devices
    /// can join an aggregator elsewhere.
    pub async fn boot(&self, server: SocketAddr) -> BootReport {
        let pooled = self.pool.iter().flat_map(Pool::clients);
        let clients = self.devices.keys().copied().chain(pooled);
        let outcomes = join_all(clients.map(|client| self.boot_one(client, server))).await;
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
        if let Some(pool) = self.pool_of(client)? {
            let booted = pool.boot(client).ok_or(FleetError::State(client))?;
            return Ok(Ok(booted));
        }
        let gateway = self.gateway_is_up.get_or_init(|| self.boot_gateway(server));
        if !*gateway.await {
            let why = "the gateway of the mesh does not boot: look at serial/gateway.log";
            return Err(FleetError::Config(why.into()));
        }
        let (done, outcome) = oneshot::channel();
        self.command(client, Command::Boot(server, done)).await?;
        outcome.await.map_err(|_| FleetError::State(client))
    }

    /// Kills a device as a crash would, and waits until it is gone. No harm if it is already.
    pub async fn kill(&self, client: u32) -> Result<(), FleetError> {
        if let Some(pool) = self.pool_of(client)? {
            pool.kill(client).await;
            return Ok(());
        }
        let (done, gone) = oneshot::channel();
        self.command(client, Command::Kill(done)).await?;
        gone.await.map_err(|_| FleetError::State(client))
    }

    /// Makes a device stand still as it is; its connections stay open.
    pub async fn freeze(&self, client: u32) -> Result<(), FleetError> {
        if let Some(pool) = self.pool_of(client)? {
            pool.freeze(client);
            return Ok(());
        }
        self.command(client, Command::Freeze).await
    }

    /// Lets a frozen device go on.
    pub async fn thaw(&self, client: u32) -> Result<(), FleetError> {
        if let Some(pool) = self.pool_of(client)? {
            pool.thaw(client);
            return Ok(());
        }
        self.command(client, Command::Thaw).await
    }

    /// Tells if links can be cut: on the networks `switch` and `bridge`.
    pub fn can_cut(&self) -> bool {
        self.shared.fabric.can_cut()
    }

    /// Cuts the link of an emulated device: nothing passes until [`Fleet::heal`], not even after a
    /// reboot. In force when it returns.
    ///
    /// # Errors
    /// [`FleetError::Link`] if the network has no links, or the device is native.
    pub async fn cut(&self, client: u32) -> Result<(), FleetError> {
        self.change_link(client, LinkChange::Cut).await
    }

    /// Heals a link that was cut.
    ///
    /// # Errors
    /// As of [`Fleet::cut`].
    pub async fn heal(&self, client: u32) -> Result<(), FleetError> {
        self.change_link(client, LinkChange::Heal).await
    }

    /// Gives an emulated device another link, for the frames to come.
    ///
    /// # Errors
    /// [`FleetError::Link`] if the network cannot impair links, the device is native, or there can be
    /// no such link.
    pub async fn set_link(&self, client: u32, link: Link) -> Result<(), FleetError> {
        self.change_link(client, LinkChange::Set(Box::new(link)))
            .await
    }

    /// Counts of a device's link so far; `None` where no switch counts.
    pub fn link_stats(&self, client: u32) -> Option<ClientStats> {
        self.shared.fabric.switch()?.client_stats(client)
    }

    /// Counts of a device's radio when its last message came to the gateway, and the simulated time then, in
    /// seconds; `None` where it has none.
    pub fn radio_stats(&self, client: u32) -> Option<(NodeStats, f64)> {
        let place = self.places.get(&client)?;
        let (stats, now_us) = self.mesh.as_ref()?.stats(*place);
        Some((stats, now_us as f64 / 1e6))
    }

    /// Tells that the aggregator is about to ask these clients: what it sends them goes on the air together.
    pub fn expect(&self, clients: &[u32]) {
        if let Some(mesh) = &self.mesh {
            let places = clients.iter().filter_map(|client| self.places.get(client));
            mesh.expect(places.copied().collect());
        }
    }

    /// Counts of the switch so far; `None` where there is none.
    pub fn switch_stats(&self) -> Option<SwitchStats> {
        self.shared.fabric.switch().map(SwitchHandle::stats)
    }

    async fn change_link(&self, client: u32, change: LinkChange) -> Result<(), FleetError> {
        if self.pool_of(client)?.is_some() {
            let problem = NO_LINK.to_owned();
            return Err(FleetError::Link { client, problem });
        }
        let device = self.devices.get(&client);
        let changed = match (device.ok_or(FleetError::Unknown(client))?, &change) {
            (
                Handle {
                    is_native: true, ..
                },
                _,
            ) => Err(NO_LINK.into()),
            (_, LinkChange::Set(link)) => link.check(),
            _ => Ok(()),
        };
        let changed = match changed {
            Ok(()) => self.shared.fabric.change_link(client, change).await,
            refused => refused,
        };
        changed.map_err(|problem| FleetError::Link { client, problem })
    }

    /// Types a line into an emulated device's shell while its client runs; returns when it was read.
    ///
    /// # Errors
    /// [`FleetError::Shell`] if the device is native, does not run, or its shell does not take it.
    pub async fn type_line(&self, client: u32, line: &str) -> Result<(), FleetError> {
        if self.pool_of(client)?.is_some() {
            let problem = NO_SHELL.to_owned();
            return Err(FleetError::Shell { client, problem });
        }
        let (done, typed) = oneshot::channel();
        self.command(client, Command::Type(line.to_owned(), done))
            .await?;
        let typed = typed.await.map_err(|_| FleetError::State(client))?;
        typed.map_err(|problem| FleetError::Shell { client, problem })
    }

    /// Usage of its host by an emulated device now; `None` if it does not run or is native.
    pub fn usage(&self, client: u32) -> Option<HostUsage> {
        let pid = self.shared.with_pids(|pids| pids.get(&client).copied())?;
        HostUsage::of(pid)
    }

    /// Instructions that an emulated device has executed in its training since it booted, by class; `None` where no
    /// plugin counts them.
    pub fn counts(&self, client: u32) -> Option<Counts> {
        let pages = self.shared.pages.lock();
        let pages = pages.unwrap_or_else(PoisonError::into_inner);
        Counts::read(pages.get(&client)?).ok()
    }

    /// Tells if a debugger is at a device; `None` where none is let in.
    pub fn is_debugged(&self) -> Option<bool> {
        self.shared.doors.as_ref().map(Doors::is_debugged)
    }

    /// Turns of an emulated device at the processors of its host so far; `None` as of [`Fleet::usage`].
    pub fn turns(&self, client: u32) -> Option<Turns> {
        let pid = self.shared.with_pids(|pids| pids.get(&client).copied())?;
        Turns::of(pid)
    }

    /// The process of each emulated device that runs, by client, as numbered inside the sandbox.
    pub fn pids(&self) -> BTreeMap<u32, u32> {
        self.shared.with_pids(|pids| pids.clone())
    }

    /// Kills every device and waits until all are gone, booting ones included.
    pub async fn stop(mut self) {
        join_all(self.devices.keys().map(|&client| self.kill(client))).await;
        let devices = std::mem::take(&mut self.devices);
        let tasks = devices.into_values().map(|Handle { task, .. }| task);
        // The tasks end when nobody can command them any more; none is cancelled.
        join_all(tasks).await;
        let gateway = lock(&self.gateway_runs).take();
        if let Some((commands, task)) = gateway {
            drop(commands);
            let _ = task.await;
        }
        if let Some(pool) = self.pool.take() {
            // Its workers may be in the middle of a step.
            let _ = tokio::task::spawn_blocking(move || pool.stop()).await;
        }
        self.stop_captures().await;
        // The last owner: its drop waits for whatever machine was about to start.
        let _ = tokio::task::spawn_blocking(move || drop(self.shared)).await;
    }

    /// Completes the captures; one that could not be written to its end is told as a lost log.
    async fn stop_captures(&mut self) {
        let (shared, captured) = (Arc::clone(&self.shared), std::mem::take(&mut self.captured));
        let stop = move || {
            let Some(switch) = shared.fabric.switch() else {
                return;
            };
            for client in captured {
                if let Err(error) = switch.stop_capture(client) {
                    let error = error.to_string();
                    // A caller that dropped its end does not want to know.
                    let _ = shared.events.send(FleetEvent::LogLost { client, error });
                }
            }
        };
        // It waits for the disk. It does not panic.
        let _ = tokio::task::spawn_blocking(stop).await;
    }

    /// The pool that has a device; `None` if there is no pool.
    fn pool_of(&self, client: u32) -> Result<Option<&Pool>, FleetError> {
        let pool = self.pool.as_ref();
        match pool.is_none_or(|pool| pool.has(client)) {
            true => Ok(pool),
            false => Err(FleetError::Unknown(client)),
        }
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
            .field("pool", &self.pool.is_some())
            .finish_non_exhaustive()
    }
}

async fn start_fabric(
    sandbox: &Sandbox,
    config: &FleetConfig,
) -> Result<Box<dyn Fabric>, FleetError> {
    let failed = |error| system("the fleet's network", error);
    let devices = config.devices.len() + usize::from(has_emulated_mesh(config));
    Ok(match sandbox.network() {
        NetworkKind::Loopback | NetworkKind::InProcess => Box::new(Loopback),
        NetworkKind::User => {
            let own_loopback = sandbox.isolation() != Isolation::None;
            Box::new(UserNet::start(own_loopback).await.map_err(failed)?)
        }
        NetworkKind::Bridge => {
            let subnet = subnet_for(devices)?;
            let outlets = outlets(config);
            let bridge = Bridge::start(subnet, config.seed, &outlets).await;
            let bridge = bridge.map_err(failed)?;
            checks::bridge(&bridge, &outlets).await?;
            Box::new(bridge)
        }
        NetworkKind::Switch => {
            let subnet = subnet_for(devices)?;
            let switch = Switchboard::start(subnet, config.seed, &outlets(config)).await;
            Box::new(switch.map_err(failed)?)
        }
    })
}

/// Starts the pool of native devices that exchange in process.
fn start_pool(
    config: FleetConfig,
    logs: Dir,
    started: Instant,
    shared: &FleetShared,
) -> Result<Pool, FleetError> {
    let pooled = |spec: &DeviceSpec| matches!(spec.body, DeviceBody::Pooled);
    let all = config.devices.iter().all(pooled);
    let lines = config.lines.filter(|_| all).ok_or_else(|| {
        FleetError::Config("an exchange in process is for a pool, and wants its lines".into())
    })?;
    let goes_on = config.resumed.is_some();
    let folder = LogFolder {
        dir: logs,
        started,
        resumed: config.resumed,
    };
    let storage = match &config.storage {
        Some(StorageConfig { dir, octets }) => {
            let made = Dir::make(dir).map_err(|e| system(dir.display(), e.into()))?;
            Some((Arc::new(made), *octets))
        }
        None => None,
    };
    let storage = |client| {
        let (dir, octets) = storage.as_ref()?;
        Some(RestingStorage::new(
            Arc::clone(dir),
            client,
            *octets,
            goes_on,
        ))
    };
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let pool = Pool::start(
        config.devices,
        (lines, config.examples),
        config.threads.unwrap_or(processors),
        Arc::new(folder),
        storage,
        shared.events.clone(),
    );
    pool.map_err(|e| system("the workers of native devices", e))
}

pub(crate) fn subnet_for(devices: usize) -> Result<Subnet, FleetError> {
    let none = || FleetError::Config(format!("there are no addresses for {devices} devices"));
    Subnet::for_devices(devices).ok_or_else(none)
}

/// Tells if the devices are machines behind the radio of a gateway, which is one more.
fn has_emulated_mesh(config: &FleetConfig) -> bool {
    config.mesh.is_some() && checks::boards(&config.devices).next().is_some()
}

/// Places of the emulated devices in the network; of a mesh, that of its gateway.
fn outlets(config: &FleetConfig) -> Vec<Outlet> {
    let devices = &config.devices;
    if has_emulated_mesh(config) {
        let clients = devices.iter().map(|spec| spec.client + 1);
        return vec![Outlet {
            index: 0,
            client: clients.max().unwrap_or(0),
            link: Link::default(),
            max_kbit_per_s: None,
        }];
    }
    let outlet = |(index, spec): (usize, &DeviceSpec)| match &spec.body {
        DeviceBody::Native | DeviceBody::Pooled => None,
        DeviceBody::Emulated(board) => Some(Outlet {
            index,
            client: spec.client,
            link: spec.link,
            max_kbit_per_s: board.nic.max_kbit_per_s,
        }),
    };
    devices.iter().enumerate().filter_map(outlet).collect()
}

/// Begins the captures that are asked for, and returns their clients.
fn start_captures(fabric: &dyn Fabric, config: &FleetConfig) -> Result<Vec<u32>, FleetError> {
    let Some(PcapConfig { dir, clients }) = &config.pcap else {
        return Ok(Vec::new());
    };
    let emulated: Vec<u32> = outlets(config).iter().map(|outlet| outlet.client).collect();
    let captured = clients.clone().unwrap_or_else(|| emulated.clone());
    for &client in &captured {
        if !emulated.contains(&client) {
            return Err(FleetError::Config(format!(
                "there is no emulated device {client} to capture"
            )));
        }
        capture(fabric, client, dir)
            .map_err(|problem| FleetError::Config(format!("cannot capture: {problem}")))?;
    }
    Ok(captured)
}

/// Begins `<client>.pcapng` in `folder`.
fn capture(fabric: &dyn Fabric, client: u32, folder: &Path) -> Result<(), String> {
    let switch = fabric.switch().ok_or(NO_CAPTURES)?;
    Dir::make(folder).map_err(|error| error.to_string())?;
    let path = folder.join(format!("{client}.pcapng"));
    switch
        .capture(client, &path)
        .map_err(|error| error.to_string())
}

fn open_log(
    folder: &Dir,
    client: u32,
    started: Instant,
    resumed: Option<&Resumption>,
) -> Result<DeviceLog, FleetError> {
    let name = log_name(client);
    let open = || {
        let file = folder.append(&name)?;
        match resumed {
            Some(Resumption { elapsed, mark }) => DeviceLog::resume(file, started, *elapsed, mark),
            None => DeviceLog::create(file, started),
        }
    };
    open().map_err(|e| system(folder.path().join(&name).display(), e))
}

/// Opens the storage of a device.
fn open_storage(
    config: &StorageConfig,
    client: u32,
    goes_on: bool,
) -> Result<FileStorage, FleetError> {
    let folder = Dir::make(&config.dir).map_err(std::io::Error::from);
    let opened =
        folder.and_then(|folder| FileStorage::open(&folder, client, config.octets, goes_on));
    opened.map_err(|e| system(config.dir.join(image_name(client)).display(), e))
}

pub(crate) fn system(what: impl fmt::Display, source: std::io::Error) -> FleetError {
    FleetError::System {
        what: what.to_string(),
        source,
    }
}
