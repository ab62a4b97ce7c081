//! Oort: clients whose data teach much and whose devices are fast, and now and then ones that nobody knows.
//!
//! Lai et al. 2021, *Oort: Efficient Federated Learning via Guided Participant Selection*:
//! <https://arxiv.org/abs/2010.06081>. A client that is known has the utility
//!
//! ```text
//! ( U scaled to 0..1 + sqrt(0.1 ln(round) / last) ) * (T / t)^penalty if it is slower than T
//! ```
//!
//! with U = examples * loss, cut off at a quantile of all; `last` the round of its last update; t the time that
//! a round takes its device, and T a quantile of those times. Of the clients above a part of the last utility
//! that would be chosen, as many are drawn by utility.
//!
//! Two things differ from the paper: the mean loss stands for the root of the mean square, and T is a quantile
//! of the times, without the pacer that moves it. The times are of counted instructions and links, or
//! estimates of both, never the host's.

use alloc::vec::Vec;

use fl_param::{ParamSpec, Params};

use super::{Candidates, Facts, Pick, Selector};

const EXPLORATION: &str = "exploration_factor";
const DECAY: &str = "exploration_decay";
const LEAST: &str = "exploration_min";
const PENALTY: &str = "round_penalty";
const THRESHOLD: &str = "round_threshold";
const CUT_OFF: &str = "cut_off_util";
const CLIP: &str = "clip_bound";

/// Least difference of utilities that they are scaled by, as in the authors' code.
const LEAST_RANGE: f64 = 1e-4;

/// Selection by utility.
pub(crate) struct Oort;

/// A part of a whole, as a parameter.
const fn part(name: &'static str, default: f64, doc: &'static str) -> ParamSpec {
    ParamSpec {
        name,
        default,
        min: 0.0,
        max: 1.0,
        whole: false,
        doc,
    }
}

/// Its parameters.
static PARAMS: [ParamSpec; 7] = [
    part(EXPLORATION, 0.9, "part of the first cohort that is unknown"),
    part(DECAY, 0.98, "factor of that part from round to round"),
    part(LEAST, 0.2, "least of that part"),
    ParamSpec {
        name: PENALTY,
        default: 2.0,
        min: 0.0,
        max: 100.0,
        whole: false,
        doc: "exponent by which slow devices lose utility (alpha of the paper)",
    },
    part(
        THRESHOLD,
        0.3,
        "quantile of the devices' times above which one is slow",
    ),
    part(
        CUT_OFF,
        0.95,
        "part of the last utility chosen from which on clients are drawn",
    ),
    part(
        CLIP,
        0.95,
        "quantile of the utilities of losses at which they are cut off",
    ),
];

impl Selector for Oort {
    fn name(&self) -> &'static str {
        "oort"
    }

    fn doc(&self) -> &'static str {
        "by utility, which is loss by examples and speed, beside clients that nobody knows yet"
    }

    fn paper(&self) -> Option<&'static str> {
        Some("Lai et al. 2021, https://arxiv.org/abs/2010.06081")
    }

    fn params(&self) -> &'static [ParamSpec] {
        &PARAMS
    }

    fn choose(&self, from: &Candidates<'_>, params: &Params) -> Vec<Pick> {
        let is_known = |client: &u32| from.facts(*client).loss.is_some();
        let (known, unknown): (Vec<u32>, Vec<u32>) =
            from.shuffled().into_iter().partition(is_known);
        let decayed = params.get(EXPLORATION)
            * libm::pow(params.get(DECAY), f64::from(from.round.saturating_sub(1)));
        let share = decayed.max(params.get(LEAST));
        let explored = (libm::round(share * from.size as f64) as usize).min(unknown.len());
        let exploited = from.size.saturating_sub(explored).min(known.len());
        let explored = from.size - exploited;
        let mut picks = exploit(from, params, known, exploited);
        picks.extend(super::unscored(unknown, explored));
        picks
    }
}

/// Draws the part of a cohort that goes by utility.
fn exploit(from: &Candidates<'_>, params: &Params, known: Vec<u32>, count: usize) -> Vec<Pick> {
    if count == 0 {
        return Vec::new();
    }
    let scored = utilities(from, params, known);
    let mut sorted = scored.clone();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let last = sorted[count.min(sorted.len()) - 1].1;
    let pool: Vec<u32> = sorted
        .iter()
        .filter(|(_, utility)| *utility >= last * params.get(CUT_OFF))
        .map(|(client, _)| *client)
        .collect();
    let utility = |client: u32| {
        let found = scored.iter().find(|(id, _)| *id == client);
        found.map_or(0.0, |(_, utility)| *utility)
    };
    let drawn = from.draw(&pool, count, utility).into_iter();
    drawn
        .map(|client| Pick {
            client,
            score: Some(utility(client)),
        })
        .collect()
}

/// Utility of each client that is known.
fn utilities(from: &Candidates<'_>, params: &Params, known: Vec<u32>) -> Vec<(u32, f64)> {
    let of_loss = |facts: &Facts| {
        f64::from(facts.num_examples) * f64::from(facts.loss.unwrap_or(0.0)).max(0.0)
    };
    let facts: Vec<(u32, Facts)> = known.iter().map(|&id| (id, from.facts(id))).collect();
    let losses: Vec<f64> = facts.iter().map(|(_, one)| of_loss(one)).collect();
    let most = quantile(&losses, params.get(CLIP)).unwrap_or(0.0);
    let highest = losses.iter().copied().fold(0.0, f64::max);
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min) * 0.999;
    let range = (highest - least).max(LEAST_RANGE);
    let times: Vec<f64> = facts
        .iter()
        .filter_map(|(_, one)| Some(one.took_us? as f64))
        .collect();
    let preferred = quantile(&times, params.get(THRESHOLD));
    let round = f64::from(from.round.max(1));
    let utility = |one: &Facts| {
        let of_loss = (of_loss(one).min(most) - least) / range;
        let unsure = libm::sqrt(0.1 * libm::log(round) / f64::from(one.last_counted.max(1)));
        let slow = match (preferred, one.took_us) {
            (Some(preferred), Some(took)) if took as f64 > preferred => {
                libm::pow(preferred / took as f64, params.get(PENALTY))
            }
            _ => 1.0,
        };
        (of_loss + unsure) * slow
    };
    facts.iter().map(|(id, one)| (*id, utility(one))).collect()
}

/// The number at a quantile of some, counted from the least.
fn quantile(numbers: &[f64], part: f64) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().checked_sub(1)?)).copied()
}
