//! Instructions that the processor of a device has, found out when it runs: an older QEMU has no AVX2.

/// Body of a function that does what another, which is always inlined, does: on a PC with AVX2 in its instructions,
/// which take a third operand, and broadcast from memory.
macro_rules! by_level {
    ($act:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)?) => {{
        #[cfg(target_arch = "x86")]
        {
            #[target_feature(enable = "avx2")]
            #[inline(never)]
            fn wide($($argument: $kind),*) $(-> $result)? {
                $act($($argument),*)
            }
            if $crate::kernels::level::has_avx2() {
                #[allow(unsafe_code, reason = "a function of a level that was found")]
                // SAFETY: the processor has AVX2.
                return unsafe { wide($($argument),*) };
            }
            // By itself, lest the registers that it saves are saved for both.
            #[inline(never)]
            fn plain($($argument: $kind),*) $(-> $result)? {
                $act($($argument),*)
            }
            plain($($argument),*)
        }
        #[cfg(not(target_arch = "x86"))]
        $act($($argument),*)
    }};
}
pub(crate) use by_level;

/// True if a gradient is summed up by columns.
pub(crate) fn has_columns() -> bool {
    cfg!(test) || has_avx2()
}

/// True if there are vectors of eight integers, and somebody keeps their registers.
#[cfg(target_arch = "x86")]
#[inline(always)]
#[allow(unsafe_code, reason = "reads a register that was found")]
pub(crate) fn has_avx2() -> bool {
    use core::sync::atomic::{AtomicU8, Ordering};

    /// 0 if nobody has looked, or 1 and what was found.
    static FOUND: AtomicU8 = AtomicU8::new(0);

    #[cold]
    #[inline(never)]
    fn find() -> bool {
        use core::arch::x86::{__cpuid, __cpuid_count, _xgetbv};

        const SAVES: u32 = 1 << 27;
        const AVX: u32 = 1 << 28;
        const AVX2: u32 = 1 << 5;
        const REGISTERS: u64 = 0b110;

        #[target_feature(enable = "xsave")]
        fn enabled() -> u64 {
            // SAFETY: the caller has found that the system uses XSAVE.
            unsafe { _xgetbv(0) }
        }

        let features = __cpuid(1).ecx;
        // SAFETY: XGETBV is there where the system uses XSAVE.
        let found = features & (SAVES | AVX) == SAVES | AVX
            && __cpuid(0).eax >= 7
            && __cpuid_count(7, 0).ebx & AVX2 != 0
            && unsafe { enabled() } & REGISTERS == REGISTERS;
        FOUND.store(1 + u8::from(found), Ordering::Relaxed);
        found
    }

    match FOUND.load(Ordering::Relaxed) {
        0 => find(),
        found => found == 2,
    }
}

/// True if there are vectors of eight integers; for tests, since other targets have loops of their own.
#[cfg(all(test, target_arch = "x86_64", not(miri)))]
pub(crate) fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

/// False: other targets have loops of their own.
#[cfg(not(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri)))))]
pub(crate) fn has_avx2() -> bool {
    false
}
