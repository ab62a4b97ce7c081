//! What a fleet is made of, and why it may not be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fl_client::Overrides;

use crate::board::Board;
use crate::machine::{QemuError, Speed};
use crate::switch::Link;

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
    /// Its number in the fleet: of its log, in events, and for [`Fleet::kill`](crate::Fleet::kill). Unique.
    pub client: u32,
    /// The ID that it asks the aggregator for; `None` if it takes whatever it gets.
    pub join_as: Option<u32>,
    /// What it is made of.
    pub body: DeviceBody,
    /// Values of a native device that go before those that the aggregator sends.
    pub overrides: Overrides,
    /// What its link does to frames. Other than the default it needs the network `switch`, or a
    /// `bridge` on a kernel with netem.
    pub link: Link,
    /// The memory of its machine, instead of its board's.
    pub memory_mib: Option<u32>,
    /// What it takes of this machine's memory beyond its board's budget, which was measured with little
    /// data and a small network.
    pub extra_bytes: u64,
    /// The speed of its processor; `None`: as fast as the host is, and no two runs alike.
    pub speed: Option<Speed>,
}

impl DeviceSpec {
    /// A device that asks for the ID `client`, behind a perfect link, on its board as it is.
    pub fn new(client: u32, body: DeviceBody) -> Self {
        Self {
            client,
            join_as: Some(client),
            body,
            overrides: Overrides::default(),
            link: Link::default(),
            memory_mib: None,
            extra_bytes: 0,
            speed: None,
        }
    }
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
    /// Where the chance in links comes from: the same seed, the same losses.
    pub seed: u64,
    /// Which devices' frames are kept; needs the network `switch`.
    pub pcap: Option<PcapConfig>,
    /// Start more devices than fit into this machine's memory all the same.
    pub oversubscribe: bool,
    /// If the run goes on that another fleet began: its logs are appended to, as captures always are.
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
            resumed: None,
        }
    }
}

/// Where a run goes on.
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
    /// Where `<client>.pcapng` goes; made if it is not there. One that is there goes on.
    pub dir: PathBuf,
    /// Whose; `None`: everybody's.
    pub clients: Option<Vec<u32>>,
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
    /// The shell of this device did not take a line.
    #[error("the shell of device {client}: {problem}")]
    Shell {
        /// Which device.
        client: u32,
        /// Why not.
        problem: String,
    },
    /// The network cannot do that to the link of this device; the text says which can.
    #[error("the link of device {client}: {problem}")]
    Link {
        /// Which device.
        client: u32,
        /// Why not, and what would help.
        problem: String,
    },
    /// The device is in no state for that.
    #[error("device {0} is not in a state for that")]
    State(u32),
}
