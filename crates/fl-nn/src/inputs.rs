//! Inputs of examples, in the forms in which they may lie in memory.

use bytemuck::cast_slice;

use crate::kernels::sparse;

#[cfg(feature = "host")]
pub use crate::host::Shelf;

/// Shelf for lists of a host: a device has none.
#[cfg(not(feature = "host"))]
#[derive(Debug)]
pub enum Shelf {}

/// Inputs of a training or an evaluation, one example behind the other.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// Octets, row-major `[num_examples, num_inputs]`.
    Octets(&'a [u8]),
    /// Lists of the octets that are not zero.
    Lists(Lists<'a>),
    /// Octets of some examples of a set.
    View(View<'a>),
}

impl Inputs<'_> {
    /// True if a device trains on [`Lists`]. The vector instructions of a host make lists of their own.
    pub const LISTED: bool = !cfg!(feature = "host");
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Inputs<'a> {
    fn from(octets: &'a T) -> Self {
        Self::Octets(octets.as_ref())
    }
}

impl<'a> From<Lists<'a>> for Inputs<'a> {
    fn from(lists: Lists<'a>) -> Self {
        Self::Lists(lists)
    }
}

impl<'a> From<View<'a>> for Inputs<'a> {
    fn from(view: View<'a>) -> Self {
        Self::View(view)
    }
}

/// Inputs among those of a set, which may be that of many trainings.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// All of the set, row-major `[_, num_inputs]`.
    pub octets: &'a [u8],
    /// Place in the set of each example.
    pub places: &'a [u32],
    /// Shelf for lists of them, and their number there: always the same examples have the same number.
    pub shelf: Option<(&'a Shelf, usize)>,
}

impl View<'_> {
    /// True if all places are in the set.
    pub(crate) fn is_within(&self, num_inputs: usize) -> bool {
        let count = self.octets.len() / num_inputs.max(1);
        let places = self.places.iter();
        places.fold(true, |all, &place| all & ((place as usize) < count))
    }
}

/// Inputs as lists, made once: what is zero costs neither memory nor time.
///
/// An entry names two neighbouring octets that are not both zero. Where a list would be no shorter than the octets,
/// the octets stand in its place; the two are told apart by their length.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// Lists of all examples.
    pub words: &'a [i32],
    /// Start of each list in `words`, and the end of the last one: `[num_examples + 1]`.
    pub starts: &'a [u32],
}

impl<'a> Lists<'a> {
    /// Most words of a list: those of the octets.
    pub fn most_words(num_inputs: usize) -> usize {
        num_inputs.div_ceil(4)
    }

    /// Writes the list of an example, and returns its length; `None` if there is no room for the longest one.
    pub fn write(input: &[u8], words: &mut [i32]) -> Option<usize> {
        let words = words.get_mut(..Self::most_words(input.len()))?;
        match sparse::try_list(input, &mut words[..]) {
            Some(len) if len < words.len() => Some(len),
            _ => {
                for (word, octets) in words.iter_mut().zip(input.chunks(4)) {
                    *word = sparse::word_at(octets, 0) as i32;
                }
                Some(words.len())
            }
        }
    }

    /// Number of lists.
    pub(crate) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Words of all lists.
    pub(crate) fn entries(&self) -> usize {
        let ends = (self.starts.first(), self.starts.last());
        let (begin, end) = ends.0.zip(ends.1).unwrap_or((&0, &0));
        end.saturating_sub(*begin) as usize
    }

    /// Entries of example `n`, by way of `scratch` if its octets are kept; empty if there is no such example.
    pub(crate) fn list<'s>(&self, n: usize, num_inputs: usize, scratch: &'s mut [i32]) -> &'s [i32]
    where
        'a: 's,
    {
        let ends = (self.starts.get(n), self.starts.get(n.wrapping_add(1)));
        let (Some(&begin), Some(&end)) = ends else {
            return &[];
        };
        let words: &'a [i32] = self.words.get(begin as usize..end as usize).unwrap_or(&[]);
        if words.len() < Self::most_words(num_inputs) {
            return words;
        }
        let octets: &[u8] = cast_slice(words);
        sparse::of_input(&octets[..num_inputs.min(octets.len())], scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_never_longer_than_its_octets_and_names_the_same() {
        let mut rng = fl_rng::Pcg32::on_stream(5, 5);
        for num_inputs in [1, 2, 3, 4, 5, 8, 61, 784] {
            for one_in in [1, 2, 3, 8, 1000] {
                let octet = |_| match rng.below(one_in) {
                    0 => rng.below(256) as u8,
                    _ => 0,
                };
                let input: Vec<u8> = (0..num_inputs).map(octet).collect();
                let mut words = vec![7; Lists::most_words(num_inputs)];
                let len = Lists::write(&input, &mut words).unwrap();
                let lists = Lists {
                    words: &words[..len],
                    starts: &[0, len as u32],
                };
                let [mut found, mut expected] =
                    [(); 2].map(|()| vec![0; sparse::input_entries(num_inputs)]);
                assert_eq!(
                    lists.list(0, num_inputs, &mut found),
                    sparse::of_input(&input, &mut expected)
                );
                assert!(lists.list(1, num_inputs, &mut found).is_empty());
            }
        }
        assert_eq!(Lists::write(&[1; 5], &mut [0]), None);
    }

    #[test]
    fn lists_that_are_nonsense_name_nothing() {
        let mut scratch = [0; 8];
        for starts in [&[][..], &[5], &[3, 1], &[0, 9], &[u32::MAX, u32::MAX]] {
            let lists = Lists {
                words: &[1, 2],
                starts,
            };
            assert!(lists.list(0, 8, &mut scratch).is_empty());
            assert!(lists.list(usize::MAX, 8, &mut scratch).is_empty());
        }
    }
}
