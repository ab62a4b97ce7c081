//! The fleet of an experiment: its devices, and what this machine allows them.

use crate::storage;
use anyhow::Result;
use fl_data::Dataset;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zfl_aggregator::EdgeSetup;
use zfl_experiment::estimate::memory;
use zfl_experiment::{Choice, Experiment, FleetGroup, Network, NotNative, Refusal, require};
use zfl_machine::{Board, Guest, Qemu, try_kvm};
use zfl_orchestrator::admission::Capacity;
use zfl_orchestrator::{
    BootPolicy, DeviceBody, DeviceSpec, Fleet, FleetConfig, PcapConfig, Resumption, preflight,
};
use zfl_run_dir::Resumed;
use zfl_sandbox::{Needs, NetworkKind, Plan};

/// Machines that can meet on a bridge, which has 1,023 ports.
const MOST_WITH_GATEWAYS: usize = 1000;

/// Folder of the sockets for gdb in a run directory.
pub const DOORS: &str = "gdb";

/// Devices whose frames are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Every device.
    All,
    /// These clients.
    Of(Vec<u32>),
}

/// Choices about a fleet that are no part of an experiment: they change no result.
#[derive(Clone, Debug, Default)]
pub(crate) struct FleetOptions {
    /// Machines that boot at the same time.
    pub boot_parallel: Option<u32>,
    /// Threads on which native devices run.
    pub threads: Option<u32>,
    /// Starts more devices than there is memory for.
    pub oversubscribe: bool,
    /// Has the host merge the memory of the machines.
    pub merge_memory: bool,
    /// Runs the machines on the host's own processor.
    pub kvm: bool,
    /// Lets gdb into emulated devices.
    pub gdb: bool,
    /// Starts machines of boards of which nobody knows who made them.
    pub allow_board: bool,
    /// Devices whose frames are written down.
    pub pcap: Option<Capture>,
}

/// The devices of an experiment but those that are lost, and how they are started.
pub(crate) fn config(
    experiment: &Experiment,
    options: &FleetOptions,
    resumed: Option<&Resumed>,
) -> Result<FleetConfig, Refusal> {
    let lost = |client: &u32| resumed.is_some_and(|from| from.complete.gone.contains_key(client));
    let in_process = exchanges_in_process(experiment);
    let mut devices = Vec::new();
    let mut clients = 0..experiment.clients;
    for group in &experiment.groups {
        let extra_bytes = memory::beyond_budget(experiment, group)?;
        let board = group.board.as_ref().map(|board| match options.kvm {
            true => Arc::new(board.on_kvm()),
            false => Arc::clone(board),
        });
        let those = clients.by_ref().take(group.count as usize);
        devices.extend(
            those
                .filter(|client| !lost(client))
                .map(|client| DeviceSpec {
                    extra_bytes,
                    ..device(client, group, board.as_ref(), in_process)
                }),
        );
    }
    // Behind those of all clients, as their IDs are.
    if let Some(board) = experiment.gateway_board() {
        let board = Arc::new(match options.kvm {
            true => board.on_kvm(),
            false => board.clone(),
        });
        let edges = experiment.edges.nodes(experiment.clients).into_iter();
        devices.extend(edges.map(|edge| DeviceSpec {
            secret: Some(EdgeSetup::secret()),
            is_gateway: true,
            ..DeviceSpec::new(
                experiment.clients + edge.number,
                DeviceBody::Emulated(Arc::clone(&board)),
            )
        }));
    }
    let mut config = FleetConfig::new(devices, "");
    config.boot = BootPolicy {
        parallel: options.boot_parallel.map(|count| count as usize),
        ..BootPolicy::default()
    };
    config.threads = options.threads.map(|threads| threads as usize);
    config.seed = experiment.seed;
    config.oversubscribe = options.oversubscribe;
    config.doors = options.gdb.then(PathBuf::new);
    config.merge_memory = options.merge_memory;
    config.plugin = experiment.twin.as_ref().map(|twin| twin.plugin.clone());
    config.resumed = resumed.map(resumption);
    config.pcap = options.pcap.as_ref().map(|capture| PcapConfig {
        dir: "".into(),
        clients: match capture {
            Capture::All => None,
            Capture::Of(clients) => Some(clients.clone()),
        },
    });
    config.mesh = experiment.mesh()?;
    config.storage = storage::of(experiment);
    place(&mut config, &experiment.out);
    Ok(config)
}

/// Tells if the devices exchange with the aggregator in this process: native ones, unless sockets were asked for
/// or the devices are of edges or behind a radio.
pub(crate) fn exchanges_in_process(experiment: &Experiment) -> bool {
    let is_native = |group: &FleetGroup| group.board.is_none();
    let asks =
        experiment.network.is_some() || !experiment.edges.is_empty() || experiment.radio.is_some();
    experiment.groups.iter().all(is_native) && !asks
}

/// Sets the folders of what the devices write.
pub(crate) fn place(config: &mut FleetConfig, run_dir: &Path) {
    config.serial_dir = run_dir.join("serial");
    if let Some(doors) = &mut config.doors {
        *doors = run_dir.join(DOORS);
    }
    if let Some(storage) = &mut config.storage {
        storage::place(storage, run_dir);
    }
    if let Some(pcap) = &mut config.pcap {
        pcap.dir = run_dir.join("pcap");
    }
}

fn resumption(from: &Resumed) -> Resumption {
    let Resumed {
        round, elapsed_s, ..
    } = from;
    Resumption {
        elapsed: Duration::try_from_secs_f64(*elapsed_s).unwrap_or_default(),
        mark: format!(
            "resumed after round {round}: what came after {elapsed_s:.3} s was broken off and is done again"
        ),
    }
}

fn device(
    client: u32,
    group: &FleetGroup,
    board: Option<&Arc<Board>>,
    in_process: bool,
) -> DeviceSpec {
    let body = match board {
        Some(board) => DeviceBody::Emulated(Arc::clone(board)),
        None if in_process => DeviceBody::Pooled,
        None => DeviceBody::Native,
    };
    DeviceSpec {
        link: group.wire(),
        memory_mib: group.memory_mib,
        speed: group.speed,
        ..DeviceSpec::new(client, body)
    }
}

/// Checks that what is to be booted is there, and finds out what this machine allows.
pub(crate) fn probe(
    experiment: &Experiment,
    fleet: &FleetConfig,
    options: &FleetOptions,
) -> Result<Plan> {
    can_capture(experiment, fleet)?;
    let boards = experiment.groups.iter().filter_map(|g| g.board.as_ref());
    let emulated = boards.clone().next().is_some();
    let mut emulators = BTreeMap::new();
    let gateways = experiment.gateway_board();
    for board in boards.map(|board| &**board).chain(gateways) {
        has_firmware(board)?;
        if !board.is_program() {
            emulators.insert(board.name.clone(), Qemu::find(board)?);
        }
    }
    let program = experiment.groups.iter().filter_map(|g| g.board.as_ref());
    let program = program.clone().find(|board| board.is_program());
    for (flag, is_given) in [("--accel kvm", options.kvm), ("--gdb", options.gdb)] {
        require(!is_given || program.is_none(), || {
            let name = program.map_or("", |board| &board.name);
            format!(
                "{flag}: board {name} is a program of the host, without an emulator: leave {flag} out"
            )
        })?;
    }
    if options.kvm {
        has_kvm(experiment, &emulators)?;
    }
    preflight(&fleet.devices, fleet.other_files)?;
    let capacity = Capacity::of(&fleet.devices)?;
    require(fleet.oversubscribe || capacity.suffices(), || {
        format!("{capacity}: take fewer devices, end other programs, or give --oversubscribe")
    })?;
    if !emulated {
        return Ok(match exchanges_in_process(experiment) {
            true => Plan::in_process(),
            false => Plan::native(),
        });
    }
    let needs = Needs {
        links: fleet.devices.iter().any(|spec| !spec.link.is_perfect()),
        cuts: experiment.fault_plan()?.cuts_links(),
        pcap: fleet.pcap.is_some(),
    };
    let network = experiment.network.unwrap_or(Network::usual());
    let plan = zfl_orchestrator::probe(network.into(), needs)?;
    let meet = plan.network == NetworkKind::Bridge && fleet.devices.len() <= MOST_WITH_GATEWAYS;
    require(experiment.edge_body.is_host() || meet, || {
        format!(
            "--edge-body: gateways are met on one bridge, of {MOST_WITH_GATEWAYS} machines at most: take \
             --network bridge and fewer devices, or --edge-body host"
        )
    })?;
    Fleet::fits(plan.network, fleet, &emulators)?;
    Ok(plan)
}

/// Refuses to start machines as a stranger's board has it, unless that is allowed.
pub(crate) fn allowed(experiment: &Experiment, options: &FleetOptions) -> Result<(), Refusal> {
    let board = experiment.strangers_board();
    require(options.allow_board || board.is_none(), || {
        let board = board.unwrap_or_default();
        format!(
            "board {board} is none of zfl's, and says how QEMU is started: look at it, then give --allow-board"
        )
    })
}

/// Refuses what KVM cannot do: count instructions, run natives, or be had here.
fn has_kvm(experiment: &Experiment, emulators: &BTreeMap<String, Qemu>) -> Result<()> {
    let groups = &experiment.groups;
    NotNative::Kvm.refuse_if(groups.iter().all(|group| group.board.is_none()))?;
    let counted = experiment.twin.is_some() || groups.iter().any(|group| group.speed.is_some());
    require(!counted, || {
        "--accel kvm: nothing counts instructions there: leave --time, --mips and --throttle out, or --accel"
            .to_owned()
    })?;
    for board in groups.iter().filter_map(|group| group.board.as_ref()) {
        let usable = try_kvm(&emulators[&board.name], board);
        usable.map_err(|why| Refusal(format!("--accel kvm: {why}")))?;
    }
    Ok(())
}

/// Refuses a board whose firmware is not there.
fn has_firmware(board: &Board) -> Result<(), Refusal> {
    let (image, name) = (&board.kernel.image, board.folder());
    require(!image.as_os_str().is_empty(), || {
        match board.body {
        Guest::Bare => "this zfl has no firmware built in: `cargo xtask install` in zfl's tree installs one that \
                        has; or name the tree with --root, or take --body native"
            .to_owned(),
        Guest::Zephyr => format!(
            "the firmware of board {name} is never built into zfl: build it in zfl's tree with `cargo xtask \
             build-guest --board {name}`, and name the tree with --root"
        ),
    }
    })?;
    require(image.is_file(), || {
        format!(
            "the firmware {} is not there; build it with: cargo xtask build-guest --board {name}",
            image.display()
        )
    })
}

/// Refuses captures of devices that have no frames.
fn can_capture(experiment: &Experiment, fleet: &FleetConfig) -> Result<(), Refusal> {
    let is_emulated = |group: &FleetGroup| group.board.is_some();
    let emulated = experiment.groups.iter().any(is_emulated);
    NotNative::Capture.refuse_if(!emulated && fleet.pcap.is_some())?;
    let captured = fleet.pcap.iter().flat_map(|pcap| &pcap.clients).flatten();
    captured.into_iter().try_for_each(|&client| {
        require(experiment.group(client).is_some_and(is_emulated), || {
            format!("--pcap {client}: there is no emulated device {client} to capture")
        })
    })
}

/// Lines for people: the devices, the rounds, the network.
pub(crate) fn introduction(
    experiment: &Experiment,
    plan: &Plan,
    fleet: &FleetConfig,
    kvm: bool,
    train: &Dataset,
) -> Result<String> {
    let &Experiment {
        clients, rounds, ..
    } = experiment;
    let devices = match &experiment.groups[..] {
        [only] if only.board.is_none() => format!("native devices, nothing emulated, {plan}"),
        [only] => format!("devices on {}, network {plan}", only.kind()),
        groups => {
            let each = groups
                .iter()
                .map(|g| format!("{} {} on {}", g.count, g.name, g.kind()));
            let each = each.collect::<Vec<_>>().join(", ");
            format!("devices ({each}), network {plan}")
        }
    };
    let partitioning = &experiment.partitioning;
    let examples = match experiment.examples_per_client {
        _ if partitioning.rule.decides_sizes() => {
            format!("{}, by {partitioning}", experiment.partition.summary(train))
        }
        Some(examples) => format!("{examples} examples a device"),
        None => "as many examples a device as its group says".to_owned(),
    };
    let layers: Vec<_> = experiment.layers.iter().map(u32::to_string).collect();
    let mut text = format!(
        "{clients} {devices}\n{rounds} rounds of {}, network {} with {} parameters, \
         {examples}",
        experiment.strategy.title(),
        layers.join("-"),
        experiment.num_params(),
    );
    if kvm {
        text += "\nmachines run on this host's processor (KVM): no instructions are counted, and times, processor time \
                 and memory are not those of an emulated device";
    }
    let program = experiment.groups.iter().filter_map(|g| g.board.as_ref());
    if let Some(board) = program.clone().find(|board| board.is_program()) {
        text += &format!(
            "\n{} is a program of this host: its time is real time, and neither its instructions nor its stacks are \
             counted",
            board.name
        );
    }
    for group in &experiment.groups {
        if let Some(attack) = &group.attack {
            let FleetGroup { name, count, .. } = group;
            text += &format!("\n{count} {name} attack by {attack}");
        }
    }
    if experiment.board.is_some() || experiment.groups.len() > 1 {
        text += &format!("\n{}", Capacity::of(&fleet.devices)?);
    }
    Ok(text)
}
