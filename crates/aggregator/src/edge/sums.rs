//! Sums of an edge and their parts, as they are told to the aggregator above.

use anyhow::{Context, Result};
use fl_algo::{MODEL, Partial, Update};
use fl_proto::cluster::{Counted, PartialResults, Sum, SumCodec, encode_sums};
use fl_proto::message::section_name;
use fl_proto::{Results, Token};
use zfl_run_dir::ClientRecord;

/// An update in the sums, as it is told.
pub(super) fn counted(record: &ClientRecord, update: &Update, round: u32) -> Counted {
    let mut metrics = fl_proto::Metrics::new();
    for (name, value) in &update.metrics {
        let _ = metrics.set(name, *value);
    }
    Counted {
        client: update.client,
        round_ms: record.round_s.map_or(0, |s| (s * 1e3) as u64),
        results: Results {
            round,
            token: Token::try_from("edge").unwrap_or_default(),
            num_examples: update.num_examples,
            steps: update.steps,
            loss: update.loss,
            metrics,
            cost: record.cost.clone().unwrap_or_default(),
        },
    }
}

/// Adds what earlier rounds of the cluster for the same order took.
pub(super) fn add_cost(one: &mut Counted, before: &Counted) {
    let (results, earlier) = (&mut one.results, &before.results);
    one.round_ms = one.round_ms.saturating_add(before.round_ms);
    results.steps = results.steps.saturating_add(earlier.steps);
    let (cost, earlier) = (&mut results.cost, &earlier.cost);
    cost.train_us = cost.train_us.saturating_add(earlier.train_us);
    let both = cost.instructions.zip(earlier.instructions);
    cost.instructions = both.map(|(one, other)| one.saturating_add(other));
}

/// The body of sums.
pub(super) fn encoded(control: &PartialResults, sums: &Partial, rounded: bool) -> Result<Vec<u8>> {
    let control = serde_json::to_vec(control)?;
    let codec = match rounded {
        true => SumCodec::Rounded,
        false => SumCodec::Exact,
    };
    let mean = (MODEL, sums.mean.sum(), sums.mean.weight());
    let changes = sums
        .changes
        .iter()
        .map(|(name, sum)| (name.as_str(), sum, 1));
    let mut payloads = Vec::new();
    for (name, sum, weight) in [mean].into_iter().chain(changes) {
        let mut payload = Vec::new();
        if !rounded {
            sum.pack(&mut payload);
        } else {
            // Of nothing the mean is nothing.
            let mean = sum.divided(weight.max(1))?;
            payload.extend(mean.iter().flat_map(|number| number.to_le_bytes()));
        }
        payloads.push((
            section_name(name).context("a section's name")?,
            sum.len(),
            payload,
        ));
    }
    let sums: Vec<_> = payloads
        .iter()
        .map(|(name, count, payload)| Sum {
            name: name.clone(),
            codec,
            count: *count as u32,
            payload,
        })
        .collect();
    Ok(encode_sums(&control, &sums)?)
}
