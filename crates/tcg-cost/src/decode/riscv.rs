//! Classes of RV32IMAC instructions: *The RISC-V Instruction Set Manual*, volume I, chapters 2, 7, 8 and 16.

use super::{Insn, Mark, bits};
use crate::totals::Class;

/// Marks: `slti x0, x0, 1` and `2`, which the manual reserves for a program's own use.
const BEGIN: u32 = 0x0010_2013;
const END: u32 = 0x0020_2013;

/// One of two octets.
pub fn short(h: u32, at: u64) -> Insn {
    match (h & 3, h >> 13) {
        (0 | 2, 2 | 3) => Insn::of(Class::Load),
        (0 | 2, 6 | 7) => Insn::of(Class::Store),
        // C.JAL, C.J
        (1, 1 | 5) => Insn::jump(Class::Jump),
        (1, 6 | 7) => Insn::branch(at + 2),
        // C.JR, C.JALR
        (2, 4) if bits(h, 6, 2) == 0 && bits(h, 11, 7) != 0 => Insn::jump(Class::Jump),
        _ => Insn::of(Class::Alu),
    }
}

/// One of four octets.
pub fn long(w: u32, at: u64) -> Insn {
    match w {
        BEGIN => return Insn::mark(Mark::Begin),
        END => return Insn::mark(Mark::End),
        _ => {}
    }
    match w & 0x7f {
        0x03 => Insn::of(Class::Load),
        0x23 => Insn::of(Class::Store),
        0x63 => Insn::branch(at + 4),
        0x67 | 0x6f => Insn::jump(Class::Jump),
        0x33 if w >> 25 == 1 => Insn::of(match bits(w, 14, 12) {
            0 => Class::Mul,
            1..=3 => Class::MulLong,
            _ => Class::Div,
        }),
        0x2f => Insn::of(Class::Atomic),
        0x0f | 0x73 => Insn::of(Class::Other),
        _ => Insn::of(Class::Alu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Flow;

    #[test]
    fn instructions_have_their_classes() {
        let classes = [
            (0x0005_2503, Class::Load),    // lw a0, 0(a0)
            (0x00b5_2023, Class::Store),   // sw a1, 0(a0)
            (0x02b5_0533, Class::Mul),     // mul a0, a0, a1
            (0x02b5_1533, Class::MulLong), // mulh
            (0x02b5_4533, Class::Div),     // div
            (0x00b5_0533, Class::Alu),     // add
            (0x00b5_1463, Class::Branch),  // bne a0, a1, +8
            (0x0080_006f, Class::Jump),    // j +8
            (0x00b5_252f, Class::Atomic),  // amoadd.w
        ];
        for (word, class) in classes {
            assert_eq!(long(word, 0).class, class, "{word:08x}");
        }
        assert_eq!(long(0x00b5_1463, 100).flow, Flow::Branch(104));
        // c.lw, c.sw, c.j, c.bnez, c.jr ra, c.mv
        let short_ones = [
            (0x4108, Class::Load),
            (0xc108, Class::Store),
            (0xa001, Class::Jump),
            (0xe101, Class::Branch),
            (0x8082, Class::Jump),
            (0x852e, Class::Alu),
        ];
        for (half, class) in short_ones {
            assert_eq!(short(half, 0).class, class, "{half:04x}");
        }
    }

    #[test]
    fn marks_are_told() {
        assert_eq!(long(BEGIN, 0).mark, Some(Mark::Begin));
        assert_eq!(long(END, 0).mark, Some(Mark::End));
        assert_eq!(long(0x0030_2013, 0).mark, None);
    }
}
