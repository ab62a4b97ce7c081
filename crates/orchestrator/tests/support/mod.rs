//! Support of the tests of sandbox and fleet: roles, and a stand-in for QEMU.
//!
//! The sandbox must be entered by a process with a single thread, and a test is a thread. So each
//! test starts this very program again in a *role*, which enters the sandbox first thing and checks
//! what is to be checked from within; a check that fails makes it panic, and end with status 101.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod play;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;
use zfl_machine::Board;
use zfl_machine::board::{Machine, Nic};
use zfl_orchestrator::{DeviceBody, DeviceSpec, FleetConfig};

/// A role: does something in a process of its own and returns its exit status.
pub type Role = (&'static str, fn() -> u8);

/// The `main` of a test program.
pub fn main(roles: &[Role], tests: Vec<Trial>) {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("role") {
        let name = arguments.next().expect("the name of a role");
        let (_, role) = roles
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a known role");
        std::process::exit(role().into());
    }
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

/// A test by the name of its function.
pub fn test(name: &str, test: fn()) -> Trial {
    Trial::test(name.to_owned(), move || {
        test();
        Ok(())
    })
}

/// Time limit of a test's waits; only a broken program takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Promised time of zfl's end, however it ends, on a machine that does nothing else.
const CLEAN_AFTER: Duration = Duration::from_secs(2);

/// A process that plays a role, in an environment of its own.
pub struct Actor {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
}

/// A place for an actor: a stand-in for QEMU in `PATH`, and a temporary folder to be left empty.
pub struct Stage {
    folder: TempDir,
    /// Distinguishes the processes of this stage from all others.
    pub marker: String,
}

/// A namespace that must come to have no process in it.
#[derive(Debug)]
pub struct Namespace {
    /// For example `net:[4026532250]`.
    name: PathBuf,
    /// As long as it is open, no other namespace gets this name.
    _held: File,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "tmp", "serial"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let standin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/standin.sh");
        install(&standin, &folder.path().join("bin/qemu-system-standin"));
        // Another user must be able to run all of it.
        for name in ["", "bin", "tmp", "serial"] {
            let everybody = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(folder.path().join(name), everybody).unwrap();
        }
        let marker = folder.path().display().to_string();
        Self { folder, marker }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that plays a role here.
    pub fn role(&self, role: &str) -> Command {
        self.dress(Command::new(std::env::current_exe().unwrap()), role)
    }

    /// The same through a program such as `unshare`, which gets the command as its last arguments.
    pub fn role_through(&self, mut program: Command, role: &str) -> Command {
        // Where this program was built, another user may not be allowed to look.
        let copy = self.path("bin/actor");
        install(&std::env::current_exe().unwrap(), &copy);
        program.arg(copy);
        self.dress(program, role)
    }

    fn dress(&self, mut command: Command, role: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        command.args(["role", role, &self.marker]);
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("TMPDIR", self.path("tmp"));
        command.env("ZFL_TEST_STAGE", self.folder.path());
        command
    }

    /// The processes of this stage that live: its marker is in their command line or environment.
    pub fn processes(&self) -> Vec<u32> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|&pid| pid != std::process::id() && self.is_ours(pid))
            .collect()
    }

    fn is_ours(&self, pid: u32) -> bool {
        let holds = |file| {
            std::fs::read(format!("/proc/{pid}/{file}"))
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&self.marker))
        };
        holds("cmdline") || holds("environ")
    }

    /// Everything in the temporary folder of the actors.
    pub fn temporary_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path("tmp")).unwrap().flatten();
        files
            .map(|file| file.file_name().into_string().unwrap())
            .collect()
    }

    /// The namespaces that processes of this stage are in, other than this process's own.
    pub fn namespaces(&self) -> Vec<Namespace> {
        let own = namespaces(std::process::id());
        let mut all: Vec<Namespace> = Vec::new();
        for path in self.processes().into_iter().flat_map(namespace_files) {
            let (Ok(name), Ok(hold)) = (std::fs::read_link(&path), File::open(&path)) else {
                continue;
            };
            if !own.contains(&name) && all.iter().all(|known| known.name != name) {
                all.push(Namespace { name, _held: hold });
            }
        }
        all
    }

    /// Checks that nothing of this stage is left anywhere, soon; within [`CLEAN_AFTER`] where
    /// `ZFL_HOLD_TIMINGS` is set.
    pub fn check_empty(&self, namespaces: &[Namespace]) {
        let held = std::env::var_os("ZFL_HOLD_TIMINGS").is_some();
        let limit = if held { CLEAN_AFTER } else { PATIENCE };
        let start = Instant::now();
        loop {
            let (processes, files) = (self.processes(), self.temporary_files());
            let used = all_namespaces();
            let namespaces: Vec<_> = namespaces
                .iter()
                .filter(|namespace| used.contains(&namespace.name))
                .collect();
            if processes.is_empty() && files.is_empty() && namespaces.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < limit,
                "left: processes {processes:?}, files {files:?}, namespaces {namespaces:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Copies a program by another one: a process that another test starts would hold a copy of a
/// descriptor of this process for a moment, and what somebody can write to cannot be run.
fn install(program: &Path, to: &Path) {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).arg(program).arg(to).status();
    assert!(status.unwrap().success(), "install {}", program.display());
}

/// The namespaces in which some process is.
fn all_namespaces() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.flat_map(namespaces).collect()
}

fn namespaces(pid: u32) -> Vec<PathBuf> {
    let links = namespace_files(pid).map(std::fs::read_link);
    links.into_iter().flatten().collect()
}

fn namespace_files(pid: u32) -> [PathBuf; 4] {
    ["net", "pid", "mnt", "user"].map(|kind| format!("/proc/{pid}/ns/{kind}").into())
}

impl Actor {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Waits for the actor to print a line.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the actor ended: {:?}", self.child.wait());
        line.trim_end().to_owned()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Ends it as nothing can be ended more abruptly.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; what it printed last, and how it ended.
    pub fn end(mut self) -> (String, ExitStatus) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The stage on which a role plays.
pub fn stage() -> PathBuf {
    std::env::var_os("ZFL_TEST_STAGE")
        .expect("roles are played on a stage")
        .into()
}

/// The board of the stand-in for QEMU; `script` tells the stand-in what to do.
pub fn board(script: &str) -> Board {
    let folder = stage().join(script);
    let source = include_str!("board.toml").replace("SCRIPT", script);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("board.toml"), source).unwrap();
    std::fs::write(folder.join("image"), "no firmware").unwrap();
    let mut board = Board::load(None, folder.to_str().unwrap()).unwrap();
    board.kernel.image = folder.join("image");
    // Machines find what their arguments name, to read. No file of a board may ask for that.
    board.machine.extra_args = vec!["-stage".to_owned(), stage().display().to_string()];
    board
}

/// The board of the stand-in for a program of the host, which no emulator runs.
pub fn program() -> Board {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/program.sh");
    let mut board = board("program");
    board.machine = Machine {
        qemu: String::new(),
        machine: String::new(),
        cpu: String::new(),
        extra_args: vec![],
        memory_mib: 1,
        program: Some(vec!["{network}".into(), "mac={mac}".into()]),
    };
    board.nic = Nic::default();
    install(&source, &board.kernel.image);
    board
}

/// Devices 1 to `count` on one board.
pub fn fleet(board: Board, count: u32) -> FleetConfig {
    let board = Arc::new(board);
    let body = DeviceBody::Emulated(board);
    let device = |client| DeviceSpec::new(client, body.clone());
    FleetConfig::new((1..=count).map(device).collect(), stage().join("serial"))
}
