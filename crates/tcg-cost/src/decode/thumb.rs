//! Classes of Thumb-2 instructions: *ARMv7-M Architecture Reference Manual* (DDI 0403), chapters A5 and A6.
//!
//! An instruction that its IT block leaves out is counted like one that is executed.

use super::{Insn, Mark, bits};
use crate::totals::Class;

/// Marks: `mov r11, r11` and `mov r10, r10`.
const BEGIN: u32 = 0x46db;
const END: u32 = 0x46d2;

/// One of two octets.
pub fn short(h: u32, at: u64) -> Insn {
    match h {
        BEGIN => return Insn::mark(Mark::Begin),
        END => return Insn::mark(Mark::End),
        _ => {}
    }
    match bits(h, 15, 10) {
        16 if bits(h, 9, 6) == 13 => Insn::of(Class::Mul),
        0..=16 => Insn::of(Class::Alu),
        // BX, BLX, and ADD or MOV to the program counter.
        17 if bits(h, 9, 8) == 3 || (h & 0x87 == 0x87 && bits(h, 9, 8) != 1) => {
            Insn::jump(Class::Jump)
        }
        17 => Insn::of(Class::Alu),
        18 | 19 => Insn::of(Class::Load),
        20..=23 if bits(h, 11, 9) < 3 => Insn::of(Class::Store),
        20..=23 => Insn::of(Class::Load),
        24..=39 if h >> 11 & 1 == 1 => Insn::of(Class::Load),
        24..=39 => Insn::of(Class::Store),
        40..=43 => Insn::of(Class::Alu),
        44..=47 => miscellaneous(h, at),
        48 | 49 => Insn::many(Class::StoreMany, bits(h, 7, 0).count_ones()),
        50 | 51 => Insn::many(Class::LoadMany, bits(h, 7, 0).count_ones()),
        52..=55 if bits(h, 11, 8) >= 14 => Insn::of(Class::Other),
        52..=55 => Insn::branch(at + 2),
        56 | 57 => Insn::jump(Class::Jump),
        _ => Insn::of(Class::Other),
    }
}

fn miscellaneous(h: u32, at: u64) -> Insn {
    let registers = bits(h, 8, 0).count_ones();
    match bits(h, 11, 8) {
        // CBZ, CBNZ
        1 | 3 | 9 | 11 => Insn::branch(at + 2),
        4 | 5 => Insn::many(Class::StoreMany, registers),
        12 => Insn::many(Class::LoadMany, registers),
        13 => Insn {
            words: registers,
            ..Insn::jump(Class::LoadMany)
        },
        14 => Insn::of(Class::Other),
        15 if bits(h, 3, 0) != 0 => Insn::of(Class::It),
        _ => Insn::of(Class::Alu),
    }
}

/// One of four octets.
pub fn long(h: u32, l: u32, at: u64) -> Insn {
    let op2 = bits(h, 10, 4);
    match bits(h, 12, 11) {
        1 if op2 & 0x40 != 0 => coprocessor(h, l),
        1 if op2 & 0x64 == 0 => several(h, l),
        1 if op2 & 0x64 == 4 => doubles(h, l),
        2 if l >> 15 == 0 => Insn::of(Class::Alu),
        2 if l & 0x5000 == 0 && bits(h, 9, 6) < 14 => Insn::branch(at + 4),
        2 if l & 0x5000 == 0 => Insn::of(Class::Other),
        2 => Insn::jump(Class::Jump),
        3 if op2 & 0x40 != 0 => coprocessor(h, l),
        3 if op2 & 0x71 == 0 => Insn::of(Class::Store),
        3 if op2 & 0x61 == 1 && op2 & 6 == 4 && l >> 12 == 15 => Insn::jump(Class::Load),
        3 if op2 & 0x61 == 1 => Insn::of(Class::Load),
        3 if op2 & 0x70 == 0x20 => register(h, l),
        3 if op2 & 0x78 == 0x30 => multiply(op2 & 7, l),
        3 if op2 & 0x78 == 0x38 => Insn::of(match (op2 & 7, bits(l, 7, 4)) {
            (1 | 3, _) => Class::Div,
            (0 | 2, _) => Class::MulLong,
            _ => Class::MulLongAdd,
        }),
        _ => Insn::of(Class::Alu),
    }
}

/// LDM, STM, with or without the program counter.
fn several(h: u32, l: u32) -> Insn {
    let words = l.count_ones();
    match (h >> 4 & 1, l >> 15) {
        (0, _) => Insn::many(Class::StoreMany, words),
        (_, 0) => Insn::many(Class::LoadMany, words),
        _ => Insn {
            words,
            ..Insn::jump(Class::LoadMany)
        },
    }
}

/// LDRD, STRD, exclusive accesses and table branches.
fn doubles(h: u32, l: u32) -> Insn {
    // TBB, TBH
    if h & 0xfff0 == 0xe8d0 && l & 0xf0e0 == 0xf000 {
        return Insn::jump(Class::Load);
    }
    // P or W: LDRD, STRD.
    match (h >> 4 & 1 == 1, h & 0x0120 != 0) {
        (true, true) => Insn::many(Class::LoadMany, 2),
        (false, true) => Insn::many(Class::StoreMany, 2),
        (true, false) => Insn::of(Class::Load),
        (false, false) => Insn::of(Class::Store),
    }
}

/// Shifts, extensions, and arithmetic of parts of a register.
fn register(h: u32, l: u32) -> Insn {
    let is_parallel = h >> 7 & 1 == 1 && l >> 7 & 1 == 0;
    let extends_pairs = h >> 7 & 1 == 0 && l >> 7 & 1 == 1 && matches!(bits(h, 6, 4), 2 | 3);
    Insn::of(match is_parallel || extends_pairs {
        true => Class::Simd,
        false => Class::Alu,
    })
}

/// Products of 32 bits: MUL, MLA, halves, pairs.
fn multiply(op: u32, l: u32) -> Insn {
    let adds = l >> 12 != 15;
    Insn::of(match op {
        2 | 4 => Class::DualMulAdd,
        // USAD8 without a sum is no product.
        7 => Class::Simd,
        _ if adds => Class::MulAdd,
        _ => Class::Mul,
    })
}

/// Floating point: coprocessors 10 and 11.
fn coprocessor(h: u32, l: u32) -> Insn {
    if bits(l, 11, 9) != 5 {
        return Insn::of(Class::Other);
    }
    if h & 0xff00 == 0xee00 || h & 0xff00 == 0xfe00 {
        return arithmetic(h, l);
    }
    if h & 0x0fe0 == 0x0c40 {
        return Insn::of(Class::FpMove);
    }
    let load = h >> 4 & 1 == 1;
    match (h & 0x0120 == 0x0100, load) {
        (true, true) => Insn::of(Class::Load),
        (true, false) => Insn::of(Class::Store),
        (false, true) => Insn::many(Class::LoadMany, bits(l, 7, 0)),
        (false, false) => Insn::many(Class::StoreMany, bits(l, 7, 0)),
    }
}

fn arithmetic(h: u32, l: u32) -> Insn {
    if l >> 4 & 1 == 1 {
        return Insn::of(Class::FpMove);
    }
    if h & 0xff00 == 0xfe00 {
        return Insn::of(Class::FpOther);
    }
    let is_square_root = bits(h, 3, 0) == 1 && bits(l, 7, 6) == 3;
    Insn::of(match bits(h, 7, 4) & 0b1011 {
        0 | 1 | 9 | 10 => Class::FpMulAdd,
        2 => Class::FpMul,
        3 => Class::FpAdd,
        8 => Class::FpDiv,
        _ if is_square_root => Class::FpDiv,
        // VMOV of a register, VABS, VNEG, immediates.
        _ if l >> 6 & 1 == 0 || bits(h, 3, 1) == 0 => Class::FpMove,
        _ => Class::FpOther,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Flow;

    #[test]
    fn short_ones_have_their_classes() {
        let classes = [
            (0x4348, Class::Mul),       // muls r0, r1
            (0x1840, Class::Alu),       // adds r0, r0, r1
            (0x6808, Class::Load),      // ldr r0, [r1]
            (0x6008, Class::Store),     // str r0, [r1]
            (0x5c08, Class::Load),      // ldrb r0, [r1, r0]
            (0xb570, Class::StoreMany), // push {r4-r6, lr}
            (0xbd70, Class::LoadMany),  // pop {r4-r6, pc}
            (0xd1fe, Class::Branch),    // bne
            (0xe7fe, Class::Jump),      // b
            (0x4770, Class::Jump),      // bx lr
            (0xb108, Class::Branch),    // cbz r0
            (0xbf08, Class::It),        // it eq
            (0xbf00, Class::Alu),       // nop
            (0x4608, Class::Alu),       // mov r0, r1
        ];
        for (half, class) in classes {
            assert_eq!(short(half, 0).class, class, "{half:04x}");
        }
        assert_eq!(short(0xbd70, 0).words, 4);
        assert_eq!(short(0xbd70, 0).flow, Flow::Jump);
        assert_eq!(short(0xd1fe, 8).flow, Flow::Branch(10));
    }

    #[test]
    fn long_ones_have_their_classes() {
        let classes = [
            (0xfb00, 0xf001, Class::Mul),        // mul r0, r0, r1
            (0xfb00, 0x2001, Class::MulAdd),     // mla r0, r0, r1, r2
            (0xfb20, 0x3001, Class::DualMulAdd), // smlad r0, r0, r1, r3
            (0xfb10, 0x3001, Class::MulAdd),     // smlabb
            (0xfb80, 0x0102, Class::MulLong),    // smull
            (0xfbc0, 0x0102, Class::MulLongAdd), // smlal
            (0xfb90, 0xf0f1, Class::Div),        // sdiv
            (0xfa2f, 0xf080, Class::Simd),       // sxtb16 r0, r0
            (0xfa0f, 0xf080, Class::Alu),        // sxth.w r0, r0
            (0xfa00, 0xf001, Class::Alu),        // lsl.w
            (0xe9d1, 0x0100, Class::LoadMany),   // ldrd
            (0xe8bd, 0x8ff0, Class::LoadMany),   // pop.w
            (0xe92d, 0x4ff0, Class::StoreMany),  // push.w
            (0xf8d1, 0x0000, Class::Load),       // ldr.w
            (0xf991, 0x0000, Class::Load),       // ldrsb.w
            (0xf8c1, 0x0000, Class::Store),      // str.w
            (0xeb00, 0x0001, Class::Alu),        // add.w
            (0xf000, 0xf800, Class::Jump),       // bl
            (0xf040, 0x8001, Class::Branch),     // bne.w
            (0xed91, 0x0a00, Class::Load),       // vldr
            (0xed81, 0x0a00, Class::Store),      // vstr
            (0xee00, 0x0a01, Class::FpMulAdd),   // vmla
            (0xee20, 0x0a01, Class::FpMul),      // vmul
            (0xee30, 0x0a01, Class::FpAdd),      // vadd
            (0xee80, 0x0a01, Class::FpDiv),      // vdiv
            (0xeeb1, 0x0ac0, Class::FpDiv),      // vsqrt
            (0xeeb0, 0x0a40, Class::FpMove),     // vmov s0, s0
            (0xeef1, 0xfa10, Class::FpMove),     // vmrs
            (0xeeb4, 0x0a60, Class::FpOther),    // vcmp
        ];
        for (h, l, class) in classes {
            assert_eq!(long(h, l, 0).class, class, "{h:04x} {l:04x}");
        }
        assert_eq!(long(0xf040, 0x8001, 8).flow, Flow::Branch(12));
        assert_eq!(long(0xe8bd, 0x8ff0, 0).words, 9);
    }

    #[test]
    fn marks_are_told() {
        assert_eq!(short(BEGIN, 0).mark, Some(Mark::Begin));
        assert_eq!(short(END, 0).mark, Some(Mark::End));
        assert_eq!(short(0x46c0, 0).mark, None);
    }
}
