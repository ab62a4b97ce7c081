//! The handle of a mesh, and the leaves to be.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use fl_client::Config;
use fl_client::storage::Storage;
use zfl_netsim::radio::{Mesh, MeshConfig, NodeStats, Topology};

use crate::emulated;
use crate::run::Thread;

/// A leaf to be.
pub struct LeafSpec {
    /// ID to ask for, secret and the like; port and address are the gateway's.
    pub config: Config,
    /// The aggregator.
    pub server: SocketAddr,
    /// Takes a line of its log.
    pub log: Box<dyn FnMut(&str) + Send>,
    /// Storage that stays when it reboots.
    pub storage: Option<Box<dyn Storage + Send>>,
    /// Told when it ends.
    pub end: Box<dyn FnOnce(LeafEnd) + Send>,
    /// Told once if the aggregator does not let it join.
    pub refused: Box<dyn FnOnce(String) + Send>,
}

/// End of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafEnd {
    /// The experiment is over for it.
    Finished,
    /// It was stopped.
    Stopped,
}

pub(crate) enum Order {
    Boot(usize, Box<LeafSpec>, Sender<io::Result<SocketAddr>>),
    Stop(usize, Sender<()>),
    Freeze(usize, bool),
    Expect(Vec<usize>),
    Plug(usize, UnixStream),
}

/// A mesh that runs on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct MeshFleet {
    topology: Topology,
    orders: Option<Mutex<Sender<Order>>>,
    wake: io::PipeWriter,
    stats: Arc<Mutex<Stats>>,
    thread: Option<JoinHandle<()>>,
}

/// Counts of nodes, each with its simulated time.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    nodes: Vec<(NodeStats, u64)>,
    ways: Vec<Way>,
}

impl Stats {
    /// Tells the counts of a node at a simulated time.
    pub fn tell(&mut self, node: usize, stats: NodeStats, now_us: u64) {
        if self.nodes.len() <= node {
            self.nodes.resize(node + 1, Default::default());
        }
        self.nodes[node] = (stats, now_us);
    }

    /// Tells the counts of a leaf, but those that its gateway has.
    pub fn tell_own(&mut self, node: usize, stats: NodeStats, now_us: u64) {
        let Way { again, hops } = self.way(node);
        let stats = NodeStats {
            again: stats.again + again,
            hops,
            ..stats
        };
        self.tell(node, stats, now_us);
    }

    /// Tells the counts of a leaf that its gateway has.
    pub fn tell_way(&mut self, node: usize, again: u32, hops: f64) {
        self.way(node);
        self.ways[node] = Way {
            again: again.into(),
            hops,
        };
    }

    fn way(&mut self, node: usize) -> Way {
        if self.ways.len() <= node {
            self.ways.resize(node + 1, Way::default());
        }
        self.ways[node]
    }
}

/// Counts of a leaf that its gateway has: tiles sent to it again, and the hops of its packets.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    again: u64,
    hops: f64,
}

impl MeshFleet {
    /// Starts the air of a mesh of native leaves. Time begins when every leaf was told to boot.
    ///
    /// # Errors
    /// If the radio may not send, or the system has no thread for it.
    pub fn start(config: MeshConfig) -> io::Result<Self> {
        let topology = config.topology.clone();
        let mesh = Mesh::new(config).ok_or_else(never)?;
        Self::begin(topology, |told, woken, stats| {
            let thread = Thread::new(mesh, told, woken, stats);
            Ok(move || thread.run())
        })
    }

    /// Starts the air of a mesh of machines. Time begins when every node has booted. Told is of a machine that is off
    /// the air from then on: its node, and why.
    ///
    /// # Errors
    /// If the radio may not send, or the system has no thread for it.
    pub fn start_emulated(
        config: MeshConfig,
        tell: impl Fn(usize, String) + Send + 'static,
    ) -> io::Result<Self> {
        let topology = config.topology.clone();
        Self::begin(topology, |told, woken, stats| {
            let thread = emulated::Thread::new(config, told, woken, stats, Box::new(tell));
            let thread = thread.ok_or_else(never)?;
            Ok(move || thread.run())
        })
    }

    fn begin<F: FnOnce() + Send + 'static>(
        topology: Topology,
        make: impl FnOnce(Receiver<Order>, io::PipeReader, Arc<Mutex<Stats>>) -> io::Result<F>,
    ) -> io::Result<Self> {
        let (orders, told) = channel();
        let (woken, wake) = io::pipe()?;
        let stats = Arc::new(Mutex::default());
        let run = make(told, woken, Arc::clone(&stats))?;
        let thread = std::thread::Builder::new().name("mesh".into()).spawn(run)?;
        Ok(Self {
            topology,
            orders: Some(Mutex::new(orders)),
            wake,
            stats,
            thread: Some(thread),
        })
    }

    /// Leaves that have no way to the gateway while these are down.
    pub fn cut_off(&self, is_down: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
        let is_down = |node: usize| node.checked_sub(1).is_some_and(&is_down);
        let cut = self.topology.cut_off(is_down).into_iter();
        cut.filter_map(|node| node.checked_sub(1))
    }

    /// Joins the serial line of a machine's radio: of the gateway, node 0, or of a leaf, from 1 on.
    pub fn plug(&self, node: usize, line: UnixStream) {
        self.order(Order::Plug(node, line));
    }

    /// Port at which a gateway in firmware serves a leaf.
    pub fn gateway_port(leaf: usize) -> u16 {
        u16::try_from(leaf).map_or(u16::MAX, |leaf| emulated::FIRST_PORT.saturating_add(leaf))
    }

    fn order(&self, order: Order) {
        let orders = self
            .orders
            .as_ref()
            .map(|orders| orders.lock().unwrap_or_else(PoisonError::into_inner));
        // The thread ends only with this handle.
        let _ = orders.map(|orders| orders.send(order));
        let _ = io::Write::write(&mut &self.wake, &[1]);
    }

    /// Boots a leaf; returns the address at which the gateway takes requests for it. Blocks for a moment.
    ///
    /// # Errors
    /// If the system has no socket for it.
    pub fn boot(&self, leaf: usize, spec: LeafSpec) -> io::Result<SocketAddr> {
        let (tell, told) = channel();
        self.order(Order::Boot(leaf, Box::new(spec), tell));
        told.recv()
            .unwrap_or_else(|_| Err(io::Error::other("the mesh has ended")))
    }

    /// Stops a leaf as a crash would: it neither sends nor repeats. Blocks for the time of a training.
    pub fn stop(&self, leaf: usize) {
        let (tell, told) = channel();
        self.order(Order::Stop(leaf, tell));
        let _ = told.recv();
    }

    /// Makes a leaf stand still, or go on; its radio repeats all the while.
    pub fn freeze(&self, leaf: usize, frozen: bool) {
        self.order(Order::Freeze(leaf, frozen));
    }

    /// Tells that the aggregator is about to ask these leaves: time stands still until it has asked all.
    pub fn expect(&self, leaves: Vec<usize>) {
        self.order(Order::Expect(leaves));
    }

    /// Counts of a leaf when its last message came to the gateway, and the simulated time then, in microseconds.
    pub fn stats(&self, leaf: usize) -> (NodeStats, u64) {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.nodes.get(leaf + 1).copied().unwrap_or_default()
    }
}

fn never() -> io::Error {
    io::Error::other("this radio may not send even one frame: raise its duty cycle")
}

impl Drop for MeshFleet {
    fn drop(&mut self) {
        self.orders.take();
        let _ = io::Write::write(&mut &self.wake, &[0]);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
