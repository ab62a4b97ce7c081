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

/// Lists that are kept: in each entry the place, and the two octets.
#[derive(Debug)]
pub(crate) struct Packed {
    entries: Vec<u32>,
    ends: Vec<u32>,
}

impl Packed {
    /// Bytes of the lists.
    pub fn bytes(&self) -> usize {
        size_of::<u32>() * (self.entries.len() + self.ends.len())
    }
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

    /// The lists in half of their memory; `None` if a place takes more than 16 bits, or there are too many.
    pub fn pack(&self) -> Option<Packed> {
        let count = self.ends.last().copied().unwrap_or(0);
        let (indices, octets) = (&self.indices[..count], &self.octets[..count]);
        if indices.iter().fold(0, |all, index| all | index) > 0xffff {
            return None;
        }
        let entry = |(index, octets): (&u32, &u32)| index << 16 | octets >> 8 | octets & 0xff;
        let ends = self.ends.iter().map(|&end| u32::try_from(end).ok());
        Some(Packed {
            entries: indices.iter().zip(octets).map(entry).collect(),
            ends: ends.collect::<Option<_>>()?,
        })
    }

    /// Takes packed lists in the place of its own.
    pub fn unpack(&mut self, Packed { entries, ends }: &Packed) {
        self.clear();
        self.ends.extend(ends.iter().map(|&end| end as usize));
        if self.indices.len() < entries.len() {
            self.grow(entries.len());
        }
        let own = self.indices.iter_mut().zip(&mut self.octets);
        for ((index, octets), entry) in own.zip(entries) {
            (*index, *octets) = (entry >> 16, (entry & 0xff00) << 8 | entry & 0xff);
        }
    }

    #[cold]
    fn grow(&mut self, least: usize) {
        let len = least.max(self.indices.len() * 3 / 2);
        self.indices.resize(len, 0);
        self.octets.resize(len, 0);
    }
}
