//! Training on emulated devices: instructions and processor time of an example, on every board.

use super::results::Run;
use super::table::{Table, number};
use super::{Bench, hashes_differ};
use crate::project;
use anyhow::{Result, ensure};

/// Examples of the device.
const EXAMPLES: u32 = 600;

/// Passes of the two runs, whose difference has nothing of the join, the messages and the first translation in it.
const EPOCHS: [u32; 2] = [5, 25];

/// Runs every board whose firmware is built.
///
/// # Errors
/// If a run fails, or a board that can count has not counted.
pub fn measure(bench: &Bench) -> Result<String> {
    let examples = bench.size(EXAMPLES, 30);
    let mut table = Table::new(&[
        "body, board",
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
        let run = |batch: u32, epochs: u32, time: &str| {
            let arguments = format!(
                "--clients 1 --rounds 1 --body {} --board {} --examples {examples} --batch-size {batch} \
                 --epochs {epochs} --time {time}",
                board.body, board.name
            );
            bench.try_run(
                &format!("{}-{batch}-{epochs}-{time}", board.name),
                &arguments,
            )
        };
        let passes = f64::from((EPOCHS[1] - EPOCHS[0]) * examples);
        let mut of_example =
            |batch, time, read: fn(&Run) -> Option<f64>| -> Result<Result<f64, String>> {
                let mut values = [0.0; 2];
                for (value, epochs) in values.iter_mut().zip(EPOCHS) {
                    let run = match run(batch, epochs, time)? {
                        Ok(run) => run,
                        Err(why) => return Ok(Err(why)),
                    };
                    let read = read(&run);
                    ensure!(read.is_some(), "{name} has told no cost with --time {time}");
                    *value = read.unwrap_or_default();
                    models.push(((batch, epochs), run.summary.model_sha256));
                }
                Ok(Ok((values[1] - values[0]) / passes))
            };
        let counted = |run: &Run| Some(run.updates.first()?.instructions? as f64);
        let whole = of_example(EXAMPLES, "icount", counted)?;
        let small = of_example(10, "icount", counted)?;
        let took = of_example(EXAMPLES, "host", |run| run.updates.first()?.host_cpu_s)?;
        match (whole, small, took) {
            (Ok(whole), Ok(small), Ok(took)) => table.row([
                name,
                number(Some(whole), 0),
                number(Some(small), 0),
                number(Some(1e6 * took), 1),
                number(Some(1e9 * took / whole), 2),
            ]),
            (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => {
                notes += &format!("\nNot measured: {name}. {why}");
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
        "{size}\n\n{}\nThe models are the same on all.{notes}",
        table.markdown()
    ))
}
