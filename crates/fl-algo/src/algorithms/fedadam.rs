//! FedAdam: Adam on the server. Every number of the global model has a rate of its own.
//!
//! Reddi et al. 2021, *Adaptive Federated Optimization*, Algorithm 2: <https://arxiv.org/abs/2003.00295>. Its
//! arithmetic is in [`super::adaptive`].

use super::adaptive::{BETA_2, TAU, beta_1, eta};
use super::fedavg;
use crate::registry::Algorithm;

/// FedAdam.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedadam",
    doc: "Adam on the server: every number has a rate of its own",
    paper: "Reddi et al. 2021, https://arxiv.org/abs/2003.00295",
    device: &fedavg::DEVICE,
    params: &[eta(0.1), beta_1(0.9), BETA_2, TAU],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::String;

    use crate::algorithms::adaptive::server::Adaptive;
    use crate::server::{ServerRule, Setup};

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Adaptive::make(setup, |old, beta, square| {
            beta * old + (1.0 - beta) * square
        }))
    }
}
