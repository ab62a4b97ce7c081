//! A message that is put together from its tiles.

use crate::packet::{MAX_MESSAGE_BYTES, MAX_WINDOWS, TILE_BYTES, WINDOW_TILES};
use crc::{CRC_32_ISO_HDLC, Crc, Table};
use heapless::Vec;

/// The checksum of RFC 8724, section 8.2.3: CRC-32 of Ethernet.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Name of a message by its content: the same name is the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// In octets, from 1 to [`MAX_MESSAGE_BYTES`].
    pub length: u32,
    /// CRC-32 over the whole.
    pub crc: u32,
}

impl Name {
    /// Name of a message; `None` if it is empty or too long to have one.
    pub fn of(message: &[u8]) -> Option<Self> {
        (1..=MAX_MESSAGE_BYTES)
            .contains(&message.len())
            .then(|| Self {
                length: message.len() as u32,
                crc: CRC.checksum(message),
            })
    }

    /// Tiles of the message.
    pub fn tiles(&self) -> usize {
        (self.length as usize).div_ceil(TILE_BYTES)
    }

    /// Octets of one of its tiles.
    pub(crate) fn tile(&self, tile: usize) -> Option<core::ops::Range<usize>> {
        let start = tile * TILE_BYTES;
        let end = (self.length as usize).min(start + TILE_BYTES);
        (tile < self.tiles()).then_some(start..end)
    }
}

/// Message of at most `N` octets as far as it has come, for one name.
///
/// It stays as it is when a transfer breaks off: the message of the same name goes on from there. A body
/// with storage may keep it over a reboot.
#[derive(Clone, Debug, Default)]
pub struct Assembly<const N: usize> {
    name: Option<Name>,
    octets: Vec<u8, N>,
    come: [u64; MAX_WINDOWS],
}

impl<const N: usize> Assembly<N> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            name: None,
            octets: Vec::new(),
            come: [0; MAX_WINDOWS],
        }
    }

    /// Begins a message, or goes on with it if it has the name of the last one; false if it does not fit.
    pub fn begin(&mut self, name: Name) -> bool {
        let length = name.length as usize;
        if length == 0 || length > N.min(MAX_MESSAGE_BYTES) {
            return false;
        }
        if self.name != Some(name) {
            self.name = Some(name);
            self.clear();
        }
        true
    }

    /// Forgets every tile of the message.
    pub fn clear(&mut self) {
        self.come = [0; MAX_WINDOWS];
        self.octets.clear();
        let length = self.name.map_or(0, |name| name.length as usize);
        // It fits: `begin` saw to that.
        _ = self.octets.resize(length, 0);
    }

    /// Forgets the message.
    pub fn reset(&mut self) {
        self.name = None;
        self.clear();
    }

    /// Takes in a tile, whatever is behind it; false if it is none of this message or has come before.
    pub fn put(&mut self, tile: usize, octets: &[u8]) -> bool {
        let Some(range) = self.name.and_then(|name| name.tile(tile)) else {
            return false;
        };
        let (window, bit) = (tile / WINDOW_TILES, 1 << (tile % WINDOW_TILES));
        let Some(octets) = octets.get(..range.len()) else {
            return false;
        };
        if self.come[window] & bit != 0 {
            return false;
        }
        self.octets[range].copy_from_slice(octets);
        self.come[window] |= bit;
        true
    }

    /// True if every tile has come.
    pub fn is_whole(&self) -> bool {
        self.name.is_some_and(|_| self.first_window().is_none())
    }

    /// The message, if it is whole and has its CRC-32.
    pub fn message(&self) -> Option<&[u8]> {
        let name = self.name.filter(|_| self.is_whole())?;
        (CRC.checksum(&self.octets) == name.crc).then_some(&self.octets)
    }

    /// Tiles that have come.
    pub fn tiles(&self) -> u32 {
        self.come.iter().map(|bits| bits.count_ones()).sum()
    }

    /// The first window that lacks a tile.
    pub(crate) fn first_window(&self) -> Option<usize> {
        let windows = self.name?.tiles().div_ceil(WINDOW_TILES);
        (0..windows).find(|&window| self.bitmap(window) != u64::MAX)
    }

    /// Bitmap of a window; tiles that there are not count as come.
    pub(crate) fn bitmap(&self, window: usize) -> u64 {
        let tiles = self.name.map_or(0, |name| name.tiles());
        let own = tiles
            .saturating_sub(window * WINDOW_TILES)
            .min(WINDOW_TILES);
        let behind = u64::MAX.checked_shl(own as u32).unwrap_or(0);
        self.come.get(window).map_or(u64::MAX, |come| come | behind)
    }
}
