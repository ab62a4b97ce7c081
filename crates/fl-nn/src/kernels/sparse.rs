//! Lists of the octets that are not zero, two by two: four of five pixels of an image are black.
//!
//! An entry is an `i32`: the index of a pair of octets in the upper half, the octets in the lower.

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
#[cfg(any(test, dsp))]
#[inline(always)]
pub(crate) fn decode(entry: i32) -> (usize, i32) {
    (index(entry), (entry & 0xff) | (entry & 0xff00) << 8)
}

/// Index of the pair.
#[inline(always)]
pub(crate) fn index(entry: i32) -> usize {
    (entry as u32 >> 16) as usize
}

/// The two octets.
#[inline(always)]
pub(crate) fn octets(entry: i32) -> [u8; 2] {
    [entry as u8, (entry >> 8) as u8]
}

/// Length of the buffer for [`of_input`].
pub(crate) fn input_entries(num_inputs: usize) -> usize {
    num_inputs.div_ceil(4) * 2
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

/// As [`of_input`], with as many entries as there is room for; `None` if there are more.
pub(crate) fn try_list(input: &[u8], entries: &mut [i32]) -> Option<usize> {
    let mut len = 0;
    for (index, pair) in input.chunks(2).enumerate() {
        let octets = pair
            .iter()
            .rev()
            .fold(0, |octets, &x| octets << 8 | u32::from(x));
        if octets != 0 {
            *entries.get_mut(len)? = ((index as u32) << 16 | octets) as i32;
            len += 1;
        }
    }
    Some(len)
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
