//! Power of choice: of some candidates the ones with the highest loss.
//!
//! Cho et al. 2020, *Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice
//! Selection Strategies*: <https://arxiv.org/abs/2010.01243>. This is the variant π rpow-d, which costs no
//! bytes and no computing: the loss of a client is that of its last update, and of one that has had none it is
//! infinite. With as many candidates as the cohort it is selection by data size.

use alloc::vec::Vec;

use fl_param::{ParamSpec, Params};

use super::{Candidates, Pick, Selector, highest};

const CANDIDATES: &str = "num_candidates";

/// Selection of high losses.
pub(crate) struct PowerOfChoice;

impl Selector for PowerOfChoice {
    fn name(&self) -> &'static str {
        "power-of-choice"
    }

    fn doc(&self) -> &'static str {
        "of candidates drawn by data size those with the highest known training loss (rpow-d)"
    }

    fn paper(&self) -> Option<&'static str> {
        Some("Cho et al. 2020, https://arxiv.org/abs/2010.01243")
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: CANDIDATES,
            default: 20.0,
            min: 1.0,
            max: 1e5,
            whole: true,
            doc: "candidates drawn (d of the paper), at least the cohort",
        }]
    }

    fn choose(&self, from: &Candidates<'_>, params: &Params) -> Vec<Pick> {
        let count = from.size.max(params.whole(CANDIDATES) as usize);
        let size_of = |client| f64::from(from.facts(client).num_examples);
        let candidates = from.draw(from.there, count, size_of);
        let loss = |client| from.facts(client).loss.map_or(f64::INFINITY, f64::from);
        let scored = candidates.into_iter().map(|client| Pick {
            client,
            score: Some(loss(client)),
        });
        highest(scored.collect(), from.size)
    }
}
