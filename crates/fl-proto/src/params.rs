//! Parameters to and from little-endian bytes, in pieces of any length.

/// Turns bytes, in pieces as they arrive, into parameters.
#[derive(Clone, Debug, Default)]
pub struct ParamDecoder {
    decoded: usize,
    partial: [u8; 4],
    partial_len: usize,
}

impl ParamDecoder {
    /// Starts at parameter 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parameters decoded so far.
    pub fn decoded(&self) -> usize {
        self.decoded
    }

    /// Decodes `bytes` behind what came before; `false` if `params` has no room for them.
    #[must_use]
    pub fn push(&mut self, mut bytes: &[u8], params: &mut [f32]) -> bool {
        while self.partial_len > 0 && self.partial_len < 4 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return true;
            };
            self.partial[self.partial_len] = byte;
            self.partial_len += 1;
            bytes = rest;
        }
        if self.partial_len == 4 {
            let Some(slot) = params.get_mut(self.decoded) else {
                return false;
            };
            *slot = f32::from_le_bytes(self.partial);
            self.decoded += 1;
            self.partial_len = 0;
        }
        let (words, tail) = bytes.as_chunks::<4>();
        let Some(slots) = params
            .get_mut(self.decoded..)
            .and_then(|s| s.get_mut(..words.len()))
        else {
            return false;
        };
        for (slot, word) in slots.iter_mut().zip(words) {
            *slot = f32::from_le_bytes(*word);
        }
        self.decoded += words.len();
        self.partial[..tail.len()].copy_from_slice(tail);
        self.partial_len = tail.len();
        true
    }

    /// Whether exactly `count` parameters and no stray byte came.
    pub fn is_complete(&self, count: usize) -> bool {
        self.decoded == count && self.partial_len == 0
    }
}

/// Turns parameters into bytes, a buffer at a time.
#[derive(Clone, Debug, Default)]
pub struct ParamEncoder {
    next: usize,
}

impl ParamEncoder {
    /// Starts at parameter 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `buffer` with the next whole parameters, returns the bytes written; 0 at the end.
    pub fn fill(&mut self, params: &[f32], buffer: &mut [u8]) -> usize {
        let rest = params.get(self.next..).unwrap_or(&[]);
        let (slots, _) = buffer.as_chunks_mut::<4>();
        let n = rest.len().min(slots.len());
        for (slot, param) in slots.iter_mut().zip(rest) {
            *slot = param.to_le_bytes();
        }
        self.next += n;
        4 * n
    }
}
