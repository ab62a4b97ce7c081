//! Groups of runs side by side: what each came to, and what it took to a target.

use crate::figures;
use crate::group::{self, Group};
use crate::html;
use crate::numbers::Mean;
use crate::run::Run;
use crate::{each_once, write_figures};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use zfl_files::Dir;

/// The page's name in the folder that [`Comparison::write`] makes.
pub const COMPARISON: &str = "compare.html";

/// The table's name there.
const TABLE: &str = "compare.csv";

/// Groups of runs that differ in nothing but their seed, and their numbers.
#[derive(Debug)]
pub struct Comparison {
    groups: Vec<Group>,
    /// Settings in which the groups differ.
    differing: Vec<String>,
    /// Those of them that people are shown.
    shown: Vec<String>,
    /// Accuracy to reach, from 0 to 1.
    target: Option<f64>,
    /// Warnings for the reader, as of a [`Report`](crate::Report).
    pub warnings: Vec<String>,
}

/// A quantity of a run.
struct Quantity {
    /// Its name in the CSV.
    name: &'static str,
    /// Its head in the text.
    head: &'static str,
    /// Digits behind the point.
    digits: usize,
    of: fn(&Run) -> Option<f64>,
}

/// A quantity of a run up to a round.
struct Cost {
    name: &'static str,
    head: &'static str,
    digits: usize,
    of: fn(&Run, u32) -> Option<f64>,
}

const QUANTITIES: [Quantity; 6] = [
    Quantity {
        name: "rounds",
        head: "rounds",
        digits: 0,
        of: |run| Some(f64::from(run.view.rounds_completed)),
    },
    Quantity {
        name: "accuracy",
        head: "accuracy %",
        digits: 2,
        of: |run| Some(100.0 * run.view.accuracy?),
    },
    Quantity {
        name: "best_accuracy",
        head: "best %",
        digits: 2,
        of: |run| Some(100.0 * run.view.best_accuracy?),
    },
    Quantity {
        name: "megabytes",
        head: "MB",
        digits: 2,
        of: |run| megabytes(run, run.last_round()),
    },
    Quantity {
        name: "simulated_s",
        head: "simulated s",
        digits: 1,
        of: |run| run.view.simulated_s,
    },
    Quantity {
        name: "energy_j",
        head: "energy J",
        digits: 2,
        of: |run| run.view.energy_j,
    },
];

const COSTS: [Cost; 4] = [
    Cost {
        name: "rounds",
        head: "rounds",
        digits: 1,
        of: |_, round| Some(f64::from(round)),
    },
    Cost {
        name: "megabytes",
        head: "MB",
        digits: 2,
        of: megabytes,
    },
    Cost {
        name: "simulated_s",
        head: "simulated s",
        digits: 1,
        of: simulated_s,
    },
    Cost {
        name: "energy_j",
        head: "energy J",
        digits: 2,
        of: Run::energy_j,
    },
];

fn megabytes(run: &Run, round: u32) -> Option<f64> {
    Some(run.fold.round(round)?.total_bytes as f64 / 1e6)
}

fn simulated_s(run: &Run, round: u32) -> Option<f64> {
    run.fold.round(round)?.record.simulated_elapsed_s
}

/// A line of the table: cells as people read them.
type Line = Vec<String>;

impl Comparison {
    /// Reads these runs. One that is named twice counts once.
    ///
    /// # Errors
    /// If there is none, or one cannot be read.
    pub fn of(runs: &[PathBuf], target: Option<f64>) -> Result<Self> {
        ensure!(
            !runs.is_empty(),
            "no run to compare: give run directories, or the folder of a sweep"
        );
        let (runs, mut warnings) = each_once(runs);
        let runs = runs
            .into_iter()
            .map(Run::load)
            .collect::<Result<Vec<_>>>()?;
        let groups = Group::of(runs);
        warnings.extend(group::warnings(&groups));
        let differing: Vec<String> = group::differing(&groups).into_iter().collect();
        let shown = told_apart(&groups, &differing);
        Ok(Self {
            groups,
            differing,
            shown,
            target,
            warnings,
        })
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut lines = vec![self.head()];
        lines.extend(self.groups.iter().map(|group| self.line(group)));
        let widths = (0..lines[0].len()).map(|at| {
            let cells = lines.iter().map(|line| line[at].chars().count());
            cells.max().unwrap_or(0)
        });
        let widths: Vec<usize> = widths.collect();
        let texts = self.shown.len().max(1);
        let mut text = String::new();
        for line in &lines {
            let cells = line
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(at, (cell, width))| match at < texts {
                    true => format!("{cell:<width$}"),
                    false => format!("{cell:>width$}"),
                });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }

    /// The table for programs: of each quantity the mean over runs and the standard deviation of the sample, empty
    /// where it is not known. Shares are in per cent.
    pub fn csv(&self) -> String {
        let mut head: Vec<String> = self.differing.clone();
        head.push("runs".to_owned());
        let mut pair = |name: &str| head.extend(["mean", "std"].map(|of| format!("{name}_{of}")));
        QUANTITIES.iter().for_each(|quantity| pair(quantity.name));
        if self.target.is_some() {
            COSTS
                .iter()
                .for_each(|cost| pair(&format!("{}_to_target", cost.name)));
            head.push("reached".to_owned());
        }
        let rows = self.groups.iter().map(|group| self.cells(group));
        let all = std::iter::once(head).chain(rows);
        all.map(|row| {
            row.iter()
                .map(|cell| quoted(cell))
                .collect::<Vec<_>>()
                .join(",")
                + "\n"
        })
        .collect()
    }

    /// Writes the table as CSV, a page with it and figures, and each figure as SVG and PNG; the page's path.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, out: &Path) -> Result<PathBuf> {
        fs::create_dir_all(out).with_context(|| format!("make the folder {}", out.display()))?;
        let folder = Dir::open(out)?;
        let figures = figures::compared(&self.groups);
        write_figures(&folder, &figures)?;
        folder.write(TABLE, self.csv().as_bytes())?;
        let lines: Vec<Line> = self.groups.iter().map(|group| self.line(group)).collect();
        let page = html::comparison(
            &self.head(),
            &lines,
            self.shown.len().max(1),
            &figures,
            &self.warnings,
        );
        folder.write(COMPARISON, page.as_bytes())?;
        Ok(out.join(COMPARISON))
    }

    fn head(&self) -> Line {
        let mut head: Line = self
            .shown
            .iter()
            .map(|name| short(name, &self.shown).to_owned())
            .collect();
        if head.is_empty() {
            head.push("run".to_owned());
        }
        head.push("runs".to_owned());
        head.extend(self.known().map(|quantity| quantity.head.to_owned()));
        if let Some(target) = self.target {
            let share = format!("{:.4}", 100.0 * target);
            let share = share.trim_end_matches('0').trim_end_matches('.').to_owned();
            head.push(format!("reach {share} %"));
            head.extend(
                self.known_costs(target)
                    .map(|cost| format!("{} to it", cost.head)),
            );
        }
        head
    }

    fn line(&self, group: &Group) -> Line {
        let mut line = settings(group, &self.shown);
        if line.is_empty() {
            line.push(group.label.clone());
        }
        line.push(group.runs.len().to_string());
        let shown = |mean: Option<Mean>, digits| {
            mean.map_or_else(|| "–".to_owned(), |mean| mean.show(digits))
        };
        line.extend(
            self.known()
                .map(|quantity| shown(group.mean(quantity.of), quantity.digits)),
        );
        if let Some(target) = self.target {
            line.push(format!(
                "{} of {}",
                reached(group, target),
                group.runs.len()
            ));
            line.extend(
                self.known_costs(target)
                    .map(|cost| shown(to_target(group, cost, target), cost.digits)),
            );
        }
        line
    }

    fn cells(&self, group: &Group) -> Line {
        let mut cells = settings(group, &self.differing);
        cells.push(group.runs.len().to_string());
        let mut pair = |mean: Option<Mean>| {
            let text =
                |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
            cells.push(text(mean.map(|mean| mean.mean)));
            cells.push(text(mean.and_then(|mean| mean.std)));
        };
        QUANTITIES
            .iter()
            .for_each(|quantity| pair(group.mean(quantity.of)));
        if let Some(target) = self.target {
            COSTS
                .iter()
                .for_each(|cost| pair(to_target(group, cost, target)));
            cells.push(reached(group, target).to_string());
        }
        cells
    }

    /// Quantities that some run has.
    fn known(&self) -> impl Iterator<Item = &'static Quantity> {
        QUANTITIES.iter().filter(|quantity| {
            self.groups
                .iter()
                .any(|group| group.mean(quantity.of).is_some())
        })
    }

    fn known_costs(&self, target: f64) -> impl Iterator<Item = &'static Cost> {
        let is_known = move |cost: &&Cost| {
            self.groups
                .iter()
                .any(|group| to_target(group, cost, target).is_some())
        };
        COSTS
            .iter()
            .filter(move |cost| cost.name == "rounds" || is_known(cost))
    }
}

/// Values of these settings of a group.
fn settings(group: &Group, names: &[String]) -> Line {
    let value = |name: &String| group.settings.get(name).cloned().unwrap_or_default();
    names.iter().map(value).collect()
}

/// Runs of a group that reach a target.
fn reached(group: &Group, target: f64) -> usize {
    group
        .runs
        .iter()
        .filter(|run| run.first_round_at(target).is_some())
        .count()
}

/// A cost up to the first round that reaches a target, over the runs that do.
fn to_target(group: &Group, cost: &Cost, target: f64) -> Option<Mean> {
    group.mean(|run| (cost.of)(run, run.first_round_at(target)?))
}

/// Settings that tell the groups apart, for people: rules by their names first, then whatever more it takes. What
/// follows from those before, such as the parameter of one rule, is left to the CSV.
fn told_apart(groups: &[Group], differing: &[String]) -> Vec<String> {
    let mut names = differing.to_vec();
    let in_all = |name: &String| groups.iter().all(|group| group.settings.contains_key(name));
    // What a group of the fleet is follows from the experiment's own keys, most of the time.
    names.sort_by_key(|name| {
        let is_rule = name.ends_with(".name");
        (
            name.starts_with("fleet."),
            !is_rule,
            !in_all(name),
            name.clone(),
        )
    });
    let mut parts = 1;
    let mut kept = Vec::new();
    for name in names {
        kept.push(name);
        let values = |group: &Group| -> Vec<Option<String>> {
            kept.iter()
                .map(|name| group.settings.get(name).cloned())
                .collect()
        };
        let apart = groups.iter().map(values).collect::<BTreeSet<_>>().len();
        if apart == parts {
            kept.pop();
        }
        parts = apart;
    }
    kept
}

/// The last word of a setting's name, if no other ends in it; of a rule's name, the rule's.
fn short<'a>(name: &'a str, all: &'a [String]) -> &'a str {
    let last = |name: &'a str| {
        let name = name.strip_suffix(".name").unwrap_or(name);
        name.rsplit('.').next().unwrap_or(name)
    };
    match all.iter().filter(|other| last(other) == last(name)).count() {
        1 => last(name),
        _ => name,
    }
}

fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}
