//! What a fleet is made of, and why it may not be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fl_client::Overrides;

use crate::board::Board;
use crate::machine::QemuError;

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
