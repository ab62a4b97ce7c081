//! Storage of a device: what stays on it from round to round, also when it reboots.
//!
//! Two *slots* lie one behind the other. Each holds the personal part of one round: what stays of the model,
//! then the vectors that nobody else has. A training goes on from the slot of one round and is written to the
//! other, so that the state that the aggregator counts is there whatever happens meanwhile.
//!
//! # Layout of a slot
//! A multiple of [`BLOCK`] octets, little endian: a header of 64 octets, then the numbers.
//!
//! ```text
//!  0  4  magic    "zflk"
//!  4  4  crc      CRC-32/ISO-HDLC of octets 8..64 and of the numbers
//!  8  4  round    the round at whose end it was so
//! 12  4  client   the client's ID
//! 16  8  seed     the experiment's seed
//! 24  4  count    numbers
//! 28 24  rule     name of the client rule, padded with zeros
//! 52 12  reserved 0
//! 64     numbers  f32
//! ```
//!
//! A slot that is half written has a wrong checksum, and is none.

use crate::buffers::Buffers;
use crate::job::resize;
use alloc::vec::Vec;
use core::fmt;
use fl_proto::message::Checksum;

/// Octets that are read and written at a time: places and lengths are multiples of it.
pub const BLOCK: usize = 512;

const MAGIC: &[u8; 4] = b"zflk";
const HEADER: usize = 64;

/// Octets behind those that the checksum itself takes.
const CHECKED: usize = 8;

/// Blocks moved at once.
const PIECE: usize = 8 * BLOCK;

/// Storage that keeps what was written when the device reboots.
pub trait Storage {
    /// Its size.
    fn octets(&self) -> u64;

    /// Reads whole blocks.
    ///
    /// # Errors
    /// [`StorageError`].
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), StorageError>;

    /// Writes whole blocks.
    ///
    /// # Errors
    /// [`StorageError`].
    fn write(&mut self, at: u64, octets: &[u8]) -> Result<(), StorageError>;

    /// Waits until what was written stays.
    ///
    /// # Errors
    /// [`StorageError`].
    fn flush(&mut self) -> Result<(), StorageError>;
}

/// Reason why storage does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// It has fewer octets than two slots take.
    TooSmall,
    /// It failed.
    Broken,
    /// It has no state of that round.
    NoState,
    /// The device has no memory to move a block.
    OutOfMemory,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSmall => "the storage is too small",
            Self::Broken => "the storage is broken",
            Self::NoState => "nothing of that round is stored",
            Self::OutOfMemory => "no memory to move a block",
        })
    }
}

impl core::error::Error for StorageError {}

/// Owner of what is stored: a slot of another one is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The client.
    pub client: u32,
    /// Seed of the experiment.
    pub seed: u64,
    /// Name of the client rule.
    pub rule: &'a str,
    /// Numbers of the personal part.
    pub count: u32,
}

/// Octets of storage for a personal part of so many numbers.
pub fn octets(count: u32) -> u64 {
    2 * slot_octets(count)
}

fn slot_octets(count: u32) -> u64 {
    (HEADER as u64 + 4 * u64::from(count)).next_multiple_of(BLOCK as u64)
}

/// Rounds whose state is whole, by slot.
///
/// # Errors
/// [`StorageError`].
pub fn rounds(
    storage: &mut dyn Storage,
    owner: Owner<'_>,
) -> Result<[Option<u32>; 2], StorageError> {
    let mut slots = Slots::new(storage, owner)?;
    Ok([slots.round(0)?, slots.round(1)?])
}

/// Takes the personal part of `round` into the buffers, which are of no round if that fails.
pub(crate) fn load(
    storage: &mut dyn Storage,
    owner: Owner<'_>,
    round: u32,
    buffers: &mut Buffers,
) -> Result<(), StorageError> {
    let mut slots = Slots::new(storage, owner)?;
    for slot in [0, 1] {
        if slots.round(slot)? == Some(round) {
            slots.read(slot, buffers)?;
            buffers.personal_arrived(round);
            return Ok(());
        }
    }
    Err(StorageError::NoState)
}

/// Writes the personal part of `round` beside that of round `before`, from which it comes.
pub(crate) fn save(
    storage: &mut dyn Storage,
    owner: Owner<'_>,
    (round, before): (u32, u32),
    buffers: &Buffers,
) -> Result<(), StorageError> {
    let mut slots = Slots::new(storage, owner)?;
    let slot = match [slots.round(0)?, slots.round(1)?] {
        [Some(first), _] if first == before => 1,
        [_, Some(second)] if second == before => 0,
        // The state from which it comes is not there: the older of what is.
        [first, second] => u64::from(first > second),
    };
    slots.write(slot, round, buffers)
}

/// Two slots on a storage, and memory to move blocks.
struct Slots<'a> {
    storage: &'a mut dyn Storage,
    owner: Owner<'a>,
    piece: Vec<u8>,
}

impl<'a> Slots<'a> {
    fn new(storage: &'a mut dyn Storage, owner: Owner<'a>) -> Result<Self, StorageError> {
        if storage.octets() < octets(owner.count) {
            return Err(StorageError::TooSmall);
        }
        let mut piece = Vec::new();
        match resize(&mut piece, PIECE) {
            true => Ok(Self {
                storage,
                owner,
                piece,
            }),
            false => Err(StorageError::OutOfMemory),
        }
    }

    /// The round of a slot, if it is whole and of this owner.
    fn round(&mut self, slot: u64) -> Result<Option<u32>, StorageError> {
        let mut header = [0; HEADER];
        let mut checksum = Checksum::default();
        self.pieces(slot, |first, octets| {
            if first == 0 {
                header.copy_from_slice(&octets[..HEADER]);
            }
            let checked = if first == 0 { CHECKED } else { 0 };
            checksum.update(&octets[checked..]);
        })?;
        let at = |from: usize| {
            [
                header[from],
                header[from + 1],
                header[from + 2],
                header[from + 3],
            ]
        };
        let round = u32::from_le_bytes(at(8));
        let is_own = header == self.header(round, u32::from_le_bytes(at(4)));
        let is_whole = checksum.finish() == u32::from_le_bytes(at(4));
        Ok((is_own && is_whole).then_some(round))
    }

    /// Reads a slot, piece by piece: the place of its first octet, and the octets that count.
    fn pieces(
        &mut self,
        slot: u64,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<(), StorageError> {
        let begin = slot * slot_octets(self.owner.count);
        let length = HEADER + 4 * self.owner.count as usize;
        for first in (0..length).step_by(PIECE) {
            let counts = (length - first).min(PIECE);
            let octets = &mut self.piece[..counts.next_multiple_of(BLOCK)];
            self.storage.read(begin + first as u64, octets)?;
            take(first, &octets[..counts]);
        }
        Ok(())
    }

    fn read(&mut self, slot: u64, buffers: &mut Buffers) -> Result<(), StorageError> {
        let mut numbers = buffers.personal_mut();
        self.pieces(slot, |first, octets| {
            let begin = if first == 0 { HEADER } else { 0 };
            for octets in octets[begin..].chunks_exact(4) {
                if let Some(number) = numbers.next() {
                    *number = f32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]);
                }
            }
        })
    }

    fn write(&mut self, slot: u64, round: u32, buffers: &Buffers) -> Result<(), StorageError> {
        let mut checksum = Checksum::default();
        checksum.update(&self.header(round, 0)[CHECKED..]);
        for number in buffers.personal() {
            checksum.update(&number.to_le_bytes());
        }
        let header = self.header(round, checksum.finish());
        let begin = slot * slot_octets(self.owner.count);
        let mut numbers = buffers.personal();
        let length = HEADER + 4 * self.owner.count as usize;
        for first in (0..length).step_by(PIECE) {
            let counts = (length - first).min(PIECE);
            let octets = &mut self.piece[..counts.next_multiple_of(BLOCK)];
            octets.fill(0);
            let places = octets[..counts].chunks_exact_mut(4);
            let skipped = if first == 0 { HEADER / 4 } else { 0 };
            for (place, number) in places.skip(skipped).zip(&mut numbers) {
                place.copy_from_slice(&number.to_le_bytes());
            }
            if first == 0 {
                octets[..HEADER].copy_from_slice(&header);
            }
            self.storage.write(begin + first as u64, octets)?;
        }
        self.storage.flush()
    }

    fn header(&self, round: u32, crc: u32) -> [u8; HEADER] {
        let Owner {
            client,
            seed,
            rule,
            count,
        } = self.owner;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header[8..12].copy_from_slice(&round.to_le_bytes());
        header[12..16].copy_from_slice(&client.to_le_bytes());
        header[16..24].copy_from_slice(&seed.to_le_bytes());
        header[24..28].copy_from_slice(&count.to_le_bytes());
        let name = header[28..52].iter_mut().zip(rule.bytes());
        name.for_each(|(place, octet)| *place = octet);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_algo::{LocalRule, Sizes};
    use fl_nn::{Activation, Model, Shape};
    use std::vec;

    /// Parameters of the model: more than one piece.
    const COUNT: usize = 2_000;

    const OWNER: Owner<'_> = Owner {
        client: 3,
        seed: 7,
        rule: "ditto",
        count: COUNT as u32,
    };

    /// Storage in memory, whose power fails after so many blocks.
    struct Ram {
        octets: Vec<u8>,
        blocks_left: usize,
    }

    impl Ram {
        fn new() -> Self {
            Self {
                octets: vec![0; octets(OWNER.count) as usize],
                blocks_left: usize::MAX,
            }
        }
    }

    impl Storage for Ram {
        fn octets(&self) -> u64 {
            self.octets.len() as u64
        }

        fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), StorageError> {
            let from = self.octets.get(at as usize..).ok_or(StorageError::Broken)?;
            into.copy_from_slice(from.get(..into.len()).ok_or(StorageError::Broken)?);
            Ok(())
        }

        fn write(&mut self, at: u64, octets: &[u8]) -> Result<(), StorageError> {
            for (at, block) in (at as usize..).step_by(BLOCK).zip(octets.chunks(BLOCK)) {
                if self.blocks_left == 0 {
                    // The power fails amid a block.
                    self.octets[at..][..BLOCK / 2].copy_from_slice(&block[..BLOCK / 2]);
                    return Err(StorageError::Broken);
                }
                self.blocks_left -= 1;
                self.octets[at..][..BLOCK].copy_from_slice(block);
            }
            Ok(())
        }

        fn flush(&mut self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    /// Buffers whose personal part is all of this number.
    fn buffers(number: f32) -> Buffers {
        let shape = Shape::new(&[COUNT / 10 - 1, 10]).unwrap();
        let mut rule = LocalRule::named("ditto", Sizes::from(&shape)).unwrap();
        rule.prepare([]).unwrap();
        let model = Model::new(shape, Activation::Relu);
        let mut buffers = Buffers::new(&model, rule).unwrap();
        buffers.personal_mut().for_each(|place| *place = number);
        buffers
    }

    /// Number of the state of a round, if there is that state.
    fn number(ram: &mut Ram, round: u32) -> Result<f32, StorageError> {
        let mut found = buffers(f32::NAN);
        load(ram, OWNER, round, &mut found)?;
        let first = *found.personal().next().unwrap();
        assert!(found.personal().all(|number| *number == first));
        Ok(first)
    }

    #[test]
    fn the_state_that_counts_is_there_whenever_the_power_fails() {
        let blocks = octets(OWNER.count) as usize / BLOCK / 2;
        // Miri takes its time: before the first block, and never.
        let step = if cfg!(miri) { blocks } else { 1 };
        for fails_after in (0..=blocks).step_by(step) {
            let mut ram = Ram::new();
            save(&mut ram, OWNER, (2, 0), &buffers(2.0)).unwrap();
            save(&mut ram, OWNER, (3, 2), &buffers(3.0)).unwrap();
            ram.blocks_left = fails_after;
            let saved = save(&mut ram, OWNER, (5, 3), &buffers(5.0));
            assert_eq!(saved.is_ok(), fails_after == blocks, "{fails_after}");
            assert_eq!(number(&mut ram, 3), Ok(3.0), "{fails_after}");
            assert_eq!(number(&mut ram, 5).is_ok(), saved.is_ok(), "{fails_after}");
            assert_eq!(number(&mut ram, 2), Err(StorageError::NoState));
        }
    }

    #[test]
    fn the_state_that_a_round_came_from_outlives_rounds_that_did_not_count() {
        let mut ram = Ram::new();
        save(&mut ram, OWNER, (1, 0), &buffers(1.0)).unwrap();
        for lost in 2..5 {
            save(&mut ram, OWNER, (lost, 1), &buffers(9.0)).unwrap();
            assert_eq!(number(&mut ram, 1), Ok(1.0));
        }
        let stored = rounds(&mut ram, OWNER).unwrap();
        assert_eq!(stored, [Some(1), Some(4)]);
    }

    #[test]
    fn a_slot_of_another_owner_or_with_a_bit_turned_is_none() {
        let mut ram = Ram::new();
        save(&mut ram, OWNER, (4, 0), &buffers(4.0)).unwrap();
        let others = [
            Owner { client: 2, ..OWNER },
            Owner { seed: 8, ..OWNER },
            Owner {
                rule: "fedper",
                ..OWNER
            },
            Owner {
                count: 1_999,
                ..OWNER
            },
        ];
        for other in others {
            assert_eq!(rounds(&mut ram, other), Ok([None, None]), "{other:?}");
        }
        assert_eq!(rounds(&mut ram, OWNER), Ok([Some(4), None]));
        for at in [0, 5, 9, HEADER - 1, HEADER, HEADER + 4 * COUNT - 1] {
            ram.octets[at] ^= 1;
            assert_eq!(rounds(&mut ram, OWNER), Ok([None, None]), "octet {at}");
            ram.octets[at] ^= 1;
        }
    }

    #[test]
    fn storage_that_is_too_small_is_refused() {
        let mut ram = Ram::new();
        ram.octets.truncate(octets(OWNER.count) as usize - BLOCK);
        let refused = save(&mut ram, OWNER, (1, 0), &buffers(1.0));
        assert_eq!(refused, Err(StorageError::TooSmall));
        assert_eq!(octets(0), 2 * BLOCK as u64);
    }
}
