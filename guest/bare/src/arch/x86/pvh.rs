//! Boot information of PVH: size of the memory, and the kernel's command line.

use heapless::String;

/// Magic number at the start of the information.
const MAGIC: u32 = 0x336e_c578;
/// The most of a command line that is read.
const COMMAND_LINE_BYTES: usize = 128;

/// The fields of the boot information that are used, by their offset in 32-bit words. Addresses have two; QEMU's are
/// below 4 GiB.
const VERSION: usize = 1;
const COMMAND_LINE: usize = 6;
const REGIONS: usize = 10;
const NUM_REGIONS: usize = 12;

/// The first version with regions of memory.
const HAS_REGIONS: u32 = 1;

/// A region of memory: address, size, type; all but the last have two words.
const REGION_WORDS: usize = 6;
const RAM: u32 = 1;
/// Address of the image, which lies in the memory that is used.
const IMAGE: usize = 0x10_0000;

/// A copy of what the loader told; its own memory is free afterwards.
#[derive(Debug)]
pub struct BootInformation {
    /// Behind the last byte of the memory that starts at 1 MiB.
    pub memory_end: usize,
    /// The kernel's command line, cut at [`COMMAND_LINE_BYTES`].
    pub command_line: String<COMMAND_LINE_BYTES>,
}

impl BootInformation {
    /// Copies the loader's information.
    ///
    /// # Panics
    /// If the loader does not speak PVH or does not tell the size of the memory.
    ///
    /// # Safety
    /// `information` must be what the loader left in `ebx`, and its memory must not have been overwritten yet.
    pub unsafe fn read(information: *const u32) -> Self {
        // SAFETY: the caller passes on the loader's pointer, to at least 14 words.
        let word = |index| unsafe { information.add(index).read() };
        assert!(
            word(0) == MAGIC,
            "the boot loader left {:#x}, which is not PVH",
            word(0)
        );
        assert!(
            word(VERSION) >= HAS_REGIONS,
            "the boot loader does not tell the memory's size"
        );
        let regions = word(REGIONS) as *const u32;
        // SAFETY: the loader says that there are so many.
        let regions = (0..word(NUM_REGIONS) as usize).map(|index| unsafe {
            regions
                .add(index * REGION_WORDS)
                .cast::<[u32; REGION_WORDS]>()
                .read()
        });
        let memory_end = regions.filter_map(end_around_image).next();
        let mut command_line = String::new();
        let line = word(COMMAND_LINE) as *const u8;
        if !line.is_null() {
            // SAFETY: the pointer is to a string that ends with a zero.
            unsafe { copy_string(line, &mut command_line) };
        }
        Self {
            memory_end: memory_end.expect("the boot loader tells the size of the memory"),
            command_line,
        }
    }

    /// The value of `key=value` on the command line.
    pub fn option(&self, key: &str) -> Option<&str> {
        let pairs = self
            .command_line
            .split_ascii_whitespace()
            .filter_map(|w| w.split_once('='));
        pairs
            .filter(|(found, _)| *found == key)
            .map(|(_, value)| value)
            .next_back()
    }
}

/// End of a region of memory if the image lies in it. What lies beyond 4 GiB is not reached.
fn end_around_image(
    [start, above, size, size_above, kind, _]: [u32; REGION_WORDS],
) -> Option<usize> {
    let end = match size_above {
        0 => start.saturating_add(size),
        _ => u32::MAX,
    };
    let holds = kind == RAM && above == 0 && (start as usize..end as usize).contains(&IMAGE);
    holds.then_some(end as usize)
}

/// # Safety
/// `source` must point to a string that ends with a zero.
unsafe fn copy_string(mut source: *const u8, target: &mut String<COMMAND_LINE_BYTES>) {
    loop {
        // SAFETY: the zero that ends the string has not been passed yet.
        let byte = unsafe { source.read() };
        if byte == 0 || target.push(char::from(byte)).is_err() {
            return;
        }
        // SAFETY: `byte` was not the last one.
        source = unsafe { source.add(1) };
    }
}
