//! Fleets of 50, 100 and 200 devices: how long, and what a device takes of the host.

use super::results::Run;
use super::table::{Table, largest, number};
use super::{Bench, networks};
use anyhow::Result;

/// Name, and the arguments that make it; those for `--quick`.
const FLEETS: [(&str, &str, &str); 3] = [
    (
        "50 × 1200 images × 20 rounds (the main job)",
        "--clients 50 --rounds 20",
        "--clients 3 --rounds 2 --examples 100",
    ),
    (
        "100 × 600 images × 20 rounds",
        "--clients 100 --examples 600 --rounds 20",
        "--clients 4 --rounds 2 --examples 100",
    ),
    (
        "200 × 300 images × 3 rounds",
        "--clients 200 --rounds 3",
        "--clients 5 --rounds 2 --examples 100",
    ),
];

/// Runs all of them.
///
/// # Errors
/// If a run fails.
pub fn measure(bench: &Bench) -> Result<String> {
    let mut table = Table::new(&[
        "fleet",
        "load before",
        "wall s",
        "boot s",
        "training s",
        "accuracy %",
        "private MiB a device: largest",
        "mean",
        "host CPU s a device: mean",
        "largest",
    ]);
    let mut runs = Vec::new();
    for (name, full, quick) in FLEETS {
        let arguments = format!("--body bare {}", bench.size(full, quick));
        let folder = arguments.split_whitespace().nth(3).unwrap_or("fleet");
        let run = bench.run(folder, &arguments)?;
        table.row(row(bench.size(name, quick), &run));
        runs.push(run);
    }
    Ok(format!("{}\n{}", table.markdown(), networks(&runs)))
}

fn row(name: &str, run: &Run) -> Vec<String> {
    let memory = run.summary.memory;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let cpu = run.host_cpu_s();
    let mean = (!cpu.is_empty()).then(|| cpu.iter().sum::<f64>() / cpu.len() as f64);
    vec![
        name.to_owned(),
        number(Some(run.load), 1),
        number(Some(run.summary.wall_s), 1),
        number(run.summary.boot_s, 1),
        number(Some(run.summary.train_s), 1),
        number(run.accuracy_percent(), 2),
        number(memory.map(|memory| mib(memory.private_bytes_max)), 1),
        number(memory.map(|memory| mib(memory.private_bytes_mean)), 1),
        number(mean, 2),
        number(largest(cpu), 2),
    ]
}
