//! Lists of numbers that are not zero, for the kernels.

/// Entries that a kernel may write beyond the last: one less than the lanes of the widest vector.
const SLACK: usize = 16;

/// Places and values, in the order of the places.
#[derive(Debug, Default)]
pub(crate) struct List {
    indices: Vec<u32>,
    values: Vec<f32>,
    len: usize,
}

impl List {
    /// Empties the list and makes room for `most` entries and [`SLACK`]: where the places go, where the
    /// values, and their number, which is to be set.
    #[inline(always)]
    pub fn begin(&mut self, most: usize) -> (*mut u32, *mut f32, &mut usize) {
        self.len = 0;
        if self.indices.len() < most + SLACK {
            self.grow(most + SLACK);
        }
        let (indices, values) = (&mut self.indices, &mut self.values);
        (indices.as_mut_ptr(), values.as_mut_ptr(), &mut self.len)
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        self.indices.resize(len, 0);
        self.values.resize(len, 0.0);
    }

    #[inline(always)]
    pub fn indices(&self) -> &[u32] {
        &self.indices[..self.len]
    }

    #[inline(always)]
    pub fn values(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

/// Octets as shares of 255.
pub(crate) static SHARES: [f32; 256] = {
    let mut shares = [0.0; 256];
    let mut octet = 0;
    while octet < 256 {
        shares[octet] = octet as f32 / 255.0;
        octet += 1;
    }
    shares
};
