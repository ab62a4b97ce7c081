//! Memory protection: everything is mapped to itself, but code and constants may not be written,
//! and two places are not mapped at all: page 0, where null pointers lead, and the guard below the
//! stack, where a recursion without end leads.
//!
//! The first 4 MiB, which hold the image, are mapped in pages of 4 KiB, the rest of the address
//! space in pages of 4 MiB.

use core::arch::asm;

use crate::boot_cell::BootCell;
use crate::image;

const PAGE_BYTES: usize = 4096;
const LARGE_PAGE_BYTES: usize = 4 << 20;

const PRESENT: u32 = 1 << 0;
const WRITABLE: u32 = 1 << 1;
const LARGE: u32 = 1 << 7;

#[repr(C, align(4096))]
struct Table([u32; 1024]);

static DIRECTORY: BootCell<Table> = BootCell::new(Table([0; 1024]));
static LOW_TABLE: BootCell<Table> = BootCell::new(Table([0; 1024]));

/// Address of the page directory, for CR3.
pub fn directory_address() -> u32 {
    DIRECTORY.get().addr() as u32
}

/// Fills the tables and turns paging on.
///
/// # Safety
/// To be called once.
pub unsafe fn init() {
    assert!(
        image::heap_start() <= LARGE_PAGE_BYTES,
        "the image and its stacks exceed 4 MiB"
    );
    // SAFETY: nothing else refers to the tables: they are private, and this runs once.
    let (directory, low) = unsafe { (&mut (*DIRECTORY.get()).0, &mut (*LOW_TABLE.get()).0) };
    for (index, entry) in low.iter_mut().enumerate() {
        *entry = low_entry(index * PAGE_BYTES);
    }
    for (index, entry) in directory.iter_mut().enumerate() {
        *entry = (index * LARGE_PAGE_BYTES) as u32 | PRESENT | WRITABLE | LARGE;
    }
    directory[0] = LOW_TABLE.get().addr() as u32 | PRESENT | WRITABLE;
    // SAFETY: every address in use stays mapped to itself. CR4.PSE allows the large pages, which
    // every CPU with SSE2 has; CR0.WP makes read-only hold for ring 0, CR0.PG is paging.
    unsafe {
        asm!(
            "mov cr3, {directory}",
            "mov {scratch}, cr4",
            "or {scratch}, 1 << 4",
            "mov cr4, {scratch}",
            "mov {scratch}, cr0",
            "or {scratch}, (1 << 31) | (1 << 16)",
            "mov cr0, {scratch}",
            directory = in(reg) directory_address(),
            scratch = out(reg) _,
            options(nostack),
        );
    }
}

fn low_entry(address: usize) -> u32 {
    let is_unmapped =
        address < PAGE_BYTES || (image::guard_start()..image::stack_bottom()).contains(&address);
    let is_constant = (image::text_start()..image::rodata_end()).contains(&address);
    match (is_unmapped, is_constant) {
        (true, _) => 0,
        (false, true) => address as u32 | PRESENT,
        (false, false) => address as u32 | PRESENT | WRITABLE,
    }
}
