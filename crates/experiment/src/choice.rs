//! Values that are chosen from a list of names: in files, on the command line, in `config.toml`.

use crate::edges::{EdgeBody, EdgeSums};
use fl_nn::Activation;
use fl_proto::Arithmetic;
use serde::{Serialize, Serializer};
use zfl_aggregator::Weighting;
use zfl_machine::Guest;
use zfl_sandbox::NetworkMode;

/// A value with a name.
pub trait Choice: Copy + PartialEq + Send + Sync + 'static {
    /// Every value, its name, and a line of help; the first is the default.
    const ALL: &'static [(Self, &'static str, &'static str)];
    /// Every name, in the same order.
    const NAMES: &'static [&'static str];

    /// The default.
    fn usual() -> Self {
        Self::ALL[0].0
    }

    /// The value's name.
    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(value, ..)| *value == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// The value of a name.
    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, own, _)| *own == name);
        found.map(|(value, ..)| *value)
    }
}

macro_rules! choices {
    ($($of:ty { $($value:ident $name:literal $help:literal,)* })*) => {$(
        impl Choice for $of {
            const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$value, $name, $help)),*];
            const NAMES: &'static [&'static str] = &[$($name),*];
        }
    )*};
}

choices! {
    BodyChoice {
        Auto "auto" "The one that --board boots; without --board zephyr if its firmware is built, else bare",
        Bare "bare" "A bare-metal firmware in QEMU",
        Zephyr "zephyr" "A Zephyr application in QEMU",
        Native "native" "The same device code in threads of this machine: no emulation, for debugging and for scale",
    }
    Body {
        Bare "bare" "A bare-metal firmware in QEMU",
        Zephyr "zephyr" "A Zephyr application in QEMU",
        Native "native" "A thread of the host",
    }
    Network {
        Auto "auto" "The best that this machine allows",
        Bridge "bridge" "A bridge and a tap per device, in namespaces of their own",
        Switch "switch" "A switch of zfl's own, which can lose, delay, cut and record, in namespaces of their own",
        User "user" "QEMU's own network per device; needs no privilege",
        Loopback "loopback" "Sockets on this machine's loopback, for native devices, which otherwise exchange in process",
    }
    Places {
        Grid "grid" "A square, filled row by row, with the gateway in its middle",
        Line "line" "One behind the other, with the gateway at the end",
        Random "random" "Uniform in a square, drawn from the seed, with ten in the range of a node on average",
        File "file" "The places that topology_file has",
    }
    EdgeBody {
        Host "host" "Aggregators of this process",
        Bare "bare" "Gateways: bare firmware in QEMU that adds its cluster up in its own memory",
        Zephyr "zephyr" "The same as a Zephyr application",
    }
    EdgeSums {
        Exact "exact" "Integers without any rounding: the model of a run without edges, to the bit",
        Rounded "rounded" "The mean as f32: fewer bytes, and a model that differs in its last bits",
    }
    Time {
        Host "host" "The host's: a device computes as fast as QEMU does",
        Icount "icount" "Counted instructions at the board's named clock rate: repeatable, whatever else the host does",
        Estimate "estimate" "An estimate from sizes and links at that rate, the same on every body; native devices count as the board microvm",
    }
    Counting {
        Instructions "instructions" "Of instructions alone",
        Cycles "cycles" "Of cycles, too: a plugin of QEMU counts instructions by class, and a table of the core has their cycles",
    }
    Activation {
        Relu "relu" "max(0, x)",
        Sigmoid "sigmoid" "1 / (1 + exp(-x))",
    }
    Arithmetic {
        Fixed "fixed" "Integers in the first layer, single precision in all others",
        Float "float" "Single-precision floating point",
        Integer "integer" "Fixed point in all layers, for cores without an FPU; plain SGD only",
    }
    Weighting {
        NumExamples "num-examples" "By the number of examples that a device trained on",
        Uniform "uniform" "All alike",
    }
}

/// Cost of a device's training that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help above")]
pub enum Counting {
    Instructions,
    Cycles,
}

/// Body of a device, as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help above")]
pub enum BodyChoice {
    Auto,
    Bare,
    Zephyr,
    Native,
}

impl BodyChoice {
    /// Guest that a board has to boot for it, if given.
    pub fn guest(self) -> Option<Guest> {
        match self {
            Self::Bare => Some(Guest::Bare),
            Self::Zephyr => Some(Guest::Zephyr),
            Self::Auto | Self::Native => None,
        }
    }
}

/// Body of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help above")]
pub enum Body {
    Bare,
    Zephyr,
    Native,
}

impl Body {
    /// Body of a board's guest.
    pub fn of(guest: Guest) -> Self {
        match guest {
            Guest::Bare => Self::Bare,
            Guest::Zephyr => Self::Zephyr,
        }
    }

    /// Guest that a board has to boot for it; none for native devices.
    pub fn guest(self) -> Option<Guest> {
        match self {
            Self::Bare => Some(Guest::Bare),
            Self::Zephyr => Some(Guest::Zephyr),
            Self::Native => None,
        }
    }
}

/// Places of a gateway and its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help above")]
pub enum Places {
    Grid,
    Line,
    Random,
    File,
}

/// Network between emulated devices and the aggregator, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help above")]
pub enum Network {
    Auto,
    Bridge,
    Switch,
    User,
    Loopback,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Auto => Self::Auto,
            Network::Bridge => Self::Bridge,
            Network::Switch => Self::Switch,
            Network::User => Self::User,
            // That of native devices, which ask for no mode.
            Network::Loopback => Self::Auto,
        }
    }
}

/// Time on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its line of help above")]
pub enum Time {
    Host,
    Icount,
    Estimate,
}

/// Writes a name.
pub(crate) fn write<C: Choice, S: Serializer>(choice: &C, to: S) -> Result<S::Ok, S::Error> {
    choice.name().serialize(to)
}

/// Writes a name that is there.
pub(crate) fn write_some<C: Choice, S: Serializer>(
    choice: &Option<C>,
    to: S,
) -> Result<S::Ok, S::Error> {
    choice.map(Choice::name).serialize(to)
}
