//! Moments at which those of a row have something to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Time of each of a row, and who is first.
#[derive(Debug)]
pub(super) struct Wakes {
    /// An entry that is not its time any more is passed over.
    all: BinaryHeap<Reverse<(u64, usize)>>,
    at_us: Vec<u64>,
}

impl Wakes {
    /// A row of which nobody has something to do.
    pub fn new(count: usize) -> Self {
        Self {
            all: BinaryHeap::new(),
            at_us: vec![u64::MAX; count],
        }
    }

    /// The first time.
    pub fn next_us(&mut self) -> Option<u64> {
        while let Some(&Reverse((at_us, number))) = self.all.peek() {
            if self.at_us[number] == at_us {
                return Some(at_us);
            }
            self.all.pop();
        }
        None
    }

    /// Takes away who is first.
    pub fn pop(&mut self) -> Option<usize> {
        self.next_us()?;
        let Reverse((_, number)) = self.all.pop()?;
        self.at_us[number] = u64::MAX;
        Some(number)
    }

    /// Notes the time of one, not before now, since time never goes back; `u64::MAX` if it has nothing to do.
    pub fn set(&mut self, number: usize, wake_us: u64, now_us: u64) {
        let at_us = wake_us.max(now_us);
        if self.at_us[number] != at_us {
            self.at_us[number] = at_us;
            if at_us < u64::MAX {
                self.all.push(Reverse((at_us, number)));
            }
        }
    }
}
