//! The exact mean against integers of any size. The seed is fixed: a failure repeats.

use fl_algo::{ExactError, ExactMean, ExactSum, LARGEST_NUMBER, first_unsound};
use num_bigint::BigInt;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// One of the two numbers of a weighted pair.
type Number = fn(&(u64, f32, f32)) -> f32;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A number in units of 2^-149, by arithmetic on its own definition.
fn units(value: f32) -> BigInt {
    let bits = value.to_bits();
    let (field, fraction) = ((bits >> 23) & 0xff, bits & 0x7f_ffff);
    let magnitude = match field {
        0 => BigInt::from(fraction),
        field => BigInt::from(fraction + (1 << 23)) << (field - 1),
    };
    if value < 0.0 { -magnitude } else { magnitude }
}

/// Checks that `rounded` is the f32 nearest to `sum / weight`, and of two the even one.
fn is_nearest(rounded: f32, sum: &BigInt, weight: &BigInt) -> bool {
    let distance = |value: f32| {
        let off = units(value) * weight - sum;
        if off < BigInt::ZERO { -off } else { off }
    };
    let own = distance(rounded);
    [rounded.next_up(), rounded.next_down()]
        .into_iter()
        .filter(|other| other.is_finite())
        .all(|other| {
            let other = distance(other);
            own < other || own == other && rounded.to_bits() & 1 == 0
        })
}

fn oracle(weighted: &[(u64, f32)]) -> (BigInt, BigInt) {
    let sum = weighted.iter().map(|&(w, value)| units(value) * w).sum();
    (sum, weighted.iter().map(|&(w, _)| BigInt::from(w)).sum())
}

fn mean(weighted: &[(u64, f32)]) -> f32 {
    let mut mean = ExactMean::new(1);
    for &(weight, value) in weighted {
        mean.add(weight, &[value]).unwrap();
    }
    mean.mean().unwrap()[0]
}

fn finite() -> impl Strategy<Value = f32> {
    let any_bits = any::<u32>().prop_map(f32::from_bits);
    let of_a_model = -4.0_f32..4.0;
    let subnormal = (0_u32..1 << 23, any::<bool>())
        .prop_map(|(bits, negative)| f32::from_bits(bits | u32::from(negative) << 31));
    let round = (-149_i32..128, any::<bool>()).prop_map(|(exponent, negative)| {
        let magnitude = 2.0_f64.powi(exponent) as f32;
        if negative { -magnitude } else { magnitude }
    });
    let extreme = prop::sample::select(vec![0.0, -0.0, f32::MAX, f32::MIN]);
    let kinds = prop_oneof![
        4 => any_bits,
        4 => of_a_model,
        2 => subnormal,
        2 => round,
        1 => extreme
    ];
    kinds.prop_filter("finite", |value| value.is_finite())
}

/// A number and one of the next: their means are ties, and next to ties.
fn neighbours() -> impl Strategy<Value = Vec<(u64, f32)>> {
    (finite(), 0_usize..4).prop_map(|(value, steps)| {
        let next = (0..steps).fold(value, |next, _| next.next_up());
        let next = if next.is_finite() { next } else { value };
        vec![(1, value), (1, next)]
    })
}

fn weighted() -> impl Strategy<Value = Vec<(u64, f32)>> {
    let weight = prop_oneof![1_u64..10_000, 0_u64..=1 << 32, Just(1 << 32)];
    prop_oneof![
        4 => prop::collection::vec((weight, finite()), 1..20),
        1 => neighbours()
    ]
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn a_mean_is_the_nearest_number(weighted in weighted()) {
        let (sum, weight) = oracle(&weighted);
        prop_assume!(weight > BigInt::ZERO);
        let rounded = mean(&weighted);
        prop_assert!(is_nearest(rounded, &sum, &weight), "{rounded:e} of {weighted:?}");
    }

    #[test]
    fn no_order_and_no_split_changes_a_mean(
        weighted in weighted(),
        order in any::<u64>(),
        cuts in prop::collection::vec(0_usize..20, 0..4),
    ) {
        prop_assume!(weighted.iter().any(|(weight, _)| *weight > 0));
        let whole = mean(&weighted);
        let mut shuffled = weighted.clone();
        shuffled.sort_by_key(|(w, value)| {
            (w ^ u64::from(value.to_bits()) ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        prop_assert_eq!(mean(&shuffled).to_bits(), whole.to_bits());
        let mut all = ExactMean::new(1);
        let mut parts = vec![ExactMean::new(1); cuts.len() + 1];
        for (at, &(weight, value)) in shuffled.iter().enumerate() {
            let part = cuts.iter().filter(|&&cut| cut <= at).count();
            parts[part].add(weight, &[value]).unwrap();
        }
        for part in parts.iter().rev() {
            let travelled = ExactMean::from_bytes(&part.to_bytes()).unwrap();
            prop_assert_eq!(&travelled, part);
            all.merge(&travelled).unwrap();
        }
        prop_assert_eq!(all.mean().unwrap()[0].to_bits(), whole.to_bits());
    }

    #[test]
    fn what_is_taken_away_again_leaves_nothing(weighted in weighted(), rest in weighted()) {
        let mut sum = ExactSum::new(1);
        let all = || weighted.iter().chain(&rest);
        all().for_each(|&(w, value)| sum.add(w, &[value]).unwrap());
        weighted.iter().for_each(|&(w, value)| sum.subtract(w, &[value]).unwrap());
        let mut alone = ExactSum::new(1);
        rest.iter().for_each(|&(w, value)| alone.add(w, &[value]).unwrap());
        prop_assert_eq!(sum.divided(1 << 40), alone.divided(1 << 40));
    }

    #[test]
    fn octets_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(mean) = ExactMean::from_bytes(&bytes) {
            prop_assert_eq!(mean.to_bytes(), bytes);
            let _ = mean.mean();
            let mut twice = mean.clone();
            let _ = twice.merge(&mean);
            let _ = twice.mean();
        }
    }
}

#[test]
fn the_largest_cohort_of_the_largest_updates_keeps_its_mean() {
    let mut one = ExactMean::new(2);
    one.add(u64::from(u32::MAX), &[f32::MAX, f32::MIN]).unwrap();
    for _ in 0..32 {
        let half = one.clone();
        one.merge(&half).unwrap();
    }
    assert_eq!(one.mean().unwrap(), [f32::MAX, f32::MIN]);
}

#[test]
fn a_sum_beyond_the_narrow_integers_goes_on_in_the_wide() {
    let mut sum = ExactSum::new(1);
    for _ in 0..1 << 13 {
        sum.add(1 << 32, &[1.5 * 2.0_f32.powi(12)]).unwrap();
    }
    assert_eq!(sum.divided(1 << 45).unwrap(), [1.5 * 2.0_f32.powi(12)]);
}

#[test]
fn one_value_is_its_own_mean_to_the_bit_and_zero_has_no_sign() {
    let values = [0.1, -3.7e-9, 1.0e20, f32::MIN_POSITIVE / 8.0, f32::MAX];
    for value in values {
        assert_eq!(mean(&[(17, value)]).to_bits(), value.to_bits());
    }
    assert_eq!(mean(&[(3, -0.0)]).to_bits(), 0.0_f32.to_bits());
    assert_eq!(mean(&[(3, -1.5), (3, 1.5)]).to_bits(), 0.0_f32.to_bits());
}

#[test]
fn ties_go_to_even() {
    let (one, next, third) = (1.0_f32, 1.0_f32.next_up(), 1.0_f32.next_up().next_up());
    assert_eq!(mean(&[(1, one), (1, next)]), one);
    assert_eq!(mean(&[(1, next), (1, third)]), third);
    let least = f32::from_bits(1);
    assert_eq!(mean(&[(1, 0.0), (1, least)]).to_bits(), 0);
    assert_eq!(mean(&[(1, 0.0), (3, least)]), least);
}

#[test]
fn what_cannot_be_summed_is_refused_and_changes_nothing() {
    let mut mean = ExactMean::new(2);
    mean.add(2, &[1.0, 2.0]).unwrap();
    let before = mean.clone();
    let refused = mean.add(1, &[0.0, f32::NAN]);
    assert_eq!(refused, Err(ExactError::NotFinite { at: 1 }));
    let refused = mean.add(1, &[f32::NEG_INFINITY, 0.0]);
    assert_eq!(refused, Err(ExactError::NotFinite { at: 0 }));
    let short = ExactError::Length {
        expected: 2,
        actual: 1,
    };
    assert_eq!(mean.add(1, &[0.0]), Err(short));
    assert_eq!(mean.merge(&ExactMean::new(1)), Err(short));
    assert_eq!(mean, before);
    assert_eq!(ExactMean::new(1).mean(), Err(ExactError::NoWeight));
    let mut sum = ExactSum::new(1);
    sum.add(2, &[f32::MAX]).unwrap();
    assert_eq!(sum.divided(1), Err(ExactError::Overflow { at: 0 }));
}

#[test]
fn a_refusal_says_why() {
    let text = |error: ExactError| error.to_string();
    let length = ExactError::Length {
        expected: 2,
        actual: 1,
    };
    assert_eq!(text(length), "1 numbers, 2 are expected");
    assert_eq!(
        text(ExactError::NotFinite { at: 3 }),
        "parameter 3 is not finite"
    );
    assert_eq!(
        text(ExactError::NoWeight),
        "the weights of all updates are 0"
    );
    assert_eq!(text(ExactError::Weight), "the sum of weights is too large");
    assert_eq!(
        text(ExactError::Malformed),
        "these octets are no partial sum"
    );
}

#[test]
fn weights_count_up_to_their_bound() {
    let mut sum = ExactSum::new(1);
    sum.add(1, &[1.0]).unwrap();
    assert_eq!((sum.len(), sum.is_empty()), (1, false));
    assert!(ExactSum::new(0).is_empty());
    assert_eq!(sum.divided(1 << 96).unwrap(), [2.0_f32.powi(-96)]);
    assert_eq!(sum.divided((1 << 96) + 1), Err(ExactError::Weight));
    // 2^95 of 1, by doubling; twice that is the bound itself.
    let mut mean = ExactMean::new(1);
    mean.add(1 << 32, &[1.0]).unwrap();
    for _ in 32..95 {
        let half = mean.clone();
        mean.merge(&half).unwrap();
    }
    let mut whole = mean.clone();
    whole.merge(&mean).unwrap();
    assert_eq!(
        (whole.weight(), whole.mean().unwrap()),
        (1 << 96, vec![1.0])
    );
    assert_eq!(
        ExactMean::from_bytes(&whole.to_bytes()).as_ref(),
        Ok(&whole)
    );
    let before = whole.clone();
    assert_eq!(whole.merge(&mean), Err(ExactError::Weight));
    assert_eq!(whole, before);
}

#[test]
fn weights_of_models_travel_in_sixteen_octets_each() {
    let values = [0.0, 1.5, -0.25, 3.0e-8, -1.0e4];
    let mut mean = ExactMean::new(values.len());
    mean.add(1 << 32, &values).unwrap();
    assert_eq!(mean.to_bytes().len(), 32 + 16 * values.len());
    // A number that does not fit makes all longer.
    mean.add(1, &[1.0e30, 0.0, 0.0, 0.0, 0.0]).unwrap();
    assert_eq!(mean.to_bytes().len(), 32 + 64 * values.len());
}

/// The sum of these powers of two, divided.
fn of_powers(exponents: &[i32], divisor: u128) -> f32 {
    let mut sum = ExactSum::new(1);
    for &exponent in exponents {
        sum.add(1, &[2.0_f32.powi(exponent)]).unwrap();
    }
    sum.divided(divisor).unwrap()[0]
}

#[test]
fn the_least_part_below_a_tie_decides_it() {
    let least = 2.0_f32.powi(-96);
    assert_eq!(of_powers(&[0, -24], 1 << 96), least);
    // In the remainder of the division alone.
    assert_eq!(of_powers(&[0, -24, -40], 1 << 96), least.next_up());
    // Below the 128 bits of a wide integer that are divided: in the limb of their last bit, and below.
    let large = 2.0_f32.powi(60);
    assert_eq!(of_powers(&[60, 36], 1), large);
    assert_eq!(of_powers(&[60, 36, -70], 1), large.next_up());
    assert_eq!(of_powers(&[60, 36, -100], 1), large.next_up());
}

#[test]
fn the_largest_narrow_integer_and_the_next_keep_their_sign() {
    for exponent in [46, 47] {
        for value in [2.0_f32.powi(exponent), -2.0_f32.powi(exponent)] {
            assert_eq!(mean(&[(1, value)]), value);
            // Beyond the narrow integers by merging, too.
            let mut doubled = ExactMean::new(1);
            doubled.add(1, &[value]).unwrap();
            for _ in 0..4 {
                let half = doubled.clone();
                doubled.merge(&half).unwrap();
            }
            assert_eq!(doubled.mean().unwrap(), [value]);
        }
    }
}

#[test]
fn octets_that_are_not_a_whole_sum_are_refused() {
    let mut narrow = ExactMean::new(2);
    narrow.add(3, &[1.0, 2.0]).unwrap();
    let mut wide = narrow.clone();
    wide.add(1, &[f32::MAX, 0.0]).unwrap();
    for mean in [narrow, wide] {
        let bytes = mean.to_bytes();
        assert_eq!(ExactMean::from_bytes(&bytes).as_ref(), Ok(&mean));
        let refused = |bytes: &[u8]| ExactMean::from_bytes(bytes) == Err(ExactError::Malformed);
        assert!(refused(&bytes[..bytes.len() - 1]));
        assert!(refused(&[&bytes[..], &[0]].concat()));
        for at in [0, 8, 31] {
            let mut other = bytes.clone();
            other[at] ^= 0x10;
            assert!(refused(&other), "octet {at} is another");
        }
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_packed_sum_is_the_sum(
        values in prop::collection::vec((1_u64..1 << 40, finite(), finite()), 0..200)
    ) {
        let mut sum = ExactSum::new(values.len());
        let weights = values.iter().map(|value| value.0);
        let of: [Number; 2] = [|v| v.1, |v| v.2];
        for (weight, of) in weights.zip(of) {
            let numbers: Vec<f32> = values.iter().map(of).collect();
            sum.add(weight, &numbers).unwrap();
        }
        let mut octets = Vec::new();
        sum.pack(&mut octets);
        let read = ExactSum::unpack(&octets, values.len()).unwrap();
        prop_assert_eq!(read.divided(1 << 40), sum.divided(1 << 40));
        // To the last bit: it packs to the same octets.
        let mut again = Vec::new();
        read.pack(&mut again);
        prop_assert_eq!(&again, &octets);
        prop_assert_eq!(ExactSum::unpack(&octets, values.len() + 65), None);
        if let Some(cut) = octets.len().checked_sub(1) {
            prop_assert_eq!(ExactSum::unpack(&octets[..cut], values.len()), None);
        }
    }

    #[test]
    fn octets_from_anywhere_are_a_sum_or_refused(
        octets in prop::collection::vec(any::<u8>(), 0..300),
        len in 0_usize..300,
    ) {
        if let Some(sum) = ExactSum::unpack(&octets, len) {
            prop_assert_eq!(sum.len(), len);
            let _ = sum.divided(1);
        }
    }
}

#[test]
fn the_first_unsound_number_is_found_wherever_it_is() {
    for len in [0, 1, 63, 64, 65, 200] {
        let numbers = vec![-LARGEST_NUMBER; len];
        assert_eq!(first_unsound(&numbers), None);
        for at in 0..len {
            for unsound in [f32::NAN, f32::INFINITY, -1.001 * LARGEST_NUMBER] {
                let mut numbers = numbers.clone();
                numbers[at] = unsound;
                numbers[len - 1] = f32::NAN;
                assert_eq!(first_unsound(&numbers), Some(at));
            }
        }
    }
}
