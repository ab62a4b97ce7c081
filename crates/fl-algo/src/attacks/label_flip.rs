//! Label flip: training on labels that are wrong.
//!
//! Fang et al. 2020, *Local Model Poisoning Attacks to Byzantine-Robust Federated Learning*:
//! <https://arxiv.org/abs/1911.11815>. Of `L` classes, an example of class `l` becomes one of `L - 1 - l`.
//! The attacker's device trains as all others do.

use crate::attack::{Attack, Examples};
use fl_param::Params;

/// The attack.
pub(super) struct LabelFlip;

impl Attack for LabelFlip {
    fn name(&self) -> &'static str {
        "label-flip"
    }

    fn doc(&self) -> &'static str {
        "training on labels in reverse: the first class for the last"
    }

    fn paper(&self) -> &'static str {
        "Fang et al. 2020, https://arxiv.org/abs/1911.11815"
    }

    fn labels(&self, _: &Params, examples: &Examples, labels: &mut [u8]) {
        for label in labels {
            *label = examples
                .num_classes
                .saturating_sub(1)
                .saturating_sub(*label);
        }
    }
}
