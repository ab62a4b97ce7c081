//! Round robin: the clients whose turn is longest ago.
//!
//! The first turns are in the order of a permutation that the seed decides. A client that was away has its
//! turn when it is back; one that failed has had it.

use alloc::vec::Vec;

use fl_param::Params;
use fl_rng::{Pcg32, Purpose};

use super::{Candidates, Pick, Selector};

/// Selection in turn.
pub(crate) struct RoundRobin;

impl Selector for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn doc(&self) -> &'static str {
        "clients in turn, in an order that the seed decides: each trains as often as any other"
    }

    fn choose(&self, from: &Candidates<'_>, _: &Params) -> Vec<Pick> {
        let mut order: Vec<u32> = (0..from.facts.len() as u32).collect();
        Pcg32::new(Purpose::Selection, from.seed).shuffle(&mut order);
        order.retain(|client| from.there.binary_search(client).is_ok());
        // Of those that had their turn together who had fewer; stable: then the permutation decides.
        order.sort_by_key(|&client| {
            let facts = from.facts(client);
            (facts.last_chosen, facts.times_chosen)
        });
        let first = order.into_iter().take(from.size);
        let since = |client| f64::from(from.round - from.facts(client).last_chosen.min(from.round));
        first
            .map(|client| Pick {
                client,
                score: Some(since(client)),
            })
            .collect()
    }
}
