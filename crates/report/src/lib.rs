//! The report: what one run came to, or several side by side, as one self-contained HTML page and its
//! figures as SVG and PNG. [`Comparison`] is the table of several, as text, CSV and a page.
//!
//! Runs that differ in nothing but their seed (and in where they were kept) are one *group*: a curve of
//! it is the mean over its runs, the band around it one standard deviation of a sample (n − 1) each
//! way. A group of one run has no band. Everything is read from the run directories, `events.jsonl`
//! first; a run that was broken off or is under way is reported as far as it came, and said to be so.
//!
//! Invariants
//! - The page loads nothing and runs nothing: figures are in it as images, and it carries a policy that
//!   says so. Whatever a run directory holds reaches it as text.
//! - Every axis has its quantity and its unit.
//! - What was not measured is left out, not drawn as zero.

#![forbid(unsafe_code)]

mod compare;
mod devices;
mod draw;
mod evaluation;
mod figures;
mod group;
mod html;
mod mesh;
mod numbers;
mod png;
mod run;

use anyhow::{Context, Result, ensure};
use draw::Figure;
use group::Group;
use run::Run;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use zfl_files::Dir;

pub use compare::{COMPARISON, Comparison};

/// The page's name in the folder that [`write()`] makes.
pub const PAGE: &str = "report.html";

/// A report that was written.
#[derive(Debug)]
pub struct Report {
    /// Path of the report's page.
    pub page: PathBuf,
    /// Warnings for the reader: runs that are named twice, have the same seed, or had another
    /// firmware or other data than those that they seem to repeat.
    pub warnings: Vec<String>,
}

/// Reports on these run directories into the folder `out`: [`PAGE`], and `figures/` with every figure
/// as SVG and as PNG. Files of an earlier report there are overwritten. A run that is named twice, by
/// whatever path, counts once.
///
/// # Errors
/// If there is no run, one of them cannot be read, or `out` cannot be written.
pub fn write(runs: &[PathBuf], out: &Path) -> Result<Report> {
    ensure!(
        !runs.is_empty(),
        "no run to report on: give at least one run directory"
    );
    let (runs, mut warnings) = each_once(runs);
    let runs = runs
        .into_iter()
        .map(Run::load)
        .collect::<Result<Vec<_>>>()?;
    let groups = Group::of(runs);
    let of_groups = group::warnings(&groups);
    let figures = figures::all(&groups);
    // Links that lie there are replaced, never written through.
    fs::create_dir_all(out).with_context(|| format!("make the folder {}", out.display()))?;
    let report = Dir::open(out)?;
    write_figures(&report, &figures)?;
    let page = html::page(&groups, &figures, &of_groups);
    report.write(PAGE, page.as_bytes())?;
    warnings.extend(of_groups);
    let page = out.join(PAGE);
    Ok(Report { page, warnings })
}

/// Writes each figure as SVG and as PNG into `figures/`.
fn write_figures(folder: &Dir, figures: &[Figure]) -> Result<()> {
    let folder = folder.make_folder("figures")?;
    for figure in figures {
        folder.write(&format!("{}.svg", figure.name), figure.svg.as_bytes())?;
        let png = png::png(&figure.svg).with_context(|| format!("draw {}", figure.name))?;
        folder.write(&format!("{}.png", figure.name), &png)?;
    }
    Ok(())
}

/// The runs without those that are named again, and a line for each of these.
fn each_once(runs: &[PathBuf]) -> (Vec<&Path>, Vec<String>) {
    let mut known = BTreeSet::new();
    let (mut once, mut again) = (Vec::new(), Vec::new());
    for path in runs {
        // What is not there is told by whoever reads it.
        if known.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            once.push(path.as_path());
        } else {
            again.push(format!(
                "{} is named more than once: it counts once",
                path.display()
            ));
        }
    }
    (once, again)
}
