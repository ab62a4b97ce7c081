//! Real runs, watched in a real browser while they go on.
//!
//! Without chromium and its driver every test here is *ignored*, with the reason, and so is the one
//! that boots machines where there is no firmware; none counts as passed then. How long a death takes
//! to its tile is printed, and held to 2 s only where `ZFL_HOLD_TIMINGS` is set.

#[path = "../crates/dashboard/tests/support/browser.rs"]
mod browser;
mod support;

use browser::Browser;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Live, signal, wait_until, zfl};
use tokio::sync::{Mutex, mpsc};
use zfl_aggregator::{RunDir, Server, Stragglers, Weighting, bind};
use zfl_dashboard::Dashboard;
use zfl_orchestrator::{DeviceBody, DeviceSpec, Fleet, FleetConfig, FleetEvent};
use zfl_run_dir::{FleetRecord, Meta};
use zfl_sandbox::{Plan, enter};

type Found = (PathBuf, PathBuf);

fn main() {
    let mut arguments = Arguments::from_args();
    // Each has a browser and a fleet of its own.
    arguments.test_threads = Some(1);
    let found = browser::find();
    let machines = machines();
    for reason in [found.as_ref().err(), machines.as_ref().err()] {
        reason.inspect(|reason| eprintln!("not run: {reason}"));
    }
    macro_rules! trial {
        ($test:ident, $possible:expr) => {{
            let (browser, possible) = (found.clone().ok(), $possible);
            let ignored = browser.is_none() || !possible;
            Trial::test(stringify!($test), move || {
                perform(browser, async |b| $test(b).await)
            })
            .with_ignored_flag(ignored)
        }};
    }
    let trials = vec![
        trial!(a_run_of_native_devices_is_watched_while_it_goes_on, true),
        trial!(a_native_device_that_is_killed_turns_dead, true),
        trial!(devices_from_elsewhere_appear_as_they_join, true),
        trial!(a_machine_that_is_killed_turns_dead, machines.is_ok()),
        trial!(whoever_has_the_token_kills_a_device_and_stops_the_run, true),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// Checks that machines can boot; gives the reason if they cannot.
fn machines() -> Result<(), String> {
    let firmware = support::root().join("build/guest/bare/zfl-bare.elf");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    if !folders.any(|folder| folder.join("qemu-system-i386").is_file()) {
        return Err("no qemu-system-i386: cargo xtask setup".into());
    }
    let built = firmware.is_file();
    built
        .then_some(())
        .ok_or_else(|| "no firmware: cargo xtask build-guest --body bare".into())
}

fn perform(found: Option<Found>, test: impl AsyncFnOnce(&Browser)) -> Result<(), Failed> {
    let Some(found) = found else {
        return Err(browser::find().unwrap_err().into());
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let browser = Browser::start(&found).await;
        test(&browser).await;
        browser.assert_sound().await;
        browser.quit().await;
    });
    Ok(())
}

/// Address of this run's page, from its output.
fn address(live: &Live) -> String {
    wait_until("the page's address", Duration::from_secs(60), || {
        let said = live.said_so_far();
        let line = said.lines().find_map(|l| l.strip_prefix("dashboard: "));
        line.map(str::to_owned)
    })
}

/// Address on which a server waits for devices, from its output.
fn listening(live: &Live) -> String {
    wait_until("the server's address", Duration::from_secs(60), || {
        let said = live.said_so_far();
        let line = said.lines().find_map(|l| l.strip_prefix("listening on "))?;
        Some(line.split(' ').next()?.to_owned())
    })
}

const POINTS: &str = "Number(document.getElementById('chart-accuracy').dataset.points)";

const LOG: &str = "document.getElementById('device-log').textContent";

fn is(client: u32, state: &str) -> String {
    format!(
        "document.querySelector('.tile[data-client=\"{client}\"]')?.dataset.state === '{state}'"
    )
}

/// Prints how long a death took to its tile; holds it to 2 s where that is asked for.
fn told(took: Duration) {
    println!("from a death to its tile: {} ms", took.as_millis());
    if std::env::var_os("ZFL_HOLD_TIMINGS").is_some() {
        assert!(took <= Duration::from_secs(2), "{took:?}, the limit is 2 s");
    }
}

const EVIL: &str = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>";

async fn a_run_of_native_devices_is_watched_while_it_goes_on(browser: &Browser) {
    let folder = support::folder();
    let file = folder.path().join("crash.toml");
    let crash = "[[faults.schedule]]\nround = 10\nclient = 5\nfault = \"crash\"\n";
    std::fs::write(&file, crash).unwrap();
    let live = Live::start(&[
        file.to_str().unwrap(),
        "--body",
        "native",
        "--clients",
        "8",
        "--rounds",
        "100000",
        "--examples",
        "600",
        "--batch-size",
        "60",
    ]);
    let url = address(&live);
    browser.open(&format!("{url}#run")).await;
    browser.until(&format!("{POINTS} >= 2")).await;
    let points = browser.eval(POINTS).await.as_u64().unwrap();
    browser.until(&format!("{POINTS} >= {}", points + 3)).await;
    let accuracy = "document.getElementById('figures').textContent";
    browser
        .until(&format!("/Test accuracy[1-9][0-9.]* %/.test({accuracy})"))
        .await;
    browser.click("[data-view=fleet]").await;
    browser
        .until("document.querySelectorAll('.tile').length === 8")
        .await;
    browser.click(".tile[data-client='3']").await;
    browser.until(&format!("{LOG}.includes('round ')")).await;
    browser.click("#device-close").await;
    browser.until(&is(5, "dead")).await;
    browser.click("[data-view=faults]").await;
    let table = "document.getElementById('faults-table').textContent";
    browser
        .until(&format!(
            "/crash/.test({table}) && /injected/.test({table})"
        ))
        .await;
    signal(live.pid(), "INT");
    let run = live.finish();
    assert_eq!(run.said.status, Some(130), "{run:?}");
    // The program that served the page is gone; the page says so, and reports nothing else.
    browser
        .until("document.getElementById('state').dataset.state === 'failed'")
        .await;
    browser.eval("window.__errors.length = 0").await;
}

async fn whoever_has_the_token_kills_a_device_and_stops_the_run(browser: &Browser) {
    let live = Live::start(&[
        "--body",
        "native",
        "--clients",
        "8",
        "--rounds",
        "100000",
        "--examples",
        "600",
        "--batch-size",
        "60",
        "--dashboard-token",
    ]);
    let url = address(&live);
    let (plain, token) = url.split_once("#token=").expect("the token is told");
    browser.open(&url).await;
    browser
        .until("!document.getElementById('stop').hidden")
        .await;
    assert_eq!(browser.eval("location.hash").await, "");
    browser.open(&format!("{plain}#fleet")).await;
    browser.click(".tile[data-client='5']").await;
    let said = "document.getElementById('said').textContent";
    browser
        .until("!document.getElementById('device-control').hidden")
        .await;
    let began = Instant::now();
    browser.click("#control-kill").await;
    browser.until(&is(5, "dead")).await;
    told(began.elapsed());
    browser
        .until(&format!("{said} === 'Device 5 is killed'"))
        .await;
    browser
        .until(&format!("{LOG}.includes('killed on demand')"))
        .await;
    let why = "document.getElementById('device-figures').textContent.includes('killed by hand')";
    browser.until(why).await;
    browser.click("#control-boot").await;
    browser
        .until(&format!("{said} === 'Device 5 boots again'"))
        .await;
    browser
        .until(&format!("{} || {}", is(5, "training"), is(5, "done")))
        .await;
    browser.click("#control-hold").await;
    browser
        .until(&format!("{said} === 'Device 5 is frozen'"))
        .await;
    browser
        .until("document.getElementById('control-hold').textContent === 'Thaw'")
        .await;
    browser.click("#device-close").await;
    browser.click("[data-view=faults]").await;
    let table = "document.getElementById('faults-table').textContent";
    browser
        .until(&format!("{table}.includes('crash by hand')"))
        .await;
    browser.click("#stop").await;
    browser.click("#confirm-yes").await;
    let run = live.finish();
    assert_eq!(run.said.status, Some(1), "{run:?}");
    let summary = run.summary();
    assert_eq!(summary["reason"], "ended by hand, from the dashboard");
    let by_hand = serde_json::json!({"freeze": 1, "kill": 1, "reboot": 1, "stop": 1});
    assert_eq!(summary["by_hand"], by_hand);
    let says = "by hand    1 freeze, 1 kill, 1 reboot, 1 stop, from the dashboard: \
                the command does not repeat this run";
    assert!(run.said.out.contains(says), "{run:?}");
    // The token is nowhere but on the terminal.
    let found = std::process::Command::new("grep")
        .args(["-rlF", token])
        .arg(run.out())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    browser.eval("window.__errors.length = 0").await;
}

async fn a_machine_that_is_killed_turns_dead(browser: &Browser) {
    let live = Live::start(&["--body", "bare", "--clients", "8", "--rounds", "100000"]);
    let url = address(&live);
    browser.open(&format!("{url}#fleet")).await;
    browser.until(&is(2, "training")).await;
    let began = Instant::now();
    signal(live.machine(2).pid, "KILL");
    browser.until(&is(2, "dead")).await;
    told(began.elapsed());
    browser.click(".tile[data-client='2']").await;
    browser
        .until(&format!("{LOG}.includes('its machine was killed')"))
        .await;
    signal(live.pid(), "INT");
    live.finish();
    browser.eval("window.__errors.length = 0").await;
}

/// `zfl server` has a hundred places, knows nothing of devices that have not come, and has no log of
/// those that have.
async fn devices_from_elsewhere_appear_as_they_join(browser: &Browser) {
    let mut server = zfl();
    server.args([
        "server",
        "-r",
        "100000",
        "-c",
        "3",
        "--listen",
        "127.0.0.1:0",
    ]);
    let live = Live::start_as(&mut server);
    let url = address(&live);
    browser.open(&format!("{url}#fleet")).await;
    let tiles = "document.querySelectorAll('.tile').length";
    let nobody = "document.getElementById('nobody').checkVisibility()";
    browser.until(nobody).await;
    assert_eq!(browser.eval(tiles).await, 0);
    browser.click("[data-view=compare]").await;
    let mut client = zfl();
    client.args(["client", "-c", "3", "-e", "1", "-b", "600", "--server"]);
    let _devices = Live::start_as(client.arg(listening(&live)));
    let choices = "document.getElementById('compare-device').length";
    browser.until(&format!("{choices} === 4")).await;
    browser.click("[data-view=fleet]").await;
    browser.until(&format!("{tiles} === 3 && !{nobody}")).await;
    browser.click(".tile[data-client='1']").await;
    browser
        .until(&format!("{LOG}.includes('started elsewhere')"))
        .await;
    browser
        .until("document.getElementById('chart-device').querySelector('canvas') !== null")
        .await;
    let asked = "performance.getEntriesByType('resource').filter((e) => /log/.test(e.name)).length";
    assert_eq!(browser.eval(asked).await, 0, "logs that are not there");
    signal(live.pid(), "INT");
    live.finish();
    browser.eval("window.__errors.length = 0").await;
}

async fn a_native_device_that_is_killed_turns_dead(browser: &Browser) {
    let folder = support::folder();
    let run = NativeRun::start(&folder.path().join("run")).await;
    browser.open(&format!("{}#fleet", run.url)).await;
    browser
        .until(&format!("{} || {}", is(2, "training"), is(2, "done")))
        .await;
    let began = Instant::now();
    run.fleet.lock().await.kill(2).await.unwrap();
    browser.until(&is(2, "dead")).await;
    told(began.elapsed());
    browser.click(".tile[data-client='2']").await;
    browser
        .until(&format!("{LOG}.includes('killed on demand')"))
        .await;
    // Nothing else is written to its log any more.
    let elements = "document.querySelectorAll('script, img').length";
    let before = browser.eval(elements).await;
    let log = folder.path().join("run/serial/2.log");
    let mut log = File::options().append(true).open(log).unwrap();
    writeln!(log, "{EVIL}").unwrap();
    browser.until(&format!("{LOG}.includes(\"{EVIL}\")")).await;
    assert_eq!(
        browser.eval(elements).await,
        before,
        "no element came of it"
    );
    assert_eq!(browser.eval("window.pwned === undefined").await, true);
    // The others go on without it.
    browser.click("#device-close").await;
    browser.click("[data-view=run]").await;
    let points = browser.eval(POINTS).await.as_u64().unwrap_or(0);
    browser.until(&format!("{POINTS} >= {}", points + 2)).await;
}

/// Aggregator, dashboard and eight native devices in this process, so that one can be killed.
struct NativeRun {
    fleet: Arc<Mutex<Fleet>>,
    url: String,
}

impl NativeRun {
    async fn start(out: &Path) -> Self {
        let mut sandboxes = Vec::new();
        let entered = enter(&Plan::native(), |sandbox| {
            sandboxes.push(sandbox);
            0
        });
        assert_eq!(entered.unwrap(), 0);
        let devices = (0..8).map(|client| DeviceSpec::new(client, DeviceBody::Native));
        let config = FleetConfig::new(devices.collect(), out.join("serial"));
        // It makes its directory, which has to be empty, before the fleet puts logs there.
        let run_dir = RunDir::create(out).unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        let fleet = Fleet::start(sandboxes.remove(0), config, tell)
            .await
            .unwrap();
        let listener = bind((fleet.server_ip(), 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let data = fl_data::load(&support::root().join("data/mnist"))
            .unwrap()
            .splits;
        let partition = fl_data::iid(data.train.len(), &[600; 8], 1).unwrap();
        let server = Server::new(aggregator(), data, partition, run_dir).unwrap();
        let url = serve(out);
        tokio::spawn(pass_on(told, server.handle()));
        tokio::spawn(server.run(listener));
        fleet.boot(address).await;
        let fleet = Arc::new(Mutex::new(fleet));
        Self { fleet, url }
    }
}

fn serve(out: &Path) -> String {
    let meta = Meta {
        clients: 8,
        rounds: 100_000,
        ..Meta::default()
    };
    let dashboard = Dashboard::new(meta, out);
    dashboard.follow().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = dashboard.serve(listener).unwrap();
    tokio::spawn(async move { (serving.await, drop(dashboard)).0 });
    url
}

fn aggregator() -> zfl_aggregator::Config {
    let shape = fl_nn::Shape::new(&[784, 16, 10]).unwrap();
    zfl_aggregator::Config {
        clients: 8,
        rounds: 100_000,
        first_round: 1,
        elapsed_before: Duration::ZERO,
        clients_per_round: 8,
        over_commit: 0,
        quorum: 4,
        stragglers: Stragglers::Refuse,
        order: Default::default(),
        selection: Default::default(),
        budgets_j: Default::default(),
        wait_for: 8,
        ready_deadline: Duration::from_secs(60),
        round_deadline: Duration::from_secs(60),
        progress_interval: None,
        local_epochs: 5,
        batch_size: 60,
        learning_rate: 0.1,
        schedule: Default::default(),
        partial_work: Default::default(),
        privacy: None,
        optimizer: Default::default(),
        arithmetic: fl_proto::Arithmetic::Fixed,
        weighting: Weighting::NumExamples,
        attackers: Default::default(),
        algorithm: Default::default(),
        model: fl_nn::Model::new(shape, fl_nn::Activation::Relu),
        seed: 1,
        overrides: std::collections::BTreeMap::new(),
        encoding_up: fl_proto::codec::Encoding::default(),
        encoding_down: fl_proto::codec::Encoding::default(),
        evaluation: None,
        clusters: Default::default(),
        edge_rounds: 1,
    }
}

/// Tells the aggregator what happens in the fleet, as `zfl run` does.
async fn pass_on(
    mut told: mpsc::UnboundedReceiver<FleetEvent>,
    aggregator: zfl_aggregator::Handle,
) {
    while let Some(event) = told.recv().await {
        if let FleetEvent::Stopped { client } = event {
            aggregator.client_lost(client, "stopped");
            aggregator.fleet_event(Some(client), FleetRecord::Stopped {});
        }
    }
}
