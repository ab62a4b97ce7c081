//! The two loops with AVX2, for a PC that QEMU emulates.
//!
//! QEMU translates sums, products and shifts of eight lanes into as many instructions of the host, but `vpmaddwd`
//! into a call. A vector that comes from memory is written in parts and read whole, for which the host's processor
//! waits: so every load stands far from its use, and the instructions are written out to keep their order.

#![allow(
    unsafe_code,
    reason = "instructions in an order that a compiler would not keep"
)]

use core::arch::asm;
#[cfg(target_arch = "x86")]
use core::arch::x86::*;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use bytemuck::cast;

use super::super::quantise::{LANES, Pair};
use super::super::sparse;
use super::{STEP, bump};

/// Products of the entry of a list, whose octets and index lie at these places.
macro_rules! weighted {
    ($x:literal, $y:literal, $index:literal) => {
        concat!(
            "movzx {i:e}, word ptr [{list} + ", $index, "]
            shl {i:e}, 3
            vmovdqu {a}, [{tile} + {i} * 8]
            vmovdqu {b}, [{tile} + {i} * 8 + 32]
            vpaddd {s0}, {s0}, {x0}
            vpaddd {s1}, {s1}, {x1}
            vpbroadcastb {x}, [{list} + ", $x, "]
            vpbroadcastb {y}, [{list} + ", $y, "]
            vpslld {x0}, {a}, 16
            vpslld {x1}, {b}, 16
            vpsrld {x}, {x}, 24
            vpsrld {y}, {y}, 24
            vpsrad {a}, {a}, 16
            vpsrad {b}, {b}, 16
            vpsrad {x0}, {x0}, 16
            vpsrad {x1}, {x1}, 16
            vpmulld {a}, {a}, {y}
            vpmulld {b}, {b}, {y}
            vpmulld {x0}, {x0}, {x}
            vpmulld {x1}, {x1}, {x}
            vpaddd {s0}, {s0}, {a}
            vpaddd {s1}, {s1}, {b}"
        )
    };
}

/// Products of the entry of a column.
macro_rules! summed {
    ($x:literal, $y:literal, $index:literal) => {
        concat!(
            "movzx {i:e}, word ptr [{list} + ", $index, "]
            and {i:e}, {mask:e}
            vpmovsxwd {a}, [{deltas} + {i} * 8]
            vpmovsxwd {b}, [{deltas} + {i} * 8 + 16]
            vpaddd {y0}, {y0}, {s}
            vpaddd {y1}, {y1}, {t}
            vpbroadcastb {s}, [{list} + ", $x, "]
            vpsrld {s}, {s}, 24
            vpmulld {t}, {a}, {s}
            vpmulld {s}, {b}, {s}
            vpaddd {x0}, {x0}, {t}
            vpbroadcastb {t}, [{list} + ", $y, "]
            vpsrld {t}, {t}, 24
            vpaddd {x1}, {x1}, {s}
            vpmulld {s}, {a}, {t}
            vpmulld {t}, {b}, {t}"
        )
    };
}

/// True if all entries of a list name pairs below `len`.
#[inline]
#[target_feature(enable = "avx2")]
fn all_below(list: &[i32], len: usize) -> bool {
    // The index is in the upper half of an entry.
    let bound = (len << 16).wrapping_sub(1) as i32;
    let (eights, last) = (list.as_chunks::<8>().0, list.last_chunk::<8>());
    let Some(last) = last.filter(|_| (1..=1 << 15).contains(&len)) else {
        return list.iter().all(|&entry| sparse::index(entry) < len);
    };
    let mut most: __m256i = cast(*last);
    for eight in eights {
        most = _mm256_max_epu32(most, cast(*eight));
    }
    let bound = _mm256_set1_epi32(bound);
    _mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(most, bound), bound)) == -1
}

/// As that in vectors; no sums if the list names a pair that is not there.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
    if list.is_empty() || !all_below(list, tile.len()) {
        return Pair::default();
    }
    let (low, high): (__m256i, __m256i);
    // SAFETY: reads the list, and the pairs of the tile that it names, which are there. Writes registers and flags. The
    // caller has found AVX2.
    unsafe {
        asm!(
            "vpxor {s0}, {s0}, {s0}",
            "vpxor {s1}, {s1}, {s1}",
            "vpxor {x0}, {x0}, {x0}",
            "vpxor {x1}, {x1}, {x1}",
            // Four at a time; what is left of that begins within a turn.
            "and {i:e}, 12",
            "jz 2f",
            "add {list}, {i}",
            "sub {list}, 16",
            "cmp {i:e}, 8",
            "je 4f",
            "ja 3f",
            "jmp 5f",
            "2:",
            weighted!("0", "1", "2"),
            "3:",
            weighted!("4", "5", "6"),
            "4:",
            weighted!("8", "9", "10"),
            "5:",
            weighted!("12", "13", "14"),
            "add {list}, 16",
            "cmp {list}, {end}",
            "jne 2b",
            "vpaddd {s0}, {s0}, {x0}",
            "vpaddd {s1}, {s1}, {x1}",
            list = inout(reg) list.as_ptr() => _,
            end = in(reg) list.as_ptr_range().end,
            tile = in(reg) tile.as_ptr(),
            i = inout(reg) size_of_val(list) => _,
            a = out(ymm_reg) _,
            b = out(ymm_reg) _,
            x = out(ymm_reg) _,
            y = out(ymm_reg) _,
            x0 = out(ymm_reg) _,
            x1 = out(ymm_reg) _,
            s0 = out(ymm_reg) low,
            s1 = out(ymm_reg) high,
            options(readonly, nostack),
        );
    }
    cast([low, high])
}

/// Counts the entries of a list by their pairs; false, with nothing counted, if it names a pair that is not there.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn count(counts: &mut [i32], list: &[i32]) -> bool {
    if !all_below(list, counts.len()) {
        return false;
    }
    let (fours, rest) = list.as_chunks::<4>();
    for four in fours {
        for &entry in four {
            // SAFETY: all are below.
            bump(unsafe { counts.get_unchecked_mut(sparse::index(entry)) });
        }
    }
    for &entry in rest {
        bump(&mut counts[sparse::index(entry)]);
    }
    true
}

/// Deals the octets of a list out to columns with this upper half, each at its end; what has no room is lost.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn deal(ends: &mut [i32], entries: &mut [i32], list: &[i32], upper: i32) {
    if !all_below(list, ends.len()) {
        return;
    }
    let mut deal = |entry: i32| {
        // SAFETY: all are below.
        let end = unsafe { ends.get_unchecked_mut(sparse::index(entry)) };
        if let Some(slot) = entries.get_mut(*end as usize) {
            *slot = upper | entry & 0xffff;
        }
        bump(end);
    };
    let (fours, rest) = list.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        deal(a);
        deal(b);
        deal(c);
        deal(d);
    }
    for &entry in rest {
        deal(entry);
    }
}

/// Sums of two inputs: octets of the examples that a column lists, times their deltas.
///
/// There are deltas of a power of two of examples, and an entry names one modulo their number.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn column_sums(deltas: &[[i16; LANES]], column: &[i32], sums: &mut [Pair; 2]) {
    if column.is_empty() || !deltas.len().is_power_of_two() {
        *sums = Default::default();
        return;
    }
    let (x0, x1, y0, y1): (__m256i, __m256i, __m256i, __m256i);
    // SAFETY: reads the column, and deltas below the power of two by which the index is cut. Writes registers and flags.
    // The caller has found AVX2.
    unsafe {
        asm!(
            "vpxor {x0}, {x0}, {x0}",
            "vpxor {x1}, {x1}, {x1}",
            "vpxor {y0}, {y0}, {y0}",
            "vpxor {y1}, {y1}, {y1}",
            "vpxor {s}, {s}, {s}",
            "vpxor {t}, {t}, {t}",
            "and {i:e}, 12",
            "jz 2f",
            "add {list}, {i}",
            "sub {list}, 16",
            "cmp {i:e}, 8",
            "je 4f",
            "ja 3f",
            "jmp 5f",
            "2:",
            summed!("0", "1", "2"),
            "3:",
            summed!("4", "5", "6"),
            "4:",
            summed!("8", "9", "10"),
            "5:",
            summed!("12", "13", "14"),
            "add {list}, 16",
            "cmp {list}, {end}",
            "jne 2b",
            "vpaddd {y0}, {y0}, {s}",
            "vpaddd {y1}, {y1}, {t}",
            list = inout(reg) column.as_ptr() => _,
            end = in(reg) column.as_ptr_range().end,
            deltas = in(reg) deltas.as_ptr(),
            mask = in(reg) (deltas.len() - 1) * STEP,
            i = inout(reg) size_of_val(column) => _,
            a = out(ymm_reg) _,
            b = out(ymm_reg) _,
            s = out(ymm_reg) _,
            t = out(ymm_reg) _,
            x0 = out(ymm_reg) x0,
            x1 = out(ymm_reg) x1,
            y0 = out(ymm_reg) y0,
            y1 = out(ymm_reg) y1,
            options(readonly, nostack),
        );
    }
    *sums = [cast([x0, x1]), cast([y0, y1])];
}
