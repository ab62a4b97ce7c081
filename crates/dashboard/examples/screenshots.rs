//! Takes pictures of every view, light and dark, wide and on a phone, of a scripted run.
//!
//! `cargo run -p zfl-dashboard --example screenshots [OUT [CLIENTS…]]`; OUT is `docs/screenshots`
//! unless told otherwise. Without CLIENTS it takes the pictures that the documentation has: every view
//! of 50 devices, and of the views that depend on it also one of 8 and of 500.
//!
//! `… --example screenshots -- --run RUN FILE [VIEW]` takes one picture of a real run, over or under way: that
//! in the README is `docs/run.png`.

#[path = "../tests/support/browser.rs"]
mod browser;
#[path = "../tests/support/remote.rs"]
mod remote;
#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result};
use browser::Browser;
use remote::{Fake, TOKEN};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use support::Script;
use zfl_dashboard::Dashboard;

const VIEWS: [&str; 11] = [
    "run",
    "fleet",
    "device",
    "control",
    "stop",
    "compare",
    "faults",
    "faults-time",
    "evaluation",
    "data",
    "config",
];

/// Views that look different with more devices.
const DENSE: [&str; 5] = ["fleet", "compare", "faults", "evaluation", "data"];

/// Name, width, height, highest picture, whether it is a phone.
const SIZES: [(&str, u32, u32, f64, bool); 2] = [
    ("wide", 1400, 900, 1500.0, false),
    ("phone", 390, 844, 1700.0, true),
];

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "--run").is_some() {
        let mut path = || arguments.next().context("give --run RUN FILE [VIEW]");
        let (run, file) = (path()?, path()?);
        let view = arguments.next().unwrap_or_else(|| "run".to_owned());
        return shoot_run(Path::new(&run), Path::new(&file), &view).await;
    }
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/screenshots");
    let out = arguments.next().map_or(default, PathBuf::from);
    std::fs::create_dir_all(&out)?;
    let found = browser::find().map_err(anyhow::Error::msg)?;
    let browser = Browser::start(&found).await;
    let clients: Vec<u32> = arguments.map(|n| n.parse()).collect::<Result<_, _>>()?;
    if clients.is_empty() {
        shoot(&browser, &out, 50, &VIEWS, &["light", "dark"], &SIZES).await?;
        for clients in [8, 500] {
            shoot(&browser, &out, clients, &DENSE, &["light"], &SIZES[..1]).await?;
        }
    }
    for clients in clients {
        shoot(&browser, &out, clients, &VIEWS, &["light", "dark"], &SIZES).await?;
    }
    browser.assert_sound().await;
    browser.quit().await;
    Ok(())
}

/// Takes one picture of a real run.
async fn shoot_run(run_dir: &Path, out: &Path, view: &str) -> Result<()> {
    let url = open(&Dashboard::from_run_dir(run_dir)?)?;
    let found = browser::find().map_err(anyhow::Error::msg)?;
    let browser = Browser::start(&found).await;
    let (_, width, height, highest, phone) = SIZES[0];
    browser.resize(width, height, phone).await;
    show(&browser, &url, view, "light").await;
    take(&browser, out, width, height, highest, false).await?;
    browser.assert_sound().await;
    browser.quit().await;
    Ok(())
}

/// Takes the pictures of one fleet, in the middle of a round.
async fn shoot(
    browser: &Browser,
    out: &Path,
    clients: u32,
    views: &[&str],
    themes: &[&str],
    sizes: &[(&str, u32, u32, f64, bool)],
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut script = Script::new(dir.path(), clients, 20);
    script.up_to_the_middle_of(14);
    let (url, dashboard) = serve(dir.path(), &script)?;
    for &(size, width, height, highest, phone) in sizes {
        browser.resize(width, height, phone).await;
        for theme in themes {
            for view in views {
                // The run's clock goes on from its last event: the pictures are to have the same.
                let events = std::fs::File::options()
                    .append(true)
                    .open(dir.path().join("events.jsonl"))?;
                events.set_modified(std::time::SystemTime::now())?;
                dashboard.catch_up()?;
                show(browser, &url, view, theme).await;
                let name = format!("{view}-{clients}-{theme}-{size}.png");
                take(
                    browser,
                    &out.join(&name),
                    width,
                    height,
                    highest,
                    ["device", "control", "stop"].contains(view),
                )
                .await?;
                println!("{name}");
            }
        }
    }
    Ok(())
}

fn serve(run_dir: &Path, script: &Script) -> Result<(String, Dashboard)> {
    let meta = support::meta(script.clients, script.rounds);
    // Only a page that was opened with the token shows that.
    let (dashboard, _) = Fake::behind(Dashboard::new(meta, run_dir));
    dashboard.catch_up()?;
    Ok((open(&dashboard)?, dashboard))
}

/// Serves a page on a free port; returns its address.
fn open(dashboard: &Dashboard) -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    tokio::spawn(dashboard.serve(listener)?);
    Ok(format!("http://{address}/"))
}

async fn show(browser: &Browser, url: &str, view: &str, theme: &str) {
    let tab = match view {
        "device" | "control" => "fleet",
        "stop" => "run",
        "faults-time" => "faults",
        other => other,
    };
    let controls = matches!(view, "control" | "stop");
    let token = if controls {
        format!("&token={TOKEN}")
    } else {
        String::new()
    };
    browser
        .open(&format!("{url}?theme={theme}#{tab}{token}"))
        .await;
    if controls {
        browser
            .until("!document.querySelector('#stop').hidden")
            .await;
    }
    if view == "stop" {
        browser.click("#stop").await;
    }
    if view == "compare" {
        browser
            .eval("(document.querySelector('#compare-device').value = '5', 0)")
            .await;
        let change = "document.querySelector('#compare-device').dispatchEvent(new Event('change'))";
        browser.eval(change).await;
    }
    if view == "faults-time" {
        browser.click("[name=fault-axis][value=time]").await;
    }
    if matches!(view, "device" | "control") {
        browser.click(".tile[data-client='4']").await;
        browser
            .until("document.querySelector('#device-log').textContent.length > 0")
            .await;
        browser
            .until("document.querySelector('#chart-device canvas') !== null")
            .await;
    }
    if view == "control" {
        browser.click("#control-hold").await;
        browser
            .until("document.querySelector('#said').textContent !== ''")
            .await;
    }
    if controls {
        // The other views are of who has no token.
        browser.eval("sessionStorage.clear()").await;
    }
    // Fonts and layout settle.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}

/// The page from its top, as high as it is or `highest`; of a drawer what a window shows.
async fn take(
    browser: &Browser,
    path: &Path,
    width: u32,
    height: u32,
    highest: f64,
    drawer: bool,
) -> Result<()> {
    let whole = browser.eval("document.documentElement.scrollHeight").await;
    let shown = if drawer {
        f64::from(height)
    } else {
        whole.as_f64().unwrap_or(0.0).min(highest)
    };
    let clip = json!({"x": 0, "y": 0, "width": width, "height": shown, "scale": 1});
    let command = json!({"format": "png", "clip": clip, "captureBeyondViewport": true});
    let picture = browser
        .page
        .cdp()
        .send_raw("Page.captureScreenshot", command)
        .await?;
    let data = picture["data"].as_str().context("no picture came")?;
    std::fs::write(path, smaller(&base64(data)?)?)?;
    Ok(())
}

/// The same picture with at most 256 colours, a quarter of the size: a page has few, and the smoothed
/// edges of its letters, which have the others, bear to be rounded.
fn smaller(picture: &[u8]) -> Result<Vec<u8>> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info()?;
    let mut pixels = vec![
        0;
        reader
            .output_buffer_size()
            .context("the picture is too large")?
    ];
    let info = reader.next_frame(&mut pixels)?;
    let pixels = pixels[..info.buffer_size()].chunks_exact(info.color_type.samples());
    let pixels: Vec<Colour> = pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let palette = commonest(&pixels);
    let mut known = HashMap::new();
    let mut index = |colour| {
        *known
            .entry(colour)
            .or_insert_with(|| nearest(&palette, colour))
    };
    let indices: Vec<u8> = pixels.iter().map(|&colour| index(colour)).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, info.width, info.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(palette.as_flattened().to_vec());
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(&indices)?;
    Ok(file)
}

type Colour = [u8; 3];

fn commonest(pixels: &[Colour]) -> Vec<Colour> {
    let mut counts = HashMap::<Colour, u32>::new();
    for &pixel in pixels {
        *counts.entry(pixel).or_default() += 1;
    }
    let mut colours: Vec<(Colour, u32)> = counts.into_iter().collect();
    colours.sort_by_key(|&(colour, count)| (std::cmp::Reverse(count), colour));
    colours
        .into_iter()
        .take(256)
        .map(|(colour, _)| colour)
        .collect()
}

fn nearest(palette: &[Colour], colour: Colour) -> u8 {
    let distance = |other: &Colour| -> u32 {
        other
            .iter()
            .zip(colour)
            .map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2))
            .sum()
    };
    let nearest = (0..palette.len()).min_by_key(|&index| distance(&palette[index]));
    nearest.unwrap_or(0) as u8
}

fn base64(text: &str) -> Result<Vec<u8>> {
    use base64::Engine;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}
