//! The emulator: found in `PATH`, its version read and held against the board.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::board::Board;
use crate::environment;

/// An installed emulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// Its program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// `major.minor.micro`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// Refusal of an emulator: absent, broken or too new.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// It is not installed.
    #[error("{program} is not installed; install it with: apt-get install {package}")]
    Missing {
        /// Program that was looked for in `PATH`.
        program: String,
        /// Debian's package of it.
        package: &'static str,
    },
    /// It is there and does not work.
    #[error("{program} --version: {problem}")]
    Broken {
        /// Program that was run.
        program: String,
        /// Result of the call.
        problem: String,
    },
    /// It works, but not for this board.
    #[error("board {board} does not work with QEMU {version}: it needs one before {below}. {hint}")]
    TooNew {
        /// The board.
        board: String,
        /// The version that is there.
        version: Version,
        /// The first version that does not work.
        below: Version,
        /// The way out.
        hint: String,
    },
}

impl Qemu {
    /// Finds the emulator of a board in `PATH` and checks that the board works with it.
    pub fn find(board: &Board) -> Result<Self, QemuError> {
        let program = &board.machine.qemu;
        let path = in_path(program).ok_or_else(|| QemuError::Missing {
            program: program.clone(),
            package: package(program),
        })?;
        let broken = |problem: String| QemuError::Broken {
            program: program.clone(),
            problem,
        };
        let output = environment::output(path.as_os_str(), &["--version".into()], &[])
            .map_err(|e| broken(e.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_of(&text).ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            broken(format!(
                "printed no version, but: {}",
                [&*text, &*stderr].concat().trim()
            ))
        })?;
        check(board, version)?;
        Ok(Self { path, version })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Reads `8.0.50`; what is missing at the end is 0.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(str::parse);
        let version = Self(
            parts.next()?.ok()?,
            parts.next().unwrap_or(Ok(0)).ok()?,
            parts.next().unwrap_or(Ok(0)).ok()?,
        );
        parts.next().is_none().then_some(version)
    }
}

/// Finds the version in `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
fn version_of(text: &str) -> Option<Version> {
    let (_, rest) = text.split_once("version ")?;
    let end = rest
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Version::parse(&rest[..end])
}

fn check(board: &Board, version: Version) -> Result<(), QemuError> {
    match board.nic.qemu_below.as_deref().and_then(Version::parse) {
        Some(below) if version >= below => Err(QemuError::TooNew {
            board: board.name.clone(),
            version,
            below,
            hint: board.nic.qemu_hint.clone(),
        }),
        _ => Ok(()),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        // None that depends on where zfl stands: a folder from a stranger may hold a program.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

fn package(program: &str) -> &'static str {
    match program.strip_prefix("qemu-system-").unwrap_or_default() {
        "i386" | "x86_64" => "qemu-system-x86",
        "arm" | "aarch64" => "qemu-system-arm",
        "mips" | "mipsel" | "mips64" | "mips64el" => "qemu-system-mips",
        "ppc" | "ppc64" => "qemu-system-ppc",
        "sparc" | "sparc64" => "qemu-system-sparc",
        _ => "qemu-system-misc",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::board;

    #[test]
    fn the_version_is_found_in_what_qemu_prints() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(version_of(debian), Some(Version(7, 2, 22)));
        assert_eq!(
            version_of("QEMU emulator version 9.1\n"),
            Some(Version(9, 1, 0))
        );
        for text in [
            "",
            "version",
            "version x",
            "version 1.2.3.4",
            "version 99999999999.0",
        ] {
            assert_eq!(version_of(text), None, "{text}");
        }
    }

    #[test]
    fn an_absent_emulator_is_named_with_the_command_that_brings_it() {
        let mut board = board("microvm");
        board.machine.qemu = "qemu-system-aarch64-of-another-world".into();
        let error = Qemu::find(&board).unwrap_err().to_string();
        assert!(error.contains("another-world is not installed"), "{error}");
        assert!(error.contains("apt-get install qemu-system-"), "{error}");
        assert_eq!(package("qemu-system-i386"), "qemu-system-x86");
    }

    #[test]
    fn a_board_can_refuse_a_version() {
        let mut board = board("microvm");
        assert!(check(&board, Version(99, 0, 0)).is_ok());
        board.nic.qemu_below = Some("8.0.50".into());
        board.nic.qemu_hint = "Take another card.".into();
        assert!(check(&board, Version(7, 2, 22)).is_ok());
        let error = check(&board, Version(8, 0, 50)).unwrap_err().to_string();
        assert!(
            error.contains("8.0.50") && error.contains("Take another card."),
            "{error}"
        );
    }
}
