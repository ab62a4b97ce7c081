//! Libraries that an emulator is linked with and no machine of ours uses.
//!
//! The loader relocates them all the same, before the emulator starts: 1.9 MB of memory that every machine
//! has for itself, most of it tables of a disassembler. A jail with a root of its own shows the machines such
//! a library without its relocations and without its code. Its names are all there, so the emulator links as
//! ever. Were it ever called, the machine would end. That the emulator starts so is tried before it is relied on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::elf::{self, Library, tag};

/// Libraries that QEMU uses for logs of instructions (`-d`), persistent memory, migration over RDMA, FUSE exports, D-Bus,
/// filters in the kernel (eBPF), and screens over the network; and for TLS keys on smart cards. Nothing that a
/// board can ask for. What only they need is unused too.
const UNUSED: [&str; 11] = [
    "libcapstone.so",
    "libpmem.so",
    "librdmacm.so",
    "libibverbs.so",
    "libfuse3.so",
    "libgio-2.0.so",
    "libbpf.so",
    "libsasl2.so",
    "libpng16.so",
    "libjpeg.so",
    "libp11-kit.so",
];

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
    let made =
        empty.filter_map(|(path, library)| Some(((*path).clone(), without_code(library).ok()?)));
    made.collect()
}

/// The file with its names, and with zeros instead of all that is behind them.
fn without_code(library: &Library) -> io::Result<Vec<u8>> {
    // Linkers put all that has to do with names before the relocations, in the first segment.
    let names = library.value(tag::RELOCATIONS).ok_or_else(elf::strange)?;
    let table = library
        .entries
        .iter()
        .filter(|entry| (4..=6).contains(&entry[0]));
    if names >= library.dynamic || table.map(|entry| entry[1]).any(|place| place >= names) {
        return Err(elf::strange());
    }
    let mut image = elf::at(&library.file, 0, names as usize)?;
    image.resize(library.bytes as usize, 0);
    for (index, &[tag, value]) in library.entries.iter().enumerate() {
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
        let place = library.dynamic as usize + 16 * index;
        let place = image.get_mut(place..place + 16).ok_or_else(elf::strange)?;
        place[..8].copy_from_slice(&entry[0].to_le_bytes());
        place[8..].copy_from_slice(&entry[1].to_le_bytes());
    }
    Ok(image)
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
        let image = without_code(&libc).unwrap();
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
