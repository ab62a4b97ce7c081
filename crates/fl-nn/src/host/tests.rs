//! Every kernel of every level against its plain form, to the bit.

use fl_rng::Pcg32;

use super::level::Level;
use super::list::{List, SHARES};
use super::pairs::Pairs;
use super::rounded::{Rounded, sum_of};
use super::simd::{BLOCK, CHUNK, Floats, GROUP, Kernels, Source};
use crate::activation::Activation;
use crate::error::TrainError;
use crate::kernels::{fixed, float, matrix, quantise, sparse};
use crate::train::AdamStep;
use libm::expf;

/// Widths around those of all vectors and blocks.
const WIDTHS: [usize; 16] = [1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 64, 97, 200, 256, 300];

/// Calls `check` with the kernels of each level that this machine has, and a stream of numbers.
fn at_every_level(check: impl Fn(&Kernels, &mut Pcg32)) {
    for level in Level::all().filter(|&level| level != Level::Plain) {
        level.during(|| check(super::kernels().unwrap(), &mut Pcg32::on_stream(7, 7)));
    }
}

/// Numbers of all sizes, zeros of both signs and subnormal ones among them.
fn numbers(rng: &mut Pcg32, count: usize) -> Vec<f32> {
    let number = |rng: &mut Pcg32| match rng.below(9) {
        0 | 1 => 0.0,
        2 => -0.0,
        3 => rng.symmetric() * f32::MIN_POSITIVE,
        4 => rng.symmetric() * 1e18,
        _ => rng.symmetric(),
    };
    (0..count).map(|_| number(rng)).collect()
}

fn octets(rng: &mut Pcg32, count: usize) -> Vec<u8> {
    let octet = |rng: &mut Pcg32| match rng.below(4) {
        0 => rng.below(256) as u8,
        _ => 0,
    };
    (0..count).map(|_| octet(rng)).collect()
}

#[track_caller]
fn same(found: &[f32], expected: &[f32]) {
    let bits = |numbers: &[f32]| Vec::from_iter(numbers.iter().map(|number| number.to_bits()));
    assert_eq!(bits(found), bits(expected));
}

#[test]
fn lists_hold_what_is_not_zero_in_its_order() {
    at_every_level(|kernels, rng| {
        let mut list = List::default();
        for count in [0, 1, 8, 31, 63, 64, 65, 200, 784] {
            let input = octets(rng, count);
            (kernels.list_octets)(&input, &mut list);
            let places = (0..count).filter(|&i| input[i] != 0);
            assert!(
                list.indices()
                    .iter()
                    .map(|&i| i as usize)
                    .eq(places.clone())
            );
            let shares: Vec<f32> = places.map(|i| f32::from(input[i]) / 255.0).collect();
            same(list.values(), &shares);

            let units = numbers(rng, count);
            (kernels.list_units)(&units, &mut list);
            let places = (0..count).filter(|&i| units[i] != 0.0);
            assert!(
                list.indices()
                    .iter()
                    .map(|&i| i as usize)
                    .eq(places.clone())
            );
            same(list.values(), &Vec::from_iter(places.map(|i| units[i])));
        }
        (kernels.list_units)(&[f32::NAN, 0.0, f32::INFINITY], &mut list);
        assert_eq!(list.indices(), [0, 2]);
        assert!((0..=255_u8).all(|octet| SHARES[usize::from(octet)] == f32::from(octet) / 255.0));
    });
}

#[test]
fn sums_are_those_of_the_plain_form() {
    at_every_level(|kernels, rng| {
        let mut list = List::default();
        for width in WIDTHS {
            let d_in = 1 + rng.below(90) as usize;
            let (params, units) = (numbers(rng, (d_in + 1) * width), numbers(rng, d_in));
            let (weights, bias) = params.split_at(d_in * width);
            let (mut found, mut expected) = (vec![7.0; width], vec![0.0; width]);
            (kernels.list_units)(&units, &mut list);
            (kernels.add_rows)(weights, &list, bias, &mut found);
            matrix::forward(&params, &units, &mut expected);
            same(&found, &expected);

            let input = octets(rng, d_in);
            (kernels.list_octets)(&input, &mut list);
            (kernels.add_rows)(weights, &list, bias, &mut found);
            let mut entries = vec![0; sparse::input_entries(d_in)];
            let entries = sparse::of_input(&input, &mut entries);
            float::forward(weights, bias, entries, &mut expected);
            same(&found, &expected);
        }
    });
}

#[test]
fn deltas_of_the_layer_below_are_those_of_the_plain_form() {
    at_every_level(|kernels, rng| {
        let mut list = List::default();
        for activation in [Activation::Relu, Activation::Sigmoid] {
            for width in WIDTHS {
                let d_in = 1 + rng.below(90) as usize;
                let mut units = numbers(rng, d_in);
                activation.apply(&mut units);
                let (params, deltas) = (numbers(rng, d_in * width), numbers(rng, width));
                let (mut found, mut expected) = (vec![0.0; d_in], vec![0.0; d_in]);
                let slopes: Vec<f32> = units.iter().map(|&unit| activation.slope(unit)).collect();
                (kernels.list_units)(&slopes, &mut list);
                (kernels.dots)(&params, &deltas, &list, true, &mut found);
                matrix::backward(&params, activation, &units, &deltas, &mut expected);
                same(&found, &expected);
                if activation == Activation::Relu {
                    // Every slope is one.
                    found.fill(0.0);
                    (kernels.list_units)(&units, &mut list);
                    (kernels.dots)(&params, &deltas, &list, false, &mut found);
                    same(&found, &expected);
                }
            }
        }
    });
}

#[test]
fn gradients_are_those_of_the_plain_form() {
    at_every_level(|kernels, rng| {
        let mut list = List::default();
        for (width, count) in WIDTHS.into_iter().zip((1..=BLOCK).rev()) {
            let d_in = 1 + rng.below(40) as usize;
            let mut found = numbers(rng, d_in * width);
            let mut expected = found.clone();
            expected.resize((d_in + 1) * width, 0.0);
            let (columns, deltas) = (numbers(rng, d_in * BLOCK), numbers(rng, count * width));
            (kernels.add_gradient)(&columns, &deltas, width, &mut found, &mut list);
            for (n, deltas) in deltas.chunks(width).enumerate() {
                let units: Vec<f32> = columns.chunks(BLOCK).map(|column| column[n]).collect();
                matrix::add_gradient(&mut expected, &units, deltas);
            }
            same(&found, &expected[..d_in * width]);
        }
    });
}

#[test]
fn steps_are_those_of_the_plain_form() {
    at_every_level(|kernels, rng| {
        let mut list = List::default();
        for width in WIDTHS {
            let batch = 1 + rng.below(150) as usize;
            let (mut found, rate) = (numbers(rng, GROUP * width), 0.37 / batch as f32);
            let mut expected = found.clone();
            let (columns, deltas) = (octets(rng, GROUP * batch), numbers(rng, batch * width));
            let padded: Vec<u8> = columns
                .chunks(batch)
                .flat_map(|column| {
                    let zeros = std::iter::repeat(&0);
                    column
                        .iter()
                        .chain(zeros)
                        .take(batch.next_multiple_of(CHUNK))
                })
                .copied()
                .collect();
            (kernels.step_rows)(&padded, &deltas, width, rate, &mut found, &mut list);
            let rows = expected.chunks_mut(width).zip(columns.chunks(batch));
            for (weights, column) in rows {
                let mut sums = vec![0.0; width];
                for (&octet, deltas) in column.iter().zip(deltas.chunks(width)) {
                    let mut entries = [0; 2];
                    let entries = sparse::of_input(&[octet], &mut entries);
                    float::add_gradient(&mut sums, 0, entries, deltas);
                }
                float::subtract(&sums, rate, weights);
            }
            same(&found, &expected);

            let gradient = numbers(rng, found.len());
            (kernels.step)(rate, &gradient, &mut found);
            expected
                .iter_mut()
                .zip(&gradient)
                .for_each(|(w, g)| *w -= rate * g);
            same(&found, &expected);
        }
    });
}

#[test]
fn a_step_of_adam_is_that_of_the_plain_form() {
    let step = AdamStep {
        betas: [0.9, 0.999],
        rate: 0.013,
        unbias: 1.7,
        epsilon: 1e-8,
    };
    at_every_level(|kernels, rng| {
        for width in WIDTHS {
            let [weights, gradient, means] = [(); 3].map(|()| numbers(rng, width));
            let squares: Vec<f32> = numbers(rng, width).iter().map(|x| x.abs()).collect();
            let (mut found, mut plain) =
                ([weights, means, squares].clone(), [const { Vec::new() }; 3]);
            plain.clone_from(&found);
            let [w, m, v] = &mut found;
            (kernels.adam)(&step, w, &gradient, m, v);
            let [w, m, v] = &mut plain;
            Level::Plain.during(|| step.apply(w, &gradient, m, v));
            found
                .iter()
                .zip(&plain)
                .for_each(|(found, plain)| same(found, plain));
        }
    });
}

#[test]
fn sixteen_rows_become_sixteen_columns() {
    at_every_level(|kernels, rng| {
        let mut rows = [[0; GROUP]; GROUP];
        rows.as_flattened_mut().fill_with(|| rng.below(256) as u8);
        let mut columns = vec![0; GROUP * 20];
        (kernels.transpose)(&rows.each_ref(), &mut columns, 20);
        for at in 0..GROUP * GROUP {
            let (row, column) = (at / GROUP, at % GROUP);
            assert_eq!(columns[20 * column + row], rows[row][column]);
        }
    });
}

#[test]
fn pairs_of_octets_are_those_of_the_plain_form() {
    at_every_level(|kernels, rng| {
        let mut pairs = Pairs::default();
        let counts = [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 784, 3000];
        let inputs = counts.map(|count| octets(rng, count));
        inputs
            .iter()
            .for_each(|input| (kernels.list_pairs)(input, &mut pairs));
        for (n, input) in inputs.iter().enumerate() {
            let mut entries = vec![0; sparse::input_entries(input.len())];
            let list = sparse::of_input(input, &mut entries).iter();
            let (places, values): (Vec<u32>, Vec<u32>) = list
                .map(|&entry| sparse::decode(entry))
                .map(|(place, octets)| (place as u32, octets as u32))
                .unzip();
            assert_eq!(pairs.get(n), (&*places, &*values));
        }
    });
}

#[test]
fn packed_pairs_are_the_same() {
    at_every_level(|kernels, rng| {
        let (mut pairs, mut unpacked) = (Pairs::default(), Pairs::default());
        let counts = [0, 1, 64, 3000, 1 << 17];
        let inputs = counts.map(|count| octets(rng, count));
        for input in &inputs {
            (kernels.list_pairs)(input, &mut pairs);
        }
        unpacked.unpack(&pairs.pack().unwrap());
        assert_eq!(unpacked.len(), counts.len());
        assert!((0..counts.len()).all(|n| unpacked.get(n) == pairs.get(n)));
        // A place of more than 16 bits.
        pairs.clear();
        let mut long = vec![0; (1 << 17) + 2];
        long[1 << 17] = 1;
        (kernels.list_pairs)(&long, &mut pairs);
        assert!(pairs.pack().is_none());
    });
}

#[test]
fn integers_and_their_sums_are_those_of_the_plain_form() {
    at_every_level(|kernels, rng| {
        for width in WIDTHS {
            let rows = 1 + rng.below(70) as usize;
            let (mut values, input) = (numbers(rng, rows * width), octets(rng, rows));
            let mut entries = vec![0; sparse::input_entries(rows)];
            let list = sparse::of_input(&input, &mut entries);
            let mut integers = vec![7; quantise::pair_words(rows, width) as usize];
            let (mut units, mut expected) = (vec![0.0; width], vec![0.0; width]);
            quantise::quantise(&values, 0.01, &mut units, &mut integers).unwrap();
            let bias = numbers(rng, width);
            fixed::forward(&integers, &units, &bias, list, rows, &mut expected);

            let (mut found, mut pairs) = (vec![7.0; width], Pairs::default());
            let mut rounded = Rounded::default();
            rounded.round(kernels, whole(&values, width), 0.01).unwrap();
            let (lines, own) = rounded.get();
            same(own, &units);
            (kernels.list_pairs)(&input, &mut pairs);
            (kernels.add_pairs)(lines, &[pairs.get(0)], own, &bias, &mut found);
            same(&found, &expected);

            (kernels.subtract_pairs)(lines, pairs.get(0), own, &mut found);
            let (mut in_place, mut units) = (values.clone(), vec![0.0; width]);
            quantise::quantise_in_place(&mut in_place, 0.01, &mut units).unwrap();
            for (j, (expected, unit)) in expected.iter_mut().zip(&units).enumerate() {
                let column = in_place.iter().skip(j).step_by(width).zip(&input);
                let sum: i32 = column
                    .map(|(d, &x)| d.to_bits() as i32 * i32::from(x))
                    .sum();
                *expected -= sum as f32 * unit;
            }
            same(&found, &expected);

            // Rows in another order are other rows.
            let places: Vec<u32> = (0..rows as u32).rev().collect();
            let turned: Vec<f32> = values.chunks(width).rev().flatten().copied().collect();
            let mut other = Rounded::default();
            let last = width - 1;
            let turned = Source {
                places: Some(&places),
                ..whole(&turned, width)
            };
            other.round(kernels, turned, 0.01).unwrap();
            // Sums in another order may have other units.
            if other.get().1 == units {
                assert!(integers_of(&rounded).eq(integers_of(&other)));
            }
            for worthless in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[last] = worthless;
                let found = rounded.round(kernels, whole(&values, width), 0.01);
                assert_eq!(found, Err(TrainError::Diverged));
            }
        }
    });
}

/// Weights that move batch after batch have the units and integers that they would have if rounded anew.
#[test]
fn followed_weights_are_as_if_rounded_anew() {
    at_every_level(|kernels, rng| {
        let (mut moved_again, mut units_changed) = (0, 0);
        for (rows, width, rate) in [(1, 1, 0.5), (7, 10, 0.1), (64, 33, 0.3), (300, 72, 0.02)] {
            let mut weights = Vec::from_iter((0..rows * width).map(|_| rng.symmetric()));
            let (mut followed, mut moves) = (Rounded::default(), Rounded::default());
            for batch in 0..if cfg!(miri) { 3 } else { 40 } {
                let units = followed.get().1.to_vec();
                followed
                    .follow(kernels, whole(&weights, width), 1.0)
                    .unwrap();
                let mut anew = Rounded::default();
                anew.round(kernels, whole(&weights, width), 1.0).unwrap();
                same(followed.get().1, anew.get().1);
                assert!(
                    integers_of(&followed).eq(integers_of(&anew)),
                    "batch {batch}"
                );
                units_changed += usize::from(batch > 0 && units != followed.get().1);

                let count = 1 + rng.below(if batch % 4 == 0 { 40 } else { 5 }) as usize;
                let deltas = Vec::from_iter((0..count * width).map(|_| rng.symmetric()));
                let inputs = Vec::from_iter((0..count).map(|_| octets(rng, rows)));
                moves
                    .round(kernels, whole(&deltas, width), rate / 255.0)
                    .unwrap();
                let sums = Vec::from_iter(inputs.iter().map(|input| sum_of(input) as f32));
                followed.drift(kernels, &mut moves, &deltas, &sums, rate / 255.0);
                let (mut pairs, stride) = (Pairs::default(), count.next_multiple_of(CHUNK));
                let (before, mut expected) = (weights.clone(), weights.clone());
                for (row, weights) in expected.chunks_mut(width).enumerate() {
                    let column = Vec::from_iter(inputs.iter().map(|input| input[row]));
                    pairs.clear();
                    (kernels.list_pairs)(&column, &mut pairs);
                    let (lines, units) = moves.get();
                    (kernels.subtract_pairs)(lines, pairs.get(0), units, weights);
                }
                for (begin, weights) in (0..).step_by(GROUP).zip(weights.chunks_mut(GROUP * width))
                {
                    let mut columns = vec![0; GROUP * stride];
                    for (n, input) in inputs.iter().enumerate() {
                        for (column, &octet) in input[begin..].iter().take(GROUP).enumerate() {
                            columns[column * stride + n] = octet;
                        }
                    }
                    let rounded = Some(followed.rows(begin / 2));
                    (kernels.move_rows)(&columns, count, moves.get(), weights, rounded, &mut pairs);
                }
                moved_again += usize::from(weights != before);
                same(&weights, &expected);
            }
        }
        assert!(moved_again > 0 && (units_changed > 0 || cfg!(miri)));
    });
}

#[test]
fn sums_of_octets_are_exact() {
    for count in [0, 1, 7, 8, 9, 784, 1024, 5000] {
        assert_eq!(sum_of(&vec![255; count]), 255 * count as u32);
        let mixed = Vec::from_iter((0..count).map(|n| (n * 37) as u8));
        let expected: u32 = mixed.iter().map(|&octet| u32::from(octet)).sum();
        assert_eq!(sum_of(&mixed), expected);
    }
}

/// A matrix, its rows as they are.
fn whole(values: &[f32], width: usize) -> Source<'_> {
    Source {
        values,
        width,
        places: None,
    }
}

/// Integers of a matrix.
fn integers_of(rounded: &Rounded) -> impl Iterator<Item = [i32; 16]> {
    rounded.get().0.iter().map(|line| line.0)
}

#[test]
fn exponentials_are_those_of_libm() {
    at_every_level(|kernels, rng| {
        let step = if cfg!(miri) { 40_000_003 } else { 4_999 };
        let mut bits: Vec<u32> = (0..u32::MAX).step_by(step).collect();
        let edges = [
            0x3900_0000,
            0x3eb1_7218,
            0x3f85_1592,
            0x42ae_ac50,
            0x42b1_7218,
            0x42cf_f1b5,
        ];
        for edge in edges.into_iter().chain([0, 0x80_0000, 0x7f80_0000]) {
            for sign in [0, 1 << 31] {
                bits.extend((0..8).map(|n| (edge | sign) + n));
                bits.extend((1..8).map(|n| (edge | sign).wrapping_sub(n)));
            }
        }
        // Where the softmax has its numbers.
        bits.extend((0..20_000).map(|_| (rng.symmetric() * 60.0).to_bits()));
        for bits in bits.chunks(21) {
            let numbers: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let mut found = vec![0.0; numbers.len()];
            let same = |found: &[f32], expected: fn(f32) -> f32| {
                for (&found, &x) in found.iter().zip(&numbers) {
                    let expected = expected(x);
                    let is_nan = found.is_nan() && expected.is_nan();
                    assert!(
                        is_nan || found.to_bits() == expected.to_bits(),
                        "{x} {x:e} {found:e} {expected:e}"
                    );
                }
            };
            (kernels.exp)(&numbers, 0.0, &mut found);
            same(&found, |x| expf(x - 0.0));
            found.copy_from_slice(&numbers);
            (kernels.sigmoid)(&mut found);
            same(&found, |x| 1.0 / (1.0 + expf(-x)));
        }
    });
}

#[test]
fn memory_of_floats_begins_with_a_cache_line_and_keeps_what_it_holds() {
    let mut floats = Floats::default();
    for len in [1, 16, 17, 1000] {
        let room = floats.room(len);
        assert_eq!((room.len(), room.as_ptr().align_offset(64)), (len, 0));
        assert!(room[..len / 2].iter().all(|&number| number == 0.0));
        room[len - 1] = 7.0;
        assert_eq!(floats[len - 1], 7.0);
        floats.room(len).fill(0.0);
    }
}
