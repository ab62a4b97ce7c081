//! A report on one scripted run, and one on seven in three groups, to look at:
//! `cargo run -p zfl-report --example scripted OUT`.

#[path = "../../dashboard/tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use support::Script;
use zfl_run_dir::Meta;

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).context("say where to write to")?);
    let runs = tempfile::tempdir()?;
    let mut paths = Vec::new();
    for learning_rate in [0.1, 0.3, 0.5] {
        for seed in 1..=if learning_rate < 0.5 { 3 } else { 1 } {
            paths.push(run(runs.path(), seed, learning_rate)?);
        }
    }
    println!(
        "{}",
        zfl_report::write(&paths[..1], &out.join("one"))?
            .page
            .display()
    );
    println!(
        "{}",
        zfl_report::write(&paths, &out.join("several"))?
            .page
            .display()
    );
    Ok(())
}

fn run(root: &Path, seed: u64, learning_rate: f64) -> Result<PathBuf> {
    let name = format!("lr{learning_rate}-seed{seed}");
    let path = root.join(&name);
    let mut script = Script::new(&path, 50, 20);
    script.reseed(seed + (learning_rate * 100.0) as u64);
    script.boot();
    (1..=20).for_each(|round| script.round(round));
    script.finish();
    let mut meta = serde_json::to_value(support::meta(50, 20))?;
    meta["name"] = json!(name);
    meta["config"]["seed"] = json!(seed);
    meta["config"]["learning_rate"] = json!(learning_rate);
    std::fs::write(path.join(Meta::FILE), meta.to_string())?;
    Ok(path)
}
