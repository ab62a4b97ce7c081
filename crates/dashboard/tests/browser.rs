//! The page in a real browser, over the real router, while a scripted run goes on.
//!
//! Needs Debian's chromium and chromium-driver; without them every test here is *ignored*, with the
//! reason, and none counts as passed. Timings are printed, and held to their limits only where
//! `ZFL_HOLD_TIMINGS` is set: a machine that does other work besides would break them.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/remote.rs"]
mod remote;
mod support;

use browser::Browser;
use libtest_mimic::{Arguments, Failed, Trial};
use remote::{Fake, TOKEN};
use std::path::PathBuf;
use std::time::Duration;
use support::Script;
use zfl_dashboard::Dashboard;

type Found = (PathBuf, PathBuf);

fn main() {
    let mut arguments = Arguments::from_args();
    // Each has a browser of its own.
    arguments.test_threads = Some(1);
    let found = browser::find();
    if let Err(reason) = &found {
        eprintln!("not run: {reason}");
    }
    macro_rules! trials {
        ($($test:ident)*) => { vec![$(trial(stringify!($test), &found, async |b, s| $test(b, s).await)),*] };
    }
    let trials = trials! {
        curves_grow_and_a_killed_device_turns_dead
        what_a_device_writes_stays_text
        five_hundred_devices_are_quickly_up_to_date
        it_can_be_used_by_keyboard
        a_page_that_lost_its_stream_finds_out_what_it_missed
        a_finished_run_opens_the_same_way
        whoever_has_the_token_controls_the_run
        by_keyboard_too
        without_the_token_nothing_can_be_controlled
        the_tree_of_edges_is_drawn_with_its_levels_and_an_edge_is_killed
        the_mesh_is_drawn_with_the_traffic_of_each_leaf
    };
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(
    name: &str,
    found: &Result<Found, String>,
    test: impl AsyncFnOnce(&Browser, &Stage) + Send + 'static,
) -> Trial {
    let browser = found.clone().ok();
    let ignored = browser.is_none();
    Trial::test(name, move || perform(browser, test)).with_ignored_flag(ignored)
}

fn perform(found: Option<Found>, test: impl AsyncFnOnce(&Browser, &Stage)) -> Result<(), Failed> {
    let Some(found) = found else {
        return Err(browser::find().unwrap_err().into());
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let browser = Browser::start(&found).await;
        let stage = Stage {
            run_dir: tempfile::tempdir().unwrap(),
        };
        test(&browser, &stage).await;
        browser.assert_sound().await;
        browser.quit().await;
    });
    Ok(())
}

/// Folder in which a run is made and served.
struct Stage {
    run_dir: tempfile::TempDir,
}

impl Stage {
    fn script(&self, clients: u32, rounds: u32) -> Script {
        Script::new(self.run_dir.path(), clients, rounds)
    }

    /// Serves the run as one of this process; returns the page's address.
    fn serve(&self, script: &Script) -> String {
        let meta = support::meta(script.clients, script.rounds);
        let dashboard = Dashboard::new(meta, self.run_dir.path());
        dashboard.follow().unwrap();
        serve(
            &dashboard,
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        )
    }
}

fn serve(dashboard: &Dashboard, listener: std::net::TcpListener) -> String {
    let address = listener.local_addr().unwrap();
    // It keeps the dashboard, and so its thread, as long as it serves.
    let (serving, kept) = (dashboard.serve(listener).unwrap(), dashboard.clone());
    tokio::spawn(async move { (serving.await, drop(kept)).0 });
    format!("http://{address}/")
}

/// Prints a timing, and fails if it is to be held to its limit and is over it.
fn told(what: &str, took: Duration, limit: Duration) {
    println!(
        "{what}: {} ms, the limit is {} ms",
        took.as_millis(),
        limit.as_millis()
    );
    if std::env::var_os("ZFL_HOLD_TIMINGS").is_some() {
        assert!(
            took <= limit,
            "{what} took {took:?}, the limit is {limit:?}"
        );
    }
}

const POINTS: &str = "Number(document.getElementById('chart-accuracy').dataset.points)";

/// Pixels of a chart that are not its background.
const DRAWN: &str = "(() => {
    const canvas = document.querySelector('#chart-accuracy canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let drawn = 0;
    for (let i = 3; i < data.length; i += 4) drawn += data[i] > 128;
    return drawn;
})()";

async fn curves_grow_and_a_killed_device_turns_dead(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(8, 20);
    script.boot();
    let url = stage.serve(&script);
    browser.open(&format!("{url}#run")).await;
    browser.until(&format!("{POINTS} === 1")).await;
    for round in 1..=3 {
        script.round(round);
        browser.until(&format!("{POINTS} === {}", round + 1)).await;
    }
    assert!(
        browser.eval(DRAWN).await.as_u64().unwrap() > 1000,
        "a curve is drawn"
    );
    let progress = "document.getElementById('progress').getAttribute('aria-valuenow')";
    assert_eq!(browser.eval(progress).await, "3");

    browser.click("[data-view=fleet]").await;
    let state = |client: u32| {
        format!("document.querySelector('.tile[data-client=\"{client}\"]').dataset.state")
    };
    script.begin_round(4);
    browser.until(&format!("{} === 'training'", state(2))).await;
    script.dies(2, "page fault at 0x0010f2a4");
    let took = browser.until(&format!("{} === 'dead'", state(2))).await;
    told("from a death to its tile", took, Duration::from_secs(2));
    browser.click(".tile[data-client='2']").await;
    let log = "document.getElementById('device-log').textContent";
    browser
        .until(&format!("{log}.includes('EIP 0x0010f2a4')"))
        .await;
    script.prints(2, "a line that came later\n");
    browser
        .until(&format!("{log}.includes('a line that came later')"))
        .await;
    let why = "document.getElementById('device-figures').textContent.includes('page fault')";
    browser.until(why).await;
}

const EVIL: &str = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>";

async fn what_a_device_writes_stays_text(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(3, 20);
    script.boot();
    script.begin_round(1);
    script.prints(
        1,
        &format!("{EVIL}\n\u{1b}[31mred\u{1b}[0m \u{202e}txt\u{7}\n"),
    );
    script.dies(1, EVIL);
    script.fleet(
        0,
        "fault",
        serde_json::json!({"fault": EVIL, "reason": EVIL}),
    );
    let reason = EVIL.to_owned();
    script.emit(zfl_run_dir::Event::ResultRejected {
        client: None,
        status: 400,
        reason,
        more: 0,
    });
    let reason = Some(EVIL.to_owned());
    script.emit(zfl_run_dir::Event::RunFinished {
        success: false,
        reason,
    });
    let url = stage.serve(&script);
    browser.open(&format!("{url}#fleet")).await;
    let elements = "document.querySelectorAll('script, img').length";
    let before = browser.eval(elements).await;
    browser.click(".tile[data-client='1']").await;
    let log = "document.getElementById('device-log').textContent";
    browser
        .until(&format!(
            "{log}.includes(\"<script>window.pwned = 1</script><img\")"
        ))
        .await;
    browser
        .until(&format!("{log}.includes('\\nred \u{b7}txt\u{b7}\\n')"))
        .await;
    browser.click("#device-close").await;
    for view in ["run", "compare", "faults", "data", "config"] {
        browser.click(&format!("[data-view={view}]")).await;
        browser
            .until(&format!("!document.getElementById('view-{view}').hidden"))
            .await;
    }
    browser.click("[data-view=faults]").await;
    browser
        .until("document.getElementById('faults-table').textContent.includes('<img src=x')")
        .await;
    assert_eq!(
        browser.eval(elements).await,
        before,
        "no element came of it"
    );
    assert_eq!(browser.eval("window.pwned === undefined").await, true);
}

async fn five_hundred_devices_are_quickly_up_to_date(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(500, 20);
    script.boot();
    let url = stage.serve(&script);
    browser.open(&url).await;
    // A page that is busy is noticed.
    browser
        .eval(&format!("(setTimeout(() => {BUSY}), 0)"))
        .await;
    browser.until("window.__longest >= 150").await;
    for view in ["fleet", "compare", "run", "faults"] {
        browser.open(&format!("{url}#{view}")).await;
        let round = script_rounds(browser).await;
        browser
            .until("document.body.dataset.slowestUpdateMs !== undefined")
            .await;
        browser
            .eval("(document.body.dataset.slowestUpdateMs = '0', window.__longest = 0)")
            .await;
        script.round(round);
        let done = "document.getElementById('progress').getAttribute('aria-valuenow')";
        browser.until(&format!("{done} === '{round}'")).await;
        // The devices come right behind the round.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let slowest = browser
            .eval("Number(document.body.dataset.slowestUpdateMs)")
            .await;
        let longest = longest_task(browser).await;
        let ms = |value: serde_json::Value| Duration::from_secs_f64(value.as_f64().unwrap() / 1e3);
        told(
            &format!("{view}: the slowest update of 500 devices"),
            ms(slowest),
            Duration::from_millis(100),
        );
        told(
            &format!("{view}: the longest task, painting included (under 50 ms it counts as 0)"),
            longest,
            Duration::from_millis(100),
        );
    }
    browser.click("[data-view=fleet]").await;
    browser
        .until("document.querySelectorAll('.tile').length === 500")
        .await;
}

/// Keeps the page busy for 200 ms.
const BUSY: &str =
    "(() => { const end = performance.now() + 200; while (performance.now() < end); })()";

/// Longest time for which the page was busy in one go, as far as it has been told.
async fn longest_task(browser: &Browser) -> Duration {
    // A task is told of when it is over, so not in the one that asks.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ms = browser.eval("window.__longest").await;
    Duration::from_secs_f64(ms.as_f64().unwrap() / 1e3)
}

/// The number of the next round.
async fn script_rounds(browser: &Browser) -> u32 {
    let shown =
        browser.eval("Number(document.getElementById('progress').getAttribute('aria-valuenow'))");
    shown.await.as_u64().unwrap() as u32 + 1
}

async fn it_can_be_used_by_keyboard(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(8, 20);
    script.boot();
    let url = stage.serve(&script);
    browser.open(&format!("{url}#run")).await;
    let press = async |keys: &str| {
        browser
            .page
            .active_element()
            .await
            .unwrap()
            .send_keys(keys)
            .await
            .unwrap()
    };
    let right = thirtyfour::Key::Right.value();
    browser
        .eval("document.getElementById('tab-run').focus()")
        .await;
    press(&right.to_string()).await;
    browser
        .until("location.hash === '#fleet' && document.activeElement.id === 'tab-fleet'")
        .await;
    browser
        .eval("document.querySelector('.tile').focus()")
        .await;
    press(&format!("{right}{right}")).await;
    browser
        .until("document.activeElement.dataset.client === '2'")
        .await;
    press(&thirtyfour::Key::Enter.value().to_string()).await;
    browser
        .until("!document.getElementById('device').hidden")
        .await;
    browser
        .until("document.getElementById('device-title').textContent === 'Device 2'")
        .await;
    press(&thirtyfour::Key::Escape.value().to_string()).await;
    browser
        .until("document.getElementById('device').hidden")
        .await;
    browser
        .until("document.activeElement.dataset.client === '2'")
        .await;
    let unnamed = "[...document.querySelectorAll('button, select, input')].filter((node) =>
        !node.getAttribute('aria-label') && !node.textContent.trim() && !node.labels?.length).length";
    assert_eq!(browser.eval(unnamed).await, 0, "controls without a name");
}

async fn a_page_that_lost_its_stream_finds_out_what_it_missed(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(4, 20);
    script.boot();
    // Two sockets at one address, of which one listens at a time: nobody else can come in between.
    let [first, second] = two_sockets();
    let listener = listening(first);
    let address = listener.local_addr().unwrap();
    let dashboard = Dashboard::new(support::meta(4, 20), stage.run_dir.path());
    dashboard.follow().unwrap();
    // On a runtime of its own, so that its connections can be cut.
    let serving = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    serving.spawn({
        let dashboard = dashboard.clone();
        async move { dashboard.serve(listener).unwrap().await }
    });
    browser.open(&format!("http://{address}/#run")).await;
    browser.until(&format!("{POINTS} === 1")).await;
    // It is gone, and what it served with it, when this returns.
    tokio::task::spawn_blocking(move || drop(serving))
        .await
        .unwrap();
    browser
        .until("document.getElementById('state').textContent === 'connection lost'")
        .await;
    script.round(1);
    script.round(2);
    serve(&dashboard, listening(second));
    browser.until(&format!("{POINTS} === 3")).await;
    browser.eval("window.__errors.length = 0").await;
}

/// Two sockets at the same free address.
fn two_sockets() -> [tokio::net::TcpSocket; 2] {
    let socket = |address| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        socket
    };
    let first = socket(([127, 0, 0, 1], 0).into());
    let second = socket(first.local_addr().unwrap());
    [first, second]
}

fn listening(socket: tokio::net::TcpSocket) -> std::net::TcpListener {
    socket.listen(64).unwrap().into_std().unwrap()
}

async fn a_finished_run_opens_the_same_way(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(8, 6);
    script.boot();
    (1..=6).for_each(|round| script.round(round));
    script.finish();
    let dashboard = Dashboard::from_run_dir(stage.run_dir.path()).unwrap();
    dashboard.follow().unwrap();
    let url = serve(
        &dashboard,
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    browser.open(&url).await;
    browser
        .until("document.getElementById('state').textContent === 'finished'")
        .await;
    browser.until(&format!("{POINTS} === 7")).await;
    browser.click("[data-view=config]").await;
    browser
        .until("document.getElementById('config-table').textContent.includes('learning_rate')")
        .await;
    browser
        .until("document.getElementById('command').textContent.startsWith('zfl run')")
        .await;
}

/// True if an element is visible on the page.
fn is_shown(id: &str) -> String {
    format!("document.getElementById('{id}').checkVisibility()")
}

fn is_said(text: &str) -> String {
    format!("document.getElementById('said').textContent === '{text}'")
}

/// A run of eight devices under remote control, in the middle of round 3; returns the page's address.
fn controlled(stage: &Stage) -> (String, Script, std::sync::Arc<Fake>) {
    let mut script = stage.script(8, 20);
    script.up_to_the_middle_of(3);
    let dashboard = Dashboard::new(support::meta(8, 20), stage.run_dir.path());
    let (dashboard, fake) = Fake::behind(dashboard);
    dashboard.follow().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    (serve(&dashboard, listener), script, fake)
}

async fn whoever_has_the_token_controls_the_run(browser: &Browser, stage: &Stage) {
    let (url, mut script, fake) = controlled(stage);
    browser.open(&format!("{url}#fleet&token={TOKEN}")).await;
    browser.until(&is_shown("stop")).await;
    let cleared = "location.href.endsWith('/#fleet') && !document.documentElement.outerHTML.includes('horse')";
    assert_eq!(browser.eval(cleared).await, true, "the token is put away");
    browser.click(".tile[data-client='2']").await;
    browser.click("#control-kill").await;
    browser.until(&is_said("Device 2 is killed")).await;
    let detail = serde_json::json!({"fault": "freeze", "by": "dashboard", "action": "freeze"});
    browser.click("#control-hold").await;
    browser.until(&is_said("Device 2 is frozen")).await;
    script.fleet(2, "fault", detail);
    let label =
        |id: &str, text: &str| format!("document.getElementById('{id}').textContent === '{text}'");
    browser.until(&label("control-hold", "Thaw")).await;
    browser.click("#control-hold").await;
    browser.until(&is_said("Device 2 goes on")).await;
    browser.click("#control-link").await;
    browser
        .until(&is_said("Refused: device 2 has no link"))
        .await;
    // What is dead can only be booted.
    script.dies(2, "page fault");
    browser.until(&label("control-boot", "Boot again")).await;
    browser
        .eval("document.getElementById('control-kill').click()")
        .await;
    browser.click("#control-boot").await;
    browser.until(&is_said("Device 2 boots again")).await;
    browser.click("#device-close").await;
    // The tab keeps the token while it is open.
    browser.open(&url).await;
    browser.until(&is_shown("stop")).await;
    let note = "document.getElementById('note').textContent.includes('Changed by remote control (1 freeze)')";
    browser.until(note).await;
    browser.click("#stop").await;
    browser.click("#confirm-no").await;
    browser.click("#stop").await;
    browser.click("#confirm-yes").await;
    browser.until(&is_said("The run is stopping")).await;
    assert_eq!(
        fake.done(),
        ["kill 2", "freeze 2", "thaw 2", "reboot 2", "stop"]
    );
    script.finish();
    browser.until(&format!("!{}", is_shown("stop"))).await;
}

async fn by_keyboard_too(browser: &Browser, stage: &Stage) {
    let (url, _script, fake) = controlled(stage);
    browser.open(&format!("{url}#token={TOKEN}")).await;
    browser.until(&is_shown("stop")).await;
    let press = async |key: thirtyfour::Key| {
        let active = browser.page.active_element().await.unwrap();
        active.send_keys(key.value().to_string()).await.unwrap();
    };
    let is_focused = |id: &str| format!("document.activeElement.id === '{id}'");
    browser
        .eval("document.getElementById('stop').focus()")
        .await;
    press(thirtyfour::Key::Enter).await;
    browser.until(&is_focused("confirm-no")).await;
    press(thirtyfour::Key::Escape).await;
    browser
        .until("!document.getElementById('confirm').open")
        .await;
    browser.until(&is_focused("stop")).await;
    press(thirtyfour::Key::Enter).await;
    browser.until(&is_focused("confirm-no")).await;
    press(thirtyfour::Key::Tab).await;
    browser.until(&is_focused("confirm-yes")).await;
    press(thirtyfour::Key::Enter).await;
    browser.until(&is_said("The run is stopping")).await;
    browser.click("[data-view=fleet]").await;
    browser.click(".tile[data-client='1']").await;
    browser.until(&is_focused("device-close")).await;
    press(thirtyfour::Key::Tab).await;
    browser.until(&is_focused("control-kill")).await;
    press(thirtyfour::Key::Enter).await;
    browser.until(&is_said("Device 1 is killed")).await;
    browser.until(&is_focused("control-kill")).await;
    assert_eq!(fake.done(), ["stop", "kill 1"]);
    let live = "document.getElementById('said').getAttribute('aria-live') === 'polite'";
    assert_eq!(browser.eval(live).await, true);
}

async fn without_the_token_nothing_can_be_controlled(browser: &Browser, stage: &Stage) {
    let (url, script, fake) = controlled(stage);
    let uncontrolled = stage.serve(&script);
    let view = Dashboard::from_run_dir(stage.run_dir.path()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let view = serve(&view, listener);
    for (address, said) in [
        (format!("{url}#fleet"), ""),
        (
            format!("{url}#fleet&token=another-token-than-that"),
            "this is not the token of this run",
        ),
        (format!("{uncontrolled}#fleet"), ""),
        (
            format!("{uncontrolled}#fleet&token={TOKEN}"),
            "this run can only be looked at",
        ),
        (
            format!("{view}#fleet&token={TOKEN}"),
            "there is no run here to control",
        ),
    ] {
        browser.open(&address).await;
        let says = format!("document.getElementById('said').textContent.includes('{said}')");
        browser.until(&says).await;
        browser.click(".tile[data-client='2']").await;
        for id in ["stop", "device-control"] {
            assert_eq!(browser.eval(&is_shown(id)).await, false, "{address}: {id}");
        }
        let kept = "sessionStorage.getItem('zfl-token')";
        assert!(browser.eval(kept).await.is_null(), "{address}");
        // The page's own origin alone opens nothing.
        let post = "fetch('/api/touch/devices/2', { method: 'POST', body: '{\"action\":\"kill\"}',
            headers: { 'content-type': 'application/json' } }).then((a) => { window.status = `${a.status}`; })";
        browser.eval(&format!("({post}, 0)")).await;
        let refused = "window.status === '401' || window.status === '404'";
        browser.until(refused).await;
    }
    assert!(fake.done().is_empty());
}

/// The text of an element that a selector finds.
fn text_of(selector: &str) -> String {
    format!("(document.querySelector('{selector}')?.textContent ?? '')")
}

async fn the_tree_of_edges_is_drawn_with_its_levels_and_an_edge_is_killed(
    browser: &Browser,
    stage: &Stage,
) {
    let mut script = stage.script(12, 20);
    script.edges = vec![2, 4];
    script.boot();
    script.round(1);
    let mut meta = support::meta(12, 20);
    meta.config["edges"] = "2x2".into();
    let (dashboard, fake) = Fake::behind(Dashboard::new(meta, stage.run_dir.path()));
    dashboard.follow().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = serve(&dashboard, listener);
    browser.open(&format!("{url}#fleet&token={TOKEN}")).await;
    browser.until(&is_shown("figure-tree")).await;
    let count = |selector: &str| format!("document.querySelectorAll('{selector}').length");
    browser
        .until(&format!("{} === 6", count(".tree [data-edge]")))
        .await;
    // A line from each to the aggregator above, and one to each cluster.
    assert_eq!(browser.eval(&count(".tree line")).await, 6 + 4);
    let cluster = "[...document.querySelectorAll('.tree title')].some((t) => /^Devices 3 to 5: /.test(t.textContent))";
    browser.until(cluster).await;
    let rows = text_of("#figure-tree tbody");
    let of = |level: &str| format!("{rows}.includes('{level}')");
    for level in [
        "root121102 kB104 kB",
        "edges of level 1241204 kB208 kB",
        "edges of level 24121612 kB624 kB",
    ] {
        browser.until(&of(level)).await;
    }
    // An edge is chosen in the drawing.
    browser.until(&is_shown("edge-control")).await;
    let choose = "document.querySelector('.tree [data-edge=\"4\"]').dispatchEvent(new Event('click', { bubbles: true }))";
    browser.eval(choose).await;
    browser.click("#edge-kill").await;
    browser.until(&is_said("Edge 4 is killed")).await;
    let hand = serde_json::json!({"edge": 4, "round": 2, "by": "dashboard", "action": "kill"});
    script.of_fleet("edge_lost", hand);
    browser
        .until("document.querySelector('.tree .lost')?.dataset.edge === '4'")
        .await;
    browser
        .until("document.getElementById('edge-boot').textContent === 'Start again'")
        .await;
    let kill = "document.getElementById('edge-kill').getAttribute('aria-disabled')";
    assert_eq!(browser.eval(kill).await, "true");
    browser.click("#edge-boot").await;
    browser.until(&is_said("Edge 4 starts again")).await;
    script.of_fleet("edge_back", serde_json::json!({"edge": 4}));
    browser
        .until("document.querySelector('.tree .lost') === null")
        .await;
    assert_eq!(fake.done(), ["kill edge 4", "reboot edge 4"]);
}

async fn the_mesh_is_drawn_with_the_traffic_of_each_leaf(browser: &Browser, stage: &Stage) {
    let mut script = stage.script(12, 20);
    let url = stage.serve(&script);
    browser.open(&format!("{url}#fleet")).await;
    browser
        .until("document.querySelectorAll('.tile').length === 12")
        .await;
    assert_eq!(browser.eval(&is_shown("figure-mesh")).await, false);
    // What comes while the page is open is drawn.
    script.mesh();
    script.boot();
    browser.until(&is_shown("figure-mesh")).await;
    let count = |selector: &str| format!("document.querySelectorAll('{selector}').length");
    assert_eq!(browser.eval(&count(".mesh .leaf")).await, 12);
    assert_eq!(browser.eval(&count(".mesh .gateway")).await, 1);
    let links = browser.eval(&count(".mesh line")).await.as_u64().unwrap();
    assert!((13..78).contains(&links), "{links}");
    script.begin_round(1);
    script.trains(1, 5, 100);
    let leaf = ".mesh [data-client=\"5\"]";
    browser
        .until(&format!(
            "document.querySelector('{leaf}').dataset.state === 'training'"
        ))
        .await;
    assert!(browser.eval(&count(".mesh .busy")).await.as_u64() > Some(0));
    script.delivers(1, 5);
    let said = text_of(&format!("{leaf} title"));
    let spent = "65 packets, 3 tiles sent again, 6 frames of others, 9.0 s in the air, 2 hops";
    browser.until(&format!("{said}.includes('{spent}')")).await;
    browser
        .until(&format!(
            "document.querySelector('{leaf} .halo').classList.contains('fresh')"
        ))
        .await;
    let rows = text_of("#figure-mesh tbody");
    browser
        .until(&format!("{rows}.includes('2465369.0 s500 mJ')"))
        .await;
    // A leaf that dies is seen there, too, and a click opens it.
    script.dies(7, "a hard fault");
    let dead = "document.querySelector('.mesh [data-client=\"7\"]').dataset.state === 'dead'";
    browser.until(dead).await;
    browser
        .eval(&format!(
            "document.querySelector('{leaf}').dispatchEvent(new Event('click'))"
        ))
        .await;
    browser
        .until("document.getElementById('device-title').textContent === 'Device 5'")
        .await;
}
