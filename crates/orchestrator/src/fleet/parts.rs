//! Parts of a fleet that is being made: pool, places in the network, captures, logs, storage.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use zfl_clock::Instant;
use zfl_files::Dir;
use zfl_machine::Board;
use zfl_mesh::MeshFleet;
use zfl_netsim::Link;

use super::checks;
use super::{FleetConfig, FleetError, PcapConfig, Resumption, system};
use crate::body::{FleetShared, Pool};
use crate::event::FleetEvent;
use crate::fabric::{Fabric, NO_CAPTURES, Outlet};
use crate::log::{DeviceLog, LogFolder, log_name};
use crate::spec::{DeviceBody, DeviceSpec};
use crate::storage::{FileStorage, RestingStorage, StorageConfig, image_name};

/// Starts the pool of native devices that exchange in process.
pub(super) fn start_pool(
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

/// Tells if the devices are machines behind the radio of a gateway, which is one more.
pub(super) fn has_emulated_mesh(config: &FleetConfig) -> bool {
    config.mesh.is_some() && checks::boards(&config.devices).next().is_some()
}

/// Starts the air of the mesh, if there is one.
pub(super) fn start_mesh(
    config: &FleetConfig,
    events: &mpsc::UnboundedSender<FleetEvent>,
) -> Option<std::io::Result<MeshFleet>> {
    let mesh = config.mesh.clone()?;
    if !has_emulated_mesh(config) {
        return Some(MeshFleet::start(mesh));
    }
    let events = events.clone();
    Some(MeshFleet::start_emulated(mesh, move |node, reason| {
        let client = node
            .checked_sub(1)
            .and_then(|leaf| u32::try_from(leaf).ok());
        // A caller that dropped its end does not want to know.
        let _ = events.send(FleetEvent::OffAir { client, reason });
    }))
}

/// Place of a device in the network.
pub(super) fn outlet_of(index: usize, spec: &DeviceSpec, board: &Board) -> Outlet {
    Outlet {
        index,
        client: spec.client,
        link: spec.link,
        max_kbit_per_s: board.nic.max_kbit_per_s,
        has_bare_frames: board.is_program(),
        is_gateway: spec.is_gateway,
    }
}

/// Places of the emulated devices in the network; of a mesh, that of its gateway.
pub(super) fn outlets(config: &FleetConfig) -> Vec<Outlet> {
    let devices = &config.devices;
    if has_emulated_mesh(config) {
        let clients = devices.iter().map(|spec| spec.client + 1);
        return vec![Outlet {
            index: 0,
            client: clients.max().unwrap_or(0),
            link: Link::default(),
            max_kbit_per_s: None,
            has_bare_frames: false,
            is_gateway: false,
        }];
    }
    let outlet = |(index, spec): (usize, &DeviceSpec)| match &spec.body {
        DeviceBody::Native | DeviceBody::Pooled => None,
        DeviceBody::Emulated(board) => Some(outlet_of(index, spec, board)),
    };
    devices.iter().enumerate().filter_map(outlet).collect()
}

/// Begins the captures that are asked for, and returns their clients.
pub(super) fn start_captures(
    fabric: &dyn Fabric,
    config: &FleetConfig,
) -> Result<Vec<u32>, FleetError> {
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

pub(super) fn open_log(
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
pub(super) fn open_storage(
    config: &StorageConfig,
    client: u32,
    goes_on: bool,
) -> Result<FileStorage, FleetError> {
    let folder = Dir::make(&config.dir).map_err(std::io::Error::from);
    let opened =
        folder.and_then(|folder| FileStorage::open(&folder, client, config.octets, goes_on));
    opened.map_err(|e| system(config.dir.join(image_name(client)).display(), e))
}
