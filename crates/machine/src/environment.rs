//! Environment of an emulator: next to nothing of the one in which this program was started.
//!
//! The shell of whoever starts a fleet may hold keys and tokens, and a machine has no use for them: what
//! it has stands in `/proc/<pid>/environ` and in its core dumps, and would be the first find of a guest
//! that breaks out of its emulator.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

use zfl_sandbox::Jail;

/// Variables that are handed on where they are set.
///
/// QEMU 7.2 asks for `QEMU_MODULE_DIR` (where it loads its accelerator from) on every network, and else
/// only for debugging switches of its libraries; the loader asks for `LD_LIBRARY_PATH`. No locale: what a
/// machine complains of is in the same language everywhere.
const KEPT: [&str; 2] = ["LD_LIBRARY_PATH", "QEMU_MODULE_DIR"];

/// One heap for all threads of a machine, and no lists of free blocks for each thread, where the C library is
/// glibc: 0.3 MB less a machine, which allocates little once it runs.
///
/// Blocks of 24 KB and more get pages of their own, for which the heap may keep no more than that in reserve: so the
/// registers of the emulated processor begin at one place of a page in every machine, in QEMU 7.2 at that of a line of
/// the cache. A vector register across two lines costs a device a twentieth of its time, and one across two pages much more
/// (docs/adr/0029).
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0\
     :glibc.malloc.mmap_threshold=24576:glibc.malloc.top_pad=4096",
);

/// Leaves a command nothing of this process's environment but [`KEPT`].
///
/// `PATH` too, if it is to find the emulator: it may be a script around another, as Debian's is.
pub(crate) fn clear(command: &mut Command, path: bool) {
    let names = KEPT.into_iter().chain(path.then_some("PATH"));
    let set: Vec<_> = names
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .collect();
    command.env_clear().envs(set);
}

/// Output of an emulator that is asked something before it has a machine. It needs no privilege for that.
pub(crate) fn output(
    program: &OsStr,
    arguments: &[OsString],
    variables: &[(&str, &str)],
) -> io::Result<Output> {
    let mut command = Command::new(program);
    clear(&mut command, true);
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = Jail::default().spawn(&mut command, &[], 0)?;
    child.wait_with_output()
}

/// Command of a machine: the emulator, with next to no environment, and a pipe for its complaints.
pub(crate) fn command(emulator: &[OsString], arguments: &[OsString]) -> io::Result<Command> {
    let [program, own @ ..] = emulator else {
        return Err(io::Error::other("no emulator"));
    };
    let mut command = Command::new(program);
    clear(&mut command, false);
    command
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .args(own)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Connects a program's standard input and output to its serial line, if it has that there.
pub(crate) fn connect(command: &mut Command, console: Option<OwnedFd>) -> io::Result<()> {
    if let Some(console) = console {
        command.stdin(console.try_clone()?).stdout(console);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_left() {
        let mut command = Command::new("/usr/bin/env");
        command.env("ZFL_TEST_SECRET", "hush");
        clear(&mut command, true);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // Cargo has set many for this test, such as CARGO_MANIFEST_DIR.
        let names: Vec<_> = text
            .lines()
            .filter_map(|l| Some(l.split_once('=')?.0))
            .collect();
        assert!(names.contains(&"PATH"), "{names:?}");
        let known = |name: &&str| *name == "PATH" || KEPT.contains(name);
        assert!(names.iter().all(known), "{names:?}");
    }

    /// Place of the registers of an emulated processor.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn large_blocks_begin_at_one_place_of_a_page() {
        const CHILD: &str = "ZFL_TEST_BLOCKS";
        if std::env::var_os(CHILD).is_some() {
            let blocks: Vec<Vec<u8>> = (30_000..30_100).map(|len| vec![1; len]).collect();
            let place = |block: &Vec<u8>| block.as_ptr() as usize % 4096;
            let first = place(&blocks[0]);
            assert!(blocks.iter().all(|block| place(block) == first));
            return;
        }
        let own = std::env::current_exe().unwrap().into_os_string();
        let name = "environment::tests::large_blocks_begin_at_one_place_of_a_page";
        let mut command = command(&[own], &["--exact".into(), name.into()]).unwrap();
        assert!(command.env(CHILD, "1").status().unwrap().success());
    }
}
