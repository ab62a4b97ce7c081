//! Parameters of a model in memory.

use crate::job::resize;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// Octets of a cache line. A host trains in vectors of one: an eighth faster where few of them lie across two.
const LINE: usize = 64;

/// Numbers that are left out to begin with a line; a device has no memory for that.
const SPARE: usize = if cfg!(feature = "host") { 15 } else { 0 };

/// A vector of parameters.
#[derive(Debug, Default)]
pub(crate) struct Params {
    room: Vec<f32>,
    begin: usize,
}

impl Params {
    /// Takes memory for so many, all zero; `false` if there is not enough.
    pub fn resize(&mut self, len: usize) -> bool {
        let has_room = resize(&mut self.room, len + SPARE);
        self.begin = match SPARE {
            0 => 0,
            most => self.room.as_ptr().align_offset(LINE).min(most),
        };
        has_room
    }
}

impl Deref for Params {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let len = self.room.len().saturating_sub(SPARE);
        self.room.get(self.begin..self.begin + len).unwrap_or(&[])
    }
}

impl DerefMut for Params {
    fn deref_mut(&mut self) -> &mut [f32] {
        let len = self.room.len().saturating_sub(SPARE);
        let all = self.begin..self.begin + len;
        self.room.get_mut(all).unwrap_or(&mut [])
    }
}

#[cfg(test)]
mod tests {
    use super::Params;

    #[test]
    fn as_many_as_asked_for_and_on_a_host_from_the_begin_of_a_line_on() {
        let mut params = Params::default();
        assert!(params.is_empty());
        for len in [1, 7, 13_000, 3] {
            assert!(params.resize(len));
            assert_eq!(params.len(), len);
            params.fill(1.0);
            if cfg!(feature = "host") && !cfg!(miri) {
                assert_eq!(params.as_ptr().align_offset(super::LINE), 0);
            }
        }
    }
}
