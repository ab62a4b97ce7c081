//! A program in a terminal of its own, of which one sees the screen.

use super::folder;
use super::process::{Guarded, LIMIT, Process, descendants, wait_until};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use vt100::{Parser, Screen};

/// A terminal of 80 x 24 characters with a program in its foreground.
pub struct Pty {
    shell: Guarded,
    folder: TempDir,
    keyboard: File,
    screen: Arc<Mutex<Parser>>,
}

impl Pty {
    /// Starts a command in a terminal and session of its own.
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        // Both ends close on exec from the start: a program that is started beside this one, by another
        // test, would otherwise keep the terminal, and who writes to it would wait for ever.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a terminal can be made");
        grantpt(&master)
            .and_then(|()| unlockpt(&master))
            .expect("it is ours");
        let name = ptsname_r(&master).expect("it has a name");
        let slave = || {
            let mut options = File::options();
            options.read(true).write(true);
            options.custom_flags(OFlag::O_NOCTTY.bits());
            options.open(&name).expect("its other end can be opened")
        };
        // A shell leads the session and stays, as a person's would: when a session's leader dies, its
        // terminal goes with it. setsid becomes that shell, since it leads no group and need not fork.
        let script =
            "stty rows 24 cols 80; trap : INT; \"$@\"; echo $? > \"$STATUS\"; exec sleep infinity";
        let folder = folder();
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "sh", "-c", script, "sh"]);
        inside.arg(command.get_program());
        inside
            .args(command.get_args())
            .env("TERM", "xterm-256color");
        inside.env("STATUS", folder.path().join("status"));
        inside.current_dir(command.get_current_dir().expect("it is set"));
        inside.stdin(slave()).stdout(slave()).stderr(slave());
        let shell = Guarded::start(&mut inside);
        let keyboard = File::from(OwnedFd::from(master));
        let screen = Arc::new(Mutex::new(parser()));
        let (seen, mut output) = (Arc::clone(&screen), keyboard.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // An error is how a terminal tells that nobody has it open any more.
            while let Ok(read @ 1..) = output.read(&mut piece) {
                seen.lock().unwrap().process(&piece[..read]);
            }
        });
        Self {
            shell,
            folder,
            keyboard,
            screen,
        }
    }

    /// The processes in the terminal, the program first: the shell has no other child.
    pub fn processes(&self) -> Vec<Process> {
        descendants(self.shell.pid())
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal is there");
    }

    /// The screen now.
    pub fn screen(&self) -> Screen {
        self.screen.lock().unwrap().screen().clone()
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub fn wait_for(&self, what: &str) {
        let shows = || self.screen().contents().contains(what).then_some(());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, LIMIT, shows);
        }));
        assert!(
            result.is_ok(),
            "no {what:?} on\n{}",
            self.screen().contents()
        );
    }

    /// Waits for the end of the program; the status as a shell has it.
    #[track_caller]
    pub fn finish(&self) -> u8 {
        let status = self.folder.path().join("status");
        wait_until("the program ends", LIMIT, || {
            fs::read_to_string(&status).ok()?.trim().parse().ok()
        })
    }

    /// True if lines are edited and echoed, as a shell leaves a terminal.
    pub fn is_sane(&self) -> bool {
        let termios: Termios = tcgetattr(&self.keyboard).expect("it is a terminal");
        let wanted = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        termios.local_flags.contains(wanted)
    }

    /// Waits until the terminal is as a shell leaves it.
    #[track_caller]
    pub fn wait_until_restored(&self) {
        wait_until("the terminal is given back", LIMIT, || {
            let screen = self.screen();
            (self.is_sane() && !screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
    }
}

fn parser() -> Parser {
    let of = |number| NonZero::new(number).expect("it is not zero");
    Parser::new(of(24), of(80), 0)
}
