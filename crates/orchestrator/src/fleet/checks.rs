//! Checks before the start of a fleet, so that a mistake fails at once and says what to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use zfl_machine::{Board, Qemu, Version};
use zfl_sandbox::NetworkKind;

use super::{FleetConfig, FleetError, subnet_for, system};
use crate::admission::{self, Capacity};
use crate::fabric::{Bridge, Fabric, Outlet, check_netem};
use crate::spec::{DeviceBody, DeviceSpec};

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
        (DeviceBody::Native | DeviceBody::Pooled, Some((what, _))) => Err(format!(
            "a native device cannot be given {what}; emulate it, or leave that out"
        )),
        (DeviceBody::Native | DeviceBody::Pooled, None) => Ok(()),
        (DeviceBody::Emulated(board), _) if board.is_program() && spec.speed.is_some() => {
            Err(format!(
                "board {} is a program of the host, whose time is the host's: it cannot be given a speed; take \
             --time host, and leave mips and throttle out",
                board.name
            ))
        }
        (DeviceBody::Emulated(board), _) => spec
            .memory_mib
            .map_or(Ok(()), |mib| board.check_memory(mib)),
    }
}

/// The network must be able to do what the devices' links and the captures ask of it.
pub(super) fn network(
    network: NetworkKind,
    config: &FleetConfig,
    emulators: &BTreeMap<String, Qemu>,
) -> Result<(), FleetError> {
    /// The first with `-netdev dgram`.
    const DGRAM: Version = Version(7, 2, 0);
    let refused = |text: String| Err(FleetError::Config(text));
    let impaired = config.devices.iter().find(|spec| !spec.link.is_perfect());
    match (network, impaired) {
        (NetworkKind::Bridge | NetworkKind::Switch, _) | (_, None) => {}
        (_, Some(spec)) => {
            return refused(format!(
                "the link of device {} is impaired, which this network cannot do; take `--network \
                 switch`",
                spec.client
            ));
        }
    }
    if network != NetworkKind::Switch {
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

/// Each device must have an address.
pub(super) fn addresses(network: NetworkKind, devices: usize) -> Result<(), FleetError> {
    match network {
        NetworkKind::Bridge | NetworkKind::Switch => subnet_for(devices).map(drop),
        NetworkKind::User | NetworkKind::Loopback | NetworkKind::InProcess => Ok(()),
    }
}

/// A bridge must be able to impair the links that are to be impaired from the start.
pub(super) async fn bridge(bridge: &Bridge, outlets: &[Outlet]) -> Result<(), FleetError> {
    let impaired = outlets.iter().find(|outlet| !outlet.link.is_perfect());
    let Some(Outlet { client, .. }) = impaired else {
        return Ok(());
    };
    let can = bridge.has_netem().await;
    can.map_err(|why| {
        FleetError::Config(format!(
            "the link of device {client} is impaired, and {why}; take `--network switch`"
        ))
    })?;
    for Outlet { client, link, .. } in outlets {
        check_netem(link)
            .map_err(|problem| FleetError::Config(format!("device {client}: {problem}")))?;
    }
    Ok(())
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

pub(super) fn boards(devices: &[DeviceSpec]) -> impl Iterator<Item = &Arc<Board>> {
    devices.iter().filter_map(|spec| match &spec.body {
        DeviceBody::Native | DeviceBody::Pooled => None,
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
        if !board.is_program() {
            emulators.insert(board.name.clone(), Qemu::find(board)?);
        }
    }
    Ok(emulators)
}

/// Raises the number of files that may be open as far as needed.
pub(super) fn open_files(config: &FleetConfig) -> Result<(), FleetError> {
    let needed = admission::open_files(&config.devices, config.other_files);
    let needed = needed.map_err(FleetError::Config)?;
    let limit = Resource::RLIMIT_NOFILE;
    let (now, most) = getrlimit(limit).map_err(|e| system("open files", e.into()))?;
    setrlimit(limit, now.max(needed), most).map_err(|e| system("open files", e.into()))
}

/// A guest that loses frames above a rate and cannot be paced works, but is slow and retransmits.
pub(super) async fn pace(fabric: &dyn Fabric, devices: &[DeviceSpec]) -> Option<String> {
    let limited = |board: &&Arc<Board>| board.nic.max_kbit_per_s.is_some();
    let board = boards(devices).find(limited)?;
    let why = fabric.can_pace().await.err()?;
    let name = &board.name;
    Some(format!(
        "board {name} loses frames that come too fast, and nothing here slows them: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::PcapConfig;
    use crate::spec::tests::board;
    use zfl_machine::Speed;
    use zfl_netsim::{Impairment, Link, Loss};

    #[test]
    fn a_fleet_has_devices_and_each_once() {
        let device = |client| DeviceSpec::new(client, DeviceBody::Native);
        assert!(devices(&[device(1), device(2)]).is_ok());
        let twice = devices(&[device(7), device(2), device(7)]).unwrap_err();
        assert_eq!(twice.to_string(), "there are two devices 7");
        assert!(devices(&[]).is_err());
    }

    fn refused(board_name: Option<&str>, change: impl FnOnce(&mut DeviceSpec)) -> Option<String> {
        let body = match board_name {
            Some(name) => DeviceBody::Emulated(Arc::new(board(name))),
            None => DeviceBody::Native,
        };
        let mut spec = DeviceSpec::new(7, body);
        change(&mut spec);
        tuning(&[spec]).err().map(|error| error.to_string())
    }

    fn lossy() -> Link {
        Link::symmetric(Impairment {
            loss: Loss::independent(0.1),
            ..Impairment::default()
        })
    }

    #[test]
    fn a_device_gets_what_it_can_have() {
        let allowed = |board, change: fn(&mut DeviceSpec)| assert_eq!(refused(board, change), None);
        allowed(None, |_| {});
        allowed(Some("microvm"), |spec| spec.memory_mib = Some(2));
        allowed(Some("microvm"), |spec| spec.link = lossy());
        allowed(Some("qemu_x86"), |spec| spec.memory_mib = Some(15));
        allowed(Some("qemu_x86"), |spec| {
            spec.speed = Speed::of_mips(125.0, true).ok();
        });
    }

    #[test]
    fn a_device_that_cannot_be_is_refused_with_what_to_change() {
        let check = |board, change: fn(&mut DeviceSpec), part: &str| {
            let text = refused(board, change).expect("it is refused");
            assert!(
                text.starts_with("device 7: ") && text.contains(part),
                "{text}"
            );
        };
        check(None, |spec| spec.link = lossy(), "emulate it");
        check(None, |spec| spec.memory_mib = Some(1), "a memory size");
        check(
            None,
            |spec| spec.speed = Speed::of_mips(1000.0, false).ok(),
            "a speed",
        );
        check(
            Some("native_sim"),
            |spec| spec.speed = Speed::of_mips(125.0, false).ok(),
            "--time host",
        );
        check(Some("microvm"), |spec| spec.memory_mib = Some(0), "needs 1");
        check(
            Some("qemu_x86"),
            |spec| spec.memory_mib = Some(14),
            "needs 15",
        );
        check(
            Some("microvm"),
            |spec| spec.memory_mib = Some(4_000_000),
            "can use 2048",
        );
        check(
            Some("qemu_x86"),
            |spec| spec.memory_mib = Some(16),
            "can use 15",
        );
        let too_slow = |spec: &mut DeviceSpec| {
            spec.speed = Some(Speed {
                shift: 11,
                throttle: false,
            });
        };
        check(Some("microvm"), too_slow, "give 0 to 10");
        let impossible = |spec: &mut DeviceSpec| {
            spec.link.uplink.loss = Loss::independent(2.0);
        };
        check(Some("microvm"), impossible, "uplink: loss is 2");
    }

    #[test]
    fn a_network_does_what_is_asked_of_it_or_is_refused() {
        let emulated = DeviceBody::Emulated(Arc::new(board("microvm")));
        let mut config = FleetConfig::new(vec![DeviceSpec::new(7, emulated)], "serial");
        let qemu = |version| {
            let path = "/bin/qemu".into();
            BTreeMap::from([("microvm".to_owned(), Qemu { path, version })])
        };
        let check = |config: &FleetConfig, kind, version| {
            network(kind, config, &qemu(version)).map_err(|error| error.to_string())
        };
        let (new, old) = (Version(7, 2, 0), Version(7, 1, 0));
        use NetworkKind::{Bridge, Switch, User};
        for kind in [Bridge, Switch, User] {
            assert_eq!(check(&config, kind, new), Ok(()));
        }
        assert_eq!(check(&config, Bridge, old), Ok(()));
        let text = check(&config, Switch, old).unwrap_err();
        assert!(
            text.contains("needs QEMU 7.2.0, and /bin/qemu is 7.1.0"),
            "{text}"
        );
        config.devices[0].link = lossy();
        assert_eq!(check(&config, Switch, new), Ok(()));
        let text = check(&config, User, new).unwrap_err();
        assert!(
            text.contains("device 7") && text.contains("--network switch"),
            "{text}"
        );
        config.devices[0].link = Link::default();
        config.pcap = Some(PcapConfig {
            dir: "pcap".into(),
            clients: None,
        });
        assert_eq!(check(&config, Switch, new), Ok(()));
        for kind in [Bridge, User] {
            assert!(
                check(&config, kind, new)
                    .unwrap_err()
                    .contains("--network switch")
            );
        }
    }

    #[test]
    fn more_devices_than_addresses_are_refused() {
        let check = |kind, devices| addresses(kind, devices).map_err(|error| error.to_string());
        assert_eq!(check(NetworkKind::Bridge, 4000), Ok(()));
        let text = check(NetworkKind::Switch, 1 << 30).unwrap_err();
        assert!(text.contains("no addresses"), "{text}");
        assert_eq!(check(NetworkKind::Loopback, 1 << 30), Ok(()));
    }

    #[test]
    fn more_devices_than_open_files_are_refused() {
        let devices = vec![DeviceSpec::new(7, DeviceBody::Native)];
        let mut config = FleetConfig::new(devices, "serial");
        open_files(&config).unwrap();
        config.other_files = u64::MAX;
        let error = open_files(&config).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn"), "{error}");
    }
}
