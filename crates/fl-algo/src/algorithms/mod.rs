//! The list of algorithms, each in a file of its name.

use crate::registry::{Algorithm, DeviceHalf};
use fl_param::ParamSpec;

/// Parameter of server rules that go only a part of the way to the mean of the updates, or beyond it.
const SERVER_LEARNING_RATE: ParamSpec = ParamSpec {
    name: "server_learning_rate",
    default: 1.0,
    min: 1e-6,
    max: 1e3,
    whole: false,
    doc: "part of the way from the old global model to the mean of the updates",
};

mod adaptive;

/// Declares a module for each algorithm and lists what it holds.
macro_rules! algorithms {
    ($($module:ident,)+) => {
        $(mod $module;)+

        /// Every algorithm.
        pub static ALGORITHMS: &[&Algorithm] = &[$(&$module::ALGORITHM),+];

        /// The device half of every algorithm. It is all that a device has of them, without a word for people.
        pub(crate) static DEVICE_HALVES: &[&DeviceHalf] = &[$($module::ALGORITHM.device),+];
    };
}

algorithms! {
    fedavg,
    fedprox,
    scaffold,
    fedavgm,
    fedadagrad,
    fedadam,
    fedyogi,
    fednova,
    qfedavg,
    fedbuff,
    fedasync,
    median,
    trimmed_mean,
    krum,
    multi_krum,
    bulyan,
    feddyn,
    ditto,
    fedper,
    fedrep,
    distillation,
}
