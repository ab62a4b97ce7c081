//! Lists of the octets that are not zero, two by two: four of five pixels of an image are black.
//!
//! An entry is an `i32`: the index of a pair of octets in the upper half, the octets in the lower.

use core::array;

/// A list under construction in a buffer of the caller.
pub(crate) struct List<'a> {
    entries: &'a mut [i32],
    len: usize,
}

impl<'a> List<'a> {
    /// An empty list with room for one entry per pair.
    pub fn new(entries: &'a mut [i32]) -> Self {
        Self { entries, len: 0 }
    }

    /// Names the pair `index` with the two `octets`, unless both are zero.
    ///
    /// The entry is always written and only sometimes kept: which pixels are black is hard to foresee,
    /// and a store costs less than a mispredicted branch.
    #[inline(always)]
    fn push(&mut self, index: usize, octets: u32) {
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = ((index as u32) << 16 | octets) as i32;
            self.len += usize::from(octets != 0);
        }
    }

    fn into_entries(self) -> &'a [i32] {
        &self.entries[..self.len]
    }
}

/// Index of the pair, and its octets in the low bits of the halves.
#[inline(always)]
pub(crate) fn decode(entry: i32) -> (usize, i32) {
    (
        (entry as u32 >> 16) as usize,
        (entry & 0xff) | (entry & 0xff00) << 8,
    )
}

/// Length of the buffer for [`of_input`].
pub(crate) fn input_entries(num_inputs: usize) -> usize {
    num_inputs.div_ceil(4) * 2
}

/// Length of the buffer for [`of_column`].
pub(crate) fn column_entries(batch: usize) -> usize {
    batch.div_ceil(2) * 4
}

/// Pairs of neighbouring octets of one input.
pub(crate) fn of_input<'a>(input: &[u8], entries: &'a mut [i32]) -> &'a [i32] {
    let mut list = List::new(entries);
    // Most are zero: eight at a time are passed over.
    let (eights, rest) = input.as_chunks::<8>();
    for (index, eight) in eights.iter().enumerate() {
        let [a, b, c, d, e, f, g, h] = *eight;
        let (first, second) = ([a, b, c, d], [e, f, g, h]);
        let [first, second] = [first, second].map(u32::from_le_bytes);
        if first | second != 0 {
            push_word(&mut list, 2 * index, first);
            push_word(&mut list, 2 * index + 1, second);
        }
    }
    for begin in (0..rest.len()).step_by(4) {
        let index = 2 * eights.len() + begin / 4;
        push_word(&mut list, index, word_at(rest, begin));
    }
    list.into_entries()
}

#[inline(always)]
fn push_word(list: &mut List<'_>, index: usize, word: u32) {
    if word != 0 {
        list.push(2 * index, word & 0xffff);
        list.push(2 * index + 1, word >> 16);
    }
}

/// Pairs of neighbouring examples, for each of the four octets of the words that `word_of` gives.
pub(crate) fn of_column<'a>(
    examples: &[u32],
    entries: &'a mut [i32],
    word_of: impl Fn(u32) -> u32,
) -> [&'a [i32]; 4] {
    let room = examples.len().div_ceil(2);
    let mut ends = [0, room, 2 * room, 3 * room];
    let (pairs, last) = examples.as_chunks::<2>();
    for (index, &[upper, lower]) in pairs.iter().enumerate() {
        push_words(entries, &mut ends, index, word_of(upper), word_of(lower));
    }
    if let [upper] = *last {
        push_words(entries, &mut ends, pairs.len(), word_of(upper), 0);
    }
    let entries = &*entries;
    array::from_fn(|octet| &entries[octet * room..ends[octet]])
}

/// Names the pairs of an octet from either word, each behind its list's end.
#[inline(always)]
fn push_words(entries: &mut [i32], ends: &mut [usize; 4], index: usize, upper: u32, lower: u32) {
    if upper | lower == 0 {
        return;
    }
    // Two pairs in each, in the halves of the word.
    let even = upper & 0x00ff_00ff | (lower & 0x00ff_00ff) << 8;
    let odd = upper >> 8 & 0x00ff_00ff | lower & 0xff00_ff00;
    let pairs = [even & 0xffff, odd & 0xffff, even >> 16, odd >> 16];
    for (end, pair) in ends.iter_mut().zip(pairs) {
        // As in `List::push`. No list has more entries than there are pairs.
        if let Some(entry) = entries.get_mut(*end) {
            *entry = ((index as u32) << 16 | pair) as i32;
            *end += usize::from(pair != 0);
        }
    }
}

/// Four octets from `begin` on, the missing ones zero, the first in the lowest bits.
#[inline(always)]
pub(crate) fn word_at(octets: &[u8], begin: usize) -> u32 {
    let rest = octets.get(begin..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(word) => u32::from_le_bytes(*word),
        None => rest
            .iter()
            .rev()
            .fold(0, |word, &octet| word << 8 | u32::from(octet)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index and octets of each entry.
    fn decoded(list: &[i32]) -> Vec<(usize, i32, i32)> {
        list.iter()
            .map(|&entry| decode(entry))
            .map(|(index, x)| (index, x & 0xffff, x >> 16))
            .collect()
    }

    #[test]
    fn an_input_is_listed_pair_by_pair() {
        let mut entries = [-1; 6];
        assert_eq!(entries.len(), input_entries(11));
        let list = of_input(&[0, 255, 0, 0, 0, 0, 0, 0, 128, 0, 1], &mut entries);
        assert_eq!(decoded(list), [(0, 0, 255), (4, 128, 0), (5, 1, 0)]);
        assert_eq!(decoded(of_input(&[0; 11], &mut entries)), []);
        let all = [7; 11];
        assert_eq!(decoded(of_input(&all, &mut entries)).len(), 6);
    }

    #[test]
    fn a_column_is_listed_by_pairs_of_examples() {
        let mut entries = [-1; 8];
        assert_eq!(entries.len(), column_entries(3));
        let words = [0x8000_0001, 0x0000_0200, 0x0000_00ff];
        let [first, second, third, fourth] =
            of_column(&[2, 0, 1], &mut entries, |n| words[n as usize]);
        assert_eq!(decoded(first), [(0, 255, 1)]);
        assert_eq!(decoded(second), [(1, 2, 0)]);
        assert_eq!(decoded(third), []);
        assert_eq!(decoded(fourth), [(0, 0, 128)]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn the_largest_index_fits_an_entry() {
        let mut entries = vec![0; input_entries(65_535)];
        let input = vec![255; 65_535];
        let list = decoded(of_input(&input, &mut entries));
        assert_eq!(list.len(), 32_768);
        assert_eq!((list[0], list[32_767]), ((0, 255, 255), (32_767, 255, 0)));
    }

    #[test]
    fn a_word_ends_with_the_octets() {
        let octets = [1, 2, 3, 4, 5];
        assert_eq!(word_at(&octets, 0), 0x0403_0201);
        assert_eq!(word_at(&octets, 3), 0x0504);
        assert_eq!(word_at(&octets, 9), 0);
    }
}
