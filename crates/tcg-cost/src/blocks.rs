//! Blocks of a guest's code: what each holds by class, and the sums over those that ran between two marks.

use crate::decode::{Flow, Isa, Mark};
use crate::totals::{
    CLASSES, Class, INSTRUCTIONS, LOAD_WORDS, NAMES, REGIONS, STORE_WORDS, TAKEN, Totals,
};
use std::collections::HashMap;

/// Instruction as QEMU has it: its address and its octets.
pub type Raw = (u64, Vec<u8>);

/// Run of instructions that are executed together, from one place of a block to the next mark or the end.
struct Block {
    /// Counts of what it holds, by place in [`NAMES`].
    holds: Vec<(usize, u64)>,
    /// Address after the branch that it ends with.
    next: Option<u64>,
}

/// Piece of a translated block with a counter of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Place of its first instruction in the block.
    pub at: usize,
    /// Its counter.
    pub slot: usize,
    /// Mark that its first instruction is.
    pub mark: Option<Mark>,
}

/// All blocks that were ever translated.
pub struct Blocks {
    isa: Isa,
    blocks: Vec<Block>,
    index: HashMap<(u64, bool, Vec<u8>), usize>,
    /// Blocks that QEMU enters at an address.
    starts: HashMap<u64, Vec<usize>>,
    /// Counters when the region began.
    before: Option<Vec<u64>>,
}

impl Blocks {
    pub fn new(isa: Isa) -> Self {
        Self {
            isa,
            blocks: Vec::new(),
            index: HashMap::new(),
            starts: HashMap::new(),
            before: None,
        }
    }

    /// Number of counters so far.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Takes a translated block apart. The same code at the same address has the same counters again.
    pub fn pieces(&mut self, block: &[Raw]) -> Vec<Piece> {
        let marks: Vec<Option<Mark>> = block
            .iter()
            .map(|(at, octets)| self.isa.decode(octets, *at).mark)
            .collect();
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < block.len() {
            // A piece that begins with the mark of a beginning holds nothing else.
            let rest = &marks[at + 1..];
            let length = match marks[at] {
                Some(Mark::Begin) => 1,
                _ => 1 + rest.iter().position(Option::is_some).unwrap_or(rest.len()),
            };
            let slot = self.slot(&block[at..at + length], at == 0);
            let mark = marks[at];
            pieces.push(Piece { at, slot, mark });
            at += length;
        }
        pieces
    }

    fn slot(&mut self, run: &[Raw], is_first: bool) -> usize {
        let start = run.first().map_or(0, |(at, _)| *at);
        let octets = run.iter().flat_map(|(_, octets)| octets).copied().collect();
        let fresh = self.blocks.len();
        let slot = *self.index.entry((start, is_first, octets)).or_insert(fresh);
        if slot == fresh {
            self.blocks.push(Block::of(self.isa, run));
            if is_first {
                self.starts.entry(start).or_default().push(slot);
            }
        }
        slot
    }

    /// Begins a region, given the counters.
    pub fn begin(&mut self, counters: Vec<u64>) {
        self.before = Some(counters);
    }

    /// Ends a region, and adds what ran in it.
    pub fn end(&mut self, counters: &[u64], totals: &mut Totals) {
        let Some(before) = self.before.take() else {
            return;
        };
        let ran = |slot: usize| {
            let before = before.get(slot).copied().unwrap_or(0);
            counters
                .get(slot)
                .map_or(0, |&now| now.wrapping_sub(before))
        };
        for (slot, block) in self.blocks.iter().enumerate() {
            let times = ran(slot);
            if times == 0 {
                continue;
            }
            for &(place, count) in &block.holds {
                totals[place] += times * count;
            }
            if let Some(next) = block.next {
                // Those that did not branch went on to the block behind; nearly nothing else comes there.
                let behind = self.starts.get(&next).into_iter().flatten();
                let not_taken: u64 = behind.map(|&slot| ran(slot)).sum();
                totals[TAKEN] += times.saturating_sub(not_taken);
            }
        }
        totals[REGIONS] += 1;
    }
}

impl Block {
    fn of(isa: Isa, run: &[Raw]) -> Self {
        let mut counts = [0; NAMES.len()];
        let (mut after_memory, mut next) = (false, None);
        for (at, octets) in run {
            let insn = isa.decode(octets, *at);
            let follows = insn.class == Class::Load && after_memory;
            after_memory = matches!(insn.class, Class::Load | Class::Store);
            let class = match follows {
                true => Class::LoadNext,
                false => insn.class,
            };
            counts[class as usize] += 1;
            counts[INSTRUCTIONS] += 1;
            match insn.class {
                Class::LoadMany => counts[LOAD_WORDS] += u64::from(insn.words),
                Class::StoreMany => counts[STORE_WORDS] += u64::from(insn.words),
                _ => {}
            }
            match insn.flow {
                Flow::On => {}
                // One that also loads has no class of its own for the jump.
                Flow::Jump if insn.class != Class::Jump => counts[TAKEN] += 1,
                Flow::Jump => {}
                Flow::Branch(behind) => next = Some(behind),
            }
        }
        debug_assert!(counts[..CLASSES].iter().sum::<u64>() == counts[INSTRUCTIONS]);
        let holds = counts.into_iter().enumerate();
        Self {
            holds: holds.filter(|(_, count)| *count > 0).collect(),
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code of Thumb instructions of two octets.
    fn code(start: u64, halves: &[u16]) -> Vec<Raw> {
        let at = |index: usize| start + 2 * index as u64;
        let halves = halves.iter().enumerate();
        halves
            .map(|(index, half)| (at(index), half.to_le_bytes().to_vec()))
            .collect()
    }

    const BEGIN: u16 = 0x46db;
    const END: u16 = 0x46d2;
    const ADD: u16 = 0x1840;
    const LOAD: u16 = 0x6808;
    const BNE: u16 = 0xd1fe;

    #[test]
    fn a_loop_between_marks_is_counted_with_its_branches() {
        let mut blocks = Blocks::new(Isa::Thumb);
        let head = blocks.pieces(&code(0, &[ADD, BEGIN, LOAD]));
        let body = blocks.pieces(&code(6, &[LOAD, LOAD, ADD, BNE]));
        let tail = blocks.pieces(&code(14, &[ADD, END, ADD]));
        let slots = |pieces: &[Piece]| pieces.iter().map(|piece| piece.slot).collect::<Vec<_>>();
        assert_eq!(slots(&head), [0, 1, 2]);
        assert_eq!((slots(&body), slots(&tail)), (vec![3], vec![4, 5]));
        assert_eq!(head[1].mark, Some(Mark::Begin));
        assert_eq!(tail[1].mark, Some(Mark::End));
        // The block up to the mark ran before it; what follows runs after.
        let mut totals = [0; NAMES.len()];
        blocks.begin(vec![1, 0, 0, 0, 0, 0]);
        blocks.end(&[1, 1, 1, 10, 1, 0], &mut totals);
        let of = |name: &str| totals[NAMES.iter().position(|one| *one == name).unwrap()];
        // The mark itself, a load, ten times the loop, an addition.
        assert_eq!(of("instructions"), 1 + 1 + 40 + 1);
        assert_eq!((of("load"), of("load-next")), (11, 10));
        assert_eq!((of("branch"), of("taken")), (10, 9));
        assert_eq!(of("regions"), 1);
    }

    #[test]
    fn code_that_is_translated_again_keeps_its_counters() {
        let mut blocks = Blocks::new(Isa::Thumb);
        let first = blocks.pieces(&code(0, &[ADD, BNE]));
        assert_eq!(blocks.pieces(&code(0, &[ADD, BNE])), first);
        assert_ne!(blocks.pieces(&code(0, &[LOAD, BNE])), first);
        assert_eq!(blocks.len(), 2);
    }

    #[test]
    fn an_end_without_a_beginning_counts_nothing() {
        let mut blocks = Blocks::new(Isa::Thumb);
        blocks.pieces(&code(0, &[ADD]));
        let mut totals = [0; NAMES.len()];
        blocks.end(&[5], &mut totals);
        assert_eq!(totals, [0; NAMES.len()]);
    }
}
