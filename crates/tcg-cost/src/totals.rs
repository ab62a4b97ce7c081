//! Totals by class, and the page in which the host finds them.
//!
//! The page names what it counts, so that host and plugin of different versions do not misread each other: the octets
//! `ZFLCOST1`, then an entry of 32 octets for each name: the name, padded with zeros to 24, and its count in the
//! processor's own order. An empty name ends the list.

/// Beginning of the page.
pub const MAGIC: [u8; 8] = *b"ZFLCOST1";

/// Octets of an entry's name, and of an entry.
pub const NAME_BYTES: usize = 24;
pub const ENTRY_BYTES: usize = 32;

/// Size of the page.
pub const PAGE_BYTES: usize = 4096;

macro_rules! classes {
    ($($class:ident $name:literal,)*) => {
        /// Class of instructions that take the same number of cycles.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Class { $($class,)* }

        /// Names of the classes, then of the counts that are no classes.
        pub const NAMES: &[&str] = &[$($name,)* "load-words", "store-words", "taken", "instructions", "regions"];
        /// Number of the classes.
        pub const CLASSES: usize = [$($name),*].len();
    };
}

classes! {
    Alu "alu",
    Mul "mul",
    MulAdd "mul-add",
    MulLong "mul-long",
    MulLongAdd "mul-long-add",
    DualMulAdd "dual-mul-add",
    Simd "simd",
    Div "div",
    Load "load",
    LoadNext "load-next",
    LoadMany "load-many",
    Store "store",
    StoreMany "store-many",
    Jump "jump",
    Branch "branch",
    It "it",
    FpAdd "fp-add",
    FpMul "fp-mul",
    FpMulAdd "fp-mul-add",
    FpDiv "fp-div",
    FpMove "fp-move",
    FpOther "fp-other",
    Atomic "atomic",
    Other "other",
}

/// Places of the counts that are no classes.
pub const LOAD_WORDS: usize = CLASSES;
pub const STORE_WORDS: usize = CLASSES + 1;
pub const TAKEN: usize = CLASSES + 2;
pub const INSTRUCTIONS: usize = CLASSES + 3;
pub const REGIONS: usize = CLASSES + 4;

/// Counts by place in [`NAMES`].
pub type Totals = [u64; NAMES.len()];

/// Writes the page as it is before anything was counted.
pub fn prepare(page: &mut [u8; PAGE_BYTES]) {
    page[..8].copy_from_slice(&MAGIC);
    for (index, name) in NAMES.iter().enumerate() {
        let at = entry(index);
        page[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
}

/// Place of an entry in the page.
pub fn entry(index: usize) -> usize {
    MAGIC.len() + index * ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_fit_their_page() {
        assert!(NAMES.iter().all(|name| name.len() < NAME_BYTES));
        assert!(entry(NAMES.len() + 1) <= PAGE_BYTES);
        let mut page = [0; PAGE_BYTES];
        prepare(&mut page);
        assert_eq!(&page[8..11], b"alu");
        assert_eq!(&page[entry(TAKEN)..][..5], b"taken");
        assert_eq!(NAMES[REGIONS], "regions");
    }
}
