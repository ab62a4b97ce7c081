//! Memory layout of the image: the symbols of `link.ld` as addresses.

macro_rules! symbols {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        unsafe extern "C" {
            $(static $symbol: u8;)*
        }
        $(
            $(#[$doc])*
            pub fn $name() -> usize {
                (&raw const $symbol).addr()
            }
        )*
    };
}

symbols! {
    /// First byte of the code, and of the image.
    text_start = __text_start;
    /// Behind the last byte of code.
    text_end = __text_end;
    /// Behind the guard: the lowest byte of the stack.
    stack_bottom = __stack_bottom;
    /// Behind the highest byte of the stack.
    stack_top = __stack_top;
    /// First byte of the heap.
    heap_start = __heap_start;
}

#[cfg(not(armv8m))]
symbols! {
    /// Behind the last byte of the image: the guard, which is never mapped.
    guard_start = __guard_start;
}

#[cfg(target_arch = "x86")]
symbols! {
    /// Behind the last byte that may only be read.
    rodata_end = __rodata_end;
    /// Behind the highest byte of the stack for double faults.
    fault_stack_top = __fault_stack_top;
}

#[cfg(not(target_arch = "x86"))]
symbols! {
    /// Behind the last byte of RAM.
    heap_end = __heap_end;
}
