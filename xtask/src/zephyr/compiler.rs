//! The compilers of the guest where there is no Zephyr SDK: Debian's GCC for i686, for Arm's microcontrollers, and for
//! the host; and libclang for bindgen.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::Machine;
use crate::{process, project, setup};

/// The compiler of PCs.
const GCC: &str = "i686-linux-gnu-gcc";
/// Prefix of the names of its programs.
const PREFIX: &str = "i686-linux-gnu-";

/// A C compiler of boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Compiler of emulated PCs.
    I686,
    /// Compiler of boards with an Arm core.
    Arm,
    /// Compiler of programs of the host.
    Host,
}

/// The header that Zephyr asks a GCC before 13.1 for.
const FIXED_HEADER: &str = "include-fixed/limits.h";
/// Place of that header where a distribution keeps no fixed ones.
const PLAIN_HEADER: &str = "include/limits.h";

impl Compiler {
    /// The compiler of a board.
    pub fn of(machine: &Machine) -> Self {
        match machine.qemu.as_str() {
            _ if machine.program.is_some() => Self::Host,
            setup::ARM_EMULATOR => Self::Arm,
            _ => Self::I686,
        }
    }

    /// The program that serves where there is no Zephyr SDK, and Debian's package of it.
    pub fn gcc(self) -> (&'static str, &'static str) {
        match self {
            Self::I686 => (GCC, "gcc-i686-linux-gnu"),
            Self::Arm => ("arm-none-eabi-gcc", "gcc-arm-none-eabi"),
            Self::Host => ("gcc", "gcc"),
        }
    }

    /// True if it is there: GCC, or for another processor than the host's the Zephyr SDK, as the environment says.
    pub fn is_here(self) -> bool {
        (self != Self::Host && has_sdk()) || process::exists(self.gcc().0)
    }

    /// Name for people.
    pub fn what(self) -> String {
        match self {
            Self::I686 => "a C compiler for i686 (the Zephyr SDK, or GCC)".to_owned(),
            Self::Arm => format!("a C compiler for Arm (the Zephyr SDK, or {})", self.gcc().0),
            Self::Host => "a C compiler (gcc)".to_owned(),
        }
    }

    /// Variables by which Zephyr finds it.
    ///
    /// # Errors
    /// If the wrapper that it needs cannot be written.
    pub fn variables(self) -> Result<Vec<(&'static str, String)>> {
        const VARIANT: &str = "ZEPHYR_TOOLCHAIN_VARIANT";
        let prefix = match self {
            Self::Host => return Ok(vec![(VARIANT, "host".to_owned())]),
            _ if has_sdk() => None,
            Self::Arm => process::which(self.gcc().0).and_then(|gcc| {
                let gcc = gcc.display().to_string();
                gcc.strip_suffix("gcc").map(str::to_owned)
            }),
            Self::I686 => of_pcs()?,
        };
        Ok(prefix.map_or_else(Vec::new, |prefix| {
            vec![
                (VARIANT, "cross-compile".to_owned()),
                ("CROSS_COMPILE", prefix),
            ]
        }))
    }
}

/// True if the environment names a toolchain of Zephyr.
fn has_sdk() -> bool {
    ["ZEPHYR_SDK_INSTALL_DIR", "ZEPHYR_TOOLCHAIN_VARIANT"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Prefix of the compiler of PCs: its own, or that of a wrapper, if Zephyr could not be configured with it as it is.
fn of_pcs() -> Result<Option<String>> {
    let Some(gcc) = process::which(GCC) else {
        return Ok(None);
    };
    let folder = if lacks_fixed_header(&gcc) {
        let wrappers = project::root().join(".zfl/cross");
        wrap(&gcc, &wrappers).with_context(|| format!("write {}", wrappers.display()))?;
        wrappers
    } else {
        gcc.parent().unwrap_or(Path::new("/usr/bin")).to_owned()
    };
    Ok(Some(format!("{}/{PREFIX}", folder.display())))
}

/// True for a GCC before 13.1 that names no place for the header that Zephyr asks it for.
fn lacks_fixed_header(gcc: &Path) -> bool {
    let ask =
        |question: &str| process::quiet_output(Command::new(gcc).arg(question)).unwrap_or_default();
    let version = ask("-dumpfullversion");
    let mut numbers = version
        .trim()
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // A file that GCC does not find it names as it was asked.
    version < (13, 1) && ask(&format!("--print-file-name={FIXED_HEADER}")).trim() == FIXED_HEADER
}

/// Fills a folder with links to the compiler's programs, and a compiler that answers for the header.
fn wrap(gcc: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let tools = gcc.parent().context("the compiler has no folder")?;
    for entry in tools.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let link = folder.join(&name);
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX) && name != GCC);
        if ours && link.symlink_metadata().is_err() {
            symlink(entry.path(), &link)?;
        }
    }
    let script = format!(
        "#!/bin/sh\n\
         # Made by cargo xtask. Zephyr asks a GCC before 13.1 for {FIXED_HEADER}; this one has the\n\
         # header as {PLAIN_HEADER}.\n\
         case \"$*\" in\n\
         *--print-file-name={FIXED_HEADER}*) set -- --print-file-name={PLAIN_HEADER} ;;\n\
         esac\n\
         exec '{}' \"$@\"\n",
        gcc.display()
    );
    let wrapper = folder.join(GCC);
    if fs::read_to_string(&wrapper).is_ok_and(|there| there == script) {
        return Ok(());
    }
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// True if bindgen finds libclang: the C interface, in whose place `libclang-cpp` does not serve.
pub fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    named.is_some_and(|path| is_libclang(&path) || lists_libclang(&path))
        || ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
            .iter()
            .any(|root| below(Path::new(root), 2))
}

/// True if a folder lists libclang, or one of its folders does, so many levels down.
fn below(folder: &Path, levels: u32) -> bool {
    if lists_libclang(folder) {
        return true;
    }
    let folders = folder
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    levels > 0
        && folders
            .filter(|path| path.is_dir())
            .any(|path| below(&path, levels - 1))
}

fn lists_libclang(folder: &Path) -> bool {
    let files = folder.read_dir().into_iter().flatten().flatten();
    files.into_iter().any(|file| is_libclang(&file.path()))
}

/// True for `libclang.so` and `libclang-14.so`, with or without a version behind it.
fn is_libclang(path: &Path) -> bool {
    let Some(rest) = path
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("libclang"))
    else {
        return false;
    };
    let rest = match rest.strip_prefix('-') {
        Some(numbered) => numbered
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .trim_start_matches("so"),
        None => rest.strip_prefix(".so").unwrap_or("no"),
    };
    rest.is_empty() || rest.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zephyr_board_has_a_compiler() {
        let boards = project::boards().unwrap();
        let compiler = |name: &str| {
            let board = boards.iter().find(|board| board.name == name);
            Compiler::of(&board.expect("a board of that name").machine)
        };
        assert_eq!(compiler("qemu_x86"), Compiler::I686);
        assert_eq!(compiler("mps2_an385"), Compiler::Arm);
        assert_eq!(compiler("native_sim"), Compiler::Host);
    }

    #[test]
    fn a_program_of_the_host_is_built_by_the_hosts_compiler_whatever_sdk_is_there() {
        let variables = Compiler::Host.variables().unwrap();
        let host = ("ZEPHYR_TOOLCHAIN_VARIANT", "host".to_owned());
        assert_eq!(variables, [host]);
    }

    #[test]
    fn libclang_is_told_from_libclang_cpp() {
        for name in [
            "libclang.so",
            "libclang.so.1",
            "libclang-14.so.14.0.6",
            "libclang-14.so",
            "libclang-14.so.1",
        ] {
            assert!(is_libclang(Path::new(name)), "{name}");
        }
        for name in [
            "libclang-cpp.so.14",
            "libclang-cpp14.so",
            "libclang_rt.so",
            "libclang.a",
            "libclangBasic.so",
        ] {
            assert!(!is_libclang(Path::new(name)), "{name}");
        }
    }

    /// A compiler of this version that finds the header, or does not.
    fn gcc(folder: &Path, version: &str, header: &str) -> PathBuf {
        let gcc = folder.join(GCC);
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\n-dumpfullversion) echo {version} ;;\n\
             --print-file-name={FIXED_HEADER}) echo {header} ;;\n\
             --print-file-name={PLAIN_HEADER}) echo /lib/gcc/include/limits.h ;;\n*) echo \"$@\" ;;\nesac\n"
        );
        fs::write(&gcc, script).unwrap();
        fs::set_permissions(&gcc, fs::Permissions::from_mode(0o755)).unwrap();
        gcc
    }

    #[test]
    fn only_an_old_compiler_without_the_header_needs_the_wrapper() {
        let folder = tempfile::tempdir().unwrap();
        for (version, header, lacks) in [
            ("12.2.0", FIXED_HEADER, true),
            ("12.2.0", "/lib/gcc/include-fixed/limits.h", false),
            ("13.1.0", FIXED_HEADER, false),
            ("14.2.0", FIXED_HEADER, false),
        ] {
            let gcc = gcc(folder.path(), version, header);
            assert_eq!(lacks_fixed_header(&gcc), lacks, "{version} {header}");
        }
    }

    #[test]
    fn the_wrapper_answers_for_the_header_and_passes_all_else_on() {
        let (tools, wrappers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let gcc = gcc(tools.path(), "12.2.0", FIXED_HEADER);
        fs::write(tools.path().join("i686-linux-gnu-ld"), "").unwrap();
        for _ in 0..2 {
            wrap(&gcc, wrappers.path()).unwrap();
        }
        let ask = |question: &str| {
            let mut wrapper = Command::new(wrappers.path().join(GCC));
            process::quiet_output(wrapper.arg(question))
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(
            ask(&format!("--print-file-name={FIXED_HEADER}")),
            "/lib/gcc/include/limits.h"
        );
        assert_eq!(ask("-c"), "-c");
        assert!(wrappers.path().join("i686-linux-gnu-ld").is_symlink());
    }
}
