//! QEMUs made of functions with the signatures of its interfaces: counters of the plugin's own (to 8.2), scoreboards
//! (9.0), and octets that are copied (9.1 and later).

use super::*;

/// Instruction in a block that is being translated, and what the plugin has put before it.
struct Insn {
    at: u64,
    octets: [u8; 2],
    callback: Option<(extern "C" fn(c_uint, Handle), Handle)>,
    counter: Option<(*mut u64, u64)>,
}

type Block = Vec<Insn>;

/// Code of a guest with a region: its beginning, a load, an addition, its end.
fn block() -> Block {
    let halves = [0x46db_u16, 0x6808, 0x1840, 0x46d2].into_iter();
    let insn = |(index, half): (u64, u16)| Insn {
        at: 2 * index,
        octets: half.to_le_bytes(),
        callback: None,
        counter: None,
    };
    (0..).zip(halves).map(insn).collect()
}

/// # Safety
/// The handle is of an [`Insn`] of this test.
unsafe fn insn<'a>(handle: Handle) -> &'a mut Insn {
    // SAFETY: as of this function.
    unsafe { &mut *handle.cast() }
}

unsafe extern "C" fn length(block: Handle) -> usize {
    // SAFETY: the block of this test.
    unsafe { (*block.cast::<Block>()).len() }
}

unsafe extern "C" fn get(block: Handle, index: usize) -> Handle {
    // SAFETY: the block of this test.
    let block = unsafe { &mut *block.cast::<Block>() };
    std::ptr::from_mut(&mut block[index]).cast()
}

unsafe extern "C" fn size(handle: Handle) -> usize {
    // SAFETY: an instruction of the block.
    unsafe { insn(handle) }.octets.len()
}

unsafe extern "C" fn address(handle: Handle) -> u64 {
    // SAFETY: an instruction of the block.
    unsafe { insn(handle) }.at
}

/// To QEMU 9.0 a pointer is returned. The two other arguments are none of that interface.
unsafe extern "C" fn points(handle: Handle, _: *mut u8, _: usize) -> *const u8 {
    // SAFETY: an instruction of the block.
    unsafe { insn(handle) }.octets.as_ptr()
}

/// From QEMU 9.1 on the octets are copied, and their number is returned.
unsafe extern "C" fn is_copied(handle: Handle, to: *mut u8, room: usize) -> usize {
    // SAFETY: an instruction of the block.
    let octets = unsafe { insn(handle) }.octets;
    let count = room.min(octets.len());
    // SAFETY: the caller has so much room there.
    unsafe { to.copy_from_nonoverlapping(octets.as_ptr(), count) };
    count
}

unsafe extern "C" fn on_execution(
    handle: Handle,
    callback: extern "C" fn(c_uint, Handle),
    _: c_int,
    data: Handle,
) {
    // SAFETY: an instruction of the block.
    unsafe { insn(handle) }.callback = Some((callback, data));
}

unsafe extern "C" fn adds_to_own(handle: Handle, what: c_int, counter: *mut u64, by: u64) {
    assert_eq!(what, ADD);
    // SAFETY: an instruction of the block.
    unsafe { insn(handle) }.counter = Some((counter, by));
}

unsafe extern "C" fn adds_to_board(handle: Handle, what: c_int, entry: Entry, by: u64) {
    let counter = entry.board.wrapping_byte_add(entry.offset).cast();
    // SAFETY: as for that one.
    unsafe { adds_to_own(handle, what, counter, by) };
}

unsafe extern "C" fn board(octets: usize) -> Handle {
    vec![0_u64; octets / size_of::<u64>()]
        .leak()
        .as_mut_ptr()
        .cast()
}

unsafe extern "C" fn sum(entry: Entry) -> u64 {
    let counter = entry.board.wrapping_byte_add(entry.offset).cast::<u64>();
    // SAFETY: within the board.
    unsafe { counter.read() }
}

/// Function of a QEMU under a name, null where that interface has none.
fn function(interface: c_int, name: &CStr) -> Handle {
    let name = name.to_str().unwrap_or_default();
    match (name.trim_start_matches("qemu_plugin_"), interface) {
        ("tb_n_insns", _) => length as Handle,
        ("tb_get_insn", _) => get as Handle,
        ("insn_size", _) => size as Handle,
        ("insn_vaddr", _) => address as Handle,
        ("insn_data", 1..=2) => points as Handle,
        ("insn_data", _) => is_copied as Handle,
        ("register_vcpu_insn_exec_cb", _) => on_execution as Handle,
        ("register_vcpu_insn_exec_inline", 1) => adds_to_own as Handle,
        ("register_vcpu_insn_exec_inline_per_vcpu", 2..) => adds_to_board as Handle,
        ("scoreboard_new", 2..) => board as Handle,
        ("u64_sum", 2..) => sum as Handle,
        ("read_memory_vaddr", 4..) => length as Handle,
        _ => std::ptr::null_mut(),
    }
}

/// Executes a block as its translation would.
fn execute(block: &Block) {
    for insn in block {
        if let Some((callback, data)) = insn.callback {
            callback(0, data);
        }
        if let Some((counter, by)) = insn.counter {
            // SAFETY: a counter that the plugin has named.
            unsafe { *counter += by };
        }
    }
}

/// Totals of a region that a guest runs three times, in a QEMU with this interface.
fn counted(interface: c_int) -> Totals {
    let plugin = Plugin {
        // SAFETY: the functions above have the signatures of the interface.
        qemu: unsafe { Qemu::find(|name| function(interface, name)) },
        copies: copies(interface),
        blocks: Blocks::new(Isa::of("arm")),
        chunks: Vec::new(),
        totals: [0; NAMES.len()],
        page: Page(None),
    };
    *PLUGIN.lock().unwrap() = Some(plugin);
    let mut block = block();
    translated(0, std::ptr::from_mut(&mut block).cast());
    (0..3).for_each(|_| execute(&block));
    PLUGIN.lock().unwrap().take().unwrap().totals
}

#[test]
fn every_interface_counts_the_same() {
    for interface in [1, 2, 3, 4, NEWEST] {
        let totals = counted(interface);
        let of = |name: &str| totals[NAMES.iter().position(|one| *one == name).unwrap()];
        // The mark of the beginning, a load and an addition, three times.
        assert_eq!(of("instructions"), 9, "interface {interface}");
        assert_eq!((of("load"), of("regions")), (3, 3), "interface {interface}");
    }
}

#[test]
fn what_is_declared_goes_by_what_qemu_has() {
    let declared = |interface| version_of(|name| !function(interface, name).is_null());
    assert_eq!([1, 2, 3, 4, NEWEST].map(declared), [1, 2, 2, 4, 4]);
}
