//! Environment of an emulator: next to nothing of the one in which this program was started.
//!
//! The shell of whoever starts a fleet may hold keys and tokens, and a machine has no use for them: what
//! it has stands in `/proc/<pid>/environ` and in its core dumps, and would be the first find of a guest
//! that breaks out of its emulator.

use std::process::Command;

/// Variables that are handed on where they are set.
///
/// QEMU 7.2 asks for `QEMU_MODULE_DIR` (where it loads its accelerator from) on every network, and else
/// only for debugging switches of its libraries; for `TMPDIR` if a board has it write temporary files.
/// The loader asks for `LD_LIBRARY_PATH`, and an emulator that is a script around another, as Debian's
/// is, may ask for `PATH`. No locale: what a machine complains of is in the same language everywhere.
const KEPT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR", "TMPDIR"];

/// Leaves a command nothing of this process's environment but [`KEPT`].
pub(crate) fn clear(command: &mut Command) {
    let kept = KEPT.map(|name| (name, std::env::var_os(name)));
    let set = kept
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_left() {
        let mut command = Command::new("/usr/bin/env");
        command.env("ZFL_TEST_SECRET", "hush");
        clear(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // Cargo has set many for this test, such as CARGO_MANIFEST_DIR.
        let names: Vec<_> = text
            .lines()
            .filter_map(|l| Some(l.split_once('=')?.0))
            .collect();
        assert!(names.contains(&"PATH"), "{names:?}");
        assert!(names.iter().all(|name| KEPT.contains(name)), "{names:?}");
    }
}
