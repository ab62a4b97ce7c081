//! The processes of the machines, in the hands of one thread.
//!
//! A machine dies with the *thread* that spawned it (`PR_SET_PDEATHSIG`), so all are spawned by a
//! thread that lives as long as the fleet. The same thread alone waits for them and sends signals
//! to them, so that no signal ever reaches a process that has taken over the number of a dead one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use zfl_sandbox::{Jail, pidfd};

use crate::environment;

/// A machine to be.
#[derive(Debug)]
pub struct Launch {
    /// The emulator, and the arguments that it has for every machine.
    pub emulator: Vec<OsString>,
    /// Its arguments for this one.
    pub arguments: Vec<OsString>,
    /// Descriptors that the machine takes over.
    pub given: Vec<OwnedFd>,
    /// Standard input and output: the serial line of a program that is no emulator.
    pub console: Option<OwnedFd>,
    /// Number that tells machines apart.
    pub number: u32,
}

/// A machine that runs. Dropping it kills it and does not wait.
#[derive(Debug)]
pub struct Machine {
    /// Its process, as numbered here.
    pub pid: u32,
    /// Complaints of QEMU.
    pub stderr: Option<ChildStderr>,
    /// Status with which it ended.
    pub ended: oneshot::Receiver<ExitStatus>,
    requests: Requests,
}

impl Machine {
    /// Sends a signal to the machine, if it still runs.
    pub fn signal(&self, signal: Signal) {
        self.requests.send(Request::Signal(self.pid, signal));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// The thread of the machines. Dropping it kills every machine, and waits.
#[derive(Debug)]
pub struct Machines {
    requests: Requests,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Requests {
    sender: mpsc::Sender<Request>,
    wake: Arc<EventFd>,
}

impl Requests {
    fn send(&self, request: Request) {
        // The thread ends after it has killed everything: nothing is left to be asked of it then.
        let _ = self.sender.send(request);
        // The counter overflows after 2^64 requests.
        let _ = self.wake.write(1);
    }
}

#[derive(Debug)]
enum Request {
    Start(Launch, oneshot::Sender<io::Result<Machine>>),
    Signal(u32, Signal),
    End,
}

impl Machines {
    /// Starts the thread, which puts every machine into this jail.
    pub fn start(jail: Jail) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let requests = Requests { sender, wake };
        let keeper = Keeper {
            requests: requests.clone(),
            running: BTreeMap::new(),
            jail,
        };
        let thread = std::thread::Builder::new()
            .name("machines".into())
            .spawn(move || keeper.keep(&receiver))?;
        Ok(Self {
            requests,
            thread: Some(thread),
        })
    }

    /// Starts a machine.
    pub async fn launch(&self, launch: Launch) -> io::Result<Machine> {
        let (started, machine) = oneshot::channel();
        self.requests.send(Request::Start(launch, started));
        machine
            .await
            .map_err(|_| io::Error::other("the fleet is being stopped"))?
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.requests.send(Request::End);
        // It does not panic, and if it did, its machines would have died with it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// State of the thread.
struct Keeper {
    requests: Requests,
    running: BTreeMap<u32, Running>,
    jail: Jail,
}

struct Running {
    child: Child,
    pidfd: OwnedFd,
    ended: oneshot::Sender<ExitStatus>,
}

impl Keeper {
    fn keep(mut self, receiver: &mpsc::Receiver<Request>) {
        loop {
            let ended = self.wait();
            // Cannot fail but for "nothing to read", when a machine woke this thread.
            let _ = self.requests.wake.read();
            self.reap(&ended);
            while let Ok(request) = receiver.try_recv() {
                match request {
                    Request::Start(launch, started) => {
                        // If nobody waits for it any more, the machine is dropped and so killed.
                        let _ = started.send(self.spawn(launch));
                    }
                    Request::Signal(pid, signal) => self.signal(pid, signal),
                    Request::End => return self.kill_all(),
                }
            }
        }
    }

    /// Waits for a request, or for machines that have ended, which it returns.
    fn wait(&self) -> Vec<u32> {
        let pidfds = self.running.values().map(|running| running.pidfd.as_fd());
        let sources = pidfds.chain([self.requests.wake.as_fd()]);
        let mut sources: Vec<_> = sources
            .map(|source| PollFd::new(source, PollFlags::POLLIN))
            .collect();
        // An error (a signal) is a reason to look around, as is an event.
        let _ = poll(&mut sources, PollTimeout::NONE);
        let machines = self.running.keys().zip(&sources);
        let ended = machines.filter(|(_, source)| source.any() == Some(true));
        ended.map(|(&pid, _)| pid).collect()
    }

    fn reap(&mut self, ended: &[u32]) {
        for &pid in ended {
            let Some(mut machine) = self.running.remove(&pid) else {
                continue;
            };
            match machine.child.try_wait() {
                Ok(None) => _ = self.running.insert(pid, machine),
                // Nobody may wait for it.
                Ok(Some(status)) => _ = machine.ended.send(status),
                // The child of a thread that waits for nobody else's cannot be lost.
                Err(_) => {}
            }
        }
    }

    fn spawn(&mut self, launch: Launch) -> io::Result<Machine> {
        let mut command = environment::command(&launch.emulator, &launch.arguments)?;
        environment::connect(&mut command, launch.console)?;
        let given: Vec<_> = launch.given.iter().map(AsRawFd::as_raw_fd).collect();
        let mut child = self.jail.spawn(&mut command, &given, launch.number)?;
        let pid = child.id();
        let pidfd = pidfd(pid).inspect_err(|_| {
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        let stderr = child.stderr.take();
        let (tell, ended) = oneshot::channel();
        self.running.insert(
            pid,
            Running {
                child,
                pidfd,
                ended: tell,
            },
        );
        Ok(Machine {
            pid,
            stderr,
            ended,
            requests: self.requests.clone(),
        })
    }

    fn signal(&self, pid: u32, signal: Signal) {
        if self.running.contains_key(&pid) {
            // It is ours and not waited for, so the number is still its own, and its group's.
            let _ = killpg(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    fn kill_all(self) {
        for &pid in self.running.keys() {
            self.signal(pid, Signal::SIGKILL);
        }
        for (_, mut running) in self.running {
            let _ = running
                .child
                .wait()
                .map(|status| running.ended.send(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::sys::signal::kill;

    fn shell(script: &str) -> Launch {
        Launch {
            emulator: vec!["/bin/sh".into()],
            arguments: vec!["-c".into(), script.into()],
            given: vec![],
            console: None,
            number: 0,
        }
    }

    fn start() -> Machines {
        Machines::start(Jail::default()).unwrap()
    }

    fn is_alive(pid: u32) -> bool {
        kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
    }

    #[tokio::test]
    async fn the_status_of_a_machine_is_told() {
        let machines = start();
        let mut machine = machines.launch(shell("exit 35")).await.unwrap();
        assert_eq!((&mut machine.ended).await.unwrap().code(), Some(35));
        let mut machine = machines.launch(shell("sleep 1000")).await.unwrap();
        machine.signal(Signal::SIGKILL);
        assert_eq!((&mut machine.ended).await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_an_error() {
        let machines = start();
        let launch = Launch {
            emulator: vec!["/nowhere".into()],
            ..shell("")
        };
        assert_eq!(
            machines.launch(launch).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn dropping_kills() {
        let machines = start();
        let mut one = machines.launch(shell("exec sleep 1000")).await.unwrap();
        let other = machines.launch(shell("exec sleep 1000")).await.unwrap();
        let (_, never) = oneshot::channel();
        let ended = std::mem::replace(&mut one.ended, never);
        drop(one);
        assert_eq!(ended.await.unwrap().signal(), Some(9));
        assert!(is_alive(other.pid));
        drop(machines);
        assert!(!is_alive(other.pid), "dropped without waiting");
    }

    #[tokio::test]
    async fn a_machine_has_what_it_was_given_and_nothing_else() {
        let machines = start();
        let (given, _reader) = std::os::unix::net::UnixStream::pair().unwrap();
        // As whoever starts zfl may leave one open to it.
        let (left_open, _reader) = std::os::unix::net::UnixStream::pair().unwrap();
        fcntl(&left_open, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let (fd, other) = (given.as_raw_fd(), left_open.as_raw_fd());
        let script = format!(
            "test -e /proc/self/fd/{fd} && test ! -e /proc/self/fd/{other} \
             && grep -q '^THP_enabled:.0' /proc/self/status \
             && grep -q '^NoNewPrivs:.1' /proc/self/status \
             && ! grep -q '^Cap[IPEA][a-z]*:.*[1-9a-f]' /proc/self/status"
        );
        let launch = Launch {
            given: vec![given.into()],
            ..shell(&script)
        };
        let mut machine = machines.launch(launch).await.unwrap();
        assert_eq!((&mut machine.ended).await.unwrap().code(), Some(0));
    }

    #[tokio::test]
    async fn a_machine_makes_the_file_of_its_disk_no_longer() {
        let machines = start();
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(1_000).unwrap();
        let given = OwnedFd::from(disk.try_clone().unwrap());
        let script = format!("head -c 5000 /dev/zero >&{}", given.as_raw_fd());
        let launch = Launch {
            given: vec![given],
            ..shell(&script)
        };
        let mut machine = machines.launch(launch).await.unwrap();
        assert_ne!((&mut machine.ended).await.unwrap().code(), Some(0));
        assert_eq!(disk.metadata().unwrap().len(), 1_000);
    }
}
