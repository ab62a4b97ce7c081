//! Every kernel of every level against its plain form, to the bit.

use fl_rng::Pcg32;

use super::level::Level;
use super::list::{List, SHARES};
use super::pairs::{Line, Pairs};
use super::simd::{BLOCK, CHUNK, GROUP, Kernels};
use crate::activation::Activation;
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

            let mut lines = vec![Line([7; 16]); rows.div_ceil(2) * width.div_ceil(16)];
            let (mut own, mut found, mut pairs) =
                (vec![0.0; width], vec![7.0; width], Pairs::default());
            assert!((kernels.quantise)(
                &values, None, 0.01, &mut own, &mut lines
            ));
            same(&own, &units);
            (kernels.list_pairs)(&input, &mut pairs);
            (kernels.add_pairs)(&lines, pairs.get(0), &own, &bias, &mut found);
            same(&found, &expected);

            (kernels.subtract_pairs)(&lines, pairs.get(0), &own, &mut found);
            let (mut rounded, mut units) = (values.clone(), vec![0.0; width]);
            quantise::quantise_in_place(&mut rounded, 0.01, &mut units).unwrap();
            for (j, (expected, unit)) in expected.iter_mut().zip(&units).enumerate() {
                let column = rounded.iter().skip(j).step_by(width).zip(&input);
                let sum: i32 = column
                    .map(|(d, &x)| d.to_bits() as i32 * i32::from(x))
                    .sum();
                *expected -= sum as f32 * unit;
            }
            same(&found, &expected);

            // Rows in another order are other rows.
            let places: Vec<u32> = (0..rows as u32).rev().collect();
            let turned: Vec<f32> = values.chunks(width).rev().flatten().copied().collect();
            let mut other = lines.clone();
            let last = width - 1;
            assert!((kernels.quantise)(
                &turned,
                Some(&places),
                0.01,
                &mut own,
                &mut other
            ));
            if own == units {
                assert!(
                    lines
                        .iter()
                        .zip(&other)
                        .all(|(line, other)| line.0 == other.0)
                );
            }
            for worthless in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[last] = worthless;
                assert!(!(kernels.quantise)(
                    &values, None, 0.01, &mut own, &mut lines
                ));
            }
        }
    });
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
