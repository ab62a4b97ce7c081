//! The codecs that lose: what arrives, how far it is from what was sent, and what is refused.

use fl_proto::codec::{
    self, Codec, Decoder, Encoder, Encodes, Encoding, F32, Int8, Plan, Qsgd, Sign, TopK,
};
use fl_proto::message::MODEL;
use fl_rng::Pcg32;
use proptest::collection::vec;
use proptest::prelude::*;

/// Tensors of the vectors here: the third is what is left.
const TENSORS: [u32; 2] = [100, 7];

/// The octets of numbers, made in pieces of that length.
fn encoded(encoding: Encoding, plan: &Plan<'_>, numbers: &[f32], piece: usize) -> Vec<u8> {
    let (mut encoder, mut buffer) = (Encoder::new(encoding.codec()), vec![0; piece]);
    let mut octets = Vec::new();
    loop {
        match encoder.fill(plan, numbers, &mut buffer) {
            0 => return octets,
            n => octets.extend_from_slice(&buffer[..n]),
        }
    }
}

fn decoded(codec: &'static dyn Codec, octets: &[u8], count: usize) -> Option<Vec<f32>> {
    let (mut numbers, mut decoder) = (vec![f32::NAN; count], Decoder::new(codec));
    let whole = decoder.push(octets, &mut numbers) && decoder.is_complete(count);
    whole.then_some(numbers)
}

/// Numbers as they arrive; their octets have the length that the encoding tells.
fn arrived(encoding: Encoding, tensors: &[u32], seed: u64, numbers: &[f32]) -> Vec<f32> {
    let plan = encoding.plan(tensors, seed);
    let octets = encoded(encoding, &plan, numbers, 64);
    let told = encoding.octets(tensors, numbers.len() as u32);
    assert_eq!(octets.len() as u64, told, "{encoding:?}");
    decoded(encoding.codec(), &octets, numbers.len()).expect("its own octets")
}

/// Numbers as differences of weights are: small, of both signs, some zero.
fn changes(count: usize) -> Vec<f32> {
    let mut rng = Pcg32::on_stream(5, 5);
    let mut next = || rng.symmetric() * rng.symmetric() * 0.01;
    let numbers = (0..count).map(|at| if at % 11 == 3 { 0.0 } else { next() });
    numbers.collect()
}

fn with(codec: &'static dyn Codec, args: &[(&str, f64)]) -> Encoding {
    let mut encoding = Encoding::new(codec);
    for (name, value) in args {
        encoding.set(name, *value).unwrap();
    }
    encoding
}

fn lossy() -> Vec<Encoding> {
    vec![
        Encoding::new(&Int8),
        Encoding::new(&Qsgd),
        with(&Qsgd, &[("levels", 1.0), ("bucket_size", 16.0)]),
        with(&Qsgd, &[("levels", 127.0)]),
        Encoding::new(&TopK),
        with(&TopK, &[("k", 0.1)]),
        with(&TopK, &[("k", 0.6)]),
        Encoding::new(&Sign),
    ]
}

fn norm(numbers: &[f32]) -> f32 {
    numbers
        .iter()
        .map(|number| number * number)
        .sum::<f32>()
        .sqrt()
}

proptest! {
    #[test]
    fn pieces_change_nothing_and_lengths_are_told(
        numbers in vec(-1.0..1.0_f32, 0..700),
        (piece, cut) in (1..90_usize, 1..90_usize),
        tensors in vec(1..300_u32, 0..4),
        seed in any::<u64>(),
    ) {
        for encoding in lossy() {
            let plan = encoding.plan(&tensors, seed);
            let octets = encoded(encoding, &plan, &numbers, piece);
            prop_assert_eq!(&octets, &encoded(encoding, &plan, &numbers, 4096));
            prop_assert_eq!(octets.len() as u64, encoding.octets(&tensors, numbers.len() as u32));
            prop_assert!(encoding.codec().lengths(numbers.len() as u32).contains(&(octets.len() as u64)));
            let whole = decoded(encoding.codec(), &octets, numbers.len()).unwrap();
            let (mut pieces, mut decoder) = (vec![9.0; numbers.len()], Decoder::new(encoding.codec()));
            for piece in octets.chunks(cut) {
                prop_assert!(decoder.push(piece, &mut pieces));
            }
            prop_assert!(decoder.is_complete(numbers.len()));
            prop_assert_eq!(&pieces, &whole);
            let mut rounded = numbers.clone();
            codec::round(encoding.codec(), &plan, &mut rounded);
            prop_assert_eq!(rounded, whole);
        }
    }

    #[test]
    fn octets_of_strangers_are_survived(
        octets in vec(any::<u8>(), 0..300),
        count in 0..4000_usize,
        (kept, length) in (0..40_u32, 0..40_u32),
    ) {
        for encoding in lossy() {
            let codec = encoding.codec();
            let head = if codec == &TopK as &dyn Codec { kept } else { length | 127 << 24 };
            for octets in [octets.clone(), [&head.to_le_bytes()[..], &octets].concat()] {
                let (mut numbers, mut decoder) = (vec![0.0; count], Decoder::new(codec));
                let _ = decoder.push(&octets, &mut numbers);
                prop_assert!(decoder.decoded() <= count);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_survived_and_a_cut_is_refused(at in any::<prop::sample::Index>()) {
        let numbers = changes(300);
        for encoding in lossy() {
            let plan = encoding.plan(&TENSORS, 3);
            let mut octets = encoded(encoding, &plan, &numbers, 64);
            let bit = at.index(8 * octets.len());
            octets[bit / 8] ^= 1 << (bit % 8);
            // Whatever it reads, if anything: the checksum of the section tells.
            let _ = decoded(encoding.codec(), &octets, 300);
            let cut = at.index(octets.len());
            prop_assert!(decoded(encoding.codec(), &octets[..cut], 300).is_none());
        }
    }
}

#[test]
fn int8_is_off_by_less_than_a_step_of_its_tensor() {
    let mut numbers = changes(300);
    numbers[100..107].fill(50.0);
    let found = arrived(Encoding::new(&Int8), &TENSORS, 1, &numbers);
    let most = |range: std::ops::Range<usize>| {
        let magnitudes = numbers[range].iter().map(|number| number.abs());
        magnitudes.fold(0.0, f32::max)
    };
    for (range, largest) in [(0..100, most(0..100)), (107..300, most(107..300))] {
        for at in range {
            let off = (found[at] - numbers[at]).abs();
            assert!(off < largest / 127.0 * 1.001, "{at}: {off}");
        }
    }
    assert_eq!(found[100..107], [50.0; 7], "the scale is of one tensor");
}

#[test]
fn the_mean_over_draws_is_the_number_itself() {
    let numbers = changes(40);
    for encoding in [Encoding::new(&Int8), with(&Qsgd, &[("levels", 3.0)])] {
        let draws = 4000;
        let mut sums = vec![0.0_f64; numbers.len()];
        for seed in 0..draws {
            for (sum, found) in sums.iter_mut().zip(arrived(encoding, &[], seed, &numbers)) {
                *sum += f64::from(found);
            }
        }
        let levels = encoding.params().next().map_or(127.0, |(_, levels)| levels);
        let scale = if levels == 127.0 {
            0.01
        } else {
            f64::from(norm(&numbers))
        };
        // Five standard deviations of the mean, of at most half a step each.
        let allowed = 5.0 * 0.5 * scale / levels / f64::from(draws as u32).sqrt();
        for (sum, number) in sums.iter().zip(&numbers) {
            let mean = sum / draws as f64;
            assert!(
                (mean - f64::from(*number)).abs() < allowed,
                "{encoding:?}: {mean} {number}"
            );
        }
    }
}

#[test]
fn qsgd_keeps_signs_and_has_the_levels_of_a_buckets_norm() {
    let numbers = changes(300);
    let encoding = with(&Qsgd, &[("levels", 5.0), ("bucket_size", 64.0)]);
    let found = arrived(encoding, &TENSORS, 1, &numbers);
    let buckets = [
        0..64,
        64..100,
        100..107,
        107..171,
        171..235,
        235..299,
        299..300,
    ];
    for bucket in buckets {
        let step = norm(&numbers[bucket.clone()]) / 5.0;
        for at in bucket {
            let level = found[at] / step;
            assert!((level - level.round()).abs() < 1e-3, "{at}: {level}");
            assert!((found[at] - numbers[at]).abs() < step * 1.001);
            assert!(found[at] * numbers[at] >= 0.0);
        }
    }
    // A sign and three bits for five levels, eight octets a bucket.
    let octets = [64, 36, 7, 64, 64, 64, 1].map(|count: u64| 8 + (4 * count).div_ceil(8));
    assert_eq!(encoding.octets(&TENSORS, 300), octets.iter().sum::<u64>());
}

#[test]
fn topk_keeps_the_largest_and_the_first_of_equals() {
    let numbers = [0.5, -3.0, 1.0, -1.0, 0.0, 1.0, 2.0, -0.25];
    let kept = |k: f64| arrived(with(&TopK, &[("k", k)]), &[], 1, &numbers);
    assert_eq!(kept(0.125), [0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(kept(0.5), [0.0, -3.0, 1.0, -1.0, 0.0, 0.0, 2.0, 0.0]);
    assert_eq!(kept(0.75), [0.5, -3.0, 1.0, -1.0, 0.0, 1.0, 2.0, 0.0]);
    let zeros = [0.0; 9];
    assert_eq!(arrived(with(&TopK, &[("k", 0.3)]), &[], 1, &zeros), zeros);
}

#[test]
fn topk_of_all_numbers_is_f32_and_needs_no_memory() {
    let all = with(&TopK, &[("k", 1.0)]).of_section(MODEL, false, 12_730);
    assert_eq!(all, Encoding::default());
    assert_eq!(all.device_vectors(), 0);
    let numbers = changes(12_730);
    let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&arrived(all, &[], 1, &numbers)), bits(&numbers));
    let some = with(&TopK, &[("k", 0.99)]).of_section(MODEL, false, 12_730);
    assert_eq!(some.device_vectors(), 1);
}

#[test]
fn sign_has_the_mean_magnitude_of_a_tensor() {
    let numbers = [1.0, -2.0, 3.0, 0.5, -0.5];
    let found = arrived(Encoding::new(&Sign), &[3], 1, &numbers);
    assert_eq!(found, [2.0, -2.0, 2.0, 0.5, -0.5]);
}

#[test]
fn bytes_of_a_parameter_are_below_their_goals() {
    // 784-16-10.
    let (tensors, count) = ([12_544, 16, 160, 10], 12_730);
    let bytes = |encoding: Encoding| encoding.octets(&tensors, count) as f64 / f64::from(count);
    let of = |name| bytes(Encoding::new(codec::by_name(name).unwrap()));
    assert_eq!((of("f32"), of("f16")), (4.0, 2.0));
    assert!(of("int8") < 1.1, "{}", of("int8"));
    assert!(of("qsgd") < 0.52, "{}", of("qsgd"));
    assert!(of("sign") < 1.1 / 8.0, "{}", of("sign"));
    for k in [0.001, 0.01, 0.1, 0.5] {
        let of_kept = bytes(with(&TopK, &[("k", k)])) / k;
        assert!(of_kept < 5.0, "k {k}: {of_kept} bytes of a kept number");
    }
}

/// Rounds of a device that adds what an update lost to its next one.
#[test]
fn error_feedback_brings_in_the_end_what_was_left_out() {
    for encoding in [with(&TopK, &[("k", 0.1)]), Encoding::new(&Sign)] {
        assert_eq!(encoding.codec().encodes(), Encodes::ChangesWithFeedback);
        let change = changes(300);
        let (mut lost, mut sum) = (vec![0.0_f32; 300], vec![0.0_f64; 300]);
        for round in 1..=400 {
            let wanted: Vec<f32> = change.iter().zip(&lost).map(|(c, l)| c + l).collect();
            let sent = arrived(encoding, &TENSORS, round, &wanted);
            for at in 0..300 {
                lost[at] = wanted[at] - sent[at];
                sum[at] += f64::from(sent[at]);
            }
        }
        for at in 0..300 {
            let all = 400.0 * f64::from(change[at]);
            let missing = (sum[at] + f64::from(lost[at]) - all).abs();
            assert!(missing < 1e-4, "{encoding:?} {at}: {missing}");
        }
        // What is lost stays bounded: it does not grow with the rounds.
        assert!(norm(&lost) < 40.0 * norm(&change), "{encoding:?}");
    }
}

#[test]
fn numbers_that_are_none_arrive_as_such() {
    for encoding in lossy() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = changes(300);
            numbers[57] = bad;
            let found = arrived(encoding, &TENSORS, 1, &numbers);
            assert!(
                found.iter().any(|number| !number.is_finite()),
                "{encoding:?} hides {bad}"
            );
        }
    }
}

#[test]
fn hostile_octets_are_refused() {
    let refused = |codec: &'static dyn Codec, octets: &[u8], count| {
        assert_eq!(decoded(codec, octets, count), None, "{codec:?} {octets:?}");
    };
    let head = |length: u32, levels: u32| {
        [(length | levels << 24).to_le_bytes(), 1.0_f32.to_le_bytes()].concat()
    };
    let with = |head: Vec<u8>, codes: &[u8]| [&head[..], codes].concat();
    // A block of nothing, one that is too long, levels that the codec has not, a block too few or too many.
    refused(&Int8, &head(0, 127), 4);
    refused(&Int8, &with(head(5, 127), &[1; 5]), 4);
    refused(&Int8, &with(head(4, 126), &[1; 4]), 4);
    refused(&Int8, &with(head(3, 127), &[1; 3]), 4);
    refused(&Int8, &with(head(4, 127), &[1; 12]), 4);
    refused(&Int8, &with(head(1, 127), &[0x80]), 1);
    refused(&Sign, &with(head(4, 2), &[0]), 4);
    // Bits behind the last code.
    refused(&Sign, &with(head(4, 1), &[0x10]), 4);
    // Level 6 of 5, a zero with a sign.
    refused(&Qsgd, &with(head(1, 5), &[6]), 1);
    refused(&Qsgd, &with(head(1, 5), &[8]), 1);
    refused(&Qsgd, &with(head(1, 0), &[0]), 1);
    refused(&Qsgd, &with(head(1, 200), &[0, 0]), 1);
    // None kept, more kept than there are, places beyond the end, bits behind the end, an octet too many.
    refused(&TopK, &[0, 0, 0, 0], 8);
    refused(&TopK, &with(9_u32.to_le_bytes().to_vec(), &[0; 40]), 8);
    let one = encoded(
        with_k(0.125),
        &with_k(0.125).plan(&[], 1),
        &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0],
        64,
    );
    assert!(decoded(&TopK, &one, 8).is_some());
    refused(&TopK, &with(one.clone(), &[0]), 8);
    let mut late = one.clone();
    late[4..].fill(0);
    refused(&TopK, &late, 8);
    let mut behind = one;
    *behind.last_mut().unwrap() |= 0x80;
    refused(&TopK, &behind, 8);
    refused(&F32, &[0; 5], 1);
}

fn with_k(k: f64) -> Encoding {
    with(&TopK, &[("k", k)])
}
