//! The same experiment in every body and on every board.

use super::faults::short;
use super::results::Run;
use super::table::{Table, largest, median, number};
use super::{Bench, networks, same_model};
use crate::project;
use anyhow::{Result, ensure};

/// Runs it natively, and on every board whose firmware is built.
///
/// # Errors
/// If a run fails, or one has another model.
pub fn measure(bench: &Bench) -> Result<String> {
    let (clients, rounds, examples) = bench.size((10, 10, 600), (2, 2, 100));
    let arguments = format!("--clients {clients} --rounds {rounds} --examples {examples}");
    let native = bench.run("native", &format!("--body native {arguments}"))?;
    let mut runs = vec![("native".to_owned(), native)];
    let mut notes = String::new();
    for board in project::boards()? {
        let name = format!("{}, {}", board.body, board.name);
        if !project::root().join(&board.kernel.image).is_file() {
            notes += &format!("\nNot measured, for its firmware was not built: {name}.");
            continue;
        }
        let flags = format!("--body {} --board {} {arguments}", board.body, board.name);
        runs.push((name, bench.run(&board.name, &flags)?));
    }
    ensure!(
        same_model(runs.iter().map(|(_, run)| run)),
        "bodies have different models: see {}",
        bench.folder.display()
    );
    let size = format!("{clients} devices, {examples} examples each, {rounds} rounds.");
    let same = format!(
        "The model is the same in all {}.\n{}",
        runs.len(),
        networks(runs.iter().map(|(_, run)| run))
    );
    Ok(format!("{size}\n\n{}\n{same}{notes}", table(&runs)))
}

fn table(runs: &[(String, Run)]) -> String {
    let mut table = Table::new(&[
        "body, board",
        "load before",
        "boot of a device ms, median",
        "all running after s",
        "round s, median",
        "wall s",
        "private MiB a device, largest",
        "host CPU s a device, largest",
        "accuracy %",
        "model",
    ]);
    for (name, run) in runs {
        let boots = run.updates.iter().filter(|update| update.round == 1);
        let boots = boots.filter_map(|update| Some(update.boot_ms? as f64));
        let memory = run.summary.memory;
        table.row([
            name.clone(),
            number(Some(run.load), 1),
            number(median(boots), 0),
            number(run.summary.boot_s, 1),
            number(median(run.rounds.iter().map(|round| round.round_s)), 2),
            number(Some(run.summary.wall_s), 1),
            number(
                memory.map(|memory| memory.private_bytes_max as f64 / f64::from(1 << 20)),
                1,
            ),
            number(largest(run.host_cpu_s()), 2),
            number(run.accuracy_percent(), 2),
            short(&run.summary.model_sha256),
        ]);
    }
    table.markdown()
}
