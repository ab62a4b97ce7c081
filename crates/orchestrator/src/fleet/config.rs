//! Configuration of a fleet, and the errors of one.

use std::path::PathBuf;
use std::time::Duration;

use zfl_machine::QemuError;
use zfl_netsim::radio::MeshConfig;
use zfl_pipe::Lines;

use crate::body::SharedExamples;
use crate::spec::{BootPolicy, DeviceSpec};
use crate::storage::StorageConfig;

/// Files of an aggregator with its connections, and of a data set.
const OTHER_FILES: u64 = 256;

/// Configuration of a fleet.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// The devices.
    pub devices: Vec<DeviceSpec>,
    /// Folder of every device's `<client>.log`; made if it is not there.
    pub serial_dir: PathBuf,
    /// Policy by which devices are booted.
    pub boot: BootPolicy,
    /// Seed of the chance in links: the same seed, the same losses.
    pub seed: u64,
    /// Devices whose frames are kept; needs the network `switch`.
    pub pcap: Option<PcapConfig>,
    /// Start more devices than fit into this machine's memory all the same.
    pub oversubscribe: bool,
    /// Plugin that counts the instructions of emulated devices by class.
    pub plugin: Option<PathBuf>,
    /// Folder of sockets through which gdb comes into emulated devices.
    pub doors: Option<PathBuf>,
    /// Have the host merge the memory of the machines, if it does such a thing.
    pub merge_memory: bool,
    /// Files that whoever runs the fleet has open beside it.
    pub other_files: u64,
    /// Exchange of native devices in this process, for a sandbox that has none but that.
    pub lines: Option<Lines>,
    /// Examples that those devices have in memory; `None`: all fetch theirs.
    pub examples: Option<SharedExamples>,
    /// Threads on which those devices run; `None`: as many as there are processors.
    pub threads: Option<usize>,
    /// Storage that every device has; `None`: none has any.
    pub storage: Option<StorageConfig>,
    /// Mesh by which native devices are reached, a leaf for each in order; `None`: over this machine's loopback.
    pub mesh: Option<MeshConfig>,
    /// Continuation of a run that another fleet began: its logs are appended to, as captures always are.
    pub resumed: Option<Resumption>,
}

impl FleetConfig {
    /// These devices, booted by the default policy: seed 0, no captures, no more than fit, logs anew.
    pub fn new(devices: Vec<DeviceSpec>, serial_dir: impl Into<PathBuf>) -> Self {
        Self {
            devices,
            serial_dir: serial_dir.into(),
            boot: BootPolicy::default(),
            seed: 0,
            pcap: None,
            oversubscribe: false,
            plugin: None,
            doors: None,
            merge_memory: false,
            other_files: OTHER_FILES,
            lines: None,
            examples: None,
            threads: None,
            storage: None,
            mesh: None,
            resumed: None,
        }
    }
}

/// Point at which a run goes on.
#[derive(Clone, Debug)]
pub struct Resumption {
    /// The time of the run at its last complete step, with which the logs' times go on.
    pub elapsed: Duration,
    /// The line between the parts of a log.
    pub mark: String,
}

/// Captures of what devices send and receive, complete when [`Fleet::stop`](crate::Fleet::stop)
/// returns.
#[derive(Clone, Debug)]
pub struct PcapConfig {
    /// Folder of `<client>.pcapng`; made if it is not there. A file that is there goes on.
    pub dir: PathBuf,
    /// Clients; `None`: all.
    pub clients: Option<Vec<u32>>,
}

/// Failure to make a fleet or to reach a device.
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
        /// Attempt that failed.
        what: String,
        /// Error of the system.
        source: std::io::Error,
    },
    /// There is no such device.
    #[error("the fleet has no device {0}")]
    Unknown(u32),
    /// The shell of this device did not take a line.
    #[error("the shell of device {client}: {problem}")]
    Shell {
        /// Its number.
        client: u32,
        /// Reason.
        problem: String,
    },
    /// The network cannot do that to the link of this device; the text says which can.
    #[error("the link of device {client}: {problem}")]
    Link {
        /// Its number.
        client: u32,
        /// Reason, and what would help.
        problem: String,
    },
    /// The device is in no state for that.
    #[error("device {0} is not in a state for that")]
    State(u32),
}
