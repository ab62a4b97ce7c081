//! Runs that repeat each other.

use crate::numbers::Mean;
use crate::run::Run;
use std::collections::{BTreeMap, BTreeSet};
use zfl_run_dir::fold::RoundRow;

/// Longest label of a group in a legend, in characters.
const LABEL: usize = 40;

/// Runs that differ in their seed only.
#[derive(Debug)]
pub struct Group {
    /// Label: its difference from the other groups, in a word or two.
    pub label: String,
    pub settings: BTreeMap<String, String>,
    pub runs: Vec<Run>,
}

/// A point of a curve: where, and what the runs that got there have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: Mean,
}

impl Group {
    /// The groups of these runs, in the order in which their first runs were given.
    pub fn of(runs: Vec<Run>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for run in runs {
            let settings = run.settings();
            match groups.iter_mut().find(|group| group.settings == settings) {
                Some(group) => group.runs.push(run),
                None => groups.push(Self {
                    label: String::new(),
                    settings,
                    runs: vec![run],
                }),
            }
        }
        let differing = differing(&groups);
        for group in &mut groups {
            group.label = label(group, &differing);
        }
        tell_apart(&mut groups);
        groups
    }

    /// A curve over rounds: of each round the mean over the runs that completed it. `x` of a point is
    /// a mean, too: the bytes that runs have used by a round differ a little.
    pub fn curve(
        &self,
        x: impl Fn(&RoundRow) -> Option<f64>,
        y: impl Fn(&RoundRow) -> Option<f64>,
    ) -> Vec<Point> {
        self.curve_of(|_, row| x(row), y)
    }

    /// The same, against something that only the run tells.
    pub fn curve_of(
        &self,
        x: impl Fn(&Run, &RoundRow) -> Option<f64>,
        y: impl Fn(&RoundRow) -> Option<f64>,
    ) -> Vec<Point> {
        let rounds: BTreeSet<u32> = self
            .runs
            .iter()
            .flat_map(|run| run.fold.rounds().map(|row| row.record.round))
            .collect();
        let point = |round: u32| {
            let rows = || {
                let runs = self.runs.iter();
                runs.filter_map(|run| Some((run, run.fold.round(round)?)))
            };
            let x = Mean::of(rows().filter_map(|(run, row)| x(run, row)))?.mean;
            let y = Mean::of(rows().filter_map(|(_, row)| y(row)))?;
            Some(Point { x, y })
        };
        rounds.into_iter().filter_map(point).collect()
    }

    /// The mean of a quantity of its runs.
    pub fn mean(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<Mean> {
        Mean::of(self.runs.iter().filter_map(value))
    }
}

/// Warnings about runs that seem to repeat each other and differ.
pub fn warnings(groups: &[Group]) -> Vec<String> {
    let of = |group| {
        let seeds = same_seeds(group).into_iter();
        seeds.chain(other_images(group)).chain(damage(group))
    };
    groups.iter().flat_map(of).collect()
}

/// Files that are not as they were written: what is said of these runs may be wrong.
fn damage(group: &Group) -> Vec<String> {
    let files = group.runs.iter().flat_map(|run| &run.view.damage);
    files
        .map(|file| format!("{file}: what is said of its run may be wrong."))
        .collect()
}

/// Firmware and data are in no setting, and yet costs and models depend on them.
fn other_images(group: &Group) -> Vec<String> {
    let mut images = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (name, version) in group.runs.iter().flat_map(|run| &run.fold.meta().versions) {
        if name == "data" || name.starts_with("firmware") {
            images.entry(name).or_default().insert(version);
        }
    }
    let differing = images
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1);
    let warning = |(name, versions): (&str, BTreeSet<&str>)| {
        format!(
            "{}: its runs had {} different versions of the {name} (see versions in their meta.json): \
             not the seed alone sets them apart.",
            group.label,
            versions.len()
        )
    };
    differing.map(warning).collect()
}

fn same_seeds(group: &Group) -> Vec<String> {
    let mut by_seed = BTreeMap::<u64, Vec<String>>::new();
    for run in &group.runs {
        if let Some(seed) = run.seed() {
            // By their folders, since one that is repeated by its config.toml has the same name.
            let path = run.path.display().to_string();
            by_seed.entry(seed).or_default().push(path);
        }
    }
    let same = by_seed.into_iter().filter(|(_, runs)| runs.len() > 1);
    let warning = |(seed, runs): (u64, Vec<String>)| {
        format!(
            "{}: the runs {} have the same seed {seed}, and so by design the same model: in accuracy \
             and loss they are one run, and ± and bands say nothing there. Give each another --seed.",
            group.label,
            runs.join(", ")
        )
    };
    same.map(warning).collect()
}

/// Names of the settings in which groups differ.
pub fn differing(groups: &[Group]) -> BTreeSet<String> {
    let names: BTreeSet<&String> = groups
        .iter()
        .flat_map(|group| group.settings.keys())
        .collect();
    let differs = |name: &str| {
        groups
            .windows(2)
            .any(|pair| pair[0].settings.get(name) != pair[1].settings.get(name))
    };
    names
        .into_iter()
        .filter(|name| differs(name))
        .cloned()
        .collect()
}

/// Label of a group for the legend: as many of the differing settings as fit, those that
/// say most first.
fn label(group: &Group, differing: &BTreeSet<String>) -> String {
    let mut names: Vec<&String> = differing.iter().collect();
    names.sort_by_key(|name| rank(name));
    let mut label = String::new();
    for name in names {
        let Some(value) = group.settings.get(name) else {
            continue;
        };
        let last = name.rsplit('.').next().unwrap_or(name).replace('_', " ");
        let word = match name.as_str() {
            "body" | "board" => value.clone(),
            name if name.ends_with(".name") => value.clone(),
            _ => format!("{last} {value}"),
        };
        if label.is_empty() {
            label = word;
        } else if label.chars().count() + word.chars().count() + 2 <= LABEL {
            label = format!("{label}, {word}");
        }
    }
    if label.is_empty() {
        label.clone_from(&group.runs[0].view.name);
    }
    match label.char_indices().nth(LABEL) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label,
    }
}

/// The sooner in a label, the less. What a group of the fleet is, and what follows from the body, says
/// least: it is told by the body and the board already, in most experiments.
fn rank(name: &str) -> u8 {
    match name {
        "body" => 0,
        "board" => 1,
        "network" | "hidden" | "zfl_version" => 3,
        name if name.starts_with("fleet.") => 4,
        name if name.ends_with(".name") => 1,
        _ => 2,
    }
}

/// Labels that were cut off at the same place get a number.
fn tell_apart(groups: &mut [Group]) {
    for at in 1..groups.len() {
        let same = groups[..at]
            .iter()
            .filter(|other| other.label == groups[at].label)
            .count();
        if same > 0 {
            groups[at].label = format!("{} ({})", groups[at].label, same + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_most_comes_first_and_whole() {
        assert!(rank("body") < rank("board") && rank("board") < rank("learning_rate"));
        assert!(rank("learning_rate") < rank("network"));
        assert!(rank("network") < rank("fleet.all.body"));
    }
}
