//! The list of algorithms, each in a file of its name.

use crate::registry::Algorithm;

/// Declares a module for each algorithm and lists what it holds.
macro_rules! algorithms {
    ($($module:ident,)+) => {
        $(mod $module;)+

        /// Every algorithm.
        pub static ALGORITHMS: &[&Algorithm] = &[$(&$module::ALGORITHM),+];
    };
}

algorithms! {
    fedavg,
    fedprox,
    scaffold,
    multi_krum,
    fedbuff,
}
