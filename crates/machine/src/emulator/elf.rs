//! Programs and libraries as the loader sees them: ELF of 64 bits, the lowest octet first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Largest program or library.
const MAX_BYTES: u64 = 1 << 30;

/// Tags of the entries in the table for the loader.
pub(super) mod tag {
    pub const NEEDED: u64 = 1;
    pub const PLT_BYTES: u64 = 2;
    pub const STRINGS: u64 = 5;
    pub const SYMBOLS: u64 = 6;
    pub const RELOCATIONS: u64 = 7;
    pub const RELOCATION_BYTES: u64 = 8;
    pub const STRING_BYTES: u64 = 10;
    pub const INIT: u64 = 12;
    pub const FINI: u64 = 13;
    pub const NAME: u64 = 14;
    /// Says nothing in a library.
    pub const DEBUG: u64 = 21;
    pub const PLT_RELOCATIONS: u64 = 23;
    pub const INIT_ARRAY_BYTES: u64 = 27;
    pub const FINI_ARRAY_BYTES: u64 = 28;
    pub const PACKED_BYTES: u64 = 35;
    pub const RELOCATION_COUNT: u64 = 0x6fff_fff9;
}

/// Part of a file that belongs at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub kind: u64,
    pub offset: u64,
    pub address: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// A program or library.
pub(super) struct Library {
    pub file: File,
    pub bytes: u64,
    pub segments: Vec<Segment>,
    /// Place of the table for the loader in the file, and its entries: tag and value.
    pub dynamic: u64,
    pub entries: Vec<[u64; 2]>,
    pub name: Option<String>,
    pub needs: Vec<String>,
}

impl Library {
    /// Bytes of the file's header, and of a segment's.
    pub const HEADER: usize = 64;
    pub const SEGMENT: usize = 56;
    const MAX_ENTRIES: usize = 1024;
    const MAX_STRINGS: u64 = 1 << 24;
    const LOADED: u64 = 1;
    const DYNAMIC: u64 = 2;

    /// Reads what the loader reads first.
    ///
    /// # Errors
    /// If the file is something else, or not of the usual form.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = zfl_files::open(path, MAX_BYTES)?;
        let bytes = file.metadata()?.len();
        let header = at(&file, 0, Self::HEADER)?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Err(strange());
        }
        let (place, count) = (number(&header, 32, 8), number(&header, 56, 2));
        let segments = at(&file, place, count as usize * Self::SEGMENT)?;
        let segments: Vec<Segment> = segments
            .chunks_exact(Self::SEGMENT)
            .map(|one| Segment {
                kind: number(one, 0, 4),
                offset: number(one, 8, 8),
                address: number(one, 16, 8),
                bytes: number(one, 32, 8),
            })
            .collect();
        let dynamic = segments.iter().find(|one| one.kind == Self::DYNAMIC);
        let dynamic = *dynamic.ok_or_else(strange)?;
        let length = (dynamic.bytes as usize).min(16 * Self::MAX_ENTRIES);
        let table = at(&file, dynamic.offset, length)?;
        let entries = table.chunks_exact(16);
        let entries = entries.map(|entry| [number(entry, 0, 8), number(entry, 8, 8)]);
        let mut library = Self {
            file,
            bytes,
            segments,
            dynamic: dynamic.offset,
            entries: entries.take_while(|[tag, _]| *tag != 0).collect(),
            name: None,
            needs: Vec::new(),
        };
        library.read_names()?;
        Ok(library)
    }

    fn read_names(&mut self) -> io::Result<()> {
        let strings = self.value(tag::STRINGS).and_then(|at| self.offset(at));
        let length = self.value(tag::STRING_BYTES);
        let length = length.filter(|&length| length < Self::MAX_STRINGS);
        let (strings, length) = (strings.ok_or_else(strange)?, length.ok_or_else(strange)?);
        let text = at(&self.file, strings, length as usize)?;
        let word = |place: u64| {
            let rest = text.get(usize::try_from(place).ok()?..)?;
            let word = rest.split(|&octet| octet == 0).next()?;
            String::from_utf8(word.to_vec()).ok()
        };
        let needs = self.entries.iter().filter(|entry| entry[0] == tag::NEEDED);
        self.needs = needs.filter_map(|entry| word(entry[1])).collect();
        self.name = self.value(tag::NAME).and_then(word);
        Ok(())
    }

    /// Value of the first entry with a tag.
    pub fn value(&self, tag: u64) -> Option<u64> {
        let found = self.entries.iter().find(|entry| entry[0] == tag);
        found.map(|entry| entry[1])
    }

    /// Place in the file of what belongs at an address.
    pub fn offset(&self, address: u64) -> Option<u64> {
        let loaded = self.segments.iter().filter(|one| one.kind == Self::LOADED);
        let mut places = loaded.filter_map(|one| {
            let within = address.checked_sub(one.address)?;
            (within < one.bytes).then(|| one.offset.checked_add(within))?
        });
        places.next()
    }
}

/// Bytes of a file.
pub(super) fn at(file: &File, place: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place)?;
    Ok(bytes)
}

/// The number of up to eight octets at a place that is there.
fn number(bytes: &[u8], place: usize, length: usize) -> u64 {
    let octets = bytes[place..place + length].iter().rev();
    octets.fold(0, |number, &octet| number << 8 | u64::from(octet))
}

pub(super) fn strange() -> io::Error {
    io::Error::other("not a program or library of the usual form")
}
