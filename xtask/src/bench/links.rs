//! Bench of links: the cost of lost and delayed frames.

use super::results::{NetworkStats, Run};
use super::table::{Table, largest, median, number};
use super::{Bench, same_model};
use anyhow::{Context, Result, ensure};

/// In percent of the frames of each direction.
const LOSSES: [f64; 4] = [0.0, 1.0, 5.0, 10.0];

/// In milliseconds, each direction.
const DELAYS: [f64; 3] = [0.0, 20.0, 100.0];

/// A run with what was asked of its links.
struct Measured {
    loss: f64,
    delay: f64,
    run: Run,
    frames: NetworkStats,
}

/// Runs all combinations.
///
/// # Errors
/// If a run fails, or one of them has another model.
pub fn measure(bench: &Bench) -> Result<String> {
    let (clients, rounds, examples) = bench.size((20, 10, 600), (3, 2, 100));
    let mut all = Vec::new();
    for loss in LOSSES {
        for delay in DELAYS {
            let arguments = format!(
                "--body bare --clients {clients} --rounds {rounds} --examples {examples} \
                 --network switch --loss {loss}% --delay {delay} \
                 --deadline 600 --ready-deadline 600 --watchdog 600"
            );
            let run = bench.run(&format!("{loss}-{delay}"), &arguments)?;
            let frames = run.summary.network_stats;
            let frames = frames.context("the run counted no frames: no switch?")?;
            all.push(Measured {
                loss,
                delay,
                run,
                frames,
            });
        }
    }
    ensure!(
        same_model(all.iter().map(|one| &one.run)),
        "links changed the model: see {}",
        bench.folder.display()
    );
    let size = format!("{clients} bare devices, {examples} examples each, {rounds} rounds.");
    Ok(format!("{size}\n\n{}\n{}", table(&all), verdict(&all)))
}

fn table(all: &[Measured]) -> String {
    let mut table = Table::new(&[
        "loss %",
        "delay ms",
        "measured loss % up",
        "down",
        "measured delay ms",
        "data there after s",
        "round s, median",
        "longest",
        "retransmissions",
        "segments lost",
        "MB up",
        "down",
        "accuracy %",
    ]);
    for one in all {
        let (up, down) = (one.frames.up, one.frames.down);
        // The wait before the first round holds the boot, which no link delays.
        let later = || one.run.rounds.iter().filter(|round| round.round > 1);
        let first = one.run.rounds.first().map(|round| round.wait_s);
        table.row([
            number(Some(one.loss), 0),
            number(Some(one.delay), 0),
            number(Some(up.loss_percent()), 2),
            number(Some(down.loss_percent()), 2),
            number(Some(one.delay + one.frames.mean_late_ms), 2),
            number(first, 1),
            number(median(later().map(|round| round.round_s)), 2),
            number(largest(later().map(|round| round.round_s)), 2),
            (up.tcp_retransmissions + down.tcp_retransmissions).to_string(),
            (up.tcp_dropped + down.tcp_dropped).to_string(),
            number(Some(up.offered_bytes as f64 / 1e6), 2),
            number(Some(down.offered_bytes as f64 / 1e6), 2),
            number(one.run.accuracy_percent(), 2),
        ]);
    }
    table.markdown()
}

fn verdict(all: &[Measured]) -> String {
    let off = |one: &Measured| {
        [one.frames.up, one.frames.down].map(|way| (way.loss_percent() - one.loss).abs())
    };
    let loss = largest(all.iter().flat_map(off));
    let delay = largest(all.iter().map(|one| one.frames.mean_late_ms));
    let worst = largest(all.iter().map(|one| one.frames.worst_late_ms));
    let (late, frames) = all.iter().fold((0, 0), |(late, frames), one| {
        let offered = one.frames.up.offered + one.frames.down.offered;
        (late + one.frames.late_frames, frames + offered)
    });
    let class = match all.iter().all(|one| one.frames.real_time) {
        true => "in a real-time class",
        false => "in no real-time class",
    };
    let hash = all.first().map_or("", |one| &one.run.summary.model_sha256);
    format!(
        "Largest distance from the request: loss {} percentage points, mean delay {} ms.\n\
         The switch ran {class}: {late} of {frames} frames more than 1 ms late, the worst {} ms.\n\
         The model is the same in all {} runs: sha256 {}….",
        number(loss, 2),
        number(delay, 2),
        number(worst, 1),
        all.len(),
        hash.get(..12).unwrap_or(hash),
    )
}
