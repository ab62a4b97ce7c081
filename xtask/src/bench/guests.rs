//! Training on emulated devices: instructions and processor time of an example, on every board.

use super::results::Run;
use super::table::{Table, number};
use super::{Bench, hashes_differ};
use crate::project::{self, Board};
use anyhow::{Result, ensure};

/// Examples of the device.
const EXAMPLES: u32 = 600;

/// Passes of the two runs, whose difference has nothing of the join, the messages and the first translation in it.
const EPOCHS: [u32; 2] = [5, 25];

/// Forms of the arithmetic: the default, and that of cores without FPU.
const ARITHMETICS: [&str; 2] = ["fixed", "integer"];

/// Runs every board whose firmware is built, in each arithmetic.
///
/// # Errors
/// If a run fails, or boards end in different models.
pub fn measure(bench: &Bench) -> Result<String> {
    let examples = bench.size(EXAMPLES, 30);
    let mut table = Table::new(&[
        "body, board",
        "`--arithmetic`",
        "instructions of an example, batch of 600",
        "batch of 10",
        "µs of host CPU an example, batch of 600",
        "ns an instruction",
    ]);
    let (mut notes, mut models) = (String::new(), Vec::new());
    for board in project::boards()? {
        let name = format!("{}, {}", board.body, board.name);
        if !project::root().join(&board.kernel.image).is_file() {
            notes += &format!("\nNot measured, for its firmware was not built: {name}.");
            continue;
        }
        for arithmetic in ARITHMETICS {
            match costs(bench, &board, arithmetic, examples, &mut models)? {
                Ok([whole, small, took]) => table.row([
                    name.clone(),
                    arithmetic.to_owned(),
                    number(Some(whole), 0),
                    number(Some(small), 0),
                    number(Some(1e6 * took), 1),
                    number(Some(1e9 * took / whole), 2),
                ]),
                Err(why) => notes += &format!("\nNot measured: {name}, {arithmetic}. {why}"),
            }
        }
    }
    ensure!(
        !hashes_differ(models),
        "boards end in different models: see {}",
        bench.folder.display()
    );
    let size = format!(
        "A device of {examples} images, 784-16-10; the difference of {} and {} epochs.",
        EPOCHS[0], EPOCHS[1]
    );
    Ok(format!(
        "{size}\n\n{}\nThe models of an arithmetic are the same on all.{notes}",
        table.markdown()
    ))
}

/// Work of a run, and the model that it ended in.
type Model = ((&'static str, u32, u32), String);

/// Instructions of an example in batches of 600 and of 10, and the seconds of the first; or why a run was refused.
fn costs(
    bench: &Bench,
    board: &Board,
    arithmetic: &'static str,
    examples: u32,
    models: &mut Vec<Model>,
) -> Result<Result<[f64; 3], String>> {
    let run = |batch: u32, epochs: u32, time: &str| {
        let arguments = format!(
            "--clients 1 --rounds 1 --body {} --board {} --examples {examples} --batch-size {batch} \
             --epochs {epochs} --time {time} --arithmetic {arithmetic}",
            board.body, board.name
        );
        bench.try_run(
            &format!("{}-{arithmetic}-{batch}-{epochs}-{time}", board.name),
            &arguments,
        )
    };
    let counted = |run: &Run| Some(run.updates.first()?.instructions? as f64);
    let took = |run: &Run| run.updates.first()?.host_cpu_s;
    let works: [(u32, &str, Read); 3] = [
        (EXAMPLES, "icount", counted),
        (10, "icount", counted),
        (EXAMPLES, "host", took),
    ];
    let passes = f64::from((EPOCHS[1] - EPOCHS[0]) * examples);
    let mut found = [0.0; 3];
    for (found, (batch, time, read)) in found.iter_mut().zip(works) {
        let mut values = [0.0; 2];
        for (value, epochs) in values.iter_mut().zip(EPOCHS) {
            let run = match run(batch, epochs, time)? {
                Ok(run) => run,
                Err(why) => return Ok(Err(why)),
            };
            let Some(cost) = read(&run) else {
                // Zephyr counts on one board alone.
                return Ok(Err(format!("its devices tell no cost with --time {time}.")));
            };
            *value = cost;
            models.push(((arithmetic, batch, epochs), run.summary.model_sha256));
        }
        *found = (values[1] - values[0]) / passes;
    }
    Ok(Ok(found))
}

/// Reads a cost from a run.
type Read = fn(&Run) -> Option<f64>;
