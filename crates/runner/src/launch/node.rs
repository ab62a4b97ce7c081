//! A node: its part of the fleet behind its edge, on this machine.
//!
//! The process that speaks to the hub has a single thread, so that the fleet's namespaces can be made after it. The connection to the
//! hub stays open for as long as a process of the node lives.

use super::grant;
use super::hub::PIECE;
use super::part::{self, Sizes};
use super::wire::{FromNode, FromRoot, receive, send};
use super::world::World;
use crate::background::Background;
use crate::edges::{self, Edges, FOLDER as EDGES};
use crate::faults::FaultRunner;
use crate::fleet::{self, FleetOptions};
use crate::observer::Observer;
use crate::places;
use crate::run::{boot, proofs};
use crate::session::{Interrupts, block_on};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use zfl_aggregator::{Above, Edge, EdgeSetup, Entry, Sockets, bind};
use zfl_clock::Instant;
use zfl_experiment::{Experiment, Refusal, Root, Settings, require, versions};
use zfl_files::Dir;
use zfl_orchestrator::admission::needed_bytes;
use zfl_orchestrator::{Fleet, FleetConfig, Word};
use zfl_run_dir::{Death, EventLog};
use zfl_sandbox::{NetworkKind, Outside, Plan, Sandbox, enter};

/// Longest wait for the root, which may start later than its nodes.
const ROOT_WITHIN: Duration = Duration::from_secs(180);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Most octets of the root's messages: the experiment, and the examples of a cluster.
const MOST_CONTROL: u64 = 64 << 20;
const MOST_OCTETS: u64 = 16 << 30;

/// Emulated devices for each processor: more than that boot, and hardly get on.
const MOST_A_CORE: usize = 250;

/// A node that is about to connect.
pub struct Node {
    /// Its place among all.
    pub world: World,
    /// Secret of the launch.
    pub token: Word,
    /// Threads on which native devices run.
    pub threads: Option<u32>,
    /// Told what happens.
    pub observer: Arc<dyn Observer>,
}

/// Task that the root has given to a node.
struct Task {
    experiment: Experiment,
    train: fl_data::Dataset,
    cluster: Range<u32>,
    oversubscribe: bool,
    secret: Word,
}

/// Outcome of the fleet, as the process that had it tells.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    boot_s: Option<f64>,
    deaths: Vec<Death>,
    error: Option<String>,
}

impl Node {
    /// Runs the node until the run is over. It blocks, and must not be called from a process with threads.
    ///
    /// # Errors
    /// A [`Refusal`] if the root refuses the node, or this machine cannot carry its part; that the root is gone.
    pub fn run(self, root: &Root) -> Result<()> {
        let (mut stream, task) = self.join(root)?;
        let prepared = self.prepare(&task);
        let (mut fleet, plan) = match prepared {
            Ok(prepared) => prepared,
            Err(why) => {
                let reason = format!("{why:#}");
                send(&mut stream, &FromNode::Refused { reason }, &[])?;
                return Err(Refusal::of(why).into());
            }
        };
        let here = stream.local_addr().context("no address")?.ip();
        let orders =
            TcpListener::bind(SocketAddr::new(here, 0)).context("the edge cannot listen")?;
        let ready = FromNode::Ready {
            network: plan.to_string(),
            cores: cores(),
        };
        send(&mut stream, &ready, &[])?;
        let (go, _) = receive(&mut stream, MOST_CONTROL, 0).context("the root is gone")?;
        let FromRoot::Go {
            port,
            run_dir,
            mark,
            gone,
        } = go
        else {
            bail!("the root ended before the run began");
        };
        fleet.devices.retain(|spec| !gone.contains(&spec.client));
        let elsewhere = place(&run_dir, &mark)?;
        let folder = elsewhere
            .as_ref()
            .map_or(&*run_dir, tempfile::TempDir::path);
        fleet::place(&mut fleet, folder);
        let aggregator = SocketAddr::new(stream.peer_addr().context("no address")?.ip(), port);
        let part = Part {
            number: self.world.rank,
            task,
            fleet,
            upstream: aggregator,
            folder: folder.to_owned(),
            lifeline: stream.try_clone().context("the connection to the root")?,
            orders,
            observer: Arc::clone(&self.observer),
        };
        let report = part.run(&plan)?;
        stream.set_nonblocking(false)?;
        if elsewhere.is_some() {
            send_files(&mut stream, folder)?;
        }
        let error = report.error.clone();
        let ended = FromNode::Ended {
            boot_s: report.boot_s,
            deaths: report.deaths,
            error: report.error,
        };
        send(&mut stream, &ended, &[])?;
        match error {
            Some(error) => bail!(error),
            None => Ok(()),
        }
    }

    /// Connects to the root and takes its task, as often as it takes.
    fn join(&self, root: &Root) -> Result<(TcpStream, Task)> {
        let began = Instant::now();
        loop {
            let tried = self.try_to_join();
            let late = began.elapsed() > ROOT_WITHIN;
            match tried {
                Ok((stream, FromRoot::Refused { again: true, .. }, _)) if !late => drop(stream),
                Ok((_, FromRoot::Refused { reason, .. }, _)) => {
                    return Err(Refusal(format!("the root refuses this node: {reason}")).into());
                }
                Ok((stream, message, octets)) => return Ok((stream, task(message, octets, root)?)),
                Err(error) if late => {
                    let at = &self.world.root;
                    return Err(error.context(format!("no root at {at} within {ROOT_WITHIN:?}")));
                }
                Err(_) => {}
            }
            thread::sleep(PAUSE);
        }
    }

    fn try_to_join(&self) -> Result<(TcpStream, FromRoot, Vec<u8>)> {
        let World { rank, size, root } = &self.world;
        let addresses: Vec<_> = root.to_socket_addrs()?.collect();
        let mut stream = TcpStream::connect(&addresses[..])?;
        zfl_sandbox::keep_alive(&stream)?;
        let hello = FromNode::Hello {
            token: self.token.text().to_owned(),
            rank: *rank,
            world: *size,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host(),
        };
        send(&mut stream, &hello, &[])?;
        let (message, octets) = receive(&mut stream, MOST_CONTROL, MOST_OCTETS)?;
        Ok((stream, message, octets))
    }

    /// Finds out if this machine can carry its part of the fleet.
    fn prepare(&self, task: &Task) -> Result<(FleetConfig, Plan)> {
        let experiment = &task.experiment;
        let options = FleetOptions {
            threads: self.threads,
            oversubscribe: task.oversubscribe,
            ..FleetOptions::default()
        };
        let mut fleet = fleet::config(experiment, &options, None)?;
        fleet
            .devices
            .retain(|spec| task.cluster.contains(&spec.client));
        fleet.other_files = places::least_files(task.cluster.len() as u32, false);
        let is_emulated = |client| experiment.group(client).is_some_and(|g| g.board.is_some());
        let machines = task
            .cluster
            .clone()
            .filter(|client| is_emulated(*client))
            .count();
        let most = MOST_A_CORE * cores() as usize;
        require(task.oversubscribe || machines <= most, || {
            format!(
                "{machines} machines for {} processors, {most} get on: take more nodes, ask for more processors on \
                 each (--cpus-per-task), or give --oversubscribe",
                cores()
            )
        })?;
        let plan = fleet::probe(experiment, &fleet, &options)?;
        let needed: u64 = fleet.devices.iter().map(needed_bytes).sum();
        let granted = grant::memory().unwrap_or(u64::MAX);
        require(task.oversubscribe || needed <= granted, || {
            format!(
                "its devices need {} MiB, and this node was granted {} MiB: take more nodes, ask for more memory on \
                 each (--mem), or give --oversubscribe",
                needed >> 20,
                granted >> 20
            )
        })?;
        Ok((fleet, plan))
    }
}

/// The task in the root's first message.
fn task(message: FromRoot, octets: Vec<u8>, root: &Root) -> Result<Task> {
    let FromRoot::Part {
        files,
        inputs,
        cluster,
        num_inputs,
        num_classes,
        num_train,
        sizes,
        oversubscribe,
        secret,
    } = message
    else {
        bail!("the root sent something else than a task");
    };
    let folder = tempfile::Builder::new().prefix("zfl-node-").tempdir()?;
    for (name, text) in &files {
        keep(folder.path(), name, text)?;
    }
    let mut settings = Settings::of_run(&Dir::open(folder.path())?)?;
    // They have been dealt out by the root.
    (settings.data, settings.partition_file) = (None, None);
    let sizes = Sizes {
        cluster: cluster.clone(),
        num_inputs,
        num_classes,
        num_train,
        each: sizes,
    };
    let counts = settings.fleet.iter().filter_map(|group| group.count);
    let clients = counts.fold(0, u32::saturating_add);
    let clients = settings.clients.unwrap_or(clients);
    let part =
        part::read(sizes, clients, octets).context("the examples are none of this cluster")?;
    let (experiment, data) = Experiment::of_part(&settings, part, root)?;
    let own = versions::of_devices(&experiment)?;
    let changed = versions::changed_inputs(&inputs, &own);
    require(changed.is_empty(), || {
        format!(
            "this node has other inputs than the root ({}): use the same program",
            changed.join(", ")
        )
    })?;
    let secret = secret
        .parse()
        .map_err(|_| anyhow::anyhow!("the secret of the edge is none"))?;
    Ok(Task {
        experiment,
        train: data.train,
        cluster,
        oversubscribe,
        secret,
    })
}

/// Keeps a file of the experiment, whose name is its own or one in a folder.
fn keep(folder: &Path, name: &str, text: &str) -> Result<()> {
    let (sub, file) = name.rsplit_once('/').unwrap_or(("", name));
    let folder = match sub {
        "" => Dir::open(folder)?,
        sub => {
            let is_name = !sub.contains('/') && sub != "..";
            require(is_name, || {
                format!("the root sent a file with the name {name}")
            })?;
            Dir::open(folder)?.make_folder(sub)?
        }
    };
    Ok(folder.write(file, text.as_bytes())?)
}

/// A folder of this node's own, unless it sees the run directory of the root.
fn place(run_dir: &Path, mark: &str) -> Result<Option<tempfile::TempDir>> {
    let is_mark = mark.bytes().all(|octet| octet.is_ascii_alphanumeric());
    if is_mark && run_dir.join(mark).is_file() {
        return Ok(None);
    }
    Ok(Some(
        tempfile::Builder::new().prefix("zfl-node-").tempdir()?,
    ))
}

/// Sends what the devices and the edge wrote.
fn send_files(stream: &mut TcpStream, folder: &Path) -> Result<()> {
    let mut piece = vec![0; PIECE];
    for sub in ["serial", EDGES] {
        let Ok(folder) = Dir::open(&folder.join(sub)) else {
            continue;
        };
        for file in folder.names()? {
            let file = file.to_string_lossy();
            let mut open = folder.open_file(&file, u64::MAX)?;
            loop {
                let got = open.read(&mut piece)?;
                if got == 0 {
                    break;
                }
                let name = format!("{sub}/{file}");
                send(stream, &FromNode::File { name }, &piece[..got])?;
            }
        }
    }
    Ok(())
}

/// Processors of this process.
fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// Name of this machine.
fn host() -> String {
    let named = std::env::var("SLURMD_NODENAME").ok();
    let kernel = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    named.unwrap_or_else(kernel).trim().to_owned()
}

/// The part of a run that is here.
struct Part {
    number: u32,
    task: Task,
    fleet: FleetConfig,
    upstream: SocketAddr,
    folder: PathBuf,
    lifeline: TcpStream,
    orders: TcpListener,
    observer: Arc<dyn Observer>,
}

impl Part {
    /// Runs it in its sandbox, and brings back what came of it: from another process, if there are machines.
    fn run(self, plan: &Plan) -> Result<Report> {
        let stays = matches!(plan.network, NetworkKind::Loopback | NetworkKind::InProcess);
        let outside = match stays {
            true => None,
            false => Some(Arc::new(Outside::open()?)),
        };
        let (mut told, tell) = io::pipe().context("make a pipe")?;
        let mut tell = Some(tell);
        let mut here = None;
        let status = enter(plan, |sandbox| {
            let ended = block_on(self.execute(sandbox, outside));
            let report = ended.unwrap_or_else(|error| Report {
                error: Some(format!("{error:#}")),
                ..Report::default()
            });
            if stays {
                here = Some(report);
            } else if let Some(tell) = &mut tell {
                // If the outer process is gone, nobody is left to hear of it.
                let _ = serde_json::to_writer(tell, &report);
            }
            0
        })?;
        if let Some(report) = here {
            return Ok(report);
        }
        drop(tell.take());
        let mut text = String::new();
        told.read_to_string(&mut text)?;
        serde_json::from_str(&text)
            .with_context(|| format!("the fleet's process ended with status {status}"))
    }

    async fn execute(self, sandbox: Sandbox, outside: Option<Arc<Outside>>) -> Result<Report> {
        let Task {
            experiment,
            train,
            cluster,
            secret,
            oversubscribe: _,
        } = self.task;
        let clients: BTreeSet<u32> = self.fleet.devices.iter().map(|spec| spec.client).collect();
        let observer = self.observer;
        let (tell, told) = mpsc::unbounded_channel();
        let fleet = Arc::new(Fleet::start(sandbox, self.fleet, tell).await?);
        for warning in fleet.warnings() {
            observer.on_warning(warning);
        }
        let listener = bind(SocketAddr::new(fleet.server_ip(), 0)).await?;
        let address = listener.local_addr().context("the edge has no address")?;
        let folder = Dir::make(&self.folder.join(EDGES))?;
        let events = EventLog::new(folder.append(&format!("{}.jsonl", self.number))?);
        let mut places = experiment.edges.nodes(experiment.clients).into_iter();
        let place = places.nth(self.number as usize);
        let place = place.filter(|place| place.cluster == cluster);
        let rounded = !experiment.edge_sums.is_exact();
        let setup = EdgeSetup {
            upstream: self.upstream,
            secret: Some(secret),
            ..edges::setup(
                &place.context("the cluster is not that of this node")?,
                rounded,
                experiment.edge_rounds,
            )
        };
        let edge = Edge::new(
            experiment.aggregator(),
            train,
            experiment.partition.clone(),
            events.context("the events of the edge")?,
            setup,
        )?;
        self.orders.set_nonblocking(true)?;
        let edge = edge
            .with_limits(places::limits(&experiment, clients.len(), false))
            .with_entry(Entry {
                fleet: Some(proofs(&fleet)),
                ..Entry::default()
            })
            .with_above(Above {
                listener: tokio::net::TcpListener::from_std(self.orders)?,
                sockets: outside.map(sockets),
            });
        let handle = edge.handle();
        let devices_join = Edges::none(&experiment, (&handle, address), &observer);
        let devices_join = Arc::new(devices_join);
        let faults = Arc::new(FaultRunner::new(
            Arc::downgrade(&fleet),
            handle.clone(),
            Arc::clone(&devices_join),
            &experiment,
            experiment.fault_plan()?,
        ));
        let (_no_page, requests) = mpsc::channel(1);
        let background =
            Background::start(&handle, &faults, &observer, &experiment, told, requests);
        let mut interrupts = Interrupts::new()?;
        let running = edge.run(listener);
        tokio::pin!(running);
        let work = async {
            tokio::select! {
                ended = &mut running => (None, ended),
                boot_s = boot(&fleet, &clients, &devices_join, &handle, &*observer) => {
                    (Some(boot_s), running.await)
                }
            }
        };
        let (boot_s, ended) = tokio::select! {
            ended = work => ended,
            _ = root_is_gone(self.lifeline) => (None, Err(anyhow::anyhow!("the root is gone"))),
            signal = interrupts.next() => {
                (None, Err(anyhow::anyhow!("interrupted by {}", signal.name)))
            }
        };
        let deaths = background.end(fleet).await?;
        Ok(Report {
            boot_s,
            deaths,
            error: ended.err().map(|error| format!("{error:#}")),
        })
    }
}

/// Sockets of the network outside of the sandbox.
fn sockets(outside: Arc<Outside>) -> Sockets {
    Arc::new(move |ipv6| outside.socket(ipv6))
}

/// Waits until the connection to the root ends.
async fn root_is_gone(lifeline: TcpStream) -> Result<()> {
    lifeline.set_nonblocking(true)?;
    let lifeline = tokio::net::TcpStream::from_std(lifeline)?;
    // Nothing is sent by the root any more.
    while lifeline.peek(&mut [0]).await.is_ok_and(|got| got > 0) {
        zfl_clock::sleep(PAUSE).await;
    }
    Ok(())
}
