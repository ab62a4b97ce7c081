//! `cargo xtask soak`: random settings of faults, links, bodies and algorithms, each run twice, once more
//! with a kill and a resume. All three leave the same model, or the run states why they need not.
//!
//! A setting follows from `--seed` and its number alone, so that one of them can be run again.

mod digits;
mod setting;
mod trial;

use crate::{GuestBody, guest, project, run, setup};
use anyhow::{Context, Result, bail};
use clap::Args;
use setting::{Random, Setting};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use trial::{Trial, Verdict, judge};

#[derive(Args)]
pub struct SoakArgs {
    /// Settings to run
    #[arg(long, default_value_t = 40)]
    runs: u64,

    /// Series of settings
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Number of the first setting
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// Settings at the same time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

/// A setting that was run.
struct Row {
    number: u64,
    setting: Setting,
    seconds: f64,
    verdict: Verdict,
    command: String,
}

/// Runs the settings, prints a table.
///
/// # Errors
/// If runs of one setting differ without a reason that they state, or one of them does not end.
pub fn soak(args: &SoakArgs) -> Result<()> {
    setup::qemu()?;
    guest::build(Some(GuestBody::Bare), None)?;
    let zfl = run::build_zfl()?;
    let folder = project::target_dir().join("soak");
    let data = folder.join("digits");
    digits::write(&data).with_context(|| format!("write {}", data.display()))?;
    let (next, began) = (AtomicU64::new(args.first), Instant::now());
    let rows = Mutex::new(Vec::new());
    println!("|   # | fleet | link | faults | s | outcome |\n|--:|---|---|---|--:|---|");
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.first.saturating_add(args.runs) {
                        return;
                    }
                    let row = one(&zfl, &data, &folder, args.seed, number);
                    println!("{}", line(&row));
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    conclude(args.seed, rows.into_inner().unwrap_or_default(), began)
}

fn one(zfl: &Path, data: &Path, folder: &Path, seed: u64, number: u64) -> Row {
    let mut random = Random::new(seed, number);
    let setting = Setting::draw(&mut random);
    let trial = Trial {
        zfl,
        data,
        setting: &setting,
        folder: folder.join(format!("{seed}-{number}")),
    };
    let began = Instant::now();
    let verdict = match trial.run(&mut random) {
        Ok(outcomes) => judge(&outcomes),
        Err(error) => Verdict::Different(format!("{error:#}")),
    };
    let command = trial.command();
    if !matches!(verdict, Verdict::Different(_)) {
        // What is left behind does no harm.
        let _ = fs::remove_dir_all(&trial.folder);
    }
    Row {
        number,
        seconds: began.elapsed().as_secs_f64(),
        verdict,
        command,
        setting,
    }
}

fn line(row: &Row) -> String {
    let Setting {
        what, link, faults, ..
    } = &row.setting;
    let outcome = match &row.verdict {
        Verdict::Same(what) => format!("same: {what}"),
        Verdict::Stated(why) => format!("stated: {why}"),
        Verdict::Different(what) => format!("**different**: {what}"),
    };
    let Row {
        number, seconds, ..
    } = row;
    format!("| {number:3} | {what} | {link} | {faults} | {seconds:.0} | {outcome} |")
}

fn conclude(seed: u64, mut rows: Vec<Row>, began: Instant) -> Result<()> {
    rows.sort_by_key(|row| row.number);
    let count = |kind: fn(&Verdict) -> bool| rows.iter().filter(|row| kind(&row.verdict)).count();
    let same = count(|verdict| matches!(verdict, Verdict::Same(_)));
    let stated = count(|verdict| matches!(verdict, Verdict::Stated(_)));
    println!(
        "\n{} settings of series {seed} in {:.0} s: {same} the same, {stated} with a reason that the run \
         states, {} different",
        rows.len(),
        began.elapsed().as_secs_f64(),
        rows.len() - same - stated,
    );
    let different = rows
        .iter()
        .filter(|row| matches!(row.verdict, Verdict::Different(_)));
    let different: Vec<String> = different
        .map(|row| format!("--first {} --runs 1: {}", row.number, row.command))
        .collect();
    if !different.is_empty() {
        bail!(
            "runs of one seed differ; cargo xtask soak --seed {seed} and one of\n{}",
            different.join("\n")
        );
    }
    Ok(())
}
