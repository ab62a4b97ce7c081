//! The thread of a mesh of native leaves: orders, sockets, devices, and simulated time.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fl_exchange::Relay;
use zfl_clock::Instant;
use zfl_netsim::radio::Mesh;

use crate::fleet::{LeafEnd, LeafSpec, Order, Stats};
use crate::leaf::RunningLeaf;
use crate::net::HostNet;
use crate::watch::ready;

/// Events between two looks at orders and sockets.
const EVENTS_AT_ONCE: u32 = 2_000;
/// Longest wait for what was announced: whoever is not asked by then is not asked at all.
pub(crate) const ANNOUNCED: Duration = Duration::from_secs(10);
/// Longest span of simulated time without an event.
const FOREVER_US: u64 = u64::MAX / 4;

pub(crate) struct Thread {
    mesh: Mesh,
    orders: Receiver<Order>,
    woken: io::PipeReader,
    stats: Arc<Mutex<Stats>>,
    leaves: Vec<Option<RunningLeaf>>,
    net: HostNet,
    relays: Vec<Relay<TcpStream>>,
    /// Leaves for which something may be to be done.
    todo: BTreeSet<usize>,
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
            net: HostNet::new(leaves),
            relays: (0..leaves).map(Relay::new).collect(),
            todo: BTreeSet::new(),
            expected: (0..leaves).collect(),
            until: Instant::now() + ANNOUNCED,
            drains: false,
        }
    }

    pub fn run(mut self) {
        let mut patience = Duration::ZERO;
        while self.listen(patience) {
            self.devices();
            let stands = self.relays.iter().any(Relay::is_asking)
                || !self.drains && self.waits_for_announced();
            patience = Duration::ZERO;
            if stands || !self.advance() {
                self.todo = (0..self.leaves.len()).collect();
                self.devices();
                patience = Duration::from_secs(if stands { 1 } else { 60 });
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
                    self.todo.insert(leaf);
                    let leaf = self.leaves.get_mut(leaf).and_then(Option::as_mut);
                    leaf.into_iter().for_each(|leaf| leaf.freeze(frozen));
                }
                Ok(Order::Expect(leaves)) => {
                    self.expected = leaves
                        .into_iter()
                        .filter(|leaf| self.is_up(*leaf))
                        .filter(|leaf| !self.relays[*leaf].is_waiting())
                        .collect();
                    (self.until, self.drains) = (Instant::now() + ANNOUNCED, true);
                }
                // Of machines.
                Ok(Order::Plug(..)) => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn is_up(&self, leaf: usize) -> bool {
        self.leaves.get(leaf).is_some_and(Option::is_some)
    }

    fn boot(&mut self, leaf: usize, spec: LeafSpec) -> io::Result<SocketAddr> {
        let address = self.net.open(leaf, spec.server)?;
        self.relays[leaf].reset(&mut self.net);
        if self.leaves[leaf].is_none() && !self.expected.contains(&leaf) {
            self.mesh.boot(leaf);
        }
        self.leaves[leaf] = Some(RunningLeaf::new(spec, address.port(), self.mesh.now_us()));
        self.expected.remove(&leaf);
        self.todo.insert(leaf);
        Ok(address)
    }

    fn stop(&mut self, leaf: usize, end: LeafEnd) {
        self.expected.remove(&leaf);
        if let Some(running) = self.leaves.get_mut(leaf).and_then(Option::take) {
            if end == LeafEnd::Stopped {
                self.mesh.kill(leaf);
                self.mesh.end_life(leaf);
                self.relays[leaf].reset(&mut self.net);
            }
            running.end(end);
        }
    }

    fn devices(&mut self) {
        let news = self.mesh.take_news();
        self.todo.extend(news);
        for leaf in std::mem::take(&mut self.todo) {
            if let Some(running) = &mut self.leaves[leaf]
                && running.run(leaf, &mut self.mesh)
            {
                self.stop(leaf, LeafEnd::Finished);
            }
            if self.mesh.has_come_up(leaf) {
                // Whoever takes an update in reads what it has cost until it came.
                self.publish(leaf);
            }
            let holds = self.drains;
            self.relays[leaf].run(self.mesh.gateway_mut(), &mut self.net, holds);
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
            || self.relays.iter().any(Relay::is_busy)
            || (0..self.leaves.len())
                .any(|leaf| self.mesh.is_sending_down(leaf) && self.is_up(leaf));
        let dues = self.leaves.iter().enumerate();
        let dues = dues.filter_map(|(leaf, running)| Some((running.as_ref()?.due_us()?, leaf)));
        let due = dues.min();
        if !is_moving && self.drains {
            self.drains = false;
            self.todo = (0..self.leaves.len()).collect();
            return true;
        }
        if !is_moving && due.is_none() {
            return false;
        }
        let until_us = due.map_or(FOREVER_US, |(due_us, _)| due_us);
        for _ in 0..EVENTS_AT_ONCE {
            if !self.mesh.step(until_us) {
                self.todo.extend(due.map(|(_, leaf)| leaf));
                break;
            }
            if self.mesh.has_news() {
                break;
            }
        }
        true
    }

    fn publish(&self, leaf: usize) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.tell(leaf + 1, self.mesh.stats(leaf + 1), self.mesh.now_us());
    }

    /// Serves the sockets on which something has come, after so long a wait for that or for an order, and obeys;
    /// false when nobody can order any more. The sign of an order is taken here alone, and orders are read after it.
    fn listen(&mut self, patience: Duration) -> bool {
        let mut watched = Vec::new();
        for (leaf, listener) in self.net.listeners() {
            watched.push((leaf, listener));
            let streams = self.relays[leaf].streams();
            watched.extend(streams.map(|stream| (leaf, stream.as_fd())));
        }
        let ready: BTreeSet<usize> = ready(&self.woken, &watched, patience).into_iter().collect();
        for leaf in ready {
            if self.relays[leaf].listen(&mut self.net) {
                self.expected.remove(&leaf);
            }
            self.todo.insert(leaf);
        }
        self.obey()
    }
}
