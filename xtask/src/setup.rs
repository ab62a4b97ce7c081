//! Set-up: what zfl needs of the system and Cargo cannot bring.
//!
//! Packages are installed by apt, as root or through a sudo that asks for no password. Anywhere else
//! the user is told what to install: nothing is downloaded past the package manager and rustup.

use crate::process::{self, exists, succeeds_within};
use crate::project;
use crate::toolchain::Toolchain;
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Duration;

/// The target of the bare-metal firmware. It is used without its operating system: what counts is
/// the code generator's settings, and that rustup has a prebuilt `core` for it.
pub const GUEST_TARGET: &str = "i686-unknown-linux-gnu";

/// Debian's Rust that is recent enough, and its sources.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The browser that the dashboard is tested in: programs, and Debian's packages of them.
const BROWSER: [(&str, &str); 2] = [
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
];

/// Time limit of rustup, before Debian's packages are taken instead.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// Installs whatever is missing to build firmware and to boot it.
///
/// # Errors
/// If something is missing and cannot be installed; the message has the command that would.
pub fn all() -> Result<()> {
    let mut packages = Vec::new();
    if exists(EMULATOR) {
        println!("setup: QEMU is there");
    } else {
        packages.push("qemu-system-x86");
    }
    if !exists("ld") {
        packages.push("binutils");
    }
    let toolchain = with_rustup(GUEST_TARGET);
    if toolchain.is_none() {
        packages.extend(DEBIAN_RUST);
    }
    install(&packages)?;
    let toolchain = match toolchain {
        Some(toolchain) => toolchain,
        None => installed(GUEST_TARGET)?,
    };
    println!("setup: firmware is built by {}", toolchain.describe());
    Ok(())
}

/// A toolchain for `target`, installed if there is none.
///
/// # Errors
/// As [`all`].
pub fn toolchain(target: &str) -> Result<Toolchain> {
    if let Some(toolchain) = with_rustup(target) {
        return Ok(toolchain);
    }
    install(&DEBIAN_RUST)?;
    installed(target)
}

/// Checks that QEMU is there, installs it if not.
///
/// # Errors
/// As [`all`].
pub fn qemu() -> Result<()> {
    if exists(EMULATOR) {
        Ok(())
    } else {
        install(&["qemu-system-x86"])
    }
}

/// The emulator of PCs.
pub const EMULATOR: &str = "qemu-system-i386";

/// The emulator of boards with an Arm core.
pub const ARM_EMULATOR: &str = "qemu-system-arm";

/// Checks that a board's emulator is there, installs it if not.
///
/// # Errors
/// As [`all`].
pub fn emulator(program: &str) -> Result<()> {
    if in_path(program) {
        return Ok(());
    }
    install(&[match program {
        EMULATOR => "qemu-system-x86",
        ARM_EMULATOR => "qemu-system-arm",
        _ => "qemu-system-misc",
    }])
}

/// Checks that the linker of microcontrollers is there, installs it if not.
///
/// # Errors
/// As [`all`].
pub fn lld() -> Result<()> {
    match in_path("ld.lld") {
        true => Ok(()),
        false => install(&["lld"]),
    }
}

/// Checks that the browser of the dashboard's tests and its driver are there, installs them if not.
///
/// # Errors
/// As [`all`].
pub fn browser() -> Result<()> {
    let missing = BROWSER
        .into_iter()
        .filter(|(program, _)| !in_path(program))
        .map(|(_, package)| package)
        .collect::<Vec<_>>();
    install(&missing)
}

/// Checks that Slurm's daemons are there, for the test on a cluster, installs them if not.
///
/// # Errors
/// As [`all`].
pub fn slurm() -> Result<()> {
    match in_path("slurmctld") && in_path("slurmd") && in_path("munged") && in_path("sbatch") {
        true => Ok(()),
        false => install(&["slurmctld", "slurmd", "slurm-client", "munge"]),
    }
}

/// The debugger that knows all instruction sets, and Debian's package of it.
pub const GDB: &str = "gdb-multiarch";

/// Checks that the debugger of the test of `zfl gdb` is there, installs it if not.
///
/// # Errors
/// As [`all`].
pub fn gdb() -> Result<()> {
    match in_path(GDB) {
        true => Ok(()),
        false => install(&[GDB]),
    }
}

/// Finds a program in the folders of `PATH`, without starting it: a browser would open.
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn installed(target: &str) -> Result<Toolchain> {
    Toolchain::find(target).with_context(|| {
        format!(
            "{} are installed, but no Rust builds for {target}: is /usr/bin/rustc another one? \
             `rustup target add {target}` would help as well",
            DEBIAN_RUST.join(", ")
        )
    })
}

fn with_rustup(target: &str) -> Option<Toolchain> {
    if let Some(toolchain) = Toolchain::find(target) {
        return Some(toolchain);
    }
    if !exists("rustup") {
        return None;
    }
    println!("setup: rustup target add {target}");
    let mut rustup = Command::new("rustup");
    rustup
        .current_dir(project::root())
        .args(["target", "add", target]);
    if !succeeds_within(&mut rustup, RUSTUP_LIMIT) {
        println!("setup: rustup could not; Debian's packages will do as well");
    }
    Toolchain::find(target)
}

/// Debian's Rust with its sources.
///
/// # Errors
/// As [`install`].
pub fn install_debian_rust() -> Result<()> {
    install(&DEBIAN_RUST)
}

/// Installs packages by apt, if there are any to install.
///
/// # Errors
/// If there is no apt, or no right to use it; the message has the command.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if !exists("apt-get") {
        bail!(
            "missing, by their names in Debian: {wanted}; this system has no apt, so install what \
             your system calls them, then run this again"
        );
    }
    let by_hand = by_hand(&wanted);
    let Some(apt) = Apt::new() else {
        bail!(
            "missing: {wanted}; installing them takes root, so run\n\n    {by_hand}\n\nand then this again"
        );
    };
    println!("setup: apt-get install {wanted}");
    // Lists may be absent (a container) or out of date (a package's file is gone): either way a
    // fresh list is the remedy, and not worth its time otherwise.
    if apt.knows(packages) && apt.install(packages).is_ok() {
        return Ok(());
    }
    apt.update()?;
    apt.install(packages)
        .with_context(|| format!("by hand it would be\n\n    {by_hand}\n\n"))
}

/// The command that installs `wanted` for a user who may become root.
fn by_hand(wanted: &str) -> String {
    if in_path("sudo") {
        format!("sudo apt-get update && sudo apt-get install -y {wanted}")
    } else {
        format!("su -c 'apt-get update && apt-get install -y {wanted}'")
    }
}

/// The package manager, with the right to install.
struct Apt {
    as_root: &'static [&'static str],
}

impl Apt {
    fn new() -> Option<Self> {
        if process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
            return Some(Self { as_root: &[] });
        }
        let sudo = succeeds_within(
            Command::new("sudo").args(["-n", "true"]),
            Duration::from_secs(10),
        );
        sudo.then_some(Self {
            as_root: &["sudo", "-n"],
        })
    }

    fn knows(&self, packages: &[&str]) -> bool {
        let mut show = Command::new("apt-cache");
        succeeds_within(show.arg("show").args(packages), Duration::from_secs(60))
    }

    fn update(&self) -> Result<()> {
        process::run(self.command().args(["-qq", "update"]))
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        let options = [
            "-qq",
            "-y",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
        ];
        process::run(self.command().args(options).arg("install").args(packages))
    }

    fn command(&self) -> Command {
        let words = [
            self.as_root,
            &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"],
        ]
        .concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }
}
