//! Energy: the clients that have most of it left.
//!
//! A device has a budget (`energy_j` of an experiment), of which every round takes what the cost tables say.
//! One that has less left than its last round took is not chosen any more. A device without a budget has no
//! end of it.

use alloc::vec::Vec;

use fl_param::{ParamSpec, Params};

use super::{Candidates, Facts, Pick, Selector};

const SPARE: &str = "spare";

/// Selection by energy left.
pub(crate) struct Energy;

impl Selector for Energy {
    fn name(&self) -> &'static str {
        "energy"
    }

    fn doc(&self) -> &'static str {
        "the clients with the largest part of their energy left, and none that has too little for a round"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: SPARE,
            default: 1.0,
            min: 0.0,
            max: 1.0,
            whole: true,
            doc: "0: uniform among those with enough for a round, instead of those with most left",
        }]
    }

    fn choose(&self, from: &Candidates<'_>, params: &Params) -> Vec<Pick> {
        let mut clients = from.shuffled();
        clients.retain(|&client| suffices(&from.facts(client)));
        if params.get(SPARE) != 0.0 {
            // Stable: of those with equally much left the permutation decides.
            clients.sort_by(|&a, &b| {
                let (a, b) = (left(&from.facts(a)), left(&from.facts(b)));
                b.total_cmp(&a)
            });
        }
        let first = clients.into_iter().take(from.size);
        first
            .map(|client| Pick {
                client,
                score: from.facts(client).left_j(),
            })
            .collect()
    }
}

/// True if a client has energy for a round like its last one.
fn suffices(facts: &Facts) -> bool {
    let enough = |left: f64| left > 0.0 && left >= facts.round_j;
    facts.left_j().is_none_or(enough)
}

/// Part of its budget that a client has left.
fn left(facts: &Facts) -> f64 {
    match (facts.budget_j, facts.left_j()) {
        (Some(budget), Some(left)) => left / budget.max(f64::MIN_POSITIVE),
        _ => 1.0,
    }
}
