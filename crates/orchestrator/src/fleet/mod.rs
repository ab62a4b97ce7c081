//! The fleet: all devices of one run, behind one handle.

mod checks;
mod config;
mod confinement;
mod control;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
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
use zfl_netsim::{ClientStats, SwitchHandle, SwitchStats};
use zfl_pipe::address_of;
use zfl_sandbox::{Isolation, NetworkKind, Sandbox, merges_memory};
use zfl_twin::Counts;

use confinement::{Confinement, confine};
use parts::{
    has_emulated_mesh, open_log, open_storage, outlet_of, outlets, start_captures, start_mesh,
    start_pool,
};

pub use config::{FleetConfig, FleetError, PcapConfig, Resumption};

use crate::body::{Command, Emulated, FleetShared, Identity, Leaf, Native, Pool, RadioNode, live};
use crate::doors::Doors;
use crate::event::{BootReport, Booted, Death, FleetEvent};
use crate::fabric::{Bridge, Fabric, Loopback, Subnet, Switchboard, UserNet};
use crate::log::{DeviceLog, lock};
use crate::spec::{DeviceBody, DeviceSpec, Proof};
use crate::storage::FileStorage;

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
        let mesh = start_mesh(&config, &events);
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
        let task = match &spec.body {
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
                let outlet = outlet_of(index, &spec, board);
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
                    board: Arc::clone(board),
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

    /// Clients behind a radio that have no way to their gateway while these are down.
    pub fn cut_off(&self, down: &BTreeSet<u32>) -> BTreeSet<u32> {
        let Some(mesh) = &self.mesh else {
            return BTreeSet::new();
        };
        // A leaf's number is its client's.
        let is_down = |leaf| u32::try_from(leaf).is_ok_and(|client| down.contains(&client));
        let cut = mesh.cut_off(is_down);
        let cut = cut.filter_map(|leaf| u32::try_from(leaf).ok());
        cut.filter(|client| self.places.contains_key(client))
            .collect()
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

pub(crate) fn subnet_for(devices: usize) -> Result<Subnet, FleetError> {
    let none = || FleetError::Config(format!("there are no addresses for {devices} devices"));
    Subnet::for_devices(devices).ok_or_else(none)
}

pub(crate) fn system(what: impl fmt::Display, source: std::io::Error) -> FleetError {
    FleetError::System {
        what: what.to_string(),
        source,
    }
}
