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
    /// Empties the list and makes room for `most` entries and [`SLACK`].
    pub fn begin(&mut self, most: usize) -> (&mut [u32], &mut [f32], &mut usize) {
        if self.indices.len() < most + SLACK {
            self.indices.resize(most + SLACK, 0);
            self.values.resize(most + SLACK, 0.0);
        }
        self.len = 0;
        (&mut self.indices, &mut self.values, &mut self.len)
    }

    pub fn indices(&self) -> &[u32] {
        &self.indices[..self.len]
    }

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
