//! Availability: each client is to be had in a window of its own, as phones are that charge at night.
//!
//! A day has `period` rounds, and a client's window is a part `share` of it; the seed decides when it begins.
//! Of the clients in their windows each is as likely as any other. Clients that a fault plan or a trace has
//! away are to be had by no selector.

use alloc::vec::Vec;

use fl_param::{ParamSpec, Params};
use fl_rng::{Pcg32, Purpose};

use super::{Candidates, Pick, Selector, unscored};

const PERIOD: &str = "period";
const SHARE: &str = "share";

/// Selection among the clients that are in their windows.
pub(crate) struct Availability;

impl Selector for Availability {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn doc(&self) -> &'static str {
        "uniform among the clients that are in their windows, which recur and differ by client"
    }

    fn paper(&self) -> Option<&'static str> {
        Some("Bonawitz et al. 2019, https://arxiv.org/abs/1902.01046")
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[
            ParamSpec {
                name: PERIOD,
                default: 24.0,
                min: 1.0,
                max: 1e6,
                whole: true,
                doc: "rounds after which a window recurs",
            },
            ParamSpec {
                name: SHARE,
                default: 0.5,
                min: 1e-3,
                max: 1.0,
                whole: false,
                doc: "part of the period in which a client is to be had, rounded up to rounds",
            },
        ]
    }

    fn choose(&self, from: &Candidates<'_>, params: &Params) -> Vec<Pick> {
        let period = params.whole(PERIOD).max(1);
        let open = libm::ceil(params.get(SHARE) * f64::from(period)) as u32;
        let mut rng = Pcg32::new(Purpose::Selection, from.seed);
        let begins: Vec<u32> = from.facts.iter().map(|_| rng.below(period)).collect();
        let is_open = |client: &u32| {
            let begin = begins.get(*client as usize).copied().unwrap_or(0);
            // Both terms are below the period, at most a million.
            (from.round % period + period - begin) % period < open
        };
        let mut clients = from.shuffled();
        clients.retain(is_open);
        unscored(clients, from.size)
    }
}
