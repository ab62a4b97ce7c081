//! FedYogi: Yogi on the server. It is Adam whose rates change by little at a time.
//!
//! Reddi et al. 2021, *Adaptive Federated Optimization*, Algorithm 2: <https://arxiv.org/abs/2003.00295>. Its
//! arithmetic is in [`super::adaptive`].

use super::adaptive::{BETA_2, TAU, beta_1, eta};
use super::fedavg;
use crate::registry::Algorithm;

/// FedYogi.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedyogi",
    doc: "Yogi on the server: Adam whose rates do not change suddenly",
    paper: "Reddi et al. 2021, https://arxiv.org/abs/2003.00295",
    device: &fedavg::DEVICE,
    params: &[eta(0.01), beta_1(0.9), BETA_2, TAU],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use core::cmp::Ordering;

    use crate::algorithms::adaptive::server::Adaptive;
    use crate::server::{ServerRule, Setup};

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Adaptive::make(setup, second_moment))
    }

    /// `v - (1 - beta_2) d^2 sign(v - d^2)`.
    fn second_moment(old: f64, beta: f64, square: f64) -> f64 {
        let change = (1.0 - beta) * square;
        match old.total_cmp(&square) {
            Ordering::Less => old + change,
            Ordering::Equal => old,
            Ordering::Greater => old - change,
        }
    }
}
