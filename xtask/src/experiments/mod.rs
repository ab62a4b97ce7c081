//! `cargo xtask experiments [ROW…]`: the published numbers that docs/experiments.md states, made again.
//!
//! docs/experiments.toml lists the rows. Each is a sweep of experiments/sweeps/, whose folder stays in the
//! target directory: a chore that was broken off goes on, and a row that is done is not done again. The page is
//! written anew each time: rows that this machine has the runs of with their numbers, the others as the page had
//! them.

mod page;
mod results;
mod rows;

use crate::bench::machine::Machine;
use crate::{GuestBody, guest, process, project, run, setup};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use results::Results;
use rows::Row;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The page.
const PAGE: &str = "docs/experiments.md";

#[derive(Args)]
pub struct ExperimentsArgs {
    /// Rows of docs/experiments.toml [default: all, which takes many hours]
    #[arg(value_name = "ROW")]
    rows: Vec<String>,

    /// List the rows and the time that each takes, and run none
    #[arg(long, conflicts_with = "page")]
    list: bool,

    /// Write the page from the runs that are there, and run none
    #[arg(long)]
    page: bool,

    /// The zfl to run [default: this tree's, built first]
    #[arg(long, value_name = "FILE")]
    zfl: Option<PathBuf>,

    /// Runs at the same time, as of `zfl sweep`
    #[arg(long, value_name = "N")]
    jobs: Option<u32>,
}

/// Runs the rows that are asked for, and writes the page.
///
/// # Errors
/// If there is no such row, or a run fails; what is done by then is on the page.
pub fn experiments(args: &ExperimentsArgs) -> Result<()> {
    let rows = rows::read()?;
    let known: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    for asked in &args.rows {
        ensure!(
            known.contains(&asked.as_str()),
            "there is no row {asked}: take {}",
            known.join(", ")
        );
    }
    let is_asked = |row: &&Row| args.rows.is_empty() || args.rows.contains(&row.name);
    if args.list {
        for row in rows.iter().filter(is_asked) {
            println!("{:20} about {:>9}  {}", row.name, row.duration(), row.title);
        }
        return Ok(());
    }
    let mut failed = Vec::new();
    if !args.page {
        let zfl = match &args.zfl {
            Some(zfl) => std::path::absolute(zfl)?,
            None => {
                if rows.iter().filter(is_asked).any(|row| row.emulated) {
                    setup::qemu()?;
                    guest::build(Some(GuestBody::Bare), None)?;
                }
                run::build_zfl()?
            }
        };
        for row in rows.iter().filter(is_asked) {
            println!("{}: about {}", row.name, row.duration());
            if let Err(error) = measure(row, &zfl, args.jobs) {
                eprintln!("{}: {error:#}", row.name);
                failed.push(row.name.as_str());
            }
            write_page(&rows)?;
        }
    }
    write_page(&rows)?;
    println!("written: {PAGE}");
    if !failed.is_empty() {
        bail!("not done: {}; the same command goes on", failed.join(", "));
    }
    Ok(())
}

/// Makes the runs of a row that are not done.
fn measure(row: &Row, zfl: &Path, jobs: Option<u32>) -> Result<()> {
    let folder = folder(row);
    let mut command = Command::new(zfl);
    command
        .current_dir(project::root())
        .arg("sweep")
        .arg(row.sweep())
        .arg("--out")
        .arg(&folder);
    if let Some(jobs) = jobs {
        command.args(["--jobs", &jobs.to_string()]);
    }
    // Before the runs, since a chore that is broken off has some of them too.
    let measured = measured(&folder);
    if !measured.exists() {
        let machine = Machine::here()?.in_short();
        fs::create_dir_all(folder.parent().unwrap_or(&folder))
            .and_then(|()| fs::write(&measured, machine))
            .with_context(|| format!("cannot write {}", measured.display()))?;
    }
    process::run(&mut command)
}

/// File beside a row's folder that tells when and where its runs were begun.
fn measured(folder: &Path) -> PathBuf {
    folder.with_extension("txt")
}

/// Folder of a row's runs.
fn folder(row: &Row) -> PathBuf {
    project::target_dir().join("experiments").join(&row.name)
}

fn write_page(rows: &[Row]) -> Result<()> {
    let path = project::root().join(PAGE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut texts = Vec::new();
    for row in rows {
        let results = Results::read(&folder(row)).with_context(|| row.name.clone())?;
        texts.push(page::section(row, results.as_ref(), &before)?);
    }
    fs::write(&path, page::whole(&texts)).with_context(|| format!("cannot write {PAGE}"))
}
