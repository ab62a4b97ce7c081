//! Merging of the machines' memory by their host: Linux keeps pages that are equal once (KSM, kernel samepage
//! merging).
//!
//! A machine asks for it on its way to exec, and gives up the random layout of its memory, with which few pages
//! would be equal. The host does it if root has switched it on; that is left to root.

use std::io;

/// Switch of the whole machine: 1 is on.
const SWITCH: &str = "/sys/kernel/mm/ksm/run";

/// Tells if this host merges memory.
///
/// # Errors
/// Reason why it does not, with what would change it.
pub fn merges_memory() -> Result<(), String> {
    let switch = std::fs::read_to_string(SWITCH);
    of_switch(&switch)?;
    crate::sys::can_merge()
        .map_err(|_| "it takes Linux 6.4, to merge, and 6.7 over exec".to_owned())
}

fn of_switch(switch: &io::Result<String>) -> Result<(), String> {
    match switch {
        Ok(state) if state.trim() == "1" => Ok(()),
        Ok(_) => Err(format!(
            "it is switched off; on, as root: echo 1 > {SWITCH}"
        )),
        Err(error) => Err(format!("this kernel has no KSM: {SWITCH}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_merge_comes_with_a_command_for_root() {
        let state = |text: &str| of_switch(&Ok(text.to_owned()));
        assert_eq!(state("1\n"), Ok(()));
        for off in ["0\n", "2\n"] {
            let why = state(off).unwrap_err();
            assert!(why.contains("echo 1 > /sys/kernel/mm/ksm/run"), "{why}");
        }
        let why = of_switch(&Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert!(why.contains("no KSM"), "{why}");
    }
}
