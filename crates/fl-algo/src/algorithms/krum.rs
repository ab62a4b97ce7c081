//! Krum: the one update that lies nearest to the others.
//!
//! Blanchard et al. 2017, *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*:
//! <https://arxiv.org/abs/1703.02757>. It is [`super::multi_krum`] with one update to select.

use super::fedavg;
use super::multi_krum::MALICIOUS;
use crate::registry::Algorithm;

/// Krum.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "krum",
    doc: "the one update that lies nearest to the others, against malicious clients",
    paper: "Blanchard et al. 2017, https://arxiv.org/abs/1703.02757",
    device: &fedavg::DEVICE,
    params: &[MALICIOUS],
    #[cfg(feature = "server")]
    server: |setup| super::multi_krum::server::selecting(setup, 1),
};
