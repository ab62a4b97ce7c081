//! Everything that native devices cannot have, since nothing of them is emulated.

use crate::choice::{Choice, Network, Time};
use crate::refusal::{Refusal, require};
use crate::settings::{DeviceSettings, Settings};
use zfl_orchestrator::faults::FaultPlan;

/// Something that takes an emulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNative {
    /// A board.
    Board,
    /// A memory of its own.
    Memory,
    /// A link that loses or delays.
    Link,
    /// A speed of its own.
    Speed,
    /// Counted instructions.
    Time,
    /// A network.
    Network,
    /// A link that is cut.
    Cut,
    /// Memory that its shell takes away.
    OutOfMemory,
    /// Frames that are captured.
    Capture,
    /// A processor that KVM lends.
    Kvm,
}

impl NotNative {
    /// Refuses it where it is asked for.
    ///
    /// # Errors
    /// A [`Refusal`] with the reason and the way out.
    pub fn refuse_if(self, asked: bool) -> Result<(), Refusal> {
        require(!asked, || self.reason().to_owned())
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Board => "native devices run on no board: leave --board out, or take --body bare",
            Self::Memory => {
                "native devices share this process's memory: leave memory_mib out, or take --body bare"
            }
            Self::Link => {
                "native devices have no link that could lose or delay: leave --link, --loss and --delay \
                 out, or take --body bare"
            }
            Self::Speed => "native devices run at the host's speed: leave --mips and throttle out",
            Self::Time => {
                "native devices run at the host's speed, and nobody counts their instructions: take --time \
                 estimate, or --body bare"
            }
            Self::Network => {
                "native devices exchange with the aggregator in this process: leave --network out, or take \
                 --network loopback for sockets"
            }
            Self::Cut => {
                "faults.cut cuts links, and native devices have none: leave it out, or take --body bare"
            }
            Self::OutOfMemory => {
                "faults.out_of_memory takes a device's memory by a command of its shell, which native \
                 devices do not have: leave it out, or take --body bare"
            }
            Self::Kvm => {
                "native devices run on the host's processor as they are: leave --accel out"
            }
            Self::Capture => {
                "native devices send no frames that could be captured: leave --pcap out"
            }
        }
    }
}

/// Refuses what is asked of a native device. Where time is an estimate its link and its speed are figures.
pub(crate) fn device(asked: &DeviceSettings, time: Time) -> Result<(), Refusal> {
    let estimated = time == Time::Estimate;
    let linked = asked.link.is_some() || asked.loss.is_some() || asked.delay_ms.is_some();
    NotNative::Board.refuse_if(asked.board.is_some())?;
    NotNative::Memory.refuse_if(asked.memory_mib.is_some())?;
    NotNative::Link.refuse_if(linked && !estimated)?;
    NotNative::Speed.refuse_if(asked.mips.is_some() && !estimated || asked.throttle())
}

/// Refuses what is asked of a fleet that has native devices only.
pub(crate) fn fleet(asked: &Settings) -> Result<(), Refusal> {
    let time = asked.time();
    let network = asked.network();
    NotNative::Time.refuse_if(time == Time::Icount)?;
    NotNative::Network.refuse_if(![Network::usual(), Network::Loopback].contains(&network))
}

/// Refuses what only a fleet of native devices can have.
///
/// # Errors
/// A [`Refusal`].
pub(crate) fn only(asked: &Settings) -> Result<(), Refusal> {
    require(asked.network() != Network::Loopback, || {
        "the network loopback is for native devices: leave --network out, or take --body native"
            .to_owned()
    })
}

/// Refuses faults that native devices cannot suffer.
pub(crate) fn faults(plan: &FaultPlan) -> Result<(), Refusal> {
    NotNative::Cut.refuse_if(plan.cuts_links())?;
    NotNative::OutOfMemory.refuse_if(plan.takes_memory())
}
