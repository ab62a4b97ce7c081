//! Multiboot information: size of the memory, and the kernel's command line.

use heapless::String;

/// Magic number that a Multiboot loader leaves in `eax`.
const MAGIC: u32 = 0x2bad_b002;
/// The most of a command line that is read.
const COMMAND_LINE_BYTES: usize = 128;

/// The fields of the boot information that are used, by their offset in 32-bit words.
const FLAGS: usize = 0;
const UPPER_KIB: usize = 2;
const COMMAND_LINE: usize = 4;
const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;

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
    /// If the loader does not speak Multiboot or does not tell the size of the memory.
    ///
    /// # Safety
    /// `magic` and `information` must be what the loader left in `eax` and `ebx`, and its memory
    /// must not have been overwritten yet.
    pub unsafe fn read(magic: u32, information: *const u32) -> Self {
        assert!(
            magic == MAGIC,
            "the boot loader left {magic:#x}, which is not Multiboot"
        );
        // SAFETY: the caller passes on the loader's pointer, to at least 22 words.
        let word = |index| unsafe { information.add(index).read() };
        assert!(
            word(FLAGS) & HAS_MEMORY != 0,
            "the boot loader does not tell the memory's size"
        );
        let mut command_line = String::new();
        if word(FLAGS) & HAS_COMMAND_LINE != 0 {
            // SAFETY: the flag says that this word points to a string that ends with a zero.
            unsafe { copy_string(word(COMMAND_LINE) as *const u8, &mut command_line) };
        }
        let memory_end = 0x10_0000 + word(UPPER_KIB) as usize * 1024;
        Self {
            memory_end,
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
