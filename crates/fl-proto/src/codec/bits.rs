//! Streams of bits, least significant first: the machinery of the codecs whose numbers are no whole octets.

use super::{Cursor, Plan};

/// Bits under way between symbols and octets: fewer than eight that wait, and one symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    buffer: u64,
    held: u32,
}

impl Bits {
    fn put(&mut self, value: u32, width: u32) {
        self.buffer |= (u64::from(value) & low(width)) << self.held;
        self.held += width;
    }

    fn take(&mut self, width: u32) -> Option<u32> {
        self.held = self.held.checked_sub(width)?;
        let value = (self.buffer & low(width)) as u32;
        self.buffer >>= width;
        Some(value)
    }

    /// Bits that are missing to a whole octet, if only bits of one begun octet are held.
    pub(super) fn to_octet(self) -> u32 {
        self.held.wrapping_neg() % 8
    }

    /// Bits of a begun octet that have not been taken, before the next octet comes.
    pub(super) fn rest(self) -> u32 {
        self.held
    }

    /// True if nothing waits.
    pub(super) fn is_empty(self) -> bool {
        self.held == 0
    }
}

/// The lowest `width` bits, up to 32.
fn low(width: u32) -> u64 {
    (1 << width.min(32)) - 1
}

/// A symbol: its value, and its width of 1 to 32 bits.
pub(super) type Symbol = (u32, u32);

/// The symbols of one codec, in both directions. Between two calls all memory is the cursor's.
pub(super) trait Symbols {
    /// The next symbol to write; `None` at the end.
    fn next(&self, plan: &Plan<'_>, numbers: &[f32], cursor: &mut Cursor) -> Option<Symbol>;

    /// Width of the next symbol to read; 0 at the end.
    fn width(&self, numbers: &[f32], cursor: &Cursor) -> u32;

    /// Takes in a symbol of that width; `None` if no writer writes it.
    fn take(&self, symbol: Symbol, cursor: &mut Cursor, numbers: &mut [f32]) -> Option<()>;
}

/// Writes octets while there is room and a symbol is left; returns their number.
pub(super) fn write(
    symbols: &impl Symbols,
    plan: &Plan<'_>,
    numbers: &[f32],
    cursor: &mut Cursor,
    octets: &mut [u8],
) -> usize {
    let mut written = 0;
    loop {
        while let Some(octet) = cursor.bits.take(8) {
            let Some(slot) = octets.get_mut(written) else {
                cursor.bits.unread(octet);
                return written;
            };
            *slot = octet as u8;
            written += 1;
        }
        let Some((value, width)) = symbols.next(plan, numbers, cursor) else {
            return written;
        };
        cursor.bits.put(value, width);
    }
}

/// Reads all octets; returns their number.
pub(super) fn read(
    symbols: &impl Symbols,
    octets: &[u8],
    cursor: &mut Cursor,
    numbers: &mut [f32],
) -> Option<usize> {
    for octet in octets {
        if symbols.width(numbers, cursor) == 0 {
            return None;
        }
        cursor.bits.put(u32::from(*octet), 8);
        loop {
            let width = symbols.width(numbers, cursor);
            if width == 0 {
                break;
            }
            let Some(value) = cursor.bits.take(width) else {
                break;
            };
            symbols.take((value, width), cursor, numbers)?;
        }
    }
    Some(octets.len())
}

impl Bits {
    /// Puts an octet back in front of the others.
    fn unread(&mut self, octet: u32) {
        self.buffer = self.buffer << 8 | u64::from(octet);
        self.held += 8;
    }
}
