//! Lists that outlast a training: of devices that train on the same examples in each of their rounds.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use super::pairs::{Packed, Pairs};

/// Lists of many trainings on one set, by a number of the caller's for the examples of each, while there is room.
///
/// Nobody takes them out: whoever comes first keeps them, and the results are the same with and without.
#[derive(Debug)]
pub struct Shelf {
    /// Bytes that are free.
    room: AtomicUsize,
    places: Vec<[OnceLock<Packed>; 2]>,
}

/// Use of some lists.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Inputs,
    Columns,
}

impl Shelf {
    /// A shelf with `places` for at most so many bytes of lists.
    pub fn new(places: usize, bytes: usize) -> Self {
        Self {
            room: AtomicUsize::new(bytes),
            places: (0..places).map(|_| Default::default()).collect(),
        }
    }

    /// Copies the lists of a place into `lists`, which has none; `false` if none are kept.
    pub(super) fn take(&self, place: usize, of: Use, lists: &mut Pairs) -> bool {
        let slot = self.places.get(place).map(|slots| &slots[of as usize]);
        let kept = slot.and_then(OnceLock::get);
        kept.inspect(|kept| lists.unpack(kept)).is_some()
    }

    /// Keeps the lists of a place, if there is room.
    pub(super) fn keep(&self, place: usize, of: Use, lists: &Pairs) {
        let slot = self.places.get(place).map(|slots| &slots[of as usize]);
        let Some((slot, packed)) = slot.zip(lists.pack()) else {
            return;
        };
        let take = |room: usize| room.checked_sub(packed.bytes());
        let (order, room) = (Ordering::Relaxed, &self.room);
        if room.fetch_update(order, order, take).is_ok() {
            // Of two that come at once the first one's stay; they are the same.
            let _ = slot.set(packed);
        }
    }
}
