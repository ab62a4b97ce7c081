//! An emulator at a place that is chosen once for all machines of a run.
//!
//! The loader puts a program anywhere, and for that writes addresses into 2 MB of tables: memory that every
//! machine then has for itself. Here they are written once, into a copy of the program in the machines' jail.
//! The place is drawn anew for every run, so that a guest that breaks out cannot know it from another one;
//! libraries, stack and heap lie elsewhere in every machine, as ever. That the copy starts is tried before it is
//! relied on. The formats: *System V ABI*, chapters 4 and 5, and its supplement for x86-64.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;

use super::elf::{self, Library, tag};

/// Lowest place, where Linux puts programs too, and the pages above it to choose from.
const LOWEST: u64 = 0x5555_0000_0000;
const PAGES: u64 = 1 << 28;
const PAGE_BYTES: u64 = 4096;

/// Tags of entries that are addresses.
const ADDRESSES: [u64; 15] = [
    3,
    4,
    tag::STRINGS,
    tag::SYMBOLS,
    tag::RELOCATIONS,
    tag::INIT,
    tag::FINI,
    tag::PLT_RELOCATIONS,
    25,
    26,
    32,
    0x6fff_fef5,
    0x6fff_fff0,
    0x6fff_fffc,
    0x6fff_fffe,
];

/// Entry of flags, and the flag of a program that may lie anywhere.
const FLAGS: u64 = 0x6fff_fffb;
const ANYWHERE: u64 = 0x0800_0000;

/// Kinds of relocations of x86-64: the place's own shift, and the one that calls code with an address.
const RELATIVE: u64 = 8;
const CALLED: u64 = 37;
/// The others that are understood: an address or a number of a symbol, with nothing of the program's place in it.
const OF_SYMBOLS: [u64; 6] = [1, 5, 6, 7, 16, 18];

/// The program, put at a place drawn for this call.
///
/// # Errors
/// If it is not for x86-64, already has a place, or has something that is not understood.
pub(super) fn placed(program: &Path) -> io::Result<Vec<u8>> {
    let draw = RandomState::new().build_hasher().finish();
    at(program, LOWEST + draw % PAGES * PAGE_BYTES)
}

fn at(program: &Path, place: u64) -> io::Result<Vec<u8>> {
    let library = Library::read(program)?;
    let bytes = elf::at(&library.file, 0, library.bytes as usize)?;
    let mut image = Image {
        bytes,
        place,
        applied: 0,
    };
    image.put_header(&library)?;
    image.relocate(&library)?;
    image.move_symbols(&library)?;
    image.move_entries(&library)?;
    Ok(image.bytes)
}

struct Image {
    bytes: Vec<u8>,
    place: u64,
    /// Relocations that are applied, the first of the table.
    applied: u64,
}

impl Image {
    const RELOCATION: u64 = 24;

    fn number<const BYTES: usize>(&self, at: u64) -> io::Result<u64> {
        let rest = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..));
        let octets: &[u8; BYTES] = rest
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(elf::strange)?;
        let number = octets.iter().rev();
        Ok(number.fold(0, |number, &octet| number << 8 | u64::from(octet)))
    }

    fn write(&mut self, at: u64, number: u64) -> io::Result<()> {
        let at = usize::try_from(at).ok();
        let rest = at.and_then(|at| self.bytes.get_mut(at..));
        let octets = rest
            .and_then(<[u8]>::first_chunk_mut)
            .ok_or_else(elf::strange)?;
        *octets = number.to_le_bytes();
        Ok(())
    }

    /// Moves the address at a place of the file.
    fn shift(&mut self, at: u64) -> io::Result<()> {
        let moved = self.number::<8>(at)?.wrapping_add(self.place);
        self.write(at, moved)
    }

    /// Says in the header that the program has its place, and the segments theirs.
    fn put_header(&mut self, library: &Library) -> io::Result<()> {
        const KIND: u64 = 16;
        const MOVABLE_X86_64: u64 = 62 << 16 | 3;
        const ENTRY: u64 = 24;
        const SEGMENTS: u64 = 32;
        if self.number::<4>(KIND)? != MOVABLE_X86_64 {
            return Err(elf::strange());
        }
        self.bytes[KIND as usize] = 2;
        self.shift(ENTRY)?;
        let mut at = self.number::<8>(SEGMENTS)?;
        for _ in &library.segments {
            if self.number::<8>(at + 40)? != 0 {
                self.shift(at + 16)?;
                self.shift(at + 24)?;
            }
            at += Library::SEGMENT as u64;
        }
        Ok(())
    }

    /// Applies the relocations that are of the place alone, and moves the others.
    fn relocate(&mut self, library: &Library) -> io::Result<()> {
        let value = |tag| library.value(tag).unwrap_or_default();
        if value(tag::PACKED_BYTES) != 0 {
            return Err(elf::strange());
        }
        let tables = [
            (tag::RELOCATIONS, tag::RELOCATION_BYTES),
            (tag::PLT_RELOCATIONS, tag::PLT_BYTES),
        ];
        for (table, bytes) in tables {
            let Some(at) = library.value(table) else {
                continue;
            };
            let at = library.offset(at).ok_or_else(elf::strange)?;
            for index in 0..value(bytes) / Self::RELOCATION {
                let at = at + index * Self::RELOCATION;
                let kind = self.number::<4>(at + 8)?;
                // Linkers put those of the place first.
                if table == tag::RELOCATIONS && index == self.applied && kind == RELATIVE {
                    let target = library.offset(self.number::<8>(at)?);
                    let address = self.number::<8>(at + 16)?.wrapping_add(self.place);
                    self.write(target.ok_or_else(elf::strange)?, address)?;
                    self.applied += 1;
                    continue;
                }
                self.shift(at)?;
                match kind {
                    RELATIVE | CALLED => self.shift(at + 16)?,
                    kind if OF_SYMBOLS.contains(&kind) => {}
                    _ => return Err(elf::strange()),
                }
            }
        }
        Ok(())
    }

    /// Moves the symbols that are addresses of the program.
    fn move_symbols(&mut self, library: &Library) -> io::Result<()> {
        const SECTIONS: u64 = 40;
        const SECTION: u64 = 64;
        const SYMBOLS: u64 = 11;
        const SYMBOL: u64 = 24;
        /// Sections of symbols that are missing or no address, and the kind of those of a thread.
        const NO_ADDRESS: [u64; 2] = [0, 0xfff1];
        const OF_THREAD: u64 = 6;
        let (first, count) = (self.number::<8>(SECTIONS)?, self.number::<2>(60)?);
        let symbols = library.value(tag::SYMBOLS);
        for section in (0..count).map(|index| first + index * SECTION) {
            let of_loader = self.number::<8>(section + 16)?;
            if self.number::<4>(section + 4)? != SYMBOLS || Some(of_loader) != symbols {
                continue;
            }
            let (at, bytes) = (
                self.number::<8>(section + 24)?,
                self.number::<8>(section + 32)?,
            );
            for at in (0..bytes / SYMBOL).map(|index| at + index * SYMBOL) {
                let (kind, of) = (self.number::<1>(at + 4)? & 15, self.number::<2>(at + 6)?);
                if !NO_ADDRESS.contains(&of) && kind != OF_THREAD {
                    self.shift(at + 8)?;
                }
            }
            return Ok(());
        }
        Err(elf::strange())
    }

    /// Moves the addresses in the table for the loader, and takes the applied relocations out of it.
    fn move_entries(&mut self, library: &Library) -> io::Result<()> {
        let applied = self.applied * Self::RELOCATION;
        for (&[tag, value], at) in library.entries.iter().zip((library.dynamic..).step_by(16)) {
            let value = match tag {
                tag::RELOCATIONS => value.wrapping_add(self.place).wrapping_add(applied),
                tag::RELOCATION_BYTES => value.checked_sub(applied).ok_or_else(elf::strange)?,
                tag::RELOCATION_COUNT => 0,
                FLAGS => value & !ANYWHERE,
                tag if ADDRESSES.contains(&tag) => value.wrapping_add(self.place),
                _ => value,
            };
            self.write(at + 8, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    /// A program of this machine, with libraries and exported symbols: this very test.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_program_runs_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        let own = std::env::current_exe().unwrap();
        std::fs::write(&copy, at(&own, LOWEST).unwrap()).unwrap();
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
        let output = Command::new(&copy).arg("--list").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("a_program_runs_at_its_place"));
        // It has a place already.
        assert!(placed(&copy).is_err());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 5, 64, 5000] {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.resize(length, 0xff);
            std::fs::write(&path, bytes).unwrap();
            assert!(placed(&path).is_err());
        }
    }
}
