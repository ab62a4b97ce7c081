//! Levels of vector instructions, and the choice between them.

use std::cell::Cell;
use std::sync::OnceLock;

use super::simd::{self, Kernels};

/// Instructions that the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The plain form that every device has.
    Plain,
    /// Eight lanes.
    Avx2,
    /// Sixteen lanes.
    Avx512,
    /// Four lanes.
    Neon,
}

thread_local! {
    /// The level that a test or a benchmark asks for.
    static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

impl Level {
    /// The levels that this processor has, the fastest last.
    pub fn all() -> impl Iterator<Item = Self> {
        let levels = [Self::Plain, Self::Neon, Self::Avx2, Self::Avx512];
        let has = |level: &Self| *level == Self::Plain || level.kernels().is_some();
        levels.into_iter().filter(has)
    }

    /// Calls `work` with this level in force on this thread, or the fastest if the processor lacks it.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        /// Puts the level back, after a panic too.
        struct Before(Option<Level>);
        impl Drop for Before {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        let _before = Before(FORCED.replace(Some(self)));
        work()
    }

    /// The kernels, if the processor has the instructions.
    fn kernels(self) -> Option<&'static Kernels> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && Self::Avx2.kernels().is_some() =>
            {
                Some(&simd::AVX512)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2
                if is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("popcnt") =>
            {
                Some(&simd::AVX2)
            }
            // Every 64-bit ARM has it.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Some(&simd::NEON),
            _ => None,
        }
    }
}

/// The kernels in force; none if the plain form is.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    static BEST: OnceLock<Option<&'static Kernels>> = OnceLock::new();
    let best = || *BEST.get_or_init(|| Level::all().last().and_then(Level::kernels));
    match FORCED.get() {
        Some(Level::Plain) => None,
        Some(level) => level.kernels().or_else(best),
        None => best(),
    }
}
