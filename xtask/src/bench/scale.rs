//! Fleets of 50 devices to as many as fit, and natives up to 100,000: boot, join and rounds.

use super::results::Run;
use super::table::{Table, largest, median, number};
use super::{Bench, networks};
use anyhow::Result;

/// Emulated devices; the last two with `--large`.
const FLEETS: [u32; 5] = [50, 200, 500, 1000, 2000];
const QUICK_FLEETS: [u32; 2] = [2, 4];

/// Sizes of each kind that are left to `--large`.
const LARGE_FLEETS: usize = 2;
const LARGE_NATIVES: usize = 1;

/// Native devices; the last with `--large`.
const NATIVES: [u32; 4] = [100, 1_000, 10_000, 100_000];
const QUICK_NATIVES: [u32; 2] = [10, 20];

/// Few images and one epoch: what is measured is the fleet, not its training.
const EMULATED: &str = "--body bare --examples 60 --epochs 1 --rounds 4";

/// A cohort of 100, however many there are.
const NATIVE: &str = "--body native --partition overlapping --examples 60 --epochs 1 --rounds 20";

/// Runs all of them.
///
/// # Errors
/// If a run fails for another reason than that it does not fit into this machine.
pub fn measure(bench: &Bench, large: bool) -> Result<String> {
    let all = |sizes: &'static [u32], left_out| match large {
        true => sizes,
        false => &sizes[..sizes.len() - left_out],
    };
    let emulated = all(&FLEETS, LARGE_FLEETS);
    let emulated = fleets(bench, bench.size(emulated, &QUICK_FLEETS))?;
    let native = all(&NATIVES, LARGE_NATIVES);
    let native = natives(bench, bench.size(native, &QUICK_NATIVES))?;
    Ok(format!("{emulated}\n\n{native}"))
}

fn fleets(bench: &Bench, sizes: &[u32]) -> Result<String> {
    let mut table = Table::new(&[
        "emulated devices",
        "load before",
        "boot s",
        "all ready after s",
        "later rounds s, median",
        "ms a device and round",
        "private MiB a device, largest",
        "host CPU s a device, mean",
    ]);
    let (mut runs, mut notes) = (Vec::new(), String::new());
    for &size in sizes {
        let arguments = format!("--clients {size} {EMULATED}");
        match bench.try_run(&format!("bare-{size}"), &arguments)? {
            Ok(run) => {
                table.row(row(size, &run));
                runs.push(run);
            }
            Err(why) => notes += &format!("\nNot measured: {size} devices. {why}"),
        }
    }
    Ok(format!("{}\n{}{notes}", table.markdown(), networks(&runs)))
}

fn row(size: u32, run: &Run) -> Vec<String> {
    let cpu = run.host_cpu_s();
    let mean = (!cpu.is_empty()).then(|| cpu.iter().sum::<f64>() / cpu.len() as f64);
    let later = later(run);
    let memory = run.summary.memory;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    vec![
        size.to_string(),
        number(Some(run.load), 1),
        number(run.summary.boot_s, 1),
        number(run.rounds.first().map(|round| round.wait_s), 1),
        number(later, 2),
        number(later.map(|s| 1000.0 * s / f64::from(size)), 1),
        number(memory.map(|memory| mib(memory.private_bytes_max)), 1),
        number(mean, 2),
    ]
}

/// Duration of the rounds after the first, which has the boots in it, in seconds.
fn later(run: &Run) -> Option<f64> {
    median(run.rounds.iter().skip(1).map(|round| round.round_s))
}

fn natives(bench: &Bench, sizes: &[u32]) -> Result<String> {
    let mut table = Table::new(&[
        "native devices",
        "cohort",
        "load before",
        "wall s",
        "all ready after s",
        "rounds s, median",
        "longest",
    ]);
    let mut notes = String::new();
    for &size in sizes {
        let cohort = size.min(100);
        let arguments = format!("--clients {size} --clients-per-round {cohort} {NATIVE}");
        match bench.try_run(&format!("native-{size}"), &arguments)? {
            Ok(run) => table.row([
                size.to_string(),
                cohort.to_string(),
                number(Some(run.load), 1),
                number(Some(run.summary.wall_s), 1),
                number(run.rounds.first().map(|round| round.wait_s), 1),
                number(later(&run), 3),
                number(largest(run.rounds.iter().skip(1).map(|one| one.round_s)), 3),
            ]),
            Err(why) => notes += &format!("\nNot measured: {size} native devices. {why}"),
        }
    }
    Ok(format!("{}{notes}", table.markdown()))
}
