//! `zfl compare`: runs side by side.

use crate::terminal::text;
use crate::{output, runs};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};
use zfl_experiment::values::probability;
use zfl_experiment::{Refusal, Root, place, require};
use zfl_report::Comparison;

/// Examples in the help.
pub const EXAMPLES: &str = "\
Examples:
  zfl compare sweeps/seeds                      every run of a sweep, by its values
  zfl compare runs/A runs/B --target 0.9        and what each took to 90 %
  zfl compare 'runs/night-*' --out compared     with compare.csv, a page and figures

Runs that differ in nothing but their seed are one row; ± is the standard deviation of the sample.";

#[derive(Args)]
pub struct CompareArgs {
    /// Run directories, names of runs in runs/, folders or names of sweeps, or patterns of these ('runs/night-*')
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// Accuracy to reach, 0.9 or 90%: also tell rounds, bytes, simulated time and energy to the first round that has
    /// it
    #[arg(long, value_name = "SHARE", value_parser = probability)]
    pub target: Option<f64>,

    /// Also write compare.csv, a page and figures into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Print the table as CSV
    #[arg(long)]
    pub csv: bool,
}

/// Carries `zfl compare` out.
///
/// # Errors
/// A [`Refusal`] of what is no run; if one cannot be read, or the folder not written.
pub fn compare(args: &CompareArgs, root: &Root) -> Result<()> {
    let mut found = Vec::new();
    for named in &args.runs {
        found.extend(meant(named, root)?);
    }
    if let Some(out) = &args.out {
        place::may_hold(out)?;
    }
    let comparison = Comparison::of(&found, args.target)?;
    for warning in &comparison.warnings {
        output::warn(&text::clean(warning));
    }
    let table = match args.csv {
        true => comparison.csv(),
        false => comparison.text(),
    };
    output::print(&table)?;
    if let Some(out) = &args.out {
        output::note(&comparison.write(out)?.display().to_string());
    }
    Ok(())
}

/// The runs that a person means: one, those of a sweep, or all that a pattern fits.
fn meant(named: &Path, root: &Root) -> Result<Vec<PathBuf>, Refusal> {
    let places = [
        named.to_owned(),
        root.runs().join(named),
        root.sweeps().join(named),
    ];
    if let Some(runs) = places.iter().find_map(|place| in_sweep(place)) {
        return Ok(runs);
    }
    let Some(pattern) = named.to_str().filter(|text| text.contains(['*', '?', '['])) else {
        return Ok(vec![runs::find(root.runs(), Some(named))?]);
    };
    let mut found = Vec::new();
    for place in [PathBuf::from(pattern), root.runs().join(pattern)] {
        let paths = glob::glob(&place.to_string_lossy());
        let paths = paths.map_err(|error| Refusal(format!("{pattern}: {error}")))?;
        for path in paths.flatten() {
            match in_sweep(&path) {
                Some(runs) => found.extend(runs),
                None => found.extend(is_run(&path).then_some(path)),
            }
        }
    }
    require(!found.is_empty(), || {
        format!("{pattern}: no run has such a path")
    })?;
    Ok(found)
}

/// The runs in the folder of a sweep that have begun.
fn in_sweep(folder: &Path) -> Option<Vec<PathBuf>> {
    if is_run(folder) {
        return None;
    }
    let entries = folder.join(zfl_sweep::RUNS).read_dir().ok()?;
    let mut runs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_run(path))
        .collect();
    runs.sort();
    (!runs.is_empty()).then_some(runs)
}

fn is_run(path: &Path) -> bool {
    path.join("meta.json").is_file()
}
