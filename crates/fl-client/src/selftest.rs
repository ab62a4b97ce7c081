//! Self-test of a device, as the guests' command `selftest` prints it.

use crate::job::resize;
use alloc::vec::Vec;
use core::fmt;
use fl_nn::selftest::{FLOATS, INTS, Memory, OCTETS, ORDER, run};

/// Examples per step of a training.
const STEP_EXAMPLES: u32 = 16;

/// Trains the small models of [`fl_nn::selftest`], and prints a line for each with its hash and a line
/// with the verdict: `selftest: ok`, or `selftest: FAILED` and why. True if all is right.
///
/// Memory is taken for the test alone, about 25 KiB.
pub fn selftest(mut print: impl FnMut(fmt::Arguments<'_>)) -> bool {
    let (mut floats, mut ints) = (Vec::new(), Vec::new());
    let (mut order, mut octets) = (Vec::new(), Vec::new());
    let fits = resize(&mut floats, FLOATS)
        && resize(&mut ints, INTS)
        && resize(&mut order, ORDER)
        && resize(&mut octets, OCTETS);
    if !fits {
        let bytes = 4 * (FLOATS + INTS + ORDER) + OCTETS;
        print(format_args!(
            "selftest: FAILED, no memory for {bytes} bytes"
        ));
        return false;
    }
    let mut memory = Memory {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
        octets: &mut octets,
    };
    let (mut passed, mut total) = (0, 0);
    run(&mut memory, STEP_EXAMPLES, |check| {
        passed += u32::from(check.passed());
        total += 1;
        print(format_args!("{check}"));
    });
    if passed == total {
        print(format_args!("selftest: ok"));
    } else {
        let failed = total - passed;
        print(format_args!(
            "selftest: FAILED in {failed} of {total} checks"
        ));
    }
    passed == total
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn this_machine_passes_and_says_so_last() {
        let mut lines: Vec<String> = Vec::new();
        assert!(selftest(|line| lines.push(line.to_string())));
        assert_eq!(lines.last().map(String::as_str), Some("selftest: ok"));
        assert_eq!(lines[0], "fixed relu: 2dd65c6f6e932110");
        assert!(lines.iter().all(|line| !line.contains("should be")));
    }
}
