//! The two loops in which a device spends most of its time: products of octets and integers of sixteen columns.
//!
//! There is a form in vectors and one without; sums are exact, so that both have the same bits. Each loop is kept out of
//! its callers: it has the registers to itself, and a firmware can lay it within one page.

use bytemuck::cast;

use super::quantise::{LANES, Pair};
use super::sparse;

#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
mod vector {
    use bytemuck::cast;
    use wide::{i16x8, i16x16, i32x4, i32x8};

    use super::super::quantise::{LANES, Pair, load};
    use super::super::sparse;

    /// Exact sums of octets times integers, column by column.
    #[inline(never)]
    pub(crate) fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
        let mut sums = Pair::default();
        for &entry in list {
            // Always there: the branch stands for a check of the bounds.
            let Some(pair) = tile.get(sparse::index(entry)) else {
                break;
            };
            let octets: i16x16 = cast(i32x8::splat(words(entry)));
            for half in 0..LANES / 8 {
                sums[half] += octets.dot(cast(pair[half]));
            }
        }
        sums
    }

    /// The two octets of an entry, in words.
    #[inline(always)]
    fn words(entry: i32) -> i32 {
        let words: i32x4 = cast(i16x8::from_u8x16_low(cast([entry, 0, 0, 0])));
        words.as_array()[0]
    }

    /// Adds octets times the integers of one example, bits of floats, to the sums of their rows, which begin with pair
    /// `first`.
    #[inline(never)]
    pub(crate) fn add_products(sums: &mut [[Pair; 2]], first: usize, list: &[i32], deltas: &[f32]) {
        let deltas: Pair = cast(load(deltas));
        for &entry in list {
            // The list is in the order of the pairs: it ends with the sums.
            let Some([upper, lower]) = sums.get_mut(sparse::index(entry).wrapping_sub(first))
            else {
                break;
            };
            let words: i32x4 = cast(i16x8::from_u8x16_low(cast([words(entry), 0, 0, 0])));
            let [x, y, ..] = words.to_array().map(i32x8::splat);
            for half in 0..LANES / 8 {
                upper[half] += x * deltas[half];
                lower[half] += y * deltas[half];
            }
        }
    }
}

#[cfg(any(
    test,
    not(any(dsp, mainline, target_feature = "sse2", target_feature = "neon"))
))]
mod scalar {
    use core::array;

    use bytemuck::{cast, cast_slice, cast_slice_mut};

    use super::super::quantise::{LANES, Pair, load};
    use super::super::sparse;

    /// Columns whose sums are in registers: those of Arm have fewer.
    const COLUMNS: usize = if cfg!(target_arch = "arm") { 8 } else { 16 };

    /// As that in vectors.
    #[inline(never)]
    pub(crate) fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
        let tile: &[[[u32; COLUMNS]; LANES / COLUMNS]] = cast_slice(tile);
        cast(array::from_fn::<_, { LANES / COLUMNS }, _>(|block| {
            columns(tile, list, block)
        }))
    }

    /// Sums of a block of columns.
    #[inline(always)]
    fn columns(
        tile: &[[[u32; COLUMNS]; LANES / COLUMNS]],
        list: &[i32],
        block: usize,
    ) -> [i32; COLUMNS] {
        let mut sums = [0; COLUMNS];
        for &entry in list {
            let Some(pair) = tile.get(sparse::index(entry)) else {
                break;
            };
            sums = add_pair(sums, &pair[block], entry);
        }
        sums
    }

    /// Adds two octets times their rows.
    #[inline(always)]
    fn add_pair(mut sums: [i32; COLUMNS], pair: &[u32; COLUMNS], entry: i32) -> [i32; COLUMNS] {
        let [x, y] = sparse::octets(entry).map(i32::from);
        if x != 0 {
            sums = array::from_fn(|i| sums[i] + x * i32::from(pair[i] as i16));
        }
        if y != 0 {
            sums = array::from_fn(|i| sums[i] + y * i32::from((pair[i] >> 16) as i16));
        }
        sums
    }

    /// As that in vectors.
    #[inline(never)]
    pub(crate) fn add_products(sums: &mut [[Pair; 2]], first: usize, list: &[i32], deltas: &[f32]) {
        let rows: &mut [[[[i32; COLUMNS]; LANES / COLUMNS]; 2]] = cast_slice_mut(sums);
        let deltas: [[i32; COLUMNS]; LANES / COLUMNS] = cast(load(deltas));
        for (block, deltas) in deltas.iter().enumerate() {
            add_block(rows, first, list, block, *deltas);
        }
    }

    /// Products of a block of columns.
    #[inline(always)]
    fn add_block(
        rows: &mut [[[[i32; COLUMNS]; LANES / COLUMNS]; 2]],
        first: usize,
        list: &[i32],
        block: usize,
        deltas: [i32; COLUMNS],
    ) {
        for &entry in list {
            // The list is in the order of the pairs: it ends with the sums.
            let Some(rows) = rows.get_mut(sparse::index(entry).wrapping_sub(first)) else {
                break;
            };
            for (octet, row) in sparse::octets(entry).into_iter().zip(rows) {
                if octet != 0 {
                    let x = i32::from(octet);
                    let products = row[block].iter_mut().zip(&deltas);
                    products.for_each(|(sum, delta)| *sum += x * delta);
                }
            }
        }
    }
}

#[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
mod avx2;
#[cfg(dsp)]
mod dsp;
#[cfg(mainline)]
mod mainline;

#[cfg(dsp)]
pub(crate) use dsp::{add_products, weighted_sum};
#[cfg(mainline)]
pub(crate) use mainline::{add_products, weighted_sum};
#[cfg(not(any(dsp, mainline, target_feature = "sse2", target_feature = "neon")))]
pub(crate) use scalar::{add_products, weighted_sum};
#[cfg(any(target_feature = "sse2", target_feature = "neon"))]
pub(crate) use vector::add_products;
#[cfg(all(
    any(target_feature = "sse2", target_feature = "neon"),
    not(target_arch = "x86")
))]
pub(crate) use vector::weighted_sum;

/// Exact sums of octets times integers, column by column.
#[cfg(target_arch = "x86")]
#[inline(always)]
#[allow(unsafe_code, reason = "a function of a level that was found")]
pub(crate) fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
    match super::level::has_avx2() {
        // SAFETY: the processor has AVX2.
        true => unsafe { avx2::weighted_sum(tile, list) },
        false => vector::weighted_sum(tile, list),
    }
}

/// Example that an entry of a column names, per example.
pub(crate) const STEP: usize = 4;

/// Integers of one example for the columns: the first half in the low halves of the lanes and [`BIAS`] above themselves,
/// the second half in the high halves.
pub(crate) type Deltas = [i32; LANES / 2];

/// More than the magnitude of any integer.
pub(crate) const BIAS: i32 = 1 << 15;

/// Excess of a column's sums, for each of its two inputs: the octets, each times [`BIAS`].
#[inline(always)]
pub(crate) fn excess(column: &[i32]) -> [i32; 2] {
    #[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
    if super::level::has_avx2() {
        #[allow(unsafe_code, reason = "a function of a level that was found")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::excess(column) };
    }
    plain_excess(column)
}

/// Definition of [`excess`].
pub(crate) fn plain_excess(column: &[i32]) -> [i32; 2] {
    let mut sums = [0_i32; 2];
    for &entry in column {
        for (sum, octet) in sums.iter_mut().zip(sparse::octets(entry)) {
            *sum = sum.wrapping_add(i32::from(octet) * BIAS);
        }
    }
    sums
}

/// Sums of two inputs: octets of the examples that a column lists, times their deltas.
///
/// There are deltas of a power of two of examples, and an entry names one modulo their number. The last word of the
/// column is no entry, and `excess` is that of the column.
#[inline(always)]
pub(crate) fn column_sums(
    deltas: &[Deltas],
    column: &[i32],
    excess: [i32; 2],
    sums: &mut [Pair; 2],
) {
    #[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
    if super::level::has_avx2() {
        #[allow(unsafe_code, reason = "a function of a level that was found")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::column_sums(deltas, column, excess, sums) };
    }
    let _ = excess;
    plain_column_sums(deltas, column, sums);
}

/// Counts the entries of a list by their pairs, in bytes; false, with nothing counted, if it names a pair that is not
/// there.
#[inline(always)]
pub(crate) fn count(counts: &mut [i32], list: &[i32]) -> bool {
    #[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
    if super::level::has_avx2() {
        #[allow(unsafe_code, reason = "a function of a level that was found")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::count(counts, list) };
    }
    plain_count(counts, list)
}

/// Definition of [`count`].
pub(crate) fn plain_count(counts: &mut [i32], list: &[i32]) -> bool {
    let are_there = list
        .iter()
        .all(|&entry| sparse::index(entry) < counts.len());
    if are_there {
        list.iter()
            .for_each(|&entry| counts[sparse::index(entry)] += ENTRY);
    }
    are_there
}

/// Bytes of an entry.
const ENTRY: i32 = size_of::<i32>() as i32;

/// Deals the octets of a list out to columns with this upper half, each at its end.
///
/// # Safety
/// The first of the words, as many as the list may name, are the ends of columns in bytes from the first word. The list
/// names none else, and behind each end there are as many words as the list has entries for it.
#[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
#[inline(always)]
#[allow(unsafe_code, reason = "a function of a level that was found")]
pub(crate) unsafe fn deal(words: &mut [i32], list: &[i32], upper: i32) {
    match super::level::has_avx2() {
        // SAFETY: the processor has AVX2; the rest is the caller's.
        true => unsafe { avx2::deal(words, list, upper) },
        false => plain_deal(words, list, upper),
    }
}
#[cfg(not(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri)))))]
pub(crate) use plain_deal as deal;

/// Definition of [`deal`].
pub(crate) fn plain_deal(words: &mut [i32], list: &[i32], upper: i32) {
    for &entry in list {
        let end = words[sparse::index(entry)];
        words[(end / ENTRY) as usize] = upper | entry & 0xffff;
        words[sparse::index(entry)] = end + ENTRY;
    }
}

/// Definition of [`column_sums`].
pub(crate) fn plain_column_sums(deltas: &[Deltas], column: &[i32], to: &mut [Pair; 2]) {
    let mut sums = [[0_i32; LANES]; 2];
    for &entry in column.split_last().map_or(&[][..], |(_, column)| column) {
        let lanes = &deltas[sparse::index(entry) / STEP % deltas.len()];
        for (sums, x) in sums.iter_mut().zip(sparse::octets(entry)) {
            let (low, high) = sums.split_at_mut(LANES / 2);
            for ((low, high), lane) in low.iter_mut().zip(high).zip(lanes) {
                *low += i32::from(x) * ((lane & 0xffff) - BIAS);
                *high += i32::from(x) * (lane >> 16);
            }
        }
    }
    *to = sums.map(cast);
}

#[cfg(test)]
mod tests {
    use super::super::quantise::{LANES, Pair};
    use super::super::sparse;
    use super::{Deltas, scalar, vector};
    use bytemuck::cast;
    use fl_rng::Pcg32;

    /// Random shapes, against sums by the definition.
    #[test]
    fn both_forms_are_the_definition() {
        let mut rng = Pcg32::on_stream(4, 4);
        for _ in 0..if cfg!(miri) { 4 } else { 200 } {
            let pairs = 1 + rng.below(20) as usize;
            let input: Vec<u8> = (0..2 * pairs)
                .map(|_| [0, rng.below(256) as u8, 255][rng.below(3) as usize])
                .collect();
            let mut entries = vec![0; sparse::input_entries(input.len())];
            let list = sparse::of_input(&input, &mut entries);
            let mut integer = |_| rng.below(1 << 16) as u16 as i16;
            let rows: Vec<[i16; LANES]> = (0..2 * pairs)
                .map(|_| std::array::from_fn(&mut integer))
                .collect();
            let tile: Vec<Pair> = rows
                .chunks(2)
                .map(|pair| {
                    let lane = |i| i32::from(pair[0][i]) & 0xffff | i32::from(pair[1][i]) << 16;
                    cast(std::array::from_fn::<i32, LANES, _>(lane))
                })
                .collect();
            let sum = |lane| {
                rows.iter()
                    .zip(&input)
                    .map(|(row, &x)| i32::from(row[lane]) * i32::from(x))
                    .sum()
            };
            let expected: [i32; LANES] = std::array::from_fn(sum);
            for weighted_sum in [scalar::weighted_sum, vector::weighted_sum] {
                assert_eq!(
                    cast::<Pair, [i32; LANES]>(weighted_sum(&tile, list)),
                    expected
                );
            }

            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if crate::kernels::level::has_avx2() {
                // SAFETY: the processor has AVX2.
                #[allow(unsafe_code, reason = "a function of a level that was found")]
                let sums = unsafe { super::avx2::weighted_sum(&tile, list) };
                assert_eq!(cast::<Pair, [i32; LANES]>(sums), expected);
            }

            let deltas: [i32; LANES] = std::array::from_fn(|i| i32::from(rows[0][i]));
            let first = rng.below(pairs as u32) as usize;
            let there = 1 + rng.below((pairs - first) as u32) as usize;
            let list = &list[list.partition_point(|&entry| sparse::index(entry) < first)..];
            for add_products in [scalar::add_products, vector::add_products] {
                let mut sums = vec![[cast::<_, Pair>([3; LANES]); 2]; there];
                add_products(
                    &mut sums,
                    first,
                    list,
                    &deltas.map(|delta| f32::from_bits(delta as u32)),
                );
                for (row, x) in sums.as_flattened().iter().zip(&input[2 * first..]) {
                    let expected = deltas.map(|delta| 3 + delta * i32::from(*x));
                    assert_eq!(cast::<Pair, [i32; LANES]>(*row), expected);
                }
            }
        }
    }

    /// Random columns, whose entries name examples that are not there, too.
    #[test]
    fn sums_of_a_column_are_the_definition() {
        let mut rng = Pcg32::on_stream(5, 5);
        for _ in 0..if cfg!(miri) { 4 } else { 100 } {
            let mut integer = |_| i32::from(rng.below(1 << 16) as u16 as i16);
            let deltas: Vec<Deltas> = (0..1 << integer(0).rem_euclid(7))
                .map(|_| std::array::from_fn(|_| integer(0) << 16 | integer(0) & 0xffff))
                .collect();
            let mut column: Vec<i32> = (0..1 + rng.below(40))
                .map(|_| rng.below(1 << 14) << 18 | rng.below(1 << 16))
                .map(|entry| entry as i32)
                .collect();
            let excess = super::excess(&column[1..]);
            assert_eq!(excess, super::plain_excess(&column[1..]));
            column.rotate_left(1);
            let [mut found, mut expected] = [[Pair::default(); 2]; 2];
            super::plain_column_sums(&deltas, &column, &mut expected);
            super::column_sums(&deltas, &column, excess, &mut found);
            assert_eq!(found, expected);
        }
    }

    /// No memory beyond the tile is read.
    #[test]
    fn a_list_of_pairs_that_are_not_there_has_no_sums() {
        let most = [Pair::default(); 3];
        let lists = [
            vec![],
            vec![3 << 16 | 1],
            vec![1 << 16 | 1, -1, 1],
            vec![2 << 16 | 1; 9],
            [vec![3 << 16], vec![1; 8]].concat(),
        ];
        for (list, tile) in lists
            .iter()
            .flat_map(|list| [(list, &most[..]), (list, &[])])
        {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if crate::kernels::level::has_avx2() {
                // SAFETY: the processor has AVX2.
                #[allow(unsafe_code, reason = "a function of a level that was found")]
                let sums = unsafe { super::avx2::weighted_sum(tile, list) };
                assert_eq!(sums, Pair::default());
            }
            assert_eq!(vector::weighted_sum(tile, list), Pair::default());
        }
    }
}
