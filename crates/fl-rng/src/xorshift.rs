//! Xorshift: jitter that costs a device almost nothing.

/// Xorshift of 32 bits, Marsaglia 2003: <https://doi.org/10.18637/jss.v008.i14>.
///
/// For waiting times only. A result of a run is never drawn from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xorshift32 {
    state: u32,
}

impl Xorshift32 {
    /// The generator of `seed`; any number will do.
    pub fn new(seed: u32) -> Self {
        // The state must not be 0, from where the generator never moves.
        Self {
            state: seed.wrapping_mul(0x9e37_79b9) | 1,
        }
    }

    /// 32 bits, never all zero.
    pub fn next_u32(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state
    }
}
