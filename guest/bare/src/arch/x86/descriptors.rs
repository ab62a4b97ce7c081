//! The CPU's own tables: segments, tasks and interrupt vectors.
//!
//! Segments are flat. There are two task states only because of the stack: a page fault on the
//! guard cannot push its frame there, so it becomes a double fault, whose vector is a task gate;
//! the CPU then saves the registers into [`MAIN_TASK`] and goes on in [`FAULT_TASK`], on a stack
//! of its own.

use core::arch::asm;

use super::paging;
use crate::boot_cell::BootCell;
use crate::image;

const CODE: u16 = 1 << 3;
const DATA: u16 = 2 << 3;
const MAIN: u16 = 3 << 3;
const FAULT: u16 = 4 << 3;

/// Vector of the double fault.
const DOUBLE_FAULT: usize = 8;
/// First vector of the interrupt lines, behind the CPU's exceptions.
pub const FIRST_LINE_VECTOR: u8 = 32;
/// Vector of the local APIC's timer.
pub const TIMER_VECTOR: u8 = 48;
/// Vector of the local APIC's spurious interrupt.
pub const SPURIOUS_VECTOR: u8 = 49;
const VECTORS: usize = 50;

/// A 32-bit task state segment. Upper halves of selectors are zero.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TaskState {
    link: u32,
    inner_stacks: [u32; 6],
    cr3: u32,
    pub eip: u32,
    eflags: u32,
    eax: u32,
    ecx: u32,
    edx: u32,
    ebx: u32,
    pub esp: u32,
    pub ebp: u32,
    esi: u32,
    edi: u32,
    es: u32,
    cs: u32,
    ss: u32,
    ds: u32,
    fs: u32,
    gs: u32,
    ldt: u32,
    io_map: u32,
}

const EMPTY_TASK: TaskState = TaskState {
    link: 0,
    inner_stacks: [0; 6],
    cr3: 0,
    eip: 0,
    eflags: 2, // the bit that is always one
    eax: 0,
    ecx: 0,
    edx: 0,
    ebx: 0,
    esp: 0,
    ebp: 0,
    esi: 0,
    edi: 0,
    es: DATA as u32,
    cs: CODE as u32,
    ss: DATA as u32,
    ds: DATA as u32,
    fs: DATA as u32,
    gs: DATA as u32,
    ldt: 0,
    io_map: (size_of::<TaskState>() as u32) << 16,
};

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u32,
}

static SEGMENTS: BootCell<[u64; 5]> = BootCell::new([0; 5]);
static VECTOR_TABLE: BootCell<[u64; VECTORS]> = BootCell::new([0; VECTORS]);
static MAIN_TASK: BootCell<TaskState> = BootCell::new(EMPTY_TASK);
static FAULT_TASK: BootCell<TaskState> = BootCell::new(EMPTY_TASK);

unsafe extern "C" {
    /// Entry stubs by vector, from `interrupts.s`.
    static interrupt_stubs: [u32; VECTORS];
    fn double_fault_entry();
}

/// Registers at the double fault that stopped the firmware.
pub fn faulted_task() -> TaskState {
    // SAFETY: aligned, initialised memory that the CPU wrote when it switched tasks.
    unsafe { MAIN_TASK.get().read_volatile() }
}

/// Fills the tables and makes the CPU use them.
///
/// # Safety
/// To be called once, with interrupts off.
pub unsafe fn init() {
    // SAFETY: called once, and nothing else refers to these statics before the CPU does.
    unsafe {
        FAULT_TASK.get().write(TaskState {
            cr3: paging::directory_address(),
            eip: double_fault_entry as *const () as u32,
            esp: image::fault_stack_top() as u32,
            ..EMPTY_TASK
        });
        // The CPU saves everything of the main task but CR3.
        MAIN_TASK.get().write(TaskState {
            cr3: paging::directory_address(),
            ..EMPTY_TASK
        });
        SEGMENTS.get().write([
            0,
            0x00cf_9a00_0000_ffff, // code: base 0, limit 4 GiB, readable
            0x00cf_9200_0000_ffff, // data: base 0, limit 4 GiB, writable
            task_descriptor(MAIN_TASK.get().addr() as u32),
            task_descriptor(FAULT_TASK.get().addr() as u32),
        ]);
        VECTOR_TABLE.get().write(vector_table(&interrupt_stubs));
        load();
    }
}

fn vector_table(stubs: &[u32; VECTORS]) -> [u64; VECTORS] {
    const INTERRUPT_GATE: u64 = 0x8e00;
    const TASK_GATE: u64 = 0x8500;
    let mut table = stubs.map(|stub| gate(stub, CODE, INTERRUPT_GATE));
    table[DOUBLE_FAULT] = gate(0, FAULT, TASK_GATE);
    table
}

fn gate(offset: u32, selector: u16, kind: u64) -> u64 {
    let offset = u64::from(offset);
    (offset & 0xffff) | u64::from(selector) << 16 | kind << 32 | (offset >> 16) << 48
}

fn task_descriptor(base: u32) -> u64 {
    const AVAILABLE_TASK: u64 = 0x89;
    let (base, limit) = (u64::from(base), size_of::<TaskState>() as u64 - 1);
    limit | (base & 0xff_ffff) << 16 | AVAILABLE_TASK << 40 | (base >> 24) << 56
}

/// # Safety
/// The tables must be filled, with flat segments at [`CODE`] and [`DATA`].
unsafe fn load() {
    let segments = TablePointer {
        limit: size_of::<[u64; 5]>() as u16 - 1,
        base: SEGMENTS.get().addr() as u32,
    };
    let vectors = TablePointer {
        limit: size_of::<[u64; VECTORS]>() as u16 - 1,
        base: VECTOR_TABLE.get().addr() as u32,
    };
    // SAFETY: the new segments are as flat as the loader's, so nothing moves under the code; the
    // far return only reloads CS.
    unsafe {
        asm!(
            "lgdt [{segments}]",
            "push {code}",
            "lea {scratch}, [2f]",
            "push {scratch}",
            "retf",
            "2:",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov fs, {data:x}",
            "mov gs, {data:x}",
            "mov ss, {data:x}",
            "ltr {main:x}",
            "lidt [{vectors}]",
            segments = in(reg) &raw const segments,
            vectors = in(reg) &raw const vectors,
            code = const CODE,
            data = in(reg) DATA,
            main = in(reg) MAIN,
            scratch = out(reg) _,
        );
    }
}
