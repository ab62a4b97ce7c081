//! `zfl run`: aggregator and fleet, from the arguments to the summary.
//!
//! The order matters: everything is checked, then the run directory made, then the fleet's
//! namespaces entered (a fork, which takes a single thread), and only then a runtime started.

use crate::args::{Body, BodyChoice, RunArgs};
use crate::experiment::Experiment;
use crate::runs::Mark;
use crate::session::{Interrupt, aggregate};
use crate::summary::{FleetSide, Memory, Summary};
use crate::terminal::Terminal;
use crate::view;
use anyhow::{Context, Result, ensure};
use fl_data::Splits;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use zfl_aggregator::{Handle, RunDir, Server, bind};
use zfl_orchestrator::sandbox::{self, Needs, Plan, Sandbox};
use zfl_orchestrator::{
    Board, Death, DeviceBody, DeviceSpec, Fleet, FleetConfig, FleetEvent, Qemu,
};

/// What brings a Zephyr firmware.
const ZEPHYR: &str = "cargo xtask setup --zephyr && cargo xtask build-guest --body zephyr";

/// Carries `zfl run` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`](crate::refusal::Refusal) of what cannot be meant; any other failure to begin.
pub fn run(args: &RunArgs, root: &Path, began: Instant) -> Result<u8> {
    let (experiment, data) = Experiment::of_run(args, root)?;
    if args.dry_run {
        print!("{}", experiment.to_toml()?);
        return Ok(0);
    }
    let plan = prepare(&experiment, args)?;
    let dashboard = view::open(args.dashboard)?;
    let run_dir = create(&experiment)?;
    // In the outer process, so that it is gone whenever this process ends in good order.
    let _mark = Mark::set(&experiment.out)?;
    println!("{}", introduction(&experiment, &plan));
    if args.body == BodyChoice::Auto && args.board.is_none() && experiment.body == Some(Body::Bare)
    {
        println!("bare, since no Zephyr firmware is built; get it by: {ZEPHYR}");
    }
    let status = sandbox::enter(&plan, |sandbox| {
        let conducted = block_on(conduct(
            sandbox,
            &experiment,
            data,
            run_dir,
            &plan,
            dashboard,
            began,
        ));
        conducted.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            1
        })
    })?;
    Ok(status)
}

/// Runs a future on a runtime of its own.
///
/// # Errors
/// Its own, or that there can be no runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(future)
}

/// Makes the run directory, with the configuration in it.
///
/// # Errors
/// If it cannot be written.
pub fn create(experiment: &Experiment) -> Result<RunDir> {
    let run_dir = RunDir::create(&experiment.out)?;
    run_dir.replace("config.toml", experiment.to_toml()?.as_bytes())?;
    Ok(run_dir)
}

/// Writes the summary down and shows it; returns the exit status.
///
/// # Errors
/// If it cannot be written; it has been shown then.
pub fn conclude(
    summary: &Summary,
    interrupt: Option<Interrupt>,
    out: &Path,
    terminal: &Terminal,
) -> Result<u8> {
    let here = std::env::current_dir().unwrap_or_default();
    terminal.line(&summary.describe(out.strip_prefix(here).unwrap_or(out)));
    RunDir::reopen(out)?.json("summary.json", summary)?;
    Ok(match interrupt {
        Some(interrupt) => interrupt.status,
        None => u8::from(!summary.success),
    })
}

/// Checks that what is to be booted is there, and finds out what this machine allows.
fn prepare(experiment: &Experiment, args: &RunArgs) -> Result<Plan> {
    let Some(board) = &experiment.board else {
        return Ok(Plan::native());
    };
    Qemu::find(board)?;
    let image = &board.kernel.image;
    ensure!(
        image.is_file(),
        "the firmware {} is not there; build it with: cargo xtask build-guest --board {}",
        image.display(),
        board.name
    );
    Ok(sandbox::probe(args.network.into(), Needs::default())?)
}

fn introduction(experiment: &Experiment, plan: &Plan) -> String {
    let Experiment {
        clients,
        rounds,
        examples_per_client,
        ..
    } = experiment;
    let layers: Vec<_> = experiment.layers.iter().map(u32::to_string).collect();
    let devices = match (&experiment.board, experiment.body) {
        (Some(board), _) => format!("devices on {}, network {plan}", board.name),
        (None, Some(_)) => "native devices, nothing emulated".to_owned(),
        (None, None) => "clients".to_owned(),
    };
    format!(
        "{clients} {devices}\n{rounds} rounds of federated averaging, network {} with {} parameters, \
         {examples_per_client} examples a device",
        layers.join("-"),
        experiment
            .layers
            .windows(2)
            .map(|pair| u64::from(pair[0] + 1) * u64::from(pair[1]))
            .sum::<u64>(),
    )
}

/// The inside of the sandbox, from the network to the summary.
async fn conduct(
    sandbox: Sandbox,
    experiment: &Experiment,
    data: Splits,
    run_dir: RunDir,
    plan: &Plan,
    dashboard: Option<TcpListener>,
    began: Instant,
) -> Result<u8> {
    let terminal = Arc::new(Terminal::of(experiment));
    let (tell, told) = mpsc::unbounded_channel();
    let fleet = Fleet::start(sandbox, fleet_config(experiment), tell).await?;
    let listener = bind(SocketAddr::new(fleet.server_ip(), 0)).await?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let partition = experiment.partition(data.train.len())?;
    let versions = versions(experiment.board.as_deref());
    let network = plan.to_string();
    let meta = view::describe(experiment, network, versions, &data.train, &partition)?;
    if let Some(listener) = dashboard {
        let at = view::serve(listener, meta, &experiment.out)?;
        terminal.line(&format!("dashboard: http://{at}/"));
    }
    let server = Server::new(experiment.aggregator()?, data, partition, run_dir)?;
    let watching = tokio::spawn(watch(told, server.handle(), Arc::clone(&terminal)));

    let aggregating = aggregate(server, listener, &terminal);
    tokio::pin!(aggregating);
    let (boot_s, ended) = tokio::select! {
        ended = &mut aggregating => (None, ended),
        boot_s = boot(&fleet, address, &terminal) => (Some(boot_s), aggregating.await),
    };
    let memory = Memory::of(
        fleet
            .pids()
            .into_keys()
            .filter_map(|client| fleet.usage(client)),
    );
    fleet.stop().await;
    let deaths = watching.await.context("the fleet's watch failed")?;
    let (learned, interrupt) = ended?;

    let network = experiment.board.as_ref().map(|_| plan.to_string());
    let fleet_side = FleetSide {
        network,
        boot_s,
        memory,
        deaths,
    };
    let wall_s = began.elapsed().as_secs_f64();
    let signal = interrupt.map(|interrupt| interrupt.name);
    let summary = Summary::new(experiment, learned, fleet_side, signal, wall_s);
    conclude(&summary, interrupt, &experiment.out, &terminal)
}

/// Versions of what a run depends on besides zfl: QEMU, and the system below it.
fn versions(board: Option<&Board>) -> BTreeMap<String, String> {
    let qemu = board.and_then(|board| Some(Qemu::find(board).ok()?.version.to_string()));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let system = release.map(|release| format!("{} {}", release.trim(), std::env::consts::ARCH));
    let known = [("qemu", qemu), ("linux", system)];
    known
        .into_iter()
        .filter_map(|(name, version)| Some((name.to_owned(), version?)))
        .collect()
}

fn fleet_config(experiment: &Experiment) -> FleetConfig {
    let body = match &experiment.board {
        Some(board) => DeviceBody::Emulated(Arc::clone(board)),
        None => DeviceBody::Native,
    };
    let device = |client| DeviceSpec::new(client, body.clone());
    let devices = (0..experiment.clients).map(device).collect();
    FleetConfig::new(devices, experiment.out.join("serial"))
}

/// Boots the fleet; returns how long that took, in seconds.
async fn boot(fleet: &Fleet, server: SocketAddr, terminal: &Terminal) -> f64 {
    let began = Instant::now();
    terminal.booting();
    let report = fleet.boot(server).await;
    let boot_s = began.elapsed().as_secs_f64();
    terminal.line(&format!(
        "{} devices run after {boot_s:.1} s",
        report.booted.len()
    ));
    boot_s
}

/// Passes on what happens in the fleet, until there is no fleet; returns who died.
async fn watch(
    mut told: UnboundedReceiver<FleetEvent>,
    aggregator: Handle,
    terminal: Arc<Terminal>,
) -> Vec<Death> {
    let mut deaths = Vec::new();
    while let Some(event) = told.recv().await {
        let (client, what, detail) = match event {
            FleetEvent::Booting { client, attempt } => {
                (client, "booting", json!({"attempt": attempt}))
            }
            FleetEvent::Running {
                client,
                address,
                boot_ms,
            } => {
                terminal.booted();
                (
                    client,
                    "running",
                    json!({"address": address.to_string(), "boot_ms": boot_ms}),
                )
            }
            FleetEvent::Finished { client } => {
                // After the last round this is how it should be; before, no round waits for it.
                aggregator.client_lost(client, "its client ended by itself, see its log");
                (client, "finished", json!({}))
            }
            FleetEvent::Stopped { client } => (client, "stopped", json!({})),
            FleetEvent::LogLost { client, error } => {
                terminal.warn(&format!("client {client}: its log is lost: {error}"));
                (client, "log_lost", json!({"error": error}))
            }
            FleetEvent::Died(death) => {
                let Death {
                    client,
                    reason,
                    last_lines,
                } = &death;
                terminal.warn(&format!("client {client} died: {reason}"));
                aggregator.client_lost(*client, reason);
                let detail = json!({"reason": reason, "last_lines": last_lines});
                let client = *client;
                deaths.push(death);
                (client, "died", detail)
            }
        };
        aggregator.fleet_event(Some(client), what, detail);
    }
    deaths
}
