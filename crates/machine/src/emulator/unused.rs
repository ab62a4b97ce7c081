//! Libraries that an emulator is linked with and no machine of ours uses.
//!
//! The loader relocates them all the same, before the emulator starts: 1.9 MB of memory that every machine
//! has for itself, most of it tables of a disassembler. A jail with a root of its own shows the machines such
//! a library without its relocations and without its code. Its names are all there, so the emulator links as
//! ever. Were it ever called, the machine would end. That the emulator starts so is tried before it is relied on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What QEMU uses for logs of instructions (`-d`), persistent memory, migration over RDMA and FUSE exports:
/// nothing that a board can ask for. What only they need is unused too.
const UNUSED: [&str; 5] = [
    "libcapstone.so",
    "libpmem.so",
    "librdmacm.so",
    "libibverbs.so",
    "libfuse3.so",
];

/// Largest program or library.
const MAX_BYTES: u64 = 1 << 30;

/// Unused libraries among these files, as the loader is to find them.
///
/// A file that is not as expected is left as it is, and so are the libraries it needs.
pub(super) fn emptied(mapped: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = mapped
        .iter()
        .filter_map(|path| Some((path, Library::read(path).ok()?)));
    let libraries: Vec<(&PathBuf, Library)> = read.collect();
    let is_unused = |name: &str| UNUSED.iter().any(|unused| name.starts_with(unused));
    let reached = |from: &dyn Fn(&Library) -> bool, barred: &dyn Fn(&str) -> bool| {
        let mut names = BTreeSet::new();
        let mut next: Vec<&Library> = libraries.iter().map(|(_, one)| one).collect();
        next.retain(|one| from(one));
        while let Some(one) = next.pop() {
            for name in one.needs.iter().filter(|name| !barred(name)) {
                if names.insert(name.as_str()) {
                    let found = libraries.iter().map(|(_, library)| library);
                    next.extend(found.filter(|library| library.name.as_deref() == Some(name)));
                }
            }
        }
        names
    };
    let named = |one: &Library| one.name.as_deref().is_some_and(is_unused);
    let below_unused = reached(&named, &|_| false);
    // The program, modules, and whatever else nobody says to be needed.
    let needed: BTreeSet<&str> = reached(&|_| true, &|_| false);
    let is_root = |one: &Library| {
        one.name
            .as_deref()
            .is_none_or(|name| !needed.contains(name))
    };
    let used = reached(&is_root, &is_unused);
    let is_empty = |one: &Library| {
        one.name.as_deref().is_some_and(|name| {
            !used.contains(name) && (is_unused(name) || below_unused.contains(name))
        })
    };
    let empty = libraries.iter().filter(|(_, library)| is_empty(library));
    let made = empty.filter_map(|(path, library)| Some(((*path).clone(), library.emptied().ok()?)));
    made.collect()
}

/// A program or library as the loader sees it: ELF of 64 bits, the lowest octet first.
struct Library {
    file: File,
    bytes: u64,
    /// Place of the table for the loader, and its entries.
    dynamic: u64,
    entries: Vec<[u64; 2]>,
    name: Option<String>,
    needs: Vec<String>,
}

/// Tags of the table's entries.
mod tag {
    pub const NEEDED: u64 = 1;
    pub const PLT_BYTES: u64 = 2;
    pub const STRINGS: u64 = 5;
    pub const RELOCATIONS: u64 = 7;
    pub const RELOCATION_BYTES: u64 = 8;
    pub const STRING_BYTES: u64 = 10;
    pub const INIT: u64 = 12;
    pub const FINI: u64 = 13;
    pub const NAME: u64 = 14;
    /// Says nothing in a library.
    pub const DEBUG: u64 = 21;
    pub const INIT_ARRAY_BYTES: u64 = 27;
    pub const FINI_ARRAY_BYTES: u64 = 28;
    pub const PACKED_BYTES: u64 = 35;
    pub const RELOCATION_COUNT: u64 = 0x6fff_fff9;
}

impl Library {
    /// Header of the file, and one of a program header.
    const HEADER: usize = 64;
    const SEGMENT: usize = 56;
    const MAX_ENTRIES: usize = 1024;
    const MAX_STRINGS: u64 = 1 << 24;
    const LOADED: u64 = 1;
    const DYNAMIC: u64 = 2;

    fn read(path: &Path) -> io::Result<Self> {
        let file = zfl_files::open(path, MAX_BYTES)?;
        let bytes = file.metadata()?.len();
        let header = at(&file, 0, Self::HEADER)?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Err(strange());
        }
        let (place, count) = (number(&header, 32, 8), number(&header, 56, 2));
        let segments = at(&file, place, count as usize * Self::SEGMENT)?;
        let segments: Vec<&[u8]> = segments.chunks_exact(Self::SEGMENT).collect();
        let of = |kind| {
            let found = segments.iter().filter(move |one| number(one, 0, 4) == kind);
            found.map(|one| [8, 16, 32].map(|field| number(one, field, 8)))
        };
        let [dynamic, _, size] = of(Self::DYNAMIC).next().ok_or_else(strange)?;
        let table = at(&file, dynamic, (size as usize).min(16 * Self::MAX_ENTRIES))?;
        let entries = table.chunks_exact(16);
        let entries = entries.map(|entry| [number(entry, 0, 8), number(entry, 8, 8)]);
        let entries: Vec<[u64; 2]> = entries.take_while(|[tag, _]| *tag != 0).collect();
        let value = |tag| {
            entries
                .iter()
                .find(|entry| entry[0] == tag)
                .map(|entry| entry[1])
        };
        let strings = value(tag::STRINGS).ok_or_else(strange)?;
        let holds = |[_, address, size]: &[u64; 3]| strings.wrapping_sub(*address) < *size;
        let [offset, address, _] = of(Self::LOADED).find(holds).ok_or_else(strange)?;
        let length = value(tag::STRING_BYTES).filter(|&length| length < Self::MAX_STRINGS);
        let length = length.ok_or_else(strange)? as usize;
        let text = at(&file, offset.saturating_add(strings - address), length)?;
        let word = |place: u64| {
            let rest = text.get(usize::try_from(place).ok()?..)?;
            let word = rest.split(|&octet| octet == 0).next()?;
            String::from_utf8(word.to_vec()).ok()
        };
        let needs = entries.iter().filter(|entry| entry[0] == tag::NEEDED);
        Ok(Self {
            name: value(tag::NAME).and_then(word),
            needs: needs.filter_map(|entry| word(entry[1])).collect(),
            file,
            bytes,
            dynamic,
            entries,
        })
    }

    /// The file with its names, and with zeros instead of all that is behind them.
    fn emptied(&self) -> io::Result<Vec<u8>> {
        let relocations = self
            .entries
            .iter()
            .find(|entry| entry[0] == tag::RELOCATIONS);
        // Linkers put all that has to do with names before the relocations, in the first segment.
        let [_, names] = *relocations.ok_or_else(strange)?;
        let table = self
            .entries
            .iter()
            .filter(|entry| (4..=6).contains(&entry[0]));
        if names >= self.dynamic || table.map(|entry| entry[1]).any(|place| place >= names) {
            return Err(strange());
        }
        let mut image = at(&self.file, 0, names as usize)?;
        image.resize(self.bytes as usize, 0);
        for (index, &[tag, value]) in self.entries.iter().enumerate() {
            let entry = match tag {
                tag::PLT_BYTES
                | tag::RELOCATION_BYTES
                | tag::RELOCATION_COUNT
                | tag::PACKED_BYTES
                | tag::INIT_ARRAY_BYTES
                | tag::FINI_ARRAY_BYTES => [tag, 0],
                tag::INIT | tag::FINI => [tag::DEBUG, 0],
                _ => [tag, value],
            };
            let place = self.dynamic as usize + 16 * index;
            let place = image.get_mut(place..place + 16).ok_or_else(strange)?;
            place[..8].copy_from_slice(&entry[0].to_le_bytes());
            place[8..].copy_from_slice(&entry[1].to_le_bytes());
        }
        Ok(image)
    }
}

fn at(file: &File, place: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place)?;
    Ok(bytes)
}

/// The number of up to eight octets at a place that is there.
fn number(bytes: &[u8], place: usize, length: usize) -> u64 {
    let octets = bytes[place..place + length].iter().rev();
    octets.fold(0, |number, &octet| number << 8 | u64::from(octet))
}

fn strange() -> io::Error {
    io::Error::other("not a library of the usual form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_only_an_unused_one_needs_is_emptied_with_it_and_its_names_stay() {
        let own = super::super::needs::mapped(std::process::id()).unwrap();
        let libraries = own.iter().filter(|path| Library::read(path).is_ok());
        // This test's program needs libc, and nobody's list of the unused names it.
        assert!(libraries.count() >= 2, "{own:?}");
        assert!(emptied(&own).is_empty());
        let path = own.iter().find(|path| {
            let name = Library::read(path).ok().and_then(|one| one.name);
            name.is_some_and(|name| name.starts_with("libc.so"))
        });
        let libc = Library::read(path.unwrap()).unwrap();
        let image = libc.emptied().unwrap();
        assert_eq!(image.len() as u64, libc.bytes);
        let pages = image
            .chunks(4096)
            .filter(|page| page.iter().any(|&octet| octet != 0));
        assert!(pages.count() * 4096 < image.len() / 4);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("libc.so");
        std::fs::write(&copy, image).unwrap();
        let copy = Library::read(&copy).unwrap();
        assert_eq!((copy.name, copy.needs), (libc.name, libc.needs));
        let sizes = [tag::RELOCATION_BYTES, tag::INIT_ARRAY_BYTES];
        assert!(
            copy.entries
                .iter()
                .all(|entry| !sizes.contains(&entry[0]) || entry[1] == 0)
        );
    }

    #[test]
    fn what_is_no_library_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let header = |name: &str, more: &[u8]| {
            let path = folder.path().join(name);
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.extend(more);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let short = header("short", &[]);
        let huge = header("huge", &[0xff; 200]);
        assert!(emptied(&[short, huge].into()).is_empty());
    }
}
