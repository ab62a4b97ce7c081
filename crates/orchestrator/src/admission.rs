//! Admission: how many devices this machine's memory holds, and the files that they have open.

use std::fmt;
use std::io;

use nix::sys::resource::{Resource, getrlimit};

use crate::spec::{DeviceBody, DeviceSpec};

/// Memory left for everything else: the aggregator with its data, the kernel's buffers, the user.
const RESERVE_BYTES: u64 = 512 << 20;

/// A native device with its thread, its data and its model. 200 of them, with 300 examples each, took
/// 149 MB together with the aggregator and its data set.
const NATIVE_KIB: u32 = 1024;

/// A device of a pool that rests: its places with the aggregator and in the pool.
const POOLED_KIB: u32 = 4;

/// A machine whose board states no budget: QEMU on a PC with its firmware, and a guest of a few MiB.
const UNKNOWN_KIB: u32 = 64 * 1024;

/// A native device with all of its streams; an emulated one needs six.
const OPEN_FILES: u64 = 10;

/// Files that so many devices have open, those of a pool left out.
pub fn open_files_of(devices: usize) -> u64 {
    OPEN_FILES.saturating_mul(devices as u64)
}

/// Checks that this process may have the files of these devices open, and `others`; returns their number.
///
/// # Errors
/// If not, with what to do.
pub fn open_files(devices: &[DeviceSpec], others: u64) -> Result<u64, String> {
    let pooled = |spec: &&DeviceSpec| matches!(spec.body, DeviceBody::Pooled);
    let devices = devices.len() - devices.iter().filter(pooled).count();
    let needed = open_files_of(devices).saturating_add(others);
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let (_, most) =
        limit.map_err(|error| format!("cannot tell how many files may be open: {error}"))?;
    if needed <= most {
        return Ok(needed);
    }
    Err(format!(
        "{devices} devices need {needed} open files, this process may have {most}; raise the limit \
         (`ulimit -Hn`, as root) or take fewer devices"
    ))
}

/// Demand of devices on this machine's memory, and the supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Memory that the kernel says can be had without swapping.
    pub free_bytes: u64,
    /// Part of it that is left for others.
    pub reserve_bytes: u64,
    /// The number of devices that were asked about.
    pub devices: usize,
    /// Their demand together.
    pub needed_bytes: u64,
}

impl Capacity {
    /// Adds up the demand of these devices, on this machine as it is now.
    ///
    /// # Errors
    /// If /proc/meminfo cannot be read.
    pub fn of(devices: &[DeviceSpec]) -> io::Result<Self> {
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let free_bytes = available_bytes(&meminfo)
            .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))?;
        Ok(Self::with(free_bytes, devices))
    }

    /// Memory that this machine has for devices now.
    ///
    /// # Errors
    /// As of [`Capacity::of`].
    pub fn room() -> io::Result<u64> {
        let empty = Self::of(&[])?;
        Ok(empty.free_bytes.saturating_sub(empty.reserve_bytes))
    }

    fn with(free_bytes: u64, devices: &[DeviceSpec]) -> Self {
        Self {
            free_bytes,
            reserve_bytes: RESERVE_BYTES,
            devices: devices.len(),
            needed_bytes: devices
                .iter()
                .map(needed_bytes)
                .fold(0, u64::saturating_add),
        }
    }

    /// Number of devices like these, on average, that there is room for.
    pub fn fit(&self) -> usize {
        let room = self.free_bytes.saturating_sub(self.reserve_bytes);
        let fit = room.checked_div(self.each_bytes()).unwrap_or(u64::MAX);
        usize::try_from(fit).unwrap_or(usize::MAX)
    }

    /// Tells if all of them fit.
    pub fn suffices(&self) -> bool {
        self.needed_bytes <= self.free_bytes.saturating_sub(self.reserve_bytes)
    }

    fn each_bytes(&self) -> u64 {
        self.needed_bytes / (self.devices as u64).max(1)
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this machine has {} free; {} devices of about {} need {}; {} fit",
            size(self.free_bytes),
            self.devices,
            size(self.each_bytes()),
            size(self.needed_bytes),
            self.fit()
        )
    }
}

/// A size in the unit that leaves something of it to see.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    if bytes < GIB {
        format!("{} MiB", bytes.div_ceil(MIB))
    } else {
        format!("{:.1} GiB", bytes as f64 / GIB as f64)
    }
}

/// Demand of one device on the host's memory: its board's budget, which was measured in training, and
/// the demand of its experiment beyond that.
pub fn needed_bytes(spec: &DeviceSpec) -> u64 {
    let kib = match &spec.body {
        DeviceBody::Native => NATIVE_KIB,
        DeviceBody::Pooled => POOLED_KIB,
        DeviceBody::Emulated(board) => {
            let budget = board.limits.get("host_private_kib");
            budget.copied().unwrap_or(UNKNOWN_KIB)
        }
    };
    (u64::from(kib) * 1024).saturating_add(spec.extra_bytes)
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::board;
    use std::sync::Arc;

    fn devices(count: u32) -> Vec<DeviceSpec> {
        let body = DeviceBody::Emulated(Arc::new(board("microvm")));
        (0..count)
            .map(|client| DeviceSpec::new(client, body.clone()))
            .collect()
    }

    #[test]
    fn it_says_how_many_fit() {
        let capacity = Capacity::with(22 << 30, &devices(50));
        assert_eq!(
            capacity.to_string(),
            "this machine has 22.0 GiB free; 50 devices of about 12 MiB need 600 MiB; 1834 fit"
        );
        assert_eq!(size(1 << 30), "1.0 GiB");
        assert!(capacity.suffices());
    }

    #[test]
    fn what_does_not_fit_does_not_suffice() {
        let free = RESERVE_BYTES + (12 << 20) * 3;
        for (count, suffices) in [(3, true), (4, false)] {
            let capacity = Capacity::with(free, &devices(count));
            assert_eq!((capacity.suffices(), capacity.fit()), (suffices, 3));
        }
        let nothing = Capacity::with(RESERVE_BYTES - 1, &devices(1));
        assert_eq!((nothing.suffices(), nothing.fit()), (false, 0));
    }

    #[test]
    fn what_an_experiment_needs_beyond_the_budget_counts() {
        let mut devices = devices(2);
        devices[1].extra_bytes = 23 << 20;
        let capacity = Capacity::with(22 << 30, &devices);
        assert_eq!(capacity.needed_bytes, (12 + 12 + 23) << 20);
        devices[1].extra_bytes = u64::MAX;
        assert!(!Capacity::with(22 << 30, &devices).suffices());
    }

    #[test]
    fn the_kernel_is_read_right() {
        let text = "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\nBuffers: 3 kB\n";
        assert_eq!(available_bytes(text), Some(2 << 20));
        assert_eq!(available_bytes("MemAvailable: lots kB"), None);
        assert!(Capacity::of(&devices(1)).unwrap().free_bytes > 0);
    }
}
