//! Properties of every partitioner, whatever it is asked for.

use fl_data::{Natural, PARTITIONERS, Partition, PartitionError, PartitionRequest, Partitioner};
use fl_param::{ParamSpec, Params};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// Values of a parameter: its bounds, its default, and some between.
fn value(spec: &ParamSpec, draw: f64) -> f64 {
    let between = spec.min + draw * (spec.max - spec.min).min(20.0);
    let value = match (draw * 8.0) as u32 {
        0 => spec.min,
        1 => spec.max,
        2..=4 => spec.default,
        _ => between,
    };
    if spec.whole { value.floor() } else { value }
}

fn params(rule: &dyn Partitioner, draws: &[f64]) -> Params {
    let mut params = Params::defaults(rule.params());
    for (spec, draw) in rule.params().iter().zip(draws) {
        params.set(spec.name, value(spec, *draw)).unwrap();
    }
    params
}

/// Each example at most once, or at most once in each part of a rule that shares; and only those that there are; nobody without one; no more than asked for.
fn check(partition: &Partition, request: &PartitionRequest<'_>, by_data: bool, shares: bool) {
    assert_eq!(partition.num_clients(), request.sizes.len());
    assert!(partition.sizes().all(|size| size > 0));
    if shares {
        for client in 0..partition.num_clients() {
            let mut own = partition.indices(client).to_vec();
            own.sort_unstable();
            assert!(
                own.is_sorted_by(|a, b| a < b),
                "a client has an example twice"
            );
        }
    }
    let mut all: Vec<u32> = partition.clients().flatten().copied().collect();
    let dealt = all.len();
    assert!(by_data || dealt <= request.sizes.iter().sum());
    all.sort_unstable();
    all.dedup();
    assert!(shares || all.len() == dealt, "an example was dealt twice");
    assert!(
        all.iter()
            .all(|&index| (index as usize) < request.labels.len())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_partitioner_deals_each_example_at_most_once_or_says_what_to_change(
        at in 0..PARTITIONERS.len(),
        labels in prop::collection::vec(0_u8..12, 0..400),
        clients in 1_usize..24,
        each in 0_usize..40,
        draws in prop::array::uniform4(0.0..1.0_f64),
        seed: u64,
    ) {
        let rule = PARTITIONERS[at];
        let sizes = vec![each; clients];
        let parts: Vec<Vec<u32>> = (0..clients as u32)
            .map(|client| (client..labels.len() as u32).step_by(clients).collect())
            .collect();
        let natural = Natural { names: Vec::new(), parts };
        let request = PartitionRequest {
            labels: &labels,
            num_classes: 12,
            sizes: &sizes,
            seed,
            natural: Some(&natural),
        };
        let params = params(rule, &draws);
        let by_data = rule.num_clients(Some(&natural)).is_some();
        let dealt = rule.deal(&request, &params);
        match &dealt {
            Ok(partition) => check(partition, &request, by_data, rule.shares()),
            Err(error) => {
                let text = error.to_string();
                let ways = ["take ", "lower ", "raise ", "give "];
                prop_assert!(ways.iter().any(|way| text.contains(way)), "{}: {text}", rule.name());
            }
        }
        prop_assert_eq!(rule.deal(&request, &params), dealt, "a second time");
    }
}

/// Parts that a partitioner has dealt once are dealt for ever: runs are repeated by later versions.
#[test]
fn the_same_seed_deals_the_same_for_ever() {
    let labels: Vec<u8> = (0..3_000_u32).map(|index| (index * 7 % 10) as u8).collect();
    let request = PartitionRequest {
        labels: &labels,
        num_classes: 10,
        sizes: &[290; 10],
        seed: 42,
        natural: None,
    };
    let digest = |rule: &dyn Partitioner| {
        let dealt = rule.deal(&request, &Params::defaults(rule.params())).ok()?;
        let mut hash = Sha256::new();
        for part in dealt.clients() {
            hash.update((part.len() as u32).to_le_bytes());
            part.iter()
                .for_each(|index| hash.update(index.to_le_bytes()));
        }
        let digits = hash
            .finalize()
            .into_iter()
            .take(4)
            .map(|octet| format!("{octet:02x}"));
        Some(format!("{} {}", rule.name(), digits.collect::<String>()))
    };
    let all: Vec<_> = PARTITIONERS
        .iter()
        .filter_map(|rule| digest(*rule))
        .collect();
    assert_eq!(all, PINNED);
}

const PINNED: [&str; 8] = [
    "iid 8aa1229d",
    "dirichlet b5cf6d7f",
    "pathological 0cdead44",
    "shard 4850bbd4",
    "linear 5848d39e",
    "square f334acfe",
    "overlapping 45744d55",
    "power-law fb6c2508",
];

/// One request, from several threads at once.
#[test]
fn a_partition_does_not_depend_on_threads() {
    let labels: Vec<u8> = (0..4_000_u32).map(|index| (index * 7 % 10) as u8).collect();
    let deal = |rule: &dyn Partitioner, seed| {
        let request = PartitionRequest {
            labels: &labels,
            num_classes: 10,
            sizes: &[400; 10],
            seed,
            natural: None,
        };
        rule.deal(&request, &Params::defaults(rule.params()))
    };
    for rule in PARTITIONERS {
        let alone = deal(*rule, 5);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| deal(*rule, 5))).collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), alone, "{}", rule.name());
            }
        });
        if alone.is_ok() {
            assert_ne!(deal(*rule, 6), alone, "{} heeds the seed", rule.name());
        }
    }
}

#[test]
fn more_clients_than_examples_are_refused_by_all_that_do_not_share() {
    for rule in PARTITIONERS {
        for each in [0, 1] {
            let request = PartitionRequest {
                labels: &[0, 1, 2, 3],
                num_classes: 4,
                sizes: &[each; 9],
                seed: 1,
                natural: None,
            };
            let dealt = rule.deal(&request, &Params::defaults(rule.params()));
            let suffices = rule.shares() && each > 0;
            assert_eq!(dealt.is_ok(), suffices, "{}", rule.name());
        }
        let request = PartitionRequest {
            labels: &[],
            num_classes: 0,
            sizes: &[],
            seed: 1,
            natural: None,
        };
        // No client is no partition that anybody asks for; it must not panic.
        let _: Result<Partition, PartitionError> =
            rule.deal(&request, &Params::defaults(rule.params()));
    }
}
