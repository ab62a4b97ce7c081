//! Start of a machine that stands still, or of a program up to its prompt, to see if it comes that far.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Child;
use std::time::Duration;
use zfl_clock::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zfl_sandbox::Jail;

use crate::arguments::{Card, Tuning, arguments};
use crate::board::Board;
use crate::environment;

/// Time that an emulator has to answer; only a broken one takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hardware address of a machine that is tried.
const NO_MAC: &str = "52:54:00:00:00:00";

/// Longest answer to a first command over QMP, and longest complaint.
const MAX_BYTES: usize = 64 * 1024;

/// Guest of a machine that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Guest that is there and does not run.
    Stopped,
    /// No guest.
    Absent,
}

/// Starts a machine, waits until it has all that it needs, looks at its process, and ends it.
///
/// # Errors
/// The emulator's complaint if it does not come that far.
pub(super) fn start<T>(
    jail: &Jail,
    emulator: &[OsString],
    board: &Board,
    guest: Guest,
    look: impl FnOnce(u32) -> io::Result<T>,
) -> io::Result<T> {
    let (mut monitor, its_monitor) = UnixStream::pair()?;
    let (_line, its_line) = UnixStream::pair()?;
    let (_network, its_network) = UnixStream::pair()?;
    let its = [its_line, its_monitor, its_network];
    let given = its.each_ref().map(AsRawFd::as_raw_fd);
    let mut command = environment::command(emulator, &stopped(board, guest, given))?;
    // A script before the emulator may want to find it.
    environment::clear(&mut command, guest == Guest::Absent);
    let child = jail.spawn(&mut command, &given, 0)?;
    drop(its);
    let seen = answer(&mut monitor).and_then(|()| look(child.id()));
    end(child, seen)
}

/// Starts a program of the host on a network that leads nowhere, waits for its prompt, looks at its process, and
/// ends it.
///
/// # Errors
/// Its complaint if it does not come that far.
pub(super) fn run<T>(
    jail: &Jail,
    program: &[OsString],
    board: &Board,
    look: impl FnOnce(u32) -> io::Result<T>,
) -> io::Result<T> {
    let (mut line, its_line) = UnixStream::pair()?;
    let (_network, its_network) = UnixDatagram::pair()?;
    let given = [its_network.as_raw_fd()];
    let card = Card {
        netdev: String::new(),
        inherited: Some(its_network.into()),
        mac: NO_MAC.into(),
    };
    let words = arguments(board, Tuning::default(), "zfl", Some(&card), -1, None, None);
    let mut command = environment::command(program, &words)?;
    environment::connect(&mut command, Some(its_line.into()))?;
    let child = jail.spawn(&mut command, &given, 0)?;
    // Its end of the line is in there.
    drop((command, card));
    let prompted = wait_for(&mut line, board.shell.prompt.as_bytes());
    let seen = prompted.and_then(|()| look(child.id()));
    end(child, seen)
}

/// Ends what was tried; gives its complaint in place of an error.
fn end<T>(mut child: Child, seen: io::Result<T>) -> io::Result<T> {
    let group = Pid::from_raw(child.id().cast_signed());
    // It is not waited for yet, so the number is still its own. It may have ended by itself.
    let _ = killpg(group, Signal::SIGKILL);
    let complaint = complaint(&mut child);
    child.wait()?;
    seen.map_err(|error| match complaint {
        Some(complaint) => io::Error::other(complaint),
        None => error,
    })
}

/// Arguments of a machine whose network leads nowhere and which does not run.
///
/// `given`: the descriptors of its serial line, its monitor and its network.
fn stopped(board: &Board, guest: Guest, given: [RawFd; 3]) -> Vec<OsString> {
    let [line, monitor, network] = given;
    let card = Card {
        netdev: format!("socket,id=n0,fd={network}"),
        inherited: None,
        mac: NO_MAC.into(),
    };
    let mut all = arguments(
        board,
        Tuning::default(),
        "zfl",
        Some(&card),
        line,
        None,
        None,
    );
    if guest == Guest::Absent {
        without(&mut all, "-kernel");
        without(&mut all, "-append");
    }
    let more = [
        "-S",
        "-chardev",
        &format!("socket,id=q0,fd={monitor}"),
        "-mon",
        "chardev=q0,mode=control",
    ];
    all.extend(more.map(OsString::from));
    all
}

/// Takes an option away, with its value.
fn without(arguments: &mut Vec<OsString>, option: &str) {
    if let Some(at) = arguments.iter().position(|word| word == option) {
        arguments.drain(at..at + 2);
    }
}

/// Waits for the answer to a command, which the emulator takes up when everything is there.
fn answer(monitor: &mut UnixStream) -> io::Result<()> {
    monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    wait_for(monitor, b"\"return\"")
}

/// Waits until this is in what comes down a line.
fn wait_for(line: &mut UnixStream, what: &[u8]) -> io::Result<()> {
    let start = Instant::now();
    let (mut text, mut part) = (Vec::<u8>::new(), [0; 1024]);
    while text.len() < MAX_BYTES {
        let left = PATIENCE.saturating_sub(start.elapsed());
        line.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match line.read(&mut part) {
            Ok(0) => return Err(io::Error::other("it ended before it answered")),
            Ok(count) => text.extend(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(io::Error::other("it does not answer")),
        }
        if text.windows(what.len()).any(|part| part == what) {
            return Ok(());
        }
    }
    Err(io::Error::other("it does not stop answering"))
}

/// Last line that the emulator printed.
fn complaint(child: &mut Child) -> Option<String> {
    let stderr = child.stderr.take()?;
    let mut text = Vec::new();
    stderr.take(MAX_BYTES as u64).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next_back().map(str::to_owned)
}
