//! The interface to QEMU: what a plugin offers, and what it calls.
//!
//! Its functions are looked up when the library is loaded, and not linked: versions differ in what they have. From
//! QEMU 9 on (interface 2) counters lie in QEMU's own memory, one for each processor; from 9.1 on (interface 3) an
//! instruction's octets are copied.

use crate::blocks::{Blocks, Raw};
use crate::decode::{Isa, Mark};
use crate::totals::{NAMES, PAGE_BYTES, Totals, entry, prepare};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

#[cfg(test)]
mod tests;

type Handle = *mut c_void;

/// Interface that this plugin was made for, which QEMU reads after it has loaded it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU looks for this name")]
pub static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

/// Newest interface that is known here; a newer one may differ.
const NEWEST: c_int = 5;

/// Calls [`choose_version`] when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = choose_version;

extern "C" fn choose_version() {
    let version = version_of(|name| !symbol(name).is_null());
    qemu_plugin_version.store(version, Ordering::Relaxed);
}

/// Interface to declare to a QEMU that has these functions: the newest one whose functions it has, since QEMU refuses
/// plugins of interfaces that it no longer serves as it does those of newer ones.
fn version_of(has: impl Fn(&CStr) -> bool) -> c_int {
    match (
        has(c"qemu_plugin_read_memory_vaddr"),
        has(c"qemu_plugin_scoreboard_new"),
    ) {
        // QEMU 9.2 and later.
        (true, _) => 4,
        // 9.0 and 9.1.
        (_, true) => 2,
        // To 8.2.
        _ => 1,
    }
}

fn symbol(name: &CStr) -> Handle {
    // SAFETY: the name ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// Beginning of what QEMU says of itself; more follows.
#[repr(C)]
pub struct Info {
    target: *const c_char,
    oldest: c_int,
    current: c_int,
}

/// Counter in a scoreboard of QEMU 9.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    board: Handle,
    offset: usize,
}

/// Declares the functions of QEMU that are called here, some of which not every version has.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case, reason = "named as QEMU has them")]
        #[derive(Clone, Copy)]
        struct Qemu { $($name: Option<unsafe extern "C" fn($($argument),*) $(-> $result)?>,)* }

        impl Qemu {
            /// Looks the functions up.
            ///
            /// # Safety
            /// `symbol` gives, for each name, null or a function with the signature declared for it.
            unsafe fn find(symbol: impl Fn(&CStr) -> Handle) -> Self {
                Self { $($name: {
                    let name = CStr::from_bytes_with_nul(concat!("qemu_plugin_", stringify!($name), "\0").as_bytes());
                    let found = name.map_or(std::ptr::null_mut(), &symbol);
                    // SAFETY: a function of QEMU with this signature, or null, which is `None`.
                    unsafe { std::mem::transmute::<Handle, Option<unsafe extern "C" fn($($argument),*) $(-> $result)?>>(found) }
                },)* }
            }
        }
    };
}

functions! {
    register_vcpu_tb_trans_cb: fn(u64, extern "C" fn(u64, Handle));
    register_vcpu_insn_exec_cb: fn(Handle, extern "C" fn(c_uint, Handle), c_int, Handle);
    register_vcpu_insn_exec_inline: fn(Handle, c_int, *mut u64, u64);
    register_vcpu_insn_exec_inline_per_vcpu: fn(Handle, c_int, Entry, u64);
    scoreboard_new: fn(usize) -> Handle;
    u64_sum: fn(Entry) -> u64;
    tb_n_insns: fn(Handle) -> usize;
    tb_get_insn: fn(Handle, usize) -> Handle;
    insn_size: fn(Handle) -> usize;
    insn_vaddr: fn(Handle) -> u64;
    insn_data: fn(Handle, *mut u8, usize) -> *const u8;
}

/// Addition, among the operations of a counter.
const ADD: c_int = 0;

/// A callback that looks at no registers.
const NO_REGISTERS: c_int = 0;

/// Counters are made so many at a time, and stay where they are.
const CHUNK: usize = 4096;

/// True if QEMU's interface copies an instruction's octets, and does not point to them.
fn copies(current: c_int) -> bool {
    current >= 3
}

enum Chunk {
    /// Of this library, before QEMU 9; never freed, since translated code writes there.
    Own(*mut u64),
    /// A scoreboard.
    Board(Handle),
}

struct Plugin {
    qemu: Qemu,
    /// Octets of an instruction are copied instead of pointed to.
    copies: bool,
    blocks: Blocks,
    chunks: Vec<Chunk>,
    totals: Totals,
    page: Page,
}

/// Place of the totals that the host reads; none where nobody asked.
struct Page(Option<NonNull<c_void>>);

// SAFETY: its pointers are to QEMU's functions and to memory of the process, used by one thread at a time.
unsafe impl Send for Plugin {}

static PLUGIN: Mutex<Option<Plugin>> = Mutex::new(None);

fn with<T>(act: impl FnOnce(&mut Plugin) -> Option<T>) -> Option<T> {
    let mut plugin = PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
    plugin.as_mut().and_then(act)
}

impl Plugin {
    /// A block as QEMU has it.
    ///
    /// # Safety
    /// `block` is one that is being translated.
    unsafe fn read(&self, block: Handle) -> Option<Vec<Raw>> {
        // SAFETY: as of this function.
        let count = unsafe { self.qemu.tb_n_insns?(block) };
        let mut raw = Vec::with_capacity(count);
        for index in 0..count {
            // SAFETY: there are as many.
            let insn = unsafe { self.qemu.tb_get_insn?(block, index) };
            // SAFETY: an instruction of the block.
            let (at, size) = unsafe {
                (
                    self.qemu.insn_vaddr?(insn),
                    self.qemu.insn_size?(insn).min(16),
                )
            };
            let mut octets = vec![0; size];
            // SAFETY: it writes no more than there is room for; an older one ignores both.
            let data = unsafe { self.qemu.insn_data?(insn, octets.as_mut_ptr(), size) };
            if !self.copies {
                // SAFETY: it points to so many octets while the block is being translated.
                octets.copy_from_slice(unsafe { std::slice::from_raw_parts(data, size) });
            }
            raw.push((at, octets));
        }
        Some(raw)
    }

    /// Has the instruction add one to a counter whenever it is executed.
    fn count(&mut self, insn: Handle, slot: usize) -> Option<()> {
        while self.chunks.len() <= slot / CHUNK {
            self.chunks.push(match self.qemu.scoreboard_new {
                // SAFETY: QEMU makes room for so many octets.
                Some(new) => Chunk::Board(unsafe { new(CHUNK * size_of::<u64>()) }),
                None => Chunk::Own(Box::into_raw(Box::new([0_u64; CHUNK])).cast()),
            });
        }
        match &self.chunks[slot / CHUNK] {
            Chunk::Own(counters) => {
                let counter = counters.wrapping_add(slot % CHUNK);
                // SAFETY: never freed, and within the chunk.
                unsafe { self.qemu.register_vcpu_insn_exec_inline?(insn, ADD, counter, 1) }
            }
            Chunk::Board(board) => {
                let entry = counter(*board, slot);
                // SAFETY: the entry lies within the scoreboard.
                unsafe {
                    self.qemu.register_vcpu_insn_exec_inline_per_vcpu?(insn, ADD, entry, 1);
                }
            }
        }
        Some(())
    }

    fn counters(&self) -> Vec<u64> {
        let value = |slot: usize| match &self.chunks[slot / CHUNK] {
            // SAFETY: translated code writes there, on this same thread.
            Chunk::Own(counters) => unsafe { counters.wrapping_add(slot % CHUNK).read_volatile() },
            Chunk::Board(board) => self
                .qemu
                .u64_sum
                // SAFETY: the entry lies within the scoreboard.
                .map_or(0, |sum| unsafe { sum(counter(*board, slot)) }),
        };
        (0..self.blocks.len()).map(value).collect()
    }

    fn translate(&mut self, block: Handle) -> Option<()> {
        // SAFETY: QEMU is translating it.
        let raw = unsafe { self.read(block)? };
        for piece in self.blocks.pieces(&raw) {
            // SAFETY: there are as many instructions.
            let insn = unsafe { self.qemu.tb_get_insn?(block, piece.at) };
            if let Some(mark) = piece.mark {
                let ends = std::ptr::without_provenance_mut(usize::from(mark == Mark::End));
                // SAFETY: the callback has this signature, and the number is no pointer to anything.
                unsafe {
                    self.qemu.register_vcpu_insn_exec_cb?(insn, marked, NO_REGISTERS, ends);
                }
            }
            self.count(insn, piece.slot)?;
        }
        Some(())
    }

    fn mark(&mut self, ends: bool) {
        let counters = self.counters();
        if !ends {
            return self.blocks.begin(counters);
        }
        self.blocks.end(&counters, &mut self.totals);
        self.page.show(&self.totals);
    }
}

fn counter(board: Handle, slot: usize) -> Entry {
    Entry {
        board,
        offset: slot % CHUNK * size_of::<u64>(),
    }
}

impl Page {
    /// Maps the first page of a descriptor.
    fn of(descriptor: c_int) -> nix::Result<Self> {
        // SAFETY: not negative; one that this process was given, or the mapping fails.
        let fd = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let length = std::num::NonZero::new(PAGE_BYTES).ok_or(nix::Error::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, of which nobody here knows.
        let page = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, fd, 0)? };
        let mut fresh = [0; PAGE_BYTES];
        prepare(&mut fresh);
        // SAFETY: the mapping is as long.
        unsafe { page.cast::<[u8; PAGE_BYTES]>().write(fresh) };
        Ok(Self(Some(page)))
    }

    fn show(&self, totals: &Totals) {
        let Some(page) = self.0 else { return };
        for (index, total) in totals.iter().enumerate() {
            let at = entry(index) + crate::totals::NAME_BYTES;
            // SAFETY: within the page, and aligned to eight octets.
            unsafe { page.byte_add(at).cast::<u64>().write_volatile(*total) };
        }
    }
}

extern "C" fn translated(_: u64, block: Handle) {
    with(|plugin| plugin.translate(block));
}

extern "C" fn marked(_: c_uint, ends: Handle) {
    with(|plugin| {
        plugin.mark(!ends.is_null());
        Some(())
    });
}

/// Tells why QEMU does not start, if anybody reads.
fn complain(why: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "tcg-cost: {why}");
}

/// Starts the plugin. Its one argument, `fd=N`, is a descriptor of the page for the totals.
///
/// # Safety
/// QEMU calls it, with what it says of itself and the arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: valid during this call.
    let info = unsafe { &*info };
    if info.current > NEWEST {
        complain(format_args!(
            "the plugin interface {} is newer than {NEWEST}",
            info.current
        ));
        return 1;
    }
    // SAFETY: a text that ends with a zero.
    let target = unsafe { CStr::from_ptr(info.target) };
    let mut page = Page(None);
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: there are as many, each a text that ends with a zero.
        let argument = unsafe { CStr::from_ptr(*arguments.add(index)) };
        let argument = argument.to_str().unwrap_or_default();
        let descriptor = argument.strip_prefix("fd=").and_then(|fd| fd.parse().ok());
        let descriptor = descriptor.filter(|fd: &c_int| *fd >= 0);
        match descriptor.map(Page::of) {
            Some(Ok(mapped)) => page = mapped,
            Some(Err(error)) => {
                complain(format_args!("{argument}: {error}"));
                return 1;
            }
            None => {
                complain(format_args!("{argument}: the plugin takes fd=N alone"));
                return 1;
            }
        }
    }
    // SAFETY: the names are QEMU's, which has such functions under them.
    let qemu = unsafe { Qemu::find(symbol) };
    let plugin = Plugin {
        qemu,
        copies: copies(info.current),
        blocks: Blocks::new(Isa::of(target.to_str().unwrap_or_default())),
        chunks: Vec::new(),
        totals: [0; NAMES.len()],
        page,
    };
    *PLUGIN.lock().unwrap_or_else(PoisonError::into_inner) = Some(plugin);
    let Some(register) = qemu.register_vcpu_tb_trans_cb else {
        return 1;
    };
    // SAFETY: the callback has the signature that QEMU calls.
    unsafe { register(id, translated) };
    0
}
