//! `zfl run`: aggregator and fleet, from the arguments to the summary.
//!
//! The order matters: everything is checked, then the run directory made, then the fleet's
//! namespaces entered (a fork, which takes a single thread), and only then a runtime started.

use crate::args::{Capture, RunArgs};
use crate::runs;
use crate::session::{Interrupt, aggregate};
use crate::stage::Stage;
use crate::summary::{network_stats, summarise};
use crate::terminal::Terminal;
use crate::touch::{self, Asked, Wish};
use crate::view;
use crate::watch::{Watchdog, watch};
use anyhow::{Context, Result, ensure};
use fl_data::Splits;
use futures::future::join_all;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zfl_aggregator::{Handle, Server, bind};
use zfl_experiment::estimate::memory;
use zfl_experiment::place::RUNS;
use zfl_experiment::{
    Body, BodyChoice, Choice, Experiment, FleetGroup, Network, NotNative, Out, Refusal, Settings,
    boards, require,
};
use zfl_orchestrator::admission::Capacity;
use zfl_orchestrator::sandbox::{self, Needs, Plan, Sandbox};
use zfl_orchestrator::{
    BootPolicy, DeviceBody, DeviceSpec, Fleet, FleetConfig, PcapConfig, Qemu, Resumption,
};
use zfl_run_dir::{
    Death, FleetSummary, Memory, NetworkStats, PidFile, Resumed, RunDir, RunHistory, RunSummary,
    process_of,
};

/// What brings a Zephyr firmware.
const ZEPHYR: &str = "cargo xtask setup --zephyr && cargo xtask build-guest --body zephyr";

/// How often it is looked whether the fleet is held by nobody else.
const LET_GO: Duration = Duration::from_millis(2);

/// Carries `zfl run` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; any other failure to begin.
pub fn run(args: &RunArgs, root: &Path, began: Instant) -> Result<u8> {
    args.display.check()?;
    let token = touch::asked(
        args.dashboard_token.as_ref(),
        std::env::var_os(touch::VARIABLE),
        args.learning.dashboard,
    )?;
    let (experiment, data, resumed) = resolve(args, root)?;
    for line in &experiment.notes {
        eprintln!("{line}");
    }
    if args.dry_run {
        print!("{}", experiment.to_toml()?);
        println!("# The results would go to {}", experiment.out.display());
        return Ok(0);
    }
    let fleet = fleet_config(&experiment, args, resumed.as_ref())?;
    let plan = prepare(&experiment, &fleet)?;
    let dashboard = view::open(args.learning.dashboard)?;
    let (run_dir, history) = match &resumed {
        Some(resumed) => {
            let run_dir = RunDir::resume(&experiment.out, resumed.round)?;
            (run_dir, RunHistory::of(&experiment.out, resumed)?)
        }
        None => (create(&experiment)?, RunHistory::default()),
    };
    // In the outer process, so that it is gone whenever this process ends in good order.
    let _pid_file = PidFile::write(&experiment.out)?;
    let _shown = args.display.open(&experiment.out)?;
    println!("{}", introduction(&experiment, &plan, &fleet)?);
    if let Some(round) = history.resumed_from.last() {
        println!("goes on after round {round}");
    }
    if wants_zephyr(args) && experiment.body == Some(Body::Bare) {
        println!("bare, since no Zephyr firmware is built; get it by: {ZEPHYR}");
    }
    let production = Production {
        experiment: &experiment,
        plan: &plan,
        began,
        resumed,
        history,
        fleet,
        token,
    };
    let status = sandbox::enter(&plan, |sandbox| {
        let conducted = block_on(production.conduct(sandbox, data, run_dir, dashboard));
        conducted.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            1
        })
    })?;
    Ok(status)
}

/// Whether the body was left to what is built.
fn wants_zephyr(args: &RunArgs) -> bool {
    let fleet = &args.fleet;
    fleet.body.unwrap_or(BodyChoice::usual()) == BodyChoice::Auto
        && fleet.board.is_none()
        && args.file.is_none()
}

/// The experiment that is asked for, its data, and where it goes on if it is resumed.
fn resolve(args: &RunArgs, root: &Path) -> Result<(Experiment, Splits, Option<Resumed>)> {
    let flags = args.settings();
    if let Some(named) = &args.resume {
        return resume(flags, named, root);
    }
    let settings = match &args.file {
        Some(file) => {
            let file = Settings::read(file)?;
            for line in file
                .outdated()
                .into_iter()
                .chain(boards::overridden(&flags, &file, root))
            {
                eprintln!("{line}");
            }
            flags.over(file, &boards::guests(root))?
        }
        None => flags.over(Settings::default(), &boards::guests(root))?,
    };
    let out = args.learning.out.as_ref().or(settings.out.as_ref());
    let out = Out::New(out.map(PathBuf::as_path));
    let (experiment, data) = Experiment::of_run(&settings, out, root)?;
    Ok((experiment, data, None))
}

/// The experiment of a run that was broken off. Flags may change how it is run, not what.
fn resume(
    flags: Settings,
    named: &Path,
    root: &Path,
) -> Result<(Experiment, Splits, Option<Resumed>)> {
    let run = runs::find(&root.join(RUNS), Some(named))?;
    require(process_of(&run).is_none(), || {
        format!("{} is under way: zfl stop it first", run.display())
    })?;
    let settings = flags.over(
        Settings::read(&run.join("config.toml"))?,
        &boards::guests(root),
    )?;
    let (experiment, data) = Experiment::of_run(&settings, Out::Resumed(&run), root)?;
    let before = std::fs::read_to_string(run.join("config.toml"))?;
    let other = differences(&before, &experiment.to_toml()?)?;
    require(other.is_empty(), || {
        format!(
            "{} was run with other settings ({}): leave out the flags that change them",
            run.display(),
            other.join(", ")
        )
    })?;
    let resumed = RunDir::broken_off(&run, &experiment.model)
        .map_err(|error| Refusal(format!("{error:#}")))?;
    require(resumed.round < experiment.rounds, || {
        format!(
            "{} is over: all {} rounds are complete",
            run.display(),
            experiment.rounds
        )
    })?;
    Ok((experiment, data, Some(resumed)))
}

/// Keys of which two configurations say different things. Where the run lies is none: it may have
/// been moved.
fn differences(before: &str, now: &str) -> Result<Vec<String>> {
    let [before, now] = [before, now].map(toml::from_str::<toml::Table>);
    let (before, now) = (before?, now?);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differs = |key: &&String| *key != "out" && before.get(*key) != now.get(*key);
    Ok(keys.into_iter().filter(differs).cloned().collect())
}

/// Waits until nobody else holds it: what was told to end lets go of it a little later.
async fn sole<T>(mut shared: Arc<T>) -> T {
    loop {
        shared = match Arc::try_unwrap(shared) {
            Ok(alone) => return alone,
            Err(shared) => shared,
        };
        tokio::time::sleep(LET_GO).await;
    }
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
    summary: &RunSummary,
    interrupt: Option<Interrupt>,
    out: &Path,
    terminal: &Terminal,
) -> Result<u8> {
    let here = std::env::current_dir().unwrap_or_default();
    terminal.line(&summary.describe(out.strip_prefix(here).unwrap_or(out)));
    RunDir::reopen(out)?.json("summary.json", summary)?;
    Ok(match interrupt {
        Some(interrupt) => interrupt.status,
        None => u8::from(!summary.training.success),
    })
}

/// Checks that what is to be booted is there, and finds out what this machine allows.
fn prepare(experiment: &Experiment, fleet: &FleetConfig) -> Result<Plan> {
    can_capture(experiment, fleet)?;
    let boards = experiment.groups.iter().filter_map(|g| g.board.as_ref());
    let emulated = boards.clone().next().is_some();
    for board in boards {
        Qemu::find(board)?;
        let image = &board.kernel.image;
        ensure!(
            image.is_file(),
            "the firmware {} is not there; build it with: cargo xtask build-guest --board {}",
            image.display(),
            board.name
        );
    }
    let capacity = Capacity::of(&fleet.devices)?;
    require(fleet.oversubscribe || capacity.suffices(), || {
        format!("{capacity}: take fewer devices, end other programs, or give --oversubscribe")
    })?;
    if !emulated {
        return Ok(Plan::native());
    }
    let needs = Needs {
        links: fleet.devices.iter().any(|spec| !spec.link.is_perfect()),
        cuts: experiment.fault_plan()?.cuts_links(),
        pcap: fleet.pcap.is_some(),
    };
    let network = experiment.network.unwrap_or(Network::usual());
    Ok(sandbox::probe(network.into(), needs)?)
}

/// Refuses captures of devices that have no frames.
fn can_capture(experiment: &Experiment, fleet: &FleetConfig) -> Result<(), Refusal> {
    let is_emulated = |group: &FleetGroup| group.board.is_some();
    let emulated = experiment.groups.iter().any(is_emulated);
    NotNative::Capture.refuse_if(!emulated && fleet.pcap.is_some())?;
    let captured = fleet.pcap.iter().flat_map(|pcap| &pcap.clients).flatten();
    captured.into_iter().try_for_each(|&client| {
        require(experiment.group(client).is_some_and(is_emulated), || {
            format!("--pcap {client}: there is no emulated device {client} to capture")
        })
    })
}

fn introduction(experiment: &Experiment, plan: &Plan, fleet: &FleetConfig) -> Result<String> {
    let &Experiment {
        clients, rounds, ..
    } = experiment;
    let devices = match &experiment.groups[..] {
        [only] if only.board.is_none() => "native devices, nothing emulated".to_owned(),
        [only] => format!("devices on {}, network {plan}", only.kind()),
        groups => {
            let each = groups
                .iter()
                .map(|g| format!("{} {} on {}", g.count, g.name, g.kind()));
            let each = each.collect::<Vec<_>>().join(", ");
            format!("devices ({each}), network {plan}")
        }
    };
    let examples = match experiment.examples_per_client {
        Some(examples) => format!("{examples} examples a device"),
        None => "as many examples a device as its group says".to_owned(),
    };
    let layers: Vec<_> = experiment.layers.iter().map(u32::to_string).collect();
    let mut text = format!(
        "{clients} {devices}\n{rounds} rounds of federated averaging, network {} with {} parameters, \
         {examples}",
        layers.join("-"),
        experiment.num_params(),
    );
    if experiment.board.is_some() || experiment.groups.len() > 1 {
        text += &format!("\n{}", Capacity::of(&fleet.devices)?);
    }
    Ok(text)
}

fn fleet_config(
    experiment: &Experiment,
    args: &RunArgs,
    resumed: Option<&Resumed>,
) -> Result<FleetConfig, Refusal> {
    let lost = |client: &u32| resumed.is_some_and(|from| from.lost.contains_key(client));
    let mut devices = Vec::new();
    let mut clients = 0..experiment.clients;
    for group in &experiment.groups {
        let extra_bytes = memory::beyond_budget(experiment, group)?;
        let those = clients.by_ref().take(group.count as usize);
        devices.extend(
            those
                .filter(|client| !lost(client))
                .map(|client| DeviceSpec {
                    extra_bytes,
                    ..device(client, group)
                }),
        );
    }
    let mut config = FleetConfig::new(devices, experiment.out.join("serial"));
    config.boot = BootPolicy {
        parallel: args.fleet.boot_parallel.map(|count| count as usize),
        ..BootPolicy::default()
    };
    config.seed = experiment.seed;
    config.oversubscribe = args.fleet.oversubscribe;
    config.resumed = resumed.map(resumption);
    config.pcap = args.pcap.as_ref().map(|capture| PcapConfig {
        dir: experiment.out.join("pcap"),
        clients: match capture {
            Capture::All => None,
            Capture::Of(clients) => Some(clients.clone()),
        },
    });
    Ok(config)
}

fn resumption(from: &Resumed) -> Resumption {
    let Resumed {
        round, elapsed_s, ..
    } = from;
    Resumption {
        elapsed: Duration::try_from_secs_f64(*elapsed_s).unwrap_or_default(),
        mark: format!(
            "resumed after round {round}: what came after {elapsed_s:.3} s was broken off and is done again"
        ),
    }
}

fn device(client: u32, group: &FleetGroup) -> DeviceSpec {
    let body = match &group.board {
        Some(board) => DeviceBody::Emulated(Arc::clone(board)),
        None => DeviceBody::Native,
    };
    DeviceSpec {
        link: group.link,
        memory_mib: group.memory_mib,
        speed: group.speed,
        ..DeviceSpec::new(client, body)
    }
}

/// A run that is about to begin.
struct Production<'a> {
    experiment: &'a Experiment,
    plan: &'a Plan,
    began: Instant,
    resumed: Option<Resumed>,
    history: RunHistory,
    fleet: FleetConfig,
    token: Option<Asked>,
}

impl Production<'_> {
    /// Runs aggregator and fleet side by side to the end; returns the exit status.
    async fn conduct(
        self,
        sandbox: Sandbox,
        data: Splits,
        run_dir: RunDir,
        dashboard: Option<TcpListener>,
    ) -> Result<u8> {
        let experiment = self.experiment;
        let terminal = Arc::new(Terminal::of(experiment));
        let serial_dir = self.fleet.serial_dir.clone();
        let clients: BTreeSet<u32> = self.fleet.devices.iter().map(|spec| spec.client).collect();
        let (tell, told) = mpsc::unbounded_channel();
        let fleet = Arc::new(Fleet::start(sandbox, self.fleet, tell).await?);
        for warning in fleet.warnings() {
            terminal.warn(warning);
        }
        let listener = bind(SocketAddr::new(fleet.server_ip(), 0)).await?;
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let partition = experiment.partition(data.train.len())?;
        let network = self.plan.to_string();
        let meta = view::describe(experiment, Some(network), &data.train, &partition)?;
        let (hand, wishes) = touch::hand(fleet.can_cut());
        let touch = self.token.map(|token| (token, hand));
        view::serve(dashboard, meta, &experiment.out, touch, &terminal)?;
        let (mut server, lost) = server(experiment, data, partition, run_dir, self.resumed)?;
        let stage = Arc::new(Stage::new(
            Arc::downgrade(&fleet),
            server.handle(),
            address,
            experiment,
            experiment.fault_plan()?,
        ));
        server = server.with_outlook(stage.clone());
        for (client, reason) in lost {
            server.handle().client_lost(client, &reason);
        }
        let background = Background::start(
            &server.handle(),
            &stage,
            &terminal,
            experiment,
            serial_dir,
            told,
            wishes,
        );

        let aggregator = server.handle();
        let aggregating = aggregate(server, listener, &terminal);
        tokio::pin!(aggregating);
        let (boot_s, ended) = tokio::select! {
            ended = &mut aggregating => (None, ended),
            boot_s = boot(&fleet, &clients, address, &aggregator, &terminal) => (Some(boot_s), aggregating.await),
        };
        let pids = fleet.pids().into_keys();
        let private = |client| Some(fleet.usage(client)?.private_bytes);
        let memory = Memory::of(pids.filter_map(private));
        let network_stats = fleet.switch_stats().as_ref().map(network_stats);
        let mut history = self.history;
        history.deaths.extend(background.end(fleet).await?);
        let (learned, interrupt) = ended?;

        let fleet_summary = FleetSummary {
            network: experiment.network.map(|_| self.plan.to_string()),
            boot_s: history.boot_s_with(boot_s),
            memory,
            network_stats: network_stats.map(|stats| NetworkStats {
                since_round: history.since_round(),
                ..stats
            }),
            faults: history.faults_with(stage.counts()),
            by_hand: history.by_hand_with(stage.by_hand()),
            lost_s: history.since_round().map(|_| history.lost_s),
            deaths: history.deaths,
            resumed_from: history.resumed_from,
        };
        let wall_s = history.wall_s + self.began.elapsed().as_secs_f64();
        let signal = interrupt.map(|interrupt| interrupt.name);
        let summary = summarise(experiment, learned, fleet_summary, signal, wall_s);
        conclude(&summary, interrupt, &experiment.out, &terminal)
    }
}

/// The aggregator, at its beginning or where it goes on; who is gone by then.
fn server(
    experiment: &Experiment,
    data: Splits,
    partition: fl_data::Partition,
    run_dir: RunDir,
    resumed: Option<Resumed>,
) -> Result<(Server, std::collections::BTreeMap<u32, String>)> {
    let mut config = experiment.aggregator();
    let Some(mut resumed) = resumed else {
        let server = Server::new(config, data, partition, run_dir)?;
        return Ok((server, Default::default()));
    };
    config.first_round = resumed.round + 1;
    config.elapsed_before = Duration::try_from_secs_f64(resumed.elapsed_s).unwrap_or_default();
    let lost = std::mem::take(&mut resumed.lost);
    let server = Server::new(config, data, partition, run_dir)?;
    Ok((server.resumed(resumed), lost))
}

/// What goes on beside the rounds.
struct Background {
    tasks: Vec<JoinHandle<()>>,
    watching: JoinHandle<()>,
    deaths: crate::watch::Deaths,
}

impl Background {
    fn start(
        aggregator: &Handle,
        stage: &Arc<Stage>,
        terminal: &Arc<Terminal>,
        experiment: &Experiment,
        serial_dir: PathBuf,
        told: mpsc::UnboundedReceiver<zfl_orchestrator::FleetEvent>,
        wishes: mpsc::Receiver<Wish>,
    ) -> Self {
        let deaths = crate::watch::Deaths::default();
        let watchdog = Watchdog {
            stage: Arc::clone(stage),
            aggregator: aggregator.clone(),
            terminal: Arc::clone(terminal),
            deaths: Arc::clone(&deaths),
            serial_dir,
            patience: Duration::from_secs_f64(experiment.watchdog_s),
        };
        let watching = watch(
            told,
            aggregator.clone(),
            Arc::clone(stage),
            Arc::clone(terminal),
            Arc::clone(&deaths),
        );
        Self {
            tasks: vec![
                tokio::spawn(Arc::clone(stage).perform(aggregator.subscribe())),
                tokio::spawn(watchdog.watch(aggregator.subscribe())),
                tokio::spawn(touch::obey(wishes, Arc::clone(stage), Arc::clone(terminal))),
            ],
            watching: tokio::spawn(watching),
            deaths,
        }
    }

    /// Ends the fleet, and waits for all of it; returns who died.
    async fn end(self, fleet: Arc<Fleet>) -> Result<Vec<Death>> {
        for task in &self.tasks {
            task.abort();
        }
        // What they were doing to the fleet is over when they are.
        join_all(self.tasks).await;
        sole(fleet).await.stop().await;
        self.watching.await.context("the fleet's watch failed")?;
        let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *deaths))
    }
}

/// Boots these devices; returns how long that took, in seconds.
async fn boot(
    fleet: &Fleet,
    clients: &BTreeSet<u32>,
    server: SocketAddr,
    aggregator: &Handle,
    terminal: &Terminal,
) -> f64 {
    let began = Instant::now();
    terminal.booting();
    let booted = join_all(clients.iter().map(|&client| fleet.boot_one(client, server))).await;
    let count = booted.iter().filter(|one| matches!(one, Ok(Ok(_)))).count();
    let boot_s = began.elapsed().as_secs_f64();
    let detail = json!({"devices": count, "boot_s": boot_s});
    aggregator.fleet_event(None, "fleet_booted", detail);
    terminal.line(&format!("{count} devices run after {boot_s:.1} s"));
    boot_s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_moved_has_the_same_settings() {
        let differ = |one: &str, two: &str| differences(one, two).unwrap();
        assert!(differ("out = 'a'\nseed = 1", "seed = 1 # mine\nout = 'b'").is_empty());
        assert_eq!(differ("seed = 1\nx = 1", "seed = 2"), ["seed", "x"]);
    }

    #[tokio::test]
    async fn who_lets_go_late_is_waited_for() {
        let fleet = Arc::new(7);
        let held = Arc::clone(&fleet);
        let act = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(held);
        });
        assert_eq!(sole(fleet).await, 7);
        act.await.unwrap();
    }
}
