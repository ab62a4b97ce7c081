//! The thread of a mesh: orders, sockets, devices, and simulated time.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zfl_clock::Instant;
use zfl_netsim::radio::Mesh;

use crate::fleet::{LeafEnd, LeafSpec, Order, Stats};
use crate::gateway::Proxy;
use crate::leaf::RunningLeaf;

/// Events between two looks at orders and sockets.
const EVENTS_AT_ONCE: u32 = 2_000;
/// Longest wait for what was announced: whoever is not asked by then is not asked at all.
const ANNOUNCED: Duration = Duration::from_secs(10);
/// Longest span of simulated time without an event.
const FOREVER_US: u64 = u64::MAX / 4;

pub(crate) struct Thread {
    mesh: Mesh,
    orders: Receiver<Order>,
    woken: io::PipeReader,
    stats: Arc<Mutex<Stats>>,
    leaves: Vec<Option<RunningLeaf>>,
    proxies: Vec<Option<Proxy>>,
    /// Leaves that are about to be booted or asked.
    expected: BTreeSet<usize>,
    until: Instant,
    /// Announcements go down only when all that was before them is done.
    drains: bool,
}

impl Thread {
    pub fn new(
        mesh: Mesh,
        orders: Receiver<Order>,
        woken: io::PipeReader,
        stats: Arc<Mutex<Stats>>,
    ) -> Self {
        let leaves = mesh.leaves();
        Self {
            mesh,
            orders,
            woken,
            stats,
            leaves: (0..leaves).map(|_| None).collect(),
            proxies: (0..leaves).map(|_| None).collect(),
            expected: (0..leaves).collect(),
            until: Instant::now() + ANNOUNCED,
            drains: false,
        }
    }

    pub fn run(mut self) {
        while self.obey() {
            self.listen();
            self.devices();
            let stands = !self.drains && self.waits_for_announced();
            if stands || !self.advance() {
                self.publish();
                self.sleep(stands);
            }
        }
    }

    /// Does what was ordered; false when nobody can order any more.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Boot(leaf, spec, tell)) => _ = tell.send(self.boot(leaf, *spec)),
                Ok(Order::Stop(leaf, tell)) => {
                    self.stop(leaf, LeafEnd::Stopped);
                    let _ = tell.send(());
                }
                Ok(Order::Freeze(leaf, frozen)) => {
                    let leaf = self.leaves.get_mut(leaf).and_then(Option::as_mut);
                    leaf.into_iter().for_each(|leaf| leaf.freeze(frozen));
                }
                Ok(Order::Expect(leaves)) => {
                    self.expected = leaves
                        .into_iter()
                        .filter(|leaf| self.is_up(*leaf))
                        .collect();
                    (self.until, self.drains) = (Instant::now() + ANNOUNCED, true);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn is_up(&self, leaf: usize) -> bool {
        self.leaves.get(leaf).is_some_and(Option::is_some)
    }

    fn boot(&mut self, leaf: usize, spec: LeafSpec) -> io::Result<SocketAddr> {
        let server = spec.server;
        let slot = self
            .proxies
            .get_mut(leaf)
            .ok_or_else(|| io::Error::other("there is no such leaf"))?;
        match slot {
            Some(proxy) => {
                proxy.server = server;
                proxy.reset();
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                listener.set_nonblocking(true)?;
                *slot = Some(Proxy::new(server, listener));
            }
        }
        let address = slot.as_ref().map(|proxy| proxy.listener.local_addr());
        let address = address.unwrap_or_else(|| Err(io::Error::other("no listener")))?;
        self.mesh.boot(leaf);
        self.leaves[leaf] = Some(RunningLeaf::new(spec, address.port(), self.mesh.now_us()));
        self.expected.remove(&leaf);
        Ok(address)
    }

    fn stop(&mut self, leaf: usize, end: LeafEnd) {
        self.expected.remove(&leaf);
        if let Some(running) = self.leaves.get_mut(leaf).and_then(Option::take) {
            if end == LeafEnd::Stopped {
                self.mesh.kill(leaf);
                self.mesh.cancel_down(leaf);
                self.proxies[leaf].iter_mut().for_each(Proxy::reset);
            }
            running.end(end);
        }
    }

    fn listen(&mut self) {
        for (leaf, proxy) in self.proxies.iter_mut().enumerate() {
            if proxy.as_mut().is_some_and(Proxy::listen) {
                self.expected.remove(&leaf);
            }
        }
    }

    fn devices(&mut self) {
        for leaf in 0..self.leaves.len() {
            if let Some(running) = &mut self.leaves[leaf]
                && running.run(leaf, &mut self.mesh)
            {
                self.stop(leaf, LeafEnd::Finished);
            }
            if self.mesh.has_come_up(leaf) {
                // Whoever takes an update in reads what it has cost.
                self.publish();
            }
            let holds = self.drains;
            if let Some(proxy) = &mut self.proxies[leaf] {
                proxy.run(leaf, &mut self.mesh, holds);
            }
        }
    }

    fn waits_for_announced(&mut self) -> bool {
        if self.until <= Instant::now() {
            self.expected.clear();
        }
        !self.expected.is_empty()
    }

    /// Lets time pass until something has come for somebody; false if nothing is on its way.
    fn advance(&mut self) -> bool {
        let is_moving = self.leaves.iter().flatten().any(RunningLeaf::is_busy)
            || self.proxies.iter().flatten().any(Proxy::is_busy)
            || (0..self.leaves.len())
                .any(|leaf| self.mesh.is_sending_down(leaf) && self.is_up(leaf));
        let due_us = self
            .leaves
            .iter()
            .flatten()
            .filter_map(RunningLeaf::due_us)
            .min();
        if !is_moving {
            if self.drains {
                self.drains = false;
                return true;
            }
            let Some(due_us) = due_us else {
                return false;
            };
            while self.mesh.step(due_us) {}
            return true;
        }
        let until_us = due_us.unwrap_or(FOREVER_US);
        for _ in 0..EVENTS_AT_ONCE {
            if !self.mesh.step(until_us) || self.mesh.has_news() {
                break;
            }
        }
        true
    }

    fn publish(&self) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.nodes = (0..=self.mesh.leaves())
            .map(|node| self.mesh.stats(node))
            .collect();
        stats.now_us = self.mesh.now_us();
    }

    /// Sleeps until there is an order or a request.
    fn sleep(&mut self, stands: bool) {
        let mut sources = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        for proxy in self.proxies.iter().flatten() {
            sources.push(PollFd::new(proxy.listener.as_fd(), PollFlags::POLLIN));
            sources.extend(
                proxy
                    .streams()
                    .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)),
            );
        }
        let timeout = if stands {
            Duration::from_secs(1)
        } else {
            Duration::from_secs(60)
        };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE);
        // An error (a signal) is a reason to look around, as is an event.
        let woken = poll(&mut sources, timeout).is_ok()
            && sources[0]
                .revents()
                .is_some_and(|events| !events.is_empty());
        drop(sources);
        if woken {
            let _ = self.woken.read(&mut [0; 64]);
        }
    }
}
