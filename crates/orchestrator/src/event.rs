//! Events of a fleet for its caller.

use std::net::SocketAddr;

/// One thing that happened to one device.
#[derive(Clone, Debug)]
pub enum FleetEvent {
    /// Its machine was started.
    Booting {
        /// The device.
        client: u32,
        /// From 1; more than 1 after a failed attempt or a reboot.
        attempt: u32,
    },
    /// Its client was started with `run …`.
    Running {
        /// The device.
        client: u32,
        /// Address at which the aggregator reaches it.
        address: SocketAddr,
        /// From the start of its machine to its prompt, in milliseconds.
        boot_ms: u64,
    },
    /// It died, or it did not boot, without being asked to.
    Died(Death),
    /// The experiment is over for it (native devices only: a guest returns to its shell).
    Finished {
        /// The device.
        client: u32,
    },
    /// The aggregator lets it not join; it goes on asking (native devices only: a guest says so on its
    /// serial line).
    Refused {
        /// The device.
        client: u32,
        /// The aggregator's answer.
        reason: String,
    },
    /// It was killed because the caller asked for it.
    Stopped {
        /// The device.
        client: u32,
    },
    /// Its radio does not work with it any more.
    OffAir {
        /// The device; `None`: the gateway of the mesh.
        client: Option<u32>,
        /// Reason, in words.
        reason: String,
    },
    /// Its log cannot be written any more (a full disk, most likely); the device goes on.
    LogLost {
        /// The device.
        client: u32,
        /// The system's error.
        error: String,
    },
}

/// A device that runs.
#[derive(Clone, Copy, Debug)]
pub struct Booted {
    /// The device.
    pub client: u32,
    /// From the start of its machine to its prompt, in milliseconds.
    pub boot_ms: u64,
    /// Number of attempts.
    pub attempts: u32,
}

/// The end of a device that nobody asked for.
#[derive(Clone, Debug)]
pub struct Death {
    /// The device.
    pub client: u32,
    /// Description of its end: `exited with status 35`, `killed by SIGSEGV`, `no prompt in 30 s`.
    pub reason: String,
    /// The last lines that it wrote, oldest first.
    pub last_lines: Vec<String>,
}

/// Report of a fleet's boot.
#[derive(Clone, Debug, Default)]
pub struct BootReport {
    /// The devices that run, by client.
    pub booted: Vec<Booted>,
    /// The devices that do not, after every attempt.
    pub failed: Vec<Death>,
}
