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

use super::super::quantise::Pair;
use super::super::sparse;
use super::{BIAS, Deltas, ENTRY, STEP};

/// Products of the entry of a list, whose octets and place of the entry behind it are given: that one's weights take the
/// place of its own as soon as these are used.
macro_rules! weighted {
    ($x:literal, $y:literal, $next:literal) => {
        concat!(
            "movzx {i:e}, word ptr [{list} + ", $next, "]
            shl {i:e}, 3
            vpbroadcastb {x}, [{list} + ", $x, "]
            vpbroadcastb {y}, [{list} + ", $y, "]
            vpslld {s}, {a}, 16
            vpsrld {x}, {x}, 24
            vpsrld {y}, {y}, 24
            vpsrad {a}, {a}, 16
            vpsrad {s}, {s}, 16
            vpmulld {a}, {a}, {y}
            vpmulld {s}, {s}, {x}
            vpslld {t}, {b}, 16
            vpaddd {s0}, {s0}, {a}
            vmovdqu {a}, [{tile} + {i} * 8]
            vpsrad {b}, {b}, 16
            vpsrad {t}, {t}, 16
            vpmulld {b}, {b}, {y}
            vpmulld {t}, {t}, {x}
            vpaddd {s0}, {s0}, {s}
            vpaddd {s1}, {s1}, {b}
            vmovdqu {b}, [{tile} + {i} * 8 + 32]
            vpaddd {s1}, {s1}, {t}"
        )
    };
}

/// Products of the entry of a column, whose deltas are in the first register; those of the entry behind it come to the
/// second.
macro_rules! summed {
    ($a:literal, $next:literal, $x:literal, $y:literal, $index:literal) => {
        concat!(
            "movzx {i:e}, word ptr [{list} + ", $index, "]
            and {i:e}, {mask:e}
            vmovdqu {", $next, "}, [{deltas} + {i} * 8]
            vpbroadcastb {s}, [{list} + ", $x, "]
            vpsrld {s}, {s}, 24
            vpmulld {t}, {", $a, "}, {s}
            vpaddd {x0}, {x0}, {t}
            vpsrad {t}, {", $a, "}, 16
            vpmulld {s}, {s}, {t}
            vpaddd {x1}, {x1}, {s}
            vpbroadcastb {s}, [{list} + ", $y, "]
            vpsrld {s}, {s}, 24
            vpmulld {", $a, "}, {", $a, "}, {s}
            vpmulld {t}, {t}, {s}
            vpaddd {y0}, {y0}, {", $a, "}
            vpaddd {y1}, {y1}, {t}"
        )
    };
}

/// Puts the entry of a list at the end of its column.
macro_rules! dealt {
    ($entry:literal) => {
        concat!(
            "mov {i:e}, dword ptr [{list} + ",
            $entry,
            "]
            mov {end:e}, 4
            mov {upper:x}, {i:x}
            shr {i:e}, 16
            xadd dword ptr [{words} + {i} * 4], {end:e}
            mov dword ptr [{words} + {end}], {upper:e}"
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
            "movzx {i:e}, word ptr [{list} + 2]",
            "shl {i:e}, 3",
            "vmovdqu {a}, [{tile} + {i} * 8]",
            "vmovdqu {b}, [{tile} + {i} * 8 + 32]",
            // Four at a time, of which the last is at the begin of a turn, since none may be behind it; what is left of
            // fours begins within one.
            "mov {i}, {end}",
            "sub {i}, {list}",
            "and {i:e}, 12",
            "jz 3f",
            "lea {list}, [{list} + {i} - 16]",
            "cmp {i:e}, 8",
            "je 5f",
            "ja 4f",
            "jmp 6f",
            "2:",
            weighted!("-4", "-3", "2"),
            "3:",
            weighted!("0", "1", "6"),
            "4:",
            weighted!("4", "5", "10"),
            "5:",
            weighted!("8", "9", "14"),
            "6:",
            "add {list}, 16",
            "cmp {list}, {end}",
            "jne 2b",
            "vpbroadcastb {x}, [{list} - 4]",
            "vpbroadcastb {y}, [{list} - 3]",
            "vpslld {s}, {a}, 16",
            "vpslld {t}, {b}, 16",
            "vpsrld {x}, {x}, 24",
            "vpsrld {y}, {y}, 24",
            "vpsrad {a}, {a}, 16",
            "vpsrad {b}, {b}, 16",
            "vpsrad {s}, {s}, 16",
            "vpsrad {t}, {t}, 16",
            "vpmulld {a}, {a}, {y}",
            "vpmulld {b}, {b}, {y}",
            "vpmulld {s}, {s}, {x}",
            "vpmulld {t}, {t}, {x}",
            "vpaddd {s0}, {s0}, {a}",
            "vpaddd {s1}, {s1}, {b}",
            "vpaddd {s0}, {s0}, {s}",
            "vpaddd {s1}, {s1}, {t}",
            list = inout(reg) list.as_ptr() => _,
            end = in(reg) list.as_ptr_range().end,
            tile = in(reg) tile.as_ptr(),
            i = out(reg) _,
            a = out(ymm_reg) _,
            b = out(ymm_reg) _,
            x = out(ymm_reg) _,
            y = out(ymm_reg) _,
            s = out(ymm_reg) _,
            t = out(ymm_reg) _,
            s0 = out(ymm_reg) low,
            s1 = out(ymm_reg) high,
            options(readonly, nostack),
        );
    }
    cast([low, high])
}

/// Counts the entries of a list by their pairs, in bytes; false, with nothing counted, if it names a pair that is not
/// there.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn count(counts: &mut [i32], list: &[i32]) -> bool {
    if !all_below(list, counts.len()) {
        return false;
    }
    let mut bump = |entry: i32| {
        // SAFETY: all are below.
        let count = unsafe { counts.get_unchecked_mut(sparse::index(entry)) };
        *count = count.wrapping_add(ENTRY);
    };
    let (eights, rest) = list.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in eights {
        bump(a);
        bump(b);
        bump(c);
        bump(d);
        bump(e);
        bump(f);
        bump(g);
        bump(h);
    }
    rest.iter().for_each(|&entry| bump(entry));
    true
}

/// Deals the octets of a list out to columns with this upper half, each at its end.
///
/// # Safety
/// As [`super::deal`].
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn deal(words: &mut [i32], list: &[i32], upper: i32) {
    let (eights, rest) = list.as_chunks::<8>();
    let (words, mut upper) = (words.as_mut_ptr(), upper);
    for eight in eights {
        // SAFETY: reads eight entries, and moves the ends of their columns by a word each, which it writes: the caller says
        // that they are there.
        unsafe {
            asm!(
                dealt!("0"),
                dealt!("4"),
                dealt!("8"),
                dealt!("12"),
                dealt!("16"),
                dealt!("20"),
                dealt!("24"),
                dealt!("28"),
                list = in(reg) eight.as_ptr(),
                words = in(reg) words,
                upper = inout(reg) upper,
                i = out(reg) _,
                end = out(reg) _,
                options(nostack),
            );
        }
    }
    for entry in rest {
        // SAFETY: the same of one.
        unsafe {
            asm!(
                dealt!("0"),
                list = in(reg) entry,
                words = in(reg) words,
                upper = inout(reg) upper,
                i = out(reg) _,
                end = out(reg) _,
                options(nostack),
            );
        }
    }
}

/// As the definition.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn excess(column: &[i32]) -> [i32; 2] {
    let (eights, rest) = column.as_chunks::<8>();
    let octet = _mm256_set1_epi32(0xff);
    let (mut x, mut y) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for eight in eights {
        let entries: __m256i = cast(*eight);
        x = _mm256_add_epi32(x, _mm256_and_si256(entries, octet));
        y = _mm256_add_epi32(y, _mm256_and_si256(_mm256_srli_epi32::<8>(entries), octet));
    }
    let sums = [x, y].map(|lanes| {
        let lanes: [i32; 8] = cast(lanes);
        let sum = lanes.into_iter().fold(0, i32::wrapping_add);
        sum.wrapping_mul(BIAS)
    });
    let [x, y] = super::plain_excess(rest);
    [sums[0].wrapping_add(x), sums[1].wrapping_add(y)]
}

/// Sums of two inputs: octets of the examples that a column lists, times their deltas.
///
/// The sums of the low halves are those of whole lanes without those of the high halves, modulo 2^32, and the excess. Deltas
/// are loaded an entry ahead of their use; what is behind the last entry names some that are there, like all.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) fn column_sums(
    deltas: &[Deltas],
    column: &[i32],
    excess: [i32; 2],
    sums: &mut [Pair; 2],
) {
    if column.len() < 2 || !deltas.len().is_power_of_two() {
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
            "movzx {i:e}, word ptr [{list} + 2]",
            "and {i:e}, {mask:e}",
            "vmovdqu {a}, [{deltas} + {i} * 8]",
            "vmovdqa {b}, {a}",
            "mov {i}, {end}",
            "sub {i}, {list}",
            "and {i:e}, 12",
            "jz 2f",
            "lea {list}, [{list} + {i} - 16]",
            "cmp {i:e}, 8",
            "je 4f",
            "ja 3f",
            "jmp 5f",
            "2:",
            summed!("a", "b", "0", "1", "6"),
            "3:",
            summed!("b", "a", "4", "5", "10"),
            "4:",
            summed!("a", "b", "8", "9", "14"),
            "5:",
            summed!("b", "a", "12", "13", "18"),
            "add {list}, 16",
            "cmp {list}, {end}",
            "jne 2b",
            list = inout(reg) column.as_ptr() => _,
            end = in(reg) &raw const column[column.len() - 1],
            deltas = in(reg) deltas.as_ptr(),
            mask = in(reg) (deltas.len() - 1) * STEP,
            i = out(reg) _,
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
    let [x, y] = excess.map(|excess| _mm256_set1_epi32(excess));
    let x0 = _mm256_sub_epi32(_mm256_sub_epi32(x0, _mm256_slli_epi32::<16>(x1)), x);
    let y0 = _mm256_sub_epi32(_mm256_sub_epi32(y0, _mm256_slli_epi32::<16>(y1)), y);
    *sums = [cast([x0, x1]), cast([y0, y1])];
}
