//! Devices to be: body, link and tuning of each, and the policy by which they are booted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fl_client::{Overrides, Word};
use zfl_machine::{Board, Speed};
use zfl_netsim::Link;

/// Body of a device.
#[derive(Clone, Debug)]
pub enum DeviceBody {
    /// A thread of this process, with sockets.
    Native,
    /// One of a pool of this process, which exchanges with its aggregator there: no thread, no sockets.
    Pooled,
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
    /// Its body.
    pub body: DeviceBody,
    /// Values that go before those that the aggregator sends.
    pub overrides: Overrides,
    /// Secret that it shows when it joins; `None`: one of its own where addresses do not tell devices apart,
    /// which [`Fleet::proofs`](crate::Fleet::proofs) tells.
    pub secret: Option<Word>,
    /// Its link. Other than the default it needs the network `switch`, or a
    /// `bridge` on a kernel with netem.
    pub link: Link,
    /// The memory of its machine, instead of its board's.
    pub memory_mib: Option<u32>,
    /// Its demand on this machine's memory beyond its board's budget, which was measured with little
    /// data and a small model.
    pub extra_bytes: u64,
    /// The speed of its processor; `None`: as fast as the host is, and no two runs alike.
    pub speed: Option<Speed>,
    /// It is a gateway: devices can reach it, which otherwise reach the aggregator alone.
    pub is_gateway: bool,
}

impl DeviceSpec {
    /// A device that asks for the ID `client`, behind a perfect link, on its board as it is.
    pub fn new(client: u32, body: DeviceBody) -> Self {
        Self {
            client,
            join_as: Some(client),
            body,
            overrides: Overrides::default(),
            secret: None,
            link: Link::default(),
            memory_mib: None,
            extra_bytes: 0,
            speed: None,
            is_gateway: false,
        }
    }
}

/// Proof by which a device is told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It alone has this address.
    Address(IpAddr),
    /// It alone knows this secret.
    Secret(Word),
}

/// Policy by which devices are booted.
#[derive(Clone, Copy, Debug)]
pub struct BootPolicy {
    /// Machines that boot at a time; `None`: [`BootPolicy::PER_PROCESSOR`].
    pub parallel: Option<usize>,
    /// Time that a guest may take to show its prompt on an idle host; more on a loaded one.
    pub prompt_timeout: Duration,
    /// Boots of a device before it counts as dead.
    pub attempts: u32,
}

impl BootPolicy {
    /// Machines that boot at a time for each processor. One alone often waits, for the kernel to make its
    /// network or for a processor that others want, too: with four 20 devices booted in half the time on a
    /// busy host.
    pub const PER_PROCESSOR: usize = 4;

    /// Machines that boot at a time on this host.
    pub(crate) fn permits(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let usual = Self::PER_PROCESSOR * processors;
        self.parallel.unwrap_or(usual).max(1)
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use super::Board;

    /// A board of the repository.
    pub(crate) fn board(name: &str) -> Board {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Board::load(Some(&root), name).unwrap_or_else(|error| panic!("{error}"))
    }
}
