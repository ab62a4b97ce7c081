//! FedAdagrad: Adagrad on the server. What has moved much moves less from then on.
//!
//! Reddi et al. 2021, *Adaptive Federated Optimization*, Algorithm 2: <https://arxiv.org/abs/2003.00295>. Its
//! arithmetic is in [`super::adaptive`].

use super::adaptive::{TAU, beta_1, eta};
use super::fedavg;
use crate::registry::Algorithm;

/// FedAdagrad.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedadagrad",
    doc: "Adagrad on the server: numbers that have moved much move less",
    paper: "Reddi et al. 2021, https://arxiv.org/abs/2003.00295",
    device: &fedavg::DEVICE,
    params: &[eta(0.1), beta_1(0.0), TAU],
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
        Ok(Adaptive::make(setup, |old, _, square| old + square))
    }
}
