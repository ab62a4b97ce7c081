//! FedRep: the head stays on the device; it is trained first, on the body of the round, and then the body on it.
//!
//! Collins et al. 2021, Algorithm 1: <https://arxiv.org/abs/2102.07078>. It is FedPer (see there) but for what
//! the local epochs train: only the body.

use super::fedper::{Head, params};
use crate::client::Trains;
use crate::registry::{Algorithm, DeviceHalf};

/// FedRep.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedrep",
    doc: "FedPer that trains the last layers first, then the others, never both",
    paper: "Collins et al. 2021, https://arxiv.org/abs/2102.07078",
    device: &DeviceHalf {
        rule: "fedrep",
        params: const { &params(10.0) },
        client: &Head {
            then: Trains::Travelling,
        },
    },
    params: &[],
    #[cfg(feature = "server")]
    server: super::fedper::server::make,
};
