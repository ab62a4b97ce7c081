//! The part of the flash that is the examples', behind the image: pages are erased as the words reach them, words are
//! written once.
//!
//! A machine of QEMU has memory there that may be written like any: it keeps the rules of flash here, not its times
//! and its wear.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use core::{ptr, slice};

use fl_client::Flash;

use crate::arch::EXAMPLES;

/// Words of a page that is erased at once: those of an nRF52840.
const PAGE_WORDS: usize = 1024;

/// A word that is erased: writing turns ones into zeros.
const ERASED: i32 = -1;

static IS_HELD: AtomicBool = AtomicBool::new(false);

/// Words that it holds.
fn all_words() -> usize {
    EXAMPLES.len() / size_of::<i32>()
}

/// Bytes that it holds; `None` if the board has no flash for examples.
pub fn bytes() -> Option<u64> {
    (all_words() > 0).then_some((all_words() * size_of::<i32>()) as u64)
}

/// The flash of the examples, which one at a time holds.
#[derive(Debug)]
pub struct ExampleFlash {
    /// Words that are written.
    len: usize,
    /// Words that are erased.
    erased: usize,
}

impl ExampleFlash {
    /// Takes it; `None` if there is none, or somebody holds it.
    pub fn take() -> Option<Self> {
        let is_free = all_words() > 0 && !IS_HELD.swap(true, Ordering::Relaxed);
        is_free.then_some(Self { len: 0, erased: 0 })
    }

    /// Words from one place to another.
    fn range(&mut self, words: Range<usize>) -> &mut [i32] {
        let most = all_words();
        let words = words.start.min(most)..words.end.min(most);
        let start = ptr::with_exposed_provenance_mut::<i32>(EXAMPLES.start);
        // SAFETY: inside of the region, which the board has for this alone, and whose only holder is borrowed.
        unsafe { slice::from_raw_parts_mut(start.add(words.start), words.len()) }
    }
}

impl Drop for ExampleFlash {
    fn drop(&mut self) {
        IS_HELD.store(false, Ordering::Relaxed);
    }
}

impl Flash for ExampleFlash {
    fn capacity(&self) -> usize {
        all_words()
    }

    fn clear(&mut self) {
        (self.len, self.erased) = (0, 0);
    }

    fn append(&mut self, words: &[i32]) -> bool {
        let place = self.len..self.len + words.len();
        if place.end > all_words() {
            return false;
        }
        while self.erased < place.end {
            let page = self.erased..self.erased + PAGE_WORDS;
            self.range(page.clone()).fill(ERASED);
            self.erased = page.end;
        }
        self.len = place.end;
        let written = self.range(place);
        for (place, word) in written.iter_mut().zip(words) {
            *place &= word;
        }
        // Read back: a worn page does not hold what was written.
        written == words
    }

    fn words(&self) -> &[i32] {
        let start = ptr::with_exposed_provenance::<i32>(EXAMPLES.start);
        // SAFETY: as above, and so many words are written.
        unsafe { slice::from_raw_parts(start, self.len) }
    }
}
