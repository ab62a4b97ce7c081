//! Emulated device: its machine booted, started and watched over.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use zfl_clock::Instant;

use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot};
use zfl_machine::{Board, Card, Launch, Serial, Tuning, arguments, debugger, plugin};
use zfl_mesh::MeshFleet;

use super::conversation::{ShellError, last_words};
use super::session::{Output, Session};
use super::{Body, Command, Identity, Up};
use crate::event::{Booted, Death, FleetEvent};
use crate::fabric::{GuestAddress, Outlet};
use crate::storage::FileStorage;

/// A firmware image on an emulated machine.
#[derive(Debug)]
pub(crate) struct Emulated {
    pub(crate) identity: Identity,
    pub(crate) outlet: Outlet,
    pub(crate) board: Arc<Board>,
    pub(crate) tuning: Tuning,
    /// The emulator, and the arguments that it has for every machine.
    pub(crate) emulator: Vec<OsString>,
    /// Plugin that counts its instructions.
    pub(crate) plugin: Option<PathBuf>,
    /// Its place in a mesh, if it is a node of one.
    pub(crate) node: Option<RadioNode>,
}

/// Place of a machine in a mesh.
#[derive(Clone, Debug)]
pub(crate) struct RadioNode {
    pub(crate) mesh: Arc<MeshFleet>,
    /// Leaf, from 0 on; `None`: it is the gateway.
    pub(crate) leaf: Option<usize>,
    /// Address and prefix of the gateway.
    pub(crate) gateway: (Ipv4Addr, u8),
}

impl RadioNode {
    /// Makes the line of its next machine's radio; it ends with the machine.
    fn plug(&self) -> std::io::Result<OwnedFd> {
        let (line, machines) = UnixStream::pair()?;
        self.mesh.plug(self.leaf.map_or(0, |leaf| leaf + 1), line);
        Ok(machines.into())
    }

    /// Addresses of a leaf: those at which its gateway serves it.
    fn leaf_address(&self, server: SocketAddrV4) -> Option<GuestAddress> {
        let (ip, prefix) = self.gateway;
        let port = MeshFleet::gateway_port(self.leaf?);
        Some(GuestAddress {
            ip,
            prefix,
            server,
            reached_at: SocketAddrV4::new(ip, port),
        })
    }
}

impl Body for Emulated {
    type Running = Session;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Boots, again if it fails, up to the number of attempts of the policy.
    async fn boot(&self, server: SocketAddr) -> Result<Up<Session>, Death> {
        let shared = &self.identity.shared;
        let mut attempt = 1;
        loop {
            // The semaphore is never closed.
            let permit = shared.permits.acquire().await;
            let outcome = self.attempt(server, attempt).await;
            drop(permit);
            match outcome {
                Ok(up) => return Ok(up),
                Err(reason) if attempt == shared.policy.attempts.max(1) => {
                    return Err(self.identity.death(reason));
                }
                Err(reason) => self.identity.note(&format!("{reason}; booting again")),
            }
            attempt += 1;
        }
    }

    async fn watch(&self, mut session: Session, commands: &mut mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                output = session.output() => match output {
                    Output::Lines(lines) => {
                        self.identity.check_log();
                        if let Some(reason) = self.fatal(&lines) {
                            last_words(&mut session).await;
                            self.identity.forget_pid();
                            session.kill().await;
                            return self.identity.died(reason);
                        }
                    }
                    Output::Ended { how, rest } => {
                        self.identity.forget_pid();
                        return self.identity.died(self.fatal(&rest).unwrap_or(how));
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Kill(done)) => {
                        self.identity.forget_pid();
                        session.kill().await;
                        self.identity.stopped();
                        let _ = done.send(());
                        return;
                    }
                    Some(Command::Freeze) => session.signal(Signal::SIGSTOP),
                    Some(Command::Thaw) => session.signal(Signal::SIGCONT),
                    Some(Command::Type(line, done)) => {
                        let typed = self.type_line(&mut session, &line).await;
                        let (answer, end) = match typed {
                            Ok(()) => (Ok(()), None),
                            Err(ShellError::NotRead(why)) => (Err(why), None),
                            Err(ShellError::Ended(how)) => (Err(how.clone()), Some(how)),
                            Err(ShellError::Fatal(why)) => (Err(why.clone()), Some(why)),
                        };
                        let _ = done.send(answer);
                        if let Some(reason) = end {
                            self.identity.forget_pid();
                            session.kill().await;
                            return self.identity.died(reason);
                        }
                    }
                    // It runs already: the answer to that is no answer.
                    Some(Command::Boot(..)) => {}
                    None => {
                        self.identity.forget_pid();
                        return session.kill().await;
                    }
                },
            }
        }
    }
}

impl Emulated {
    /// Keeps the gateway of a mesh running until nobody commands any more; tells if it has booted.
    pub(crate) async fn keep(
        self,
        server: SocketAddr,
        booted: oneshot::Sender<bool>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut booted = Some(booted);
        loop {
            let up = tokio::select! {
                up = self.boot(server) => up,
                None = commands.recv() => return,
            };
            let is_up = up.is_ok();
            // A caller that dropped its end does not want to know.
            let _ = booted.take().map(|booted| booted.send(is_up));
            let Ok(up) = up else { return };
            self.watch(up.running, &mut commands).await;
            if commands.is_closed() {
                return;
            }
        }
    }

    async fn attempt(&self, server: SocketAddr, attempt: u32) -> Result<Up<Session>, String> {
        let client = self.identity.client;
        self.identity.emit(FleetEvent::Booting { client, attempt });
        let start = Instant::now();
        let (mut session, guest) = self.start(server).await?;
        let boot_ms = match self.converse(&mut session, &guest, start).await {
            Ok(boot_ms) => boot_ms,
            Err(reason) => {
                self.identity.forget_pid();
                session.kill().await;
                return Err(reason);
            }
        };
        let booted = Booted {
            client,
            boot_ms,
            attempts: attempt,
        };
        Ok(Up {
            running: session,
            booted,
            address: guest.reached_at.into(),
        })
    }

    /// Starts the machine.
    async fn start(&self, server: SocketAddr) -> Result<(Session, GuestAddress), String> {
        let shared = &self.identity.shared;
        let SocketAddr::V4(server) = server else {
            return Err("no network: the fleet's network has IPv4 only".into());
        };
        let leaf = self
            .node
            .as_ref()
            .and_then(|node| node.leaf_address(server));
        let (card, guest) = match leaf {
            // It has no card: its gateway is where it is reached.
            Some(guest) => (None, guest),
            None => {
                let attachment = shared.fabric.attach(self.paced_outlet(), server).await;
                let attachment = attachment.map_err(|error| format!("no network: {error}"))?;
                (Some(attachment.card), attachment.guest)
            }
        };
        let session = self.launch(card).await.map_err(|error| {
            let program = self.emulator.first().map(|program| program.display());
            let program = program
                .map(|program| program.to_string())
                .unwrap_or_default();
            format!("its machine {program} cannot be started: {error}")
        })?;
        shared.with_pids(|pids| pids.insert(self.identity.client, session.pid()));
        Ok((session, guest))
    }

    /// Outlet of this device, paced where the network can do that.
    fn paced_outlet(&self) -> Outlet {
        let Outlet { max_kbit_per_s, .. } = self.outlet;
        Outlet {
            max_kbit_per_s: max_kbit_per_s.filter(|_| self.identity.shared.paces),
            ..self.outlet
        }
    }

    async fn launch(&self, card: Option<Card>) -> std::io::Result<Session> {
        let Identity {
            client,
            shared,
            log,
            storage,
            ..
        } = &self.identity;
        let serial = Serial::open()?;
        let line = serial.plug()?;
        // A board without a disk has no use for it.
        let storage = storage.as_ref().filter(|_| self.board.storage.is_some());
        let disk = storage.map(FileStorage::again).transpose()?;
        let disk = disk.map(FileStorage::into_fd);
        let radio = self.node.as_ref().map(RadioNode::plug).transpose()?;
        let mut arguments = arguments(
            &self.board,
            self.tuning,
            &format!("zfl-{client}"),
            card.as_ref(),
            line.as_raw_fd(),
            disk.as_ref().map(AsRawFd::as_raw_fd),
            radio.as_ref().map(AsRawFd::as_raw_fd),
        );
        let mut page = None;
        if let Some(file) = &self.plugin {
            let fd = page.insert(self.identity.fresh_page()?).as_raw_fd();
            arguments.extend(plugin(file, Some(fd)));
        }
        // A program has no debugger of its own, and its line where programs have theirs.
        let is_program = self.board.is_program();
        let doors = shared.doors.as_ref().filter(|_| !is_program);
        let door = doors.map(|doors| doors.make(*client));
        let door = door.transpose()?.map(OwnedFd::from);
        arguments.extend(door.iter().flat_map(|door| debugger(door.as_raw_fd())));
        let (console, line) = match is_program {
            true => (Some(line), None),
            false => (None, Some(line)),
        };
        let launch = Launch {
            emulator: self.emulator.clone(),
            arguments,
            given: card
                .and_then(|card| card.inherited)
                .into_iter()
                .chain(line)
                .chain(disk)
                .chain(radio)
                .chain(page)
                .chain(door)
                .collect(),
            console,
            number: *client,
        };
        Session::new(
            shared.machines.launch(launch).await?,
            (serial, Arc::clone(log)),
            if is_program { "program" } else { "qemu" },
        )
    }
}
