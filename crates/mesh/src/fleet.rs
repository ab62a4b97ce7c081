//! The handle of a mesh, and the leaves to be.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use fl_client::Config;
use fl_client::storage::Storage;
use zfl_netsim::radio::{Mesh, MeshConfig, NodeStats};

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
}

/// A mesh that runs on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct MeshFleet {
    orders: Option<Mutex<Sender<Order>>>,
    wake: io::PipeWriter,
    stats: Arc<Mutex<Stats>>,
    thread: Option<JoinHandle<()>>,
}

/// Counts of all nodes, and simulated time.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub nodes: Vec<NodeStats>,
    pub now_us: u64,
}

impl MeshFleet {
    /// Starts the air of a mesh. Time begins when every leaf was told to boot.
    ///
    /// # Errors
    /// If the radio may not send, or the system has no thread for it.
    pub fn start(config: MeshConfig) -> io::Result<Self> {
        let never =
            || io::Error::other("this radio may not send even one frame: raise its duty cycle");
        let mesh = Mesh::new(config).ok_or_else(never)?;
        let (orders, told) = channel();
        let (woken, wake) = io::pipe()?;
        let stats = Arc::new(Mutex::default());
        let thread = Thread::new(mesh, told, woken, Arc::clone(&stats));
        let thread = std::thread::Builder::new()
            .name("mesh".into())
            .spawn(move || thread.run())?;
        Ok(Self {
            orders: Some(Mutex::new(orders)),
            wake,
            stats,
            thread: Some(thread),
        })
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

    /// Counts of a leaf so far; `None` for the gateway.
    pub fn stats(&self, leaf: Option<usize>) -> NodeStats {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats
            .nodes
            .get(leaf.map_or(0, |leaf| leaf + 1))
            .copied()
            .unwrap_or_default()
    }

    /// Simulated time, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now_us
    }
}

impl Drop for MeshFleet {
    fn drop(&mut self) {
        self.orders.take();
        let _ = io::Write::write(&mut &self.wake, &[0]);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
