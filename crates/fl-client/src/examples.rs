//! The client's examples, as the device holds them.

use crate::port::Examples;
use alloc::sync::Arc;
use alloc::vec::Vec;
use fl_nn::{Inputs, Lists};

/// The client's partition, shared between the device and its job. The examples held out are the last.
#[derive(Debug)]
pub(crate) struct Partition {
    pub inputs: InputStore,
    /// `[num_examples + holdout]`.
    pub labels: Vec<u8>,
    /// Examples to train on.
    num_examples: usize,
    /// Place of them, of a body that has them in memory; nothing else is there then.
    pub view: Option<Arc<dyn Examples>>,
}

impl Partition {
    /// A view on examples to train on and held out, if it is of so many, or room for them; `None` if there is not
    /// enough.
    pub fn new(
        (num_examples, holdout): (usize, usize),
        num_inputs: usize,
        view: Option<Arc<dyn Examples>>,
    ) -> Option<Self> {
        let all = num_examples.checked_add(holdout)?;
        let octets = all.checked_mul(num_inputs)?;
        let is_whole = |view: &Arc<dyn Examples>| (view.octets(), view.len()) == (octets, all);
        let view = view.filter(is_whole);
        let all = if view.is_some() { 0 } else { all };
        let mut labels = Vec::new();
        labels.try_reserve_exact(all).ok()?;
        Some(Self {
            inputs: InputStore::new(all, num_inputs, Inputs::LISTED)?,
            labels,
            num_examples,
            view,
        })
    }

    /// The examples in memory of their own, for one round; `None` if there is not enough.
    pub fn at_hand(self: &Arc<Self>) -> Option<Arc<Self>> {
        let Some(view) = &self.view else {
            return Some(Arc::clone(self));
        };
        let held_out = view.len().checked_sub(self.num_examples)?;
        let num_inputs = self.inputs.num_inputs;
        let mut own = Self::new((self.num_examples, held_out), num_inputs, None)?;
        view.give(&mut |input, label| {
            own.inputs.push(input);
            own.labels.push(label);
        });
        Some(Arc::new(own))
    }

    /// Examples to train on.
    pub fn num_examples(&self) -> usize {
        self.num_examples
    }

    /// Inputs and labels to train on.
    pub fn training(&self) -> (Inputs<'_>, &[u8]) {
        let at = self.num_examples.min(self.labels.len());
        (self.inputs.range(0, at), &self.labels[..at])
    }

    /// Inputs and labels held out.
    pub fn holdout(&self) -> (Inputs<'_>, &[u8]) {
        let (at, end) = (self.num_examples.min(self.labels.len()), self.labels.len());
        (self.inputs.range(at, end), &self.labels[at..])
    }
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
    words: Vec<i32>,
    /// Start of each list, and the end of the last one.
    starts: Vec<u32>,
}

impl InputStore {
    fn new(num_examples: usize, num_inputs: usize, is_listed: bool) -> Option<Self> {
        let mut store = Self {
            num_inputs,
            is_listed,
            octets: Vec::new(),
            words: Vec::new(),
            starts: Vec::new(),
        };
        if is_listed {
            let words = num_examples.checked_mul(Lists::most_words(num_inputs))?;
            u32::try_from(words).ok()?;
            store.octets.try_reserve_exact(num_inputs).ok()?;
            store.words.try_reserve_exact(words).ok()?;
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

    /// Forgets all.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.words.clear();
        self.starts.clear();
    }

    /// Takes the next octets; no more than there is room for, or memory grows.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if !self.is_listed {
            return self.octets.extend_from_slice(bytes);
        }
        while !bytes.is_empty() {
            let missing = self.num_inputs.saturating_sub(self.octets.len()).max(1);
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            self.octets.extend_from_slice(part);
            bytes = rest;
            if self.octets.len() >= self.num_inputs {
                self.list_example();
            }
        }
    }

    /// Lists the example that has arrived.
    fn list_example(&mut self) {
        let begin = self.words.len();
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.words
            .resize(begin + Lists::most_words(self.num_inputs), 0);
        let len = Lists::write(&self.octets, &mut self.words[begin..]).unwrap_or(0);
        self.words.truncate(begin + len);
        // Fits: so many words at most were reserved.
        self.starts.push((begin + len) as u32);
        self.octets.clear();
    }

    /// Inputs of the examples from `begin` to `end`.
    fn range(&self, begin: usize, end: usize) -> Inputs<'_> {
        if self.is_listed {
            let starts = self.starts.get(begin..=end).unwrap_or(&[]);
            let words = &self.words[..];
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
                [true, false].map(|is_listed| InputStore::new(6, num_inputs, is_listed).unwrap());
            for store in &mut stores {
                assert!(store.is_empty());
                store.push(&octets[..5]);
                assert!(!store.is_empty());
                store.clear();
                octets.chunks(step).for_each(|bytes| store.push(bytes));
            }
            let [listed, plain] = &stores;
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
