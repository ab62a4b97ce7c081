//! What is checked before a fleet is started, so that it fails at once and says what to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::system;
use super::{DeviceBody, DeviceSpec, FleetError};
use crate::board::Board;
use crate::machine::Qemu;
use crate::network::Network;

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
        let device = |client| DeviceSpec {
            client,
            join_as: None,
            body: DeviceBody::Native,
            overrides: Default::default(),
        };
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
