//! The hub: the place at the root that nodes connect to, and stay connected with.
//!
//! Each connection has a thread. Until a connection has shown the token it has little: a place among few, a time limit,
//! and a short message.

use super::part;
use super::wire::{FromNode, FromRoot, WireError, receive, send};
use anyhow::{Context, Result};
use fl_data::Dataset;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use zfl_aggregator::EdgeSetup;
use zfl_clock::Instant;
use zfl_experiment::{Experiment, versions};
use zfl_files::Dir;
use zfl_orchestrator::Word;
use zfl_run_dir::Death;

/// Connections at once that have not shown the token.
const STRANGERS: usize = 32;

/// Time in which the token has to be shown.
const HELLO: Duration = Duration::from_secs(10);

/// Pause after a connection that could not be taken.
const NO_CONNECTION: Duration = Duration::from_millis(100);

/// Most octets of a first message, of any other, and of a piece of a file.
const MOST_HELLO: u64 = 4 << 10;
const MOST_CONTROL: u64 = 1 << 20;
pub(super) const PIECE: usize = 1 << 20;

/// Most octets of files for each device of a node, and of a node beside them.
const FILES_OF_A_DEVICE: u64 = 64 << 20;
const FILES_OF_A_NODE: u64 = 256 << 20;

/// Most octets of the death of a device.
const DEATH: u64 = 64 << 10;

/// Longest text that a node may have shown.
const TEXT: usize = 400;

/// Event of a node.
#[derive(Debug)]
pub(super) enum NodeEvent {
    /// It can carry its part.
    Ready {
        network: String,
        cores: u32,
        host: String,
    },
    /// It cannot.
    Refused { host: String, reason: String },
    /// Its connection ended before it did.
    Lost { host: String },
    /// It has ended.
    Ended {
        boot_s: Option<f64>,
        deaths: Vec<Death>,
        error: Option<String>,
    },
}

/// The order to go, and where what nodes write belongs.
#[derive(Clone, Debug)]
pub(super) struct Go {
    pub port: u16,
    pub run_dir: PathBuf,
    pub mark: String,
    pub gone: Vec<u32>,
}

/// Cluster of a node and all that it is given.
struct Given {
    cluster: Range<u32>,
    sizes: Vec<u32>,
    octets: Vec<u8>,
    secret: Word,
}

#[derive(Default)]
struct State {
    go: Option<Go>,
    /// Connections of nodes that are there.
    here: BTreeMap<u32, u64>,
    connections: u64,
}

/// A connection of which nothing is read after a time.
struct Until<'a>(&'a mut TcpStream, Instant);

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.1 - Instant::now();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.set_read_timeout(Some(left))?;
        self.0.read(into)
    }
}

/// A hub that listens.
pub(super) struct Hub {
    token: Word,
    given: Vec<Given>,
    files: BTreeMap<String, String>,
    inputs: BTreeMap<String, String>,
    shape: [u32; 3],
    oversubscribe: bool,
    /// Nodes cannot come back: what the algorithm keeps of their clients is lost with them.
    once: bool,
    state: Mutex<State>,
    changed: Condvar,
    strangers: AtomicUsize,
    events: UnboundedSender<(u32, NodeEvent)>,
}

impl Hub {
    /// A hub for the nodes of an experiment, one for each of its edges.
    ///
    /// # Errors
    /// If the experiment cannot be written down.
    pub fn new(
        experiment: &mut Experiment,
        train: &Dataset,
        token: Word,
        oversubscribe: bool,
        events: UnboundedSender<(u32, NodeEvent)>,
    ) -> Result<Self> {
        let mut files = experiment.keep_inputs(zfl_run_dir::INPUTS);
        files.insert("config.toml".to_owned(), experiment.to_toml()?);
        let inputs = versions::of_devices(experiment)?;
        let partition = &experiment.partition;
        let nodes = experiment.edges.nodes(experiment.clients).into_iter();
        let given = nodes.map(|node| node.cluster).map(|cluster| Given {
            sizes: cluster
                .clone()
                .map(|client| partition.indices(client as usize).len() as u32)
                .collect(),
            octets: part::octets(train, partition, cluster.clone()),
            cluster,
            secret: EdgeSetup::secret(),
        });
        let shape = [train.num_inputs, train.num_classes, train.len()];
        Ok(Self {
            token,
            given: given.collect(),
            files,
            inputs,
            shape: shape.map(|number| u32::try_from(number).unwrap_or(u32::MAX)),
            oversubscribe,
            once: experiment.aggregator().keeps_of_clients(),
            state: Mutex::default(),
            changed: Condvar::new(),
            strangers: AtomicUsize::new(0),
            events,
        })
    }

    /// Secret of each edge, in the order of their numbers.
    pub fn secrets(&self) -> impl Iterator<Item = Word> {
        self.given.iter().map(|given| given.secret)
    }

    /// Tells all nodes to go, those that are ready and those that will be.
    pub fn go(&self, go: Go) {
        self.state().go = Some(go);
        self.changed.notify_all();
    }

    /// Takes connections for as long as this process is there.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn listen(self: &Arc<Self>, listener: TcpListener) -> Result<()> {
        let hub = Arc::clone(self);
        let accept = move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // No descriptor is free, say.
                    thread::sleep(NO_CONNECTION);
                    continue;
                };
                if hub.strangers.fetch_add(1, Ordering::Relaxed) >= STRANGERS {
                    hub.strangers.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let own = Arc::clone(&hub);
                let serve = move || own.serve(stream);
                if thread::Builder::new().spawn(serve).is_err() {
                    hub.strangers.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        let name = thread::Builder::new().name("hub".to_owned());
        name.spawn(accept).context("start the hub")?;
        Ok(())
    }

    fn serve(&self, mut stream: TcpStream) {
        let hello = self.hello(&mut stream);
        self.strangers.fetch_sub(1, Ordering::Relaxed);
        match hello {
            Ok((rank, host, connection)) => {
                let event = match self.follow(&mut stream, rank, &host) {
                    Ok(last) => last,
                    Err(_) => NodeEvent::Lost { host },
                };
                self.leave(rank, connection);
                // Nobody listens when the run is over.
                let _ = self.events.send((rank, event));
            }
            Err(Some((reason, again))) => {
                let _ = send(&mut stream, &FromRoot::Refused { reason, again }, &[]);
            }
            Err(None) => {}
        }
    }

    /// Takes the first message: rank, host and connection of a node; why it is refused, and whether it may try again;
    /// or nothing to answer.
    fn hello(&self, stream: &mut TcpStream) -> Result<(u32, String, u64), Option<(String, bool)>> {
        let limited = stream.set_write_timeout(Some(HELLO));
        limited.map_err(|_| None)?;
        let mut until = Until(stream, Instant::now() + HELLO);
        let (hello, _) = receive(&mut until, MOST_HELLO, 0).map_err(|_| None)?;
        let FromNode::Hello {
            token,
            rank,
            world,
            version,
            host,
        } = hello
        else {
            return Err(None);
        };
        let no = |reason: String| Err(Some((reason, false)));
        if !self.token.matches(token.as_bytes()) {
            return no("no or another token: all nodes need the one of this launch".to_owned());
        }
        let own = env!("CARGO_PKG_VERSION");
        if version != own {
            return no(format!(
                "the root is zfl {own}: use the same program on all nodes"
            ));
        }
        let nodes = self.given.len();
        if world as usize != nodes || rank as usize >= nodes {
            return no(format!(
                "node {rank} of {world}, and the root has {nodes} nodes"
            ));
        }
        let ready = stream
            .set_read_timeout(None)
            .and_then(|()| zfl_sandbox::keep_alive(stream));
        ready.map_err(|_| None)?;
        let mut state = self.state();
        if state.here.contains_key(&rank) {
            return Err(Some((format!("node {rank} is here already"), true)));
        }
        if self.once && state.go.is_some() {
            return no(
                "the algorithm keeps something of each client, which was lost with the node"
                    .to_owned(),
            );
        }
        state.connections += 1;
        let connection = state.connections;
        state.here.insert(rank, connection);
        Ok((rank, plain(&host), connection))
    }

    fn leave(&self, rank: u32, connection: u64) {
        let mut state = self.state();
        if state.here.get(&rank) == Some(&connection) {
            state.here.remove(&rank);
        }
    }

    /// Follows a node to its end.
    fn follow(
        &self,
        stream: &mut TcpStream,
        rank: u32,
        host: &str,
    ) -> Result<NodeEvent, WireError> {
        let Some(given) = self.given.get(rank as usize) else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        let [num_inputs, num_classes, num_train] = self.shape;
        let part = FromRoot::Part {
            files: self.files.clone(),
            inputs: self.inputs.clone(),
            cluster: given.cluster.clone(),
            num_inputs,
            num_classes,
            num_train,
            sizes: given.sizes.clone(),
            oversubscribe: self.oversubscribe,
            secret: given.secret.text().to_owned(),
        };
        send(stream, &part, &given.octets)?;
        match receive(stream, MOST_CONTROL, 0)? {
            (FromNode::Ready { network, cores }, _) => {
                let network = plain(&network);
                let host = host.to_owned();
                let ready = NodeEvent::Ready {
                    network,
                    cores,
                    host,
                };
                let _ = self.events.send((rank, ready));
            }
            (FromNode::Refused { reason }, _) => {
                let (host, reason) = (host.to_owned(), plain(&reason));
                return Ok(NodeEvent::Refused { host, reason });
            }
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
        let go = self.wait_for_go();
        let order = FromRoot::Go {
            port: go.port,
            run_dir: go.run_dir.clone(),
            mark: go.mark,
            gone: go.gone,
        };
        send(stream, &order, &[])?;
        self.take_files(stream, given.cluster.clone(), rank, &go.run_dir)
    }

    fn wait_for_go(&self) -> Go {
        let mut state = self.state();
        loop {
            if let Some(go) = &state.go {
                return go.clone();
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the files of a node that writes elsewhere, until it has ended.
    fn take_files(
        &self,
        stream: &mut TcpStream,
        cluster: Range<u32>,
        rank: u32,
        run_dir: &std::path::Path,
    ) -> Result<NodeEvent, WireError> {
        let most = FILES_OF_A_NODE + FILES_OF_A_DEVICE * cluster.len() as u64;
        let most_control = MOST_CONTROL + DEATH * cluster.len() as u64;
        let mut taken = 0;
        loop {
            let (message, octets) = receive(stream, most_control, PIECE as u64)?;
            match message {
                FromNode::File { name } => {
                    taken += octets.len() as u64;
                    let placed = placed(&name, &cluster, rank).filter(|_| taken <= most);
                    let (folder, name) =
                        placed.ok_or_else(|| io::Error::other("this file is not the node's"))?;
                    let folder = Dir::make(&run_dir.join(folder)).map_err(io::Error::other)?;
                    let mut file = folder.append(&name).map_err(io::Error::other)?;
                    file.write_all(&octets)?;
                }
                FromNode::Ended {
                    boot_s,
                    deaths,
                    error,
                } => {
                    let own = deaths.into_iter();
                    let own = own.filter(|death| cluster.contains(&death.client));
                    let plain_death = |death: Death| Death {
                        reason: plain(&death.reason),
                        last_lines: death.last_lines.iter().map(|line| plain(line)).collect(),
                        ..death
                    };
                    return Ok(NodeEvent::Ended {
                        boot_s,
                        deaths: own.map(plain_death).collect(),
                        error: error.map(|error| plain(&error)),
                    });
                }
                _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Folder and name of a file of a node in the run directory; none if the node has no business with it.
fn placed(name: &str, cluster: &Range<u32>, rank: u32) -> Option<(&'static str, String)> {
    let (folder, file) = name.split_once('/')?;
    let (number, ending) = file.split_once('.')?;
    let of: u32 = number.parse().ok()?;
    // Not with a sign or zeros before it.
    let is_plain = of.to_string() == number;
    let (folder, is_own) = match (folder, ending) {
        ("serial", "log") => ("serial", cluster.contains(&of)),
        ("edges", "jsonl") => ("edges", of == rank),
        _ => return None,
    };
    (is_plain && is_own).then(|| (folder, file.to_owned()))
}

fn plain(text: &str) -> String {
    zfl_text::plain(&text.chars().take(TEXT).collect::<String>())
}

/// Opens the hub's listener.
///
/// # Errors
/// If the address is taken.
pub(super) fn open(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("the root cannot listen on {address}: give another --listen, or end what has it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_writes_its_own_files_alone() {
        let of = |name| placed(name, &(4..7), 2);
        assert_eq!(of("serial/4.log"), Some(("serial", "4.log".to_owned())));
        assert_eq!(of("edges/2.jsonl"), Some(("edges", "2.jsonl".to_owned())));
        for other in [
            "serial/7.log",
            "serial/04.log",
            "serial/+4.log",
            "serial/4.log/../x",
            "edges/1.jsonl",
            "model.safetensors",
            "../serial/4.log",
            "serial/../4.log",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
