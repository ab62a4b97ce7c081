//! KVM: machines that run on the host's own processor, where it can do that for them. Nothing counts their
//! instructions.
//!
//! A host may have the device and no KVM of use: one inside of another machine may run a kernel that it knows, and not
//! a firmware. So it is tried by booting.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use zfl_clock::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zfl_sandbox::Jail;

use crate::arguments::{Card, Tuning, arguments};
use crate::board::Board;
use crate::environment;
use crate::qemu::Qemu;

/// Device by which KVM is asked for.
const DEVICE: &str = "/dev/kvm";

/// Emulators of machines that this host's processor can be.
const SAME_PROCESSOR: [&str; 2] = ["qemu-system-i386", "qemu-system-x86_64"];

/// Longest boot of a guest on its way to the prompt; on KVM one takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Most that is kept of what a guest or its emulator prints.
const MAX_BYTES: usize = 64 * 1024;

/// Way out of every refusal.
const WITHOUT: &str = "leave --accel out, and QEMU translates, which works everywhere";

impl Board {
    /// The same board, run by KVM.
    #[must_use]
    pub fn on_kvm(&self) -> Self {
        let mut board = self.clone();
        let all = &mut board.machine.extra_args;
        match all.iter().position(|word| word == "-accel") {
            Some(at) if at + 1 < all.len() => all[at + 1] = "kvm".to_owned(),
            _ => all.extend(["-accel", "kvm"].map(str::to_owned)),
        }
        board
    }

    /// Device of the host that its machines open for KVM; `None` if they are translated.
    pub(crate) fn kvm(&self) -> Option<PathBuf> {
        let all = &self.machine.extra_args;
        let on_kvm = all.windows(2).any(|words| words == ["-accel", "kvm"]);
        on_kvm.then(|| DEVICE.into())
    }
}

/// Boots a machine of this board on KVM, to the prompt of its shell.
///
/// # Errors
/// Reason why it cannot be had, and what to do.
pub fn try_kvm(qemu: &Qemu, board: &Board) -> Result<(), String> {
    let name = &board.name;
    if !cfg!(target_arch = "x86_64") || !SAME_PROCESSOR.contains(&&*board.machine.qemu) {
        return Err(format!(
            "board {name} has another processor than this host, and KVM only lends the host's: {WITHOUT}"
        ));
    }
    open(Path::new(DEVICE))?;
    boot(qemu, &board.on_kvm())
        .map_err(|why| format!("KVM is here and does not run board {name} ({why}): {WITHOUT}"))
}

/// Opens the device as a machine will.
fn open(device: &Path) -> Result<File, String> {
    let opened = crate::sys::open_device(device);
    opened.map_err(|error| {
        let way = match error.kind() {
            io::ErrorKind::NotFound => {
                "as root, modprobe kvm_intel or kvm_amd; in a virtual machine its host has to allow it"
            }
            io::ErrorKind::PermissionDenied => {
                "as root, usermod -aG kvm USER, and then a new login"
            }
            _ => "the kernel's log may say more",
        };
        format!("{}: {error} ({way}); or {WITHOUT}", device.display())
    })
}

/// Boots a machine and ends it when its shell prompts.
///
/// # Errors
/// The emulator's complaint, or that no prompt came.
fn boot(qemu: &Qemu, board: &Board) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let (line, its_line) = UnixStream::pair().map_err(text)?;
    let (_network, its_network) = UnixStream::pair().map_err(text)?;
    let given = [its_line.as_raw_fd(), its_network.as_raw_fd()];
    let card = Card {
        netdev: format!("socket,id=n0,fd={}", given[1]),
        inherited: None,
        mac: "52:54:00:00:00:00".into(),
    };
    let all = arguments(
        board,
        Tuning::default(),
        "zfl",
        Some(&card),
        given[0],
        None,
        None,
    );
    let emulator: [OsString; 1] = [qemu.path.clone().into()];
    let mut command = environment::command(&emulator, &all).map_err(text)?;
    // A script before the emulator may want to find it.
    environment::clear(&mut command, true);
    let mut child = Jail::default()
        .spawn(&mut command, &given, 0)
        .map_err(text)?;
    drop((its_line, its_network));
    let booted = prompt(&mut child, line, &board.shell.prompt);
    // It is not waited for yet, so the number is still its own.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let _ = child.wait();
    booted
}

/// Waits for a prompt, or for a complaint of the emulator after which none will come.
fn prompt(child: &mut Child, mut line: UnixStream, prompt: &str) -> Result<(), String> {
    let mut stderr = child.stderr.take().ok_or("it has no standard error")?;
    let start = Instant::now();
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    let prompt = prompt.trim_end().as_bytes();
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        // It may print on and on.
        if left.is_zero() {
            return Err(format!("no prompt in {} s", PATIENCE.as_secs()));
        }
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut sources =
            [line.as_fd(), stderr.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut sources, left) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        let [from_line, from_stderr] = sources.map(|source| source.any() == Some(true));
        let mut ended = false;
        if from_line {
            ended |= more(&mut line, &mut printed)?;
            if printed.windows(prompt.len()).any(|part| part == prompt) {
                return Ok(());
            }
        }
        if from_stderr {
            ended |= more(&mut stderr, &mut complained)?;
        }
        if let Some(complaint) = complaint(&complained, ended) {
            return Err(complaint);
        }
    }
}

/// Takes in what is there; true at the end of it.
fn more(from: &mut impl Read, all: &mut Vec<u8>) -> Result<bool, String> {
    let mut part = [0; 4096];
    let count = from.read(&mut part).map_err(|error| error.to_string())?;
    if all.len() < MAX_BYTES {
        all.extend(&part[..count]);
    }
    Ok(count == 0)
}

/// Complaint after which no prompt will come: KVM's own at once, any other when the emulator has ended.
fn complaint(text: &[u8], ended: bool) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let of_kvm = lines.clone().find(|line| line.starts_with("KVM"));
    let last = || lines.next_back().unwrap_or("it ended before its prompt");
    let complaint = of_kvm.or_else(|| ended.then(last))?;
    Some(complaint.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::board;

    #[test]
    fn a_board_on_kvm_is_the_same_but_for_its_accelerator() {
        let own = board("microvm");
        let on_kvm = own.on_kvm();
        assert_eq!(on_kvm.kvm(), Some(DEVICE.into()));
        assert_eq!(own.kvm(), None);
        let mut again = on_kvm.machine.extra_args.clone();
        let at = again.iter().position(|word| word == "kvm").unwrap();
        again[at].clone_from(&own.machine.extra_args[at]);
        assert_eq!(again, own.machine.extra_args);
    }

    #[test]
    fn a_device_that_is_missing_or_forbidden_comes_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let text = open(&folder.path().join("kvm")).unwrap_err();
        assert!(
            text.contains("modprobe") && text.contains("--accel"),
            "{text}"
        );
    }

    #[test]
    fn a_board_with_another_processor_has_no_kvm() {
        let qemu = Qemu {
            path: "/nowhere".into(),
            version: crate::Version(7, 2, 0),
        };
        let text = try_kvm(&qemu, &board("riscv-virt")).unwrap_err();
        assert!(text.contains("another processor"), "{text}");
    }

    #[test]
    fn a_complaint_of_kvm_ends_the_wait_and_others_do_when_the_emulator_has_ended() {
        let internal = b"warning: no feature\nKVM internal error. Suberror: 1\nEAX=1\n";
        let own = complaint(internal, false);
        assert_eq!(own.as_deref(), Some("KVM internal error. Suberror: 1"));
        assert_eq!(complaint(b"warning: no feature\n", false), None);
        let last = complaint(b"warning: x\nfailed to initialize kvm: Busy\n", true);
        assert_eq!(last.as_deref(), Some("failed to initialize kvm: Busy"));
    }

    /// Stands for an emulator: a script that prints and goes on.
    fn emulated(script: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu");
        let file = File::create(&path).unwrap();
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;
        write!(&file, "#!/bin/sh\n{script}\n").unwrap();
        let mut permissions = file.metadata().unwrap().permissions();
        permissions.set_mode(0o755);
        file.set_permissions(permissions).unwrap();
        drop(file);
        let version = crate::Version(7, 2, 0);
        boot(&Qemu { path, version }, &board("microvm"))
    }

    #[test]
    fn a_boot_ends_at_the_prompt_or_at_what_stands_in_its_way() {
        let line = r#"for w; do case "$w" in socket,id=s0,fd=*) fd=${w##*=};; esac; done"#;
        assert_eq!(
            emulated(&format!("{line}\neval \"echo 'zfl:~$ ' >&$fd\"; sleep 60")),
            Ok(())
        );
        let failed = emulated("echo KVM internal error. >&2; sleep 60").unwrap_err();
        assert_eq!(failed, "KVM internal error");
        let ended = emulated("echo no such device >&2; exit 1").unwrap_err();
        assert_eq!(ended, "no such device");
    }
}
