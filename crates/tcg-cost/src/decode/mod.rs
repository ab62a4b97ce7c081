//! Instructions by class, as far as the cores' manuals tell their cycles apart.

pub mod riscv;
pub mod thumb;

use crate::totals::Class;

/// End of a run of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next instruction.
    On,
    /// Another one, always.
    Jump,
    /// Another one or this address.
    Branch(u64),
}

/// Edge of what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Begin,
    End,
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    pub class: Class,
    /// Words that one with several loads or stores.
    pub words: u32,
    pub flow: Flow,
    pub mark: Option<Mark>,
}

impl Insn {
    pub fn of(class: Class) -> Self {
        Self {
            class,
            words: 0,
            flow: Flow::On,
            mark: None,
        }
    }

    pub fn many(class: Class, words: u32) -> Self {
        Self {
            words,
            ..Self::of(class)
        }
    }

    pub fn jump(class: Class) -> Self {
        Self {
            flow: Flow::Jump,
            ..Self::of(class)
        }
    }

    pub fn branch(next: u64) -> Self {
        Self {
            flow: Flow::Branch(next),
            ..Self::of(Class::Branch)
        }
    }

    pub fn mark(mark: Mark) -> Self {
        Self {
            mark: Some(mark),
            ..Self::of(Class::Alu)
        }
    }
}

/// Instruction set, by QEMU's name of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Thumb,
    Riscv32,
    /// Counted and not told apart.
    Unknown,
}

impl Isa {
    pub fn of(target: &str) -> Self {
        match target {
            "arm" => Self::Thumb,
            "riscv32" => Self::Riscv32,
            _ => Self::Unknown,
        }
    }

    /// Takes an instruction of two or four octets at an address apart.
    pub fn decode(self, octets: &[u8], at: u64) -> Insn {
        let half = |index: usize| {
            let pair = octets.get(2 * index..2 * index + 2)?;
            Some(u32::from(pair[0]) | u32::from(pair[1]) << 8)
        };
        match (self, half(0), half(1)) {
            (Self::Thumb, Some(first), None) => thumb::short(first, at),
            (Self::Thumb, Some(first), Some(second)) => thumb::long(first, second, at),
            (Self::Riscv32, Some(first), None) => riscv::short(first, at),
            (Self::Riscv32, Some(first), Some(second)) => riscv::long(second << 16 | first, at),
            _ => Insn::of(Class::Other),
        }
    }
}

/// Bits `high` to `low` of a number.
fn bits(x: u32, high: u32, low: u32) -> u32 {
    x >> low & ((1 << (high - low + 1)) - 1)
}
