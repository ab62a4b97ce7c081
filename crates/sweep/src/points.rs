//! The runs that a sweep asks for.

use crate::file::{Random, Setting, Sweep, setting};
use crate::name::name;
use std::collections::BTreeSet;

/// A run that a sweep asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name, which its folder has.
    pub name: String,
    /// The label of its case.
    pub case: Option<String>,
    /// Values of the keys that the sweep sets, by dotted name.
    pub values: Setting,
}

impl Point {
    /// Name of the point without its seed.
    pub fn setting(&self) -> String {
        let mut values = self.values.clone();
        values.remove("seed");
        name(self.case.as_deref(), &values)
    }
}

/// A point that has no name yet.
#[derive(Clone, Debug, Default)]
struct Draft {
    case: Option<String>,
    /// Keys that the case sets; its label, if it has one, stands for them.
    of_case: Setting,
    values: Setting,
}

impl Draft {
    /// The same with more values.
    fn with(&self, more: &Setting) -> Self {
        let mut draft = self.clone();
        draft.values.extend(more.clone());
        draft
    }

    fn named(self) -> Point {
        let values = self
            .of_case
            .into_iter()
            .chain(self.values.clone())
            .collect();
        let name = match &self.case {
            Some(case) => name(Some(case), &self.values),
            None => name(None, &values),
        };
        Point {
            name,
            case: self.case,
            values,
        }
    }
}

impl Sweep {
    /// The runs: each case with each draw and each combination of the grid; those that would be the same count
    /// once. The last axis changes fastest, and the seed is the last.
    pub fn points(&self) -> Vec<Point> {
        let cases = self.cases.iter().map(|(case, of_case)| Draft {
            case: case.clone(),
            of_case: of_case.clone(),
            values: Setting::new(),
        });
        let mut drafts: Vec<Draft> = cases.collect();
        if drafts.is_empty() {
            drafts.push(Draft::default());
        }
        if let Some(random) = &self.random {
            let draws: Vec<Setting> = (0..random.draws)
                .map(|draw| self.draw(random, draw))
                .collect();
            drafts = product(&drafts, &draws);
        }
        let is_seed = |axis: &&Vec<Setting>| axis[0].contains_key("seed");
        let (seeds, others): (Vec<_>, Vec<_>) = self.grid.iter().partition(is_seed);
        for axis in others.into_iter().chain(seeds) {
            drafts = product(&drafts, axis);
        }
        let mut known = BTreeSet::new();
        let named = drafts.into_iter().map(Draft::named);
        named
            .filter(|point| known.insert(point.name.clone()))
            .collect()
    }

    fn draw(&self, random: &Random, draw: u32) -> Setting {
        let each = random.ranges.iter();
        let each =
            each.map(|(key, range)| setting(&self.keys, key, &range.draw(random.seed, key, draw)));
        each.flatten().collect()
    }

    /// Keys that the sweep sets in some run, the seed last.
    pub fn columns(&self) -> Vec<String> {
        let cases = self.cases.iter().map(|(_, setting)| setting);
        let settings = cases.chain(self.grid.iter().flatten());
        let mut keys: BTreeSet<String> = settings
            .flat_map(|setting| setting.keys().cloned())
            .collect();
        keys.extend(
            self.random
                .iter()
                .flat_map(|random| self.draw(random, 0).into_keys()),
        );
        let has_seed = keys.remove("seed");
        keys.into_iter()
            .chain(has_seed.then(|| "seed".to_owned()))
            .collect()
    }
}

/// Every one of these with every value of an axis.
fn product(of: &[Draft], axis: &[Setting]) -> Vec<Draft> {
    of.iter()
        .flat_map(|one| axis.iter().map(|value| one.with(value)))
        .collect()
}
