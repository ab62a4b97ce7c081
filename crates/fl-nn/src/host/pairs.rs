//! Pairs of octets and pairs of integers, for exact sums ([`crate::kernels::fixed`]).

/// Entries that a kernel may write beyond the last.
const SLACK: usize = 16;

/// A pair of rows of sixteen columns ([`crate::kernels::quantise::Pair`]), in a cache line of its own.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [i32; 16]);

/// Lists of the pairs of neighbouring octets that are not both zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    /// Places of the pairs, ascending in each list.
    indices: Vec<u32>,
    /// The pairs: the first octet in the low half.
    octets: Vec<u32>,
    ends: Vec<usize>,
}

impl Pairs {
    /// Forgets all lists.
    pub fn clear(&mut self) {
        self.ends.clear();
    }

    /// Lists there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Begins a list of at most `most` entries: where its places go, and where its pairs.
    #[inline(always)]
    pub fn begin(&mut self, most: usize) -> (*mut u32, *mut u32) {
        let begin = self.ends.last().copied().unwrap_or(0);
        if self.indices.len() < begin + most + SLACK {
            self.grow(begin + most + SLACK);
        }
        let (indices, octets) = (&mut self.indices[begin..], &mut self.octets[begin..]);
        (indices.as_mut_ptr(), octets.as_mut_ptr())
    }

    /// Ends the list that was begun.
    #[inline(always)]
    pub fn end(&mut self, count: usize) {
        let begin = self.ends.last().copied().unwrap_or(0);
        self.ends.push(begin + count);
    }

    /// Places and pairs of list `n`.
    #[inline(always)]
    pub fn get(&self, n: usize) -> (&[u32], &[u32]) {
        let begin = if n == 0 { 0 } else { self.ends[n - 1] };
        let range = begin..self.ends[n];
        (&self.indices[range.clone()], &self.octets[range])
    }

    #[cold]
    fn grow(&mut self, least: usize) {
        let len = least.max(self.indices.len() * 3 / 2);
        self.indices.resize(len, 0);
        self.octets.resize(len, 0);
    }
}
