//! What is checked before a fleet is started, so that it fails at once and says what to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::system;
use super::{DeviceBody, DeviceSpec, FleetConfig, FleetError};
use crate::admission::Capacity;
use crate::board::{Board, Guest};
use crate::machine::{Qemu, Version};
use crate::network::Network;
use crate::sandbox;

/// No two devices may be one, and none is no fleet.
pub(super) fn devices(devices: &[DeviceSpec]) -> Result<(), FleetError> {
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

/// A device must be able to have what is asked of it, whatever the others are.
pub(super) fn tuning(devices: &[DeviceSpec]) -> Result<(), FleetError> {
    for spec in devices {
        let client = spec.client;
        tuned(spec).map_err(|problem| FleetError::Config(format!("device {client}: {problem}")))?;
    }
    Ok(())
}

fn tuned(spec: &DeviceSpec) -> Result<(), String> {
    spec.link.check()?;
    spec.speed.map_or(Ok(()), |speed| speed.check())?;
    let asked = [
        ("a link", !spec.link.is_perfect()),
        ("a memory size", spec.memory_mib.is_some()),
        ("a speed", spec.speed.is_some()),
    ];
    let asked = asked.iter().find(|(_, asked)| *asked);
    match (&spec.body, asked) {
        (DeviceBody::Native, Some((what, _))) => Err(format!(
            "a native device cannot be given {what}; emulate it, or leave that out"
        )),
        (DeviceBody::Native, None) => Ok(()),
        (DeviceBody::Emulated(board), _) => {
            spec.memory_mib.map_or(Ok(()), |mib| memory(board, mib))
        }
    }
}

fn memory(board: &Board, mib: u32) -> Result<(), String> {
    let least = match board.body {
        // The image is linked for a DRAM of this size and does not look how much there is.
        Guest::Zephyr => board.machine.memory_mib,
        Guest::Bare => 1,
    };
    if mib < least {
        let (name, guest) = (&board.name, board.body);
        return Err(format!(
            "{mib} MiB of memory are too few: the {guest} guest of board {name} needs {least}"
        ));
    }
    Ok(())
}

/// The network must be able to do what the devices' links and the captures ask of it.
pub(super) fn network(
    network: sandbox::Network,
    config: &FleetConfig,
    emulators: &BTreeMap<String, Qemu>,
) -> Result<(), FleetError> {
    /// The first with `-netdev dgram`.
    const DGRAM: Version = Version(7, 2, 0);
    let refused = |text: String| Err(FleetError::Config(text));
    let impaired = config.devices.iter().find(|spec| !spec.link.is_perfect());
    match (network, impaired) {
        (sandbox::Network::Bridge | sandbox::Network::Switch, _) | (_, None) => {}
        (_, Some(spec)) => {
            return refused(format!(
                "the link of device {} is impaired, which this network cannot do; take `--network \
                 switch`",
                spec.client
            ));
        }
    }
    if network != sandbox::Network::Switch {
        return match config.pcap {
            Some(_) => {
                refused("only the network `switch` captures; take `--network switch`".into())
            }
            None => Ok(()),
        };
    }
    match emulators.values().find(|qemu| qemu.version < DGRAM) {
        Some(qemu) => refused(format!(
            "the network `switch` needs QEMU {DGRAM}, and {} is {}; take `--network bridge`",
            qemu.path.display(),
            qemu.version
        )),
        None => Ok(()),
    }
}

/// No more devices than this machine has memory for.
pub(super) fn memory_of_the_host(devices: &[DeviceSpec]) -> Result<(), FleetError> {
    let capacity = Capacity::of(devices).map_err(|e| system("the free memory", e))?;
    if capacity.suffices() {
        return Ok(());
    }
    Err(FleetError::Config(format!(
        "{capacity}. Take fewer devices, end other programs, or ask for it all the same \
         (oversubscribe)"
    )))
}

fn boards(devices: &[DeviceSpec]) -> impl Iterator<Item = &Arc<Board>> {
    devices.iter().filter_map(|spec| match &spec.body {
        DeviceBody::Native => None,
        DeviceBody::Emulated(board) => Some(board),
    })
}

/// Finds the image and the emulator of every board before anything is started.
pub(super) fn emulators(devices: &[DeviceSpec]) -> Result<BTreeMap<String, Qemu>, FleetError> {
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
pub(super) fn open_files(count: usize) -> Result<(), FleetError> {
    /// A native device with all of its streams; an emulated one needs six.
    const PER_DEVICE: u64 = 10;
    /// The data set, the aggregator and its connections.
    const OTHERS: u64 = 256;
    let limit = Resource::RLIMIT_NOFILE;
    let (_, most) = getrlimit(limit).map_err(|e| system("open files", e.into()))?;
    setrlimit(limit, most, most).map_err(|e| system("open files", e.into()))?;
    let needed = PER_DEVICE * count as u64 + OTHERS;
    if needed > most {
        return Err(FleetError::Config(format!(
            "{count} devices need {needed} open files, this process may have {most}; \
             raise the limit (`ulimit -Hn`, as root) or take fewer devices"
        )));
    }
    Ok(())
}

/// A guest that loses frames above a rate and cannot be paced works, but is slow and retransmits.
pub(super) async fn pace(network: &Network, devices: &[DeviceSpec]) -> Option<String> {
    let limited = |board: &&Arc<Board>| board.nic.max_kbit_per_s.is_some();
    let board = boards(devices).find(limited)?;
    let why = network.can_pace().await.err()?;
    let name = &board.name;
    Some(format!(
        "board {name} loses frames that come too fast, and nothing here slows them: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_devices_and_each_once() {
        let device = |client| DeviceSpec::new(client, DeviceBody::Native);
        assert!(devices(&[device(1), device(2)]).is_ok());
        let twice = devices(&[device(7), device(2), device(7)]).unwrap_err();
        assert_eq!(twice.to_string(), "there are two devices 7");
        assert!(devices(&[]).is_err());
    }

    #[test]
    fn more_devices_than_open_files_are_refused() {
        let error = open_files(usize::MAX / 100).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn"), "{error}");
    }
}
