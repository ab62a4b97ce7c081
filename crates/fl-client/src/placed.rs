//! One value on the heap, where there may be no memory for it.

use alloc::vec::Vec;

/// A value on the heap. A large one stays there: a device has little stack.
pub(crate) struct Placed<T>(Vec<T>);

impl<T> Placed<T> {
    /// Puts a value on the heap; the value itself if there is no memory for it.
    pub fn new(value: T) -> Result<Self, T> {
        let mut place = Vec::new();
        if place.try_reserve_exact(1).is_err() {
            return Err(value);
        }
        place.push(value);
        Ok(Self(place))
    }

    /// The value, to look at and to change. Never `None`, since [`Placed::new`] put one there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.first_mut()
    }
}
