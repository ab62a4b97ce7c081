//! Debian's chromium, without a window, driven by its chromedriver.

#![allow(
    dead_code,
    reason = "the tests and the screenshots each use their own part"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thirtyfour::prelude::*;

/// Longest wait for anything that a page is to show: far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs in every page before its own script: what goes wrong in it, and how long it was ever busy.
const WATCH: &str = r#"
    window.__errors = [];
    window.__longest = 0;
    addEventListener("error", (e) => __errors.push(String(e.message)));
    addEventListener("unhandledrejection", (e) => __errors.push(String(e.reason)));
    addEventListener("securitypolicyviolation", (e) => __errors.push(`policy: ${e.violatedDirective} ${e.blockedURI}`));
    new PerformanceObserver((list) => {
      for (const task of list.getEntries()) __longest = Math.max(__longest, task.duration);
    }).observe({ type: "longtask", buffered: true });
"#;

/// Paths of the browser and its driver, or the reason why they are missing.
pub fn find() -> Result<(PathBuf, PathBuf), String> {
    let in_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|p| p.is_file());
        found.ok_or_else(|| format!("no {name}: apt-get install chromium chromium-driver"))
    };
    Ok((in_path("chromium")?, in_path("chromedriver")?))
}

/// A browser with a profile of its own; both go when it is dropped.
pub struct Browser {
    pub page: WebDriver,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub async fn start((chromium, chromedriver): &(PathBuf, PathBuf)) -> Self {
        let (driver, port) = start_driver(chromedriver);
        let profile = tempfile::tempdir().unwrap();
        let capabilities = capabilities(chromium, profile.path());
        let page = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await;
        let browser = Self {
            page: page.expect("chromium starts"),
            driver,
            _profile: profile,
        };
        let watch = serde_json::json!({"source": WATCH});
        browser
            .devtools("Page.addScriptToEvaluateOnNewDocument", watch)
            .await;
        browser
    }

    pub async fn devtools(&self, command: &str, parameters: serde_json::Value) {
        self.page.cdp().send_raw(command, parameters).await.unwrap();
    }

    /// Sets the size of the page, and whether it is a phone's.
    pub async fn resize(&self, width: u32, height: u32, phone: bool) {
        let size = serde_json::json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// Evaluates an expression in the page.
    pub async fn eval(&self, expression: &str) -> serde_json::Value {
        let script = format!("return ({expression})");
        let found = self.page.execute(script, Vec::new()).await;
        found
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
            .json()
            .clone()
    }

    /// Waits until an expression is true in the page; returns how long that took.
    pub async fn until(&self, expression: &str) -> Duration {
        let began = Instant::now();
        while self.eval(expression).await != serde_json::Value::Bool(true) {
            assert!(
                began.elapsed() < PATIENCE,
                "{expression} does not come true"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    pub async fn open(&self, url: &str) {
        self.page.goto("about:blank").await.unwrap();
        self.page.goto(url).await.unwrap();
        self.until("document.body.dataset.loaded === 'true'").await;
    }

    /// Clicks on what a selector finds, once it is there: the page may not have heard of it yet.
    pub async fn click(&self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?}) !== null"))
            .await;
        self.page
            .find(By::Css(selector.to_owned()))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
    }

    /// Fails if anything went wrong in the page.
    pub async fn assert_sound(&self) {
        let errors = self.eval("window.__errors").await;
        assert_eq!(errors, serde_json::json!([]), "errors in the page");
    }

    pub async fn quit(self) {
        self.page.clone().quit().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browsers with itself.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Starts the driver on a port that it chooses.
fn start_driver(chromedriver: &Path) -> (Child, u16) {
    let mut driver = Command::new(chromedriver);
    driver
        .arg("--port=0")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut driver = driver
        .stdout(Stdio::piped())
        .spawn()
        .expect("chromedriver starts");
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    // What else it has to say must go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    (driver, port.expect("chromedriver tells its port"))
}

fn capabilities(chromium: &Path, profile: &Path) -> thirtyfour::ChromeCapabilities {
    let mut capabilities = DesiredCapabilities::chrome();
    capabilities
        .set_binary(&chromium.to_string_lossy())
        .unwrap();
    for flag in [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--window-size=1400,1000",
    ] {
        capabilities.add_arg(flag).unwrap();
    }
    capabilities
        .add_arg(&format!("--user-data-dir={}", profile.display()))
        .unwrap();
    capabilities
}
