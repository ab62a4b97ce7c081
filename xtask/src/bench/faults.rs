//! Devices that drop out and crash, against a run without.

use super::Bench;
use super::results::Run;
use super::table::{Table, number};
use anyhow::{Result, ensure};

/// Runs without faults, and twice with the same.
///
/// # Errors
/// If a run fails, a round does not complete, or the two differ.
pub fn measure(bench: &Bench) -> Result<String> {
    let (clients, rounds, examples) = bench.size((50, 20, 600), (10, 4, 100));
    let arguments = format!(
        "--body bare --network switch --clients {clients} --rounds {rounds} --examples {examples}"
    );
    let faulty = format!("{arguments} --drop-out 30% --crash 5% --reboot");
    let runs = [
        ("no faults", bench.run("none", &arguments)?),
        ("with faults", bench.run("first", &faulty)?),
        ("the same again", bench.run("again", &faulty)?),
    ];
    let [(_, plain), (_, first), (_, again)] = &runs;
    for (name, run) in &runs {
        ensure!(
            run.summary.rounds_completed == rounds,
            "{name}: {} of {rounds} rounds completed",
            run.summary.rounds_completed
        );
    }
    ensure!(!first.faults.is_empty(), "no fault happened");
    ensure!(
        first.faults == again.faults && first.missing() == again.missing(),
        "one seed, two lists of faults: see {}",
        bench.folder.display()
    );
    ensure!(
        first.summary.model_sha256 == again.summary.model_sha256,
        "one seed and the same faults, two models: see {}",
        bench.folder.display()
    );
    let size = format!("{clients} bare devices, {examples} examples each, {rounds} rounds.");
    Ok(format!(
        "{size}\n\n{}\n{}",
        table(&runs),
        verdict(plain, first)
    ))
}

fn table(runs: &[(&str, Run)]) -> String {
    let mut table = Table::new(&[
        "run",
        "rounds completed",
        "drop-outs",
        "crashes",
        "updates missing",
        "accuracy %",
        "wall s",
        "model",
    ]);
    for (name, run) in runs {
        let count = |kind: &str| {
            let happened = run.faults.iter().filter(|fault| fault.kind == kind);
            happened.count().to_string()
        };
        table.row([
            (*name).to_owned(),
            format!("{} of {}", run.summary.rounds_completed, run.summary.rounds),
            count("drop-out"),
            count("crash"),
            run.missing().len().to_string(),
            number(run.accuracy_percent(), 2),
            number(Some(run.summary.wall_s), 1),
            short(&run.summary.model_sha256),
        ]);
    }
    table.markdown()
}

/// The beginning of a hash, which tells two apart.
pub fn short(hash: &str) -> String {
    hash.get(..12).unwrap_or(hash).to_owned()
}

fn verdict(plain: &Run, faulty: &Run) -> String {
    let difference = plain
        .accuracy_percent()
        .zip(faulty.accuracy_percent())
        .map(|(plain, faulty)| faulty - plain);
    let difference = difference.map_or("–".to_owned(), |points| format!("{points:+.2}"));
    format!(
        "Accuracy with faults against without: {difference} percentage points.\n\
         Both runs with faults have the same {} faults, the same missing updates and the same model.",
        faulty.faults.len()
    )
}
