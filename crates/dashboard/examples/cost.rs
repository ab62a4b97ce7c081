//! Cost of the dashboard to a run: processor time to read its events and to serve a page.
//!
//! `cargo run --release -p zfl-dashboard --example cost [CLIENTS [ROUNDS]]`; 200 and 20 unless told
//! otherwise. A device tells its progress ten times a round here, which is more than it does.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::Result;
use std::time::Instant;
use support::Script;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|n| n.parse::<u32>());
    let clients = arguments.next().transpose()?.unwrap_or(200);
    let rounds = arguments.next().transpose()?.unwrap_or(20);
    let dir = tempfile::tempdir()?;
    let mut script = Script::new(dir.path(), clients, rounds);
    script.boot();
    for round in 1..=rounds {
        (0..10).for_each(|step| (0..clients).for_each(|c| script.trains(round, c, 300 * step)));
        script.round(round);
    }
    script.finish();
    let began = Instant::now();
    let model = zfl_run_dir::replay(dir.path())?;
    let reading = began.elapsed();
    let events = std::fs::read_to_string(dir.path().join("events.jsonl"))?
        .lines()
        .count();
    let began = Instant::now();
    let (devices, run) = (
        model.devices().collect::<Vec<_>>(),
        model.run(model.time_ms()),
    );
    let bytes = serde_json::to_vec(&devices)?.len() + serde_json::to_vec(&run)?.len();
    let telling = began.elapsed();
    println!("{events} events of {clients} devices and {rounds} rounds: read in {reading:.1?}");
    println!("one message about all of them, {bytes} bytes: made in {telling:.1?}");
    // The message goes out four times a second at most, and is made once for all pages.
    let share = 4.0 * telling.as_secs_f64();
    println!(
        "while every device changes all the time: {:.2} % of a core for messages",
        100.0 * share
    );
    Ok(())
}
