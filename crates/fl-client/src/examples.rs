//! The client's examples, as the device holds them.

use crate::port::{Examples, Flash};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use fl_nn::{Inputs, Lists, View};

/// The client's partition, shared between the device and its job. The examples held out are the last.
#[derive(Debug)]
pub(crate) struct Partition {
    pub inputs: InputStore,
    /// `[num_examples + holdout]`; of a view only while there is work on them.
    pub labels: Vec<u8>,
    /// Examples to train on.
    num_examples: usize,
    /// The examples of a body that has them in memory.
    pub view: Option<Arc<dyn Examples>>,
}

impl Partition {
    /// A view on examples to train on and held out, if it is of so many, or room for them; `None` if there is not
    /// enough.
    pub fn new(
        (num_examples, holdout): (usize, usize),
        num_inputs: usize,
        source: Source,
    ) -> Option<Self> {
        let Source { view, flash } = source;
        let all = num_examples.checked_add(holdout)?;
        let is_whole = |view: &Arc<dyn Examples>| {
            let (inputs, labels) = view.set();
            inputs.len() == labels.len().saturating_mul(num_inputs)
                && view.places().map(<[u32]>::len) == [num_examples, holdout]
        };
        let view = view.filter(is_whole);
        let all = if view.is_some() { 0 } else { all };
        let mut labels = Vec::new();
        labels.try_reserve_exact(all).ok()?;
        Some(Self {
            inputs: InputStore::new(all, num_inputs, Inputs::LISTED, flash)?,
            labels,
            num_examples,
            view,
        })
    }

    /// The examples with the labels of a view, for one round; `None` if there is no memory for those.
    pub fn at_hand(self: &Arc<Self>) -> Option<Arc<Self>> {
        let Some(view) = &self.view else {
            return Some(Arc::clone(self));
        };
        let (places, (_, all)) = (view.places(), view.set());
        let mut labels = Vec::new();
        labels
            .try_reserve_exact(places.iter().map(|part| part.len()).sum())
            .ok()?;
        for &place in places.into_iter().flatten() {
            labels.push(*all.get(place as usize)?);
        }
        Some(Arc::new(Self {
            inputs: InputStore::new(0, self.inputs.num_inputs, Inputs::LISTED, None)?,
            labels,
            num_examples: self.num_examples,
            view: Some(Arc::clone(view)),
        }))
    }

    /// Examples to train on.
    pub fn num_examples(&self) -> usize {
        self.num_examples
    }

    /// Inputs and labels to train on.
    pub fn training(&self) -> (Inputs<'_>, &[u8]) {
        let at = self.num_examples.min(self.labels.len());
        (self.some_inputs(0, 0..at), &self.labels[..at])
    }

    /// Inputs and labels held out.
    pub fn holdout(&self) -> (Inputs<'_>, &[u8]) {
        let (at, end) = (self.num_examples.min(self.labels.len()), self.labels.len());
        (self.some_inputs(1, at..end), &self.labels[at..])
    }

    /// Inputs of one of the two parts, which is so far in memory of the device's own.
    fn some_inputs(&self, part: usize, range: Range<usize>) -> Inputs<'_> {
        match &self.view {
            Some(view) => View {
                octets: view.set().0,
                places: view.places()[part],
                shelf: view.shelf().filter(|_| part == 0),
            }
            .into(),
            None => self.inputs.range(range.start, range.end),
        }
    }
}

/// Places of examples besides memory of the device's own.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// View on the examples, of a body that has them in memory.
    pub view: Option<Arc<dyn Examples>>,
    /// Flash for the lists of their inputs.
    pub flash: Option<Box<dyn Flash>>,
}

/// Inputs of all examples: listed as they arrive ([`Lists`]), or octets where a host trains.
///
/// The memory is reserved as if no octet were zero, and used as far as the lists go.
#[derive(Debug)]
pub(crate) struct InputStore {
    num_inputs: usize,
    is_listed: bool,
    /// All octets; of listed inputs those of the example that is arriving.
    octets: Vec<u8>,
    /// Lists; with flash that which is being made.
    words: Vec<i32>,
    /// Lists that are made, of a body with flash for them.
    flash: Option<Box<dyn Flash>>,
    /// Start of each list, and the end of the last one.
    starts: Vec<u32>,
}

impl InputStore {
    fn new(
        num_examples: usize,
        num_inputs: usize,
        is_listed: bool,
        flash: Option<Box<dyn Flash>>,
    ) -> Option<Self> {
        let mut store = Self {
            num_inputs,
            is_listed,
            octets: Vec::new(),
            words: Vec::new(),
            flash: flash.filter(|_| is_listed),
            starts: Vec::new(),
        };
        if is_listed {
            let one = Lists::most_words(num_inputs);
            let words = num_examples.checked_mul(one)?;
            u32::try_from(words).ok()?;
            store.octets.try_reserve_exact(num_inputs).ok()?;
            let in_ram = match &mut store.flash {
                Some(flash) if flash.capacity() < words => return None,
                Some(flash) => {
                    flash.clear();
                    one.min(words)
                }
                None => words,
            };
            store.words.try_reserve_exact(in_ram).ok()?;
            store
                .starts
                .try_reserve_exact(num_examples.checked_add(1)?)
                .ok()?;
        } else {
            let octets = num_examples.checked_mul(num_inputs)?;
            store.octets.try_reserve_exact(octets).ok()?;
        }
        Some(store)
    }

    /// True if nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.starts.is_empty()
    }

    /// True if the lists lie in flash.
    pub fn is_in_flash(&self) -> bool {
        self.flash.is_some()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.words.clear();
        self.starts.clear();
        if let Some(flash) = &mut self.flash {
            flash.clear();
        }
    }

    /// Takes the next octets, no more than there is room for, or memory grows; `false` if the flash does not take them.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        if !self.is_listed {
            self.octets.extend_from_slice(bytes);
            return true;
        }
        while !bytes.is_empty() {
            let missing = self.num_inputs.saturating_sub(self.octets.len()).max(1);
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            self.octets.extend_from_slice(part);
            bytes = rest;
            if self.octets.len() >= self.num_inputs && !self.list_example() {
                return false;
            }
        }
        true
    }

    /// Lists the example that has arrived; `false` if the flash does not take it.
    fn list_example(&mut self) -> bool {
        let begin = self.words.len();
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.words
            .resize(begin + Lists::most_words(self.num_inputs), 0);
        let len = Lists::write(&self.octets, &mut self.words[begin..]).unwrap_or(0);
        self.words.truncate(begin + len);
        if let Some(flash) = &mut self.flash {
            let is_taken = flash.append(&self.words);
            self.words.clear();
            if !is_taken {
                return false;
            }
        }
        // Fits: so many words at most were reserved.
        self.starts.push(self.lists().len() as u32);
        self.octets.clear();
        true
    }

    /// Words of the lists that are made.
    fn lists(&self) -> &[i32] {
        self.flash
            .as_ref()
            .map_or(&self.words, |flash| flash.words())
    }

    /// Inputs of the examples from `begin` to `end`.
    fn range(&self, begin: usize, end: usize) -> Inputs<'_> {
        if self.is_listed {
            let starts = self.starts.get(begin..=end).unwrap_or(&[]);
            let words = self.lists();
            return Lists { words, starts }.into();
        }
        let octets = self
            .octets
            .get(begin * self.num_inputs..end * self.num_inputs);
        octets.unwrap_or(&[]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flash of 24 words.
    #[derive(Debug, Default)]
    struct Chip(Vec<i32>);

    impl Flash for Chip {
        fn capacity(&self) -> usize {
            24
        }

        fn clear(&mut self) {
            self.0.clear();
        }

        fn append(&mut self, words: &[i32]) -> bool {
            // Nothing is written to a worn page.
            let takes = !words.contains(&WORN);
            self.0.extend(words.iter().filter(|_| takes));
            takes
        }

        fn words(&self) -> &[i32] {
            &self.0
        }
    }

    const WORN: i32 = -1;

    #[test]
    fn what_flash_has_no_room_for_is_refused_and_what_it_does_not_take_is_told() {
        let chip = || Some(Box::new(Chip::default()) as Box<dyn Flash>);
        assert!(InputStore::new(6, 16, true, chip()).is_some());
        assert!(InputStore::new(7, 16, true, chip()).is_none());
        let mut store = InputStore::new(2, 4, true, chip()).unwrap();
        assert!(store.is_in_flash() && store.push(&[1; 4]));
        assert!(!store.push(&[0xff; 4]));
        store.clear();
        assert!(store.lists().is_empty() && store.push(&[1; 4]));
    }

    /// However the octets arrive, either form names the same examples, and lists take less memory than octets.
    #[test]
    fn lists_hold_the_octets_that_arrived() {
        let num_inputs = 13;
        let octets: Vec<u8> = (0..6 * num_inputs)
            .map(|at| {
                if at % 5 == 0 || at < num_inputs {
                    at as u8 + 1
                } else {
                    0
                }
            })
            .collect();
        for step in [1, 7, 13, 40, 78] {
            let mut stores =
                [(true, false), (false, false), (true, true)].map(|(is_listed, in_flash)| {
                    let flash = in_flash.then(|| Box::new(Chip::default()) as Box<dyn Flash>);
                    InputStore::new(6, num_inputs, is_listed, flash).unwrap()
                });
            for store in &mut stores {
                assert!(store.is_empty());
                store.push(&octets[..5]);
                assert!(!store.is_empty());
                store.clear();
                assert!(octets.chunks(step).all(|bytes| store.push(bytes)));
            }
            let [listed, plain, in_flash] = &stores;
            assert_eq!(in_flash.lists(), listed.lists());
            assert_eq!(in_flash.starts, listed.starts);
            assert!(in_flash.words.capacity() == 4);
            let Inputs::Lists(lists) = listed.range(2, 6) else {
                panic!()
            };
            let Inputs::Octets(same) = plain.range(2, 6) else {
                panic!()
            };
            assert_eq!((lists.starts.len(), same), (5, &octets[2 * num_inputs..]));
            let own = lists.starts.windows(2).zip(same.chunks(num_inputs));
            for (ends, octets) in own {
                let mut words = [0; 4];
                let len = Lists::write(octets, &mut words).unwrap();
                assert_eq!(
                    lists.words[ends[0] as usize..ends[1] as usize],
                    words[..len]
                );
            }
            assert!(4 * listed.words.len() < octets.len());
            assert!(listed.words.capacity() == 6 * 4);
        }
    }
}
