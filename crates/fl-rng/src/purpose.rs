//! The list of all purposes that numbers are drawn for: the one place that keeps streams apart.

/// A stream of [`crate::Pcg32`], by the use that is made of it.
///
/// The number of a purpose is part of every result drawn from it and never changes. A new purpose
/// takes its name in ASCII, up to eight letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights of the global model.
    InitialWeights = 0,
    /// Order of a client's examples in the epochs of one round.
    ExampleOrder = 1,
    /// Examples of the self-test of a target.
    SelfTest = 5,
    /// Partition of the training set, independent and identically distributed.
    IidPartition = ascii("iid"),
    /// Partition of the training set by any other rule; a run has one.
    SkewedPartition = ascii("skewed"),
    /// Cohort of a round.
    Cohort = ascii("cohort"),
    /// Draws of attacking clients.
    Attack = ascii("attack"),
    /// Draws of selectors other than the uniform one.
    Selection = ascii("select"),
    /// Rounding by a codec.
    Encoding = ascii("encoding"),
    /// Examples of a data set that is generated.
    Synthetic = ascii("synth"),
    /// Values of the keys of a sweep.
    Sweep = ascii("sweep"),
    /// Hyper-parameters of a client that are drawn once.
    Local = ascii("local"),
    /// Epochs of a client that does only some of them in a round.
    Straggle = ascii("straggle"),
    /// Noise that a device adds to its update.
    DeviceNoise = ascii("devnoise"),
    /// Noise that the server adds to a round.
    ServerNoise = ascii("srvnoise"),
    /// Examples that a client holds out.
    Holdout = ascii("holdout"),
    /// Clients that evaluate the model of a round.
    Evaluation = ascii("evaluate"),
    /// Places of radios.
    Topology = ascii("topology"),
    /// Chances of a radio: its first period, its back-off, the words that it makes up.
    Radio = ascii("radio"),
}

impl Purpose {
    /// All purposes, for tests that keep them apart.
    pub const ALL: [Self; 19] = [
        Self::InitialWeights,
        Self::ExampleOrder,
        Self::SelfTest,
        Self::IidPartition,
        Self::SkewedPartition,
        Self::Cohort,
        Self::Attack,
        Self::Selection,
        Self::Encoding,
        Self::Synthetic,
        Self::Sweep,
        Self::Local,
        Self::Straggle,
        Self::DeviceNoise,
        Self::ServerNoise,
        Self::Holdout,
        Self::Evaluation,
        Self::Topology,
        Self::Radio,
    ];

    /// Number of the stream.
    pub const fn stream(self) -> u64 {
        self as u64
    }
}

/// A yes or no about one client in one round, each kind drawn apart from the others.
///
/// The number of a kind is part of every fault plan drawn from it and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Decision {
    /// Away for the whole round.
    DropOut = 1,
    /// Killed while it trains.
    Crash = 2,
    /// Out of memory when training starts.
    OutOfMemory = 3,
    /// Sends a damaged update.
    Corrupt = 4,
    /// Stopped while it trains.
    Freeze = 5,
    /// Cut from its network while it trains.
    Cut = 6,
    /// Does only some of its epochs.
    Straggle = 7,
}

/// Number of the [`crate::Lane`] of one direction of a client's link, below 2^33.
pub const fn link_lane(client: u32, downlink: bool) -> u64 {
    (client as u64) << 1 | downlink as u64
}

/// Number of the [`crate::Lane`] of what one radio hears of another, from 2^40 on.
pub const fn radio_lane(from: u16, to: u16) -> u64 {
    1 << 40 | (from as u64) << 16 | to as u64
}

/// The letters of a short name as one number, the first in the highest bits.
const fn ascii(name: &str) -> u64 {
    let bytes = name.as_bytes();
    assert!(bytes.len() <= 8, "a name of more than eight letters");
    let (mut number, mut index) = (0, 0);
    while index < bytes.len() {
        number = number << 8 | bytes[index] as u64;
        index += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_first_day() {
        assert_eq!(Purpose::IidPartition.stream(), 0x69_6964);
        assert_eq!(Purpose::Cohort.stream(), 0x636f_686f_7274);
    }

    #[test]
    fn no_two_purposes_share_a_stream() {
        // PCG takes 63 bits of the number.
        let mut streams = Purpose::ALL.map(|purpose| purpose.stream() << 1);
        streams.sort_unstable();
        assert!(streams.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn every_direction_of_every_link_has_a_lane_of_its_own() {
        let mut lanes: Vec<u64> = [0, 1, 2, u32::MAX]
            .into_iter()
            .flat_map(|client| [link_lane(client, false), link_lane(client, true)])
            .collect();
        lanes.dedup();
        assert_eq!(lanes.len(), 8);
        assert!(lanes.is_sorted());
    }
}
