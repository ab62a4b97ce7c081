//! A data set from rows of features, read twice: first for scales, classes and clients, then for the octets. So the
//! features themselves are never all in memory.

use crate::dataset::{Dataset, Splits};
use crate::error::Problem;
use crate::partition::Natural;
use crate::scaling::{Scaling, Survey};
use crate::source::Loaded;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Of the examples of a client and a class, every so many-th is for testing, where the source does not say which.
const TEST_EVERY: u32 = 5;

/// Most classes that a label can tell apart.
const MAX_CLASSES: usize = 256;

/// Octets that do not reach this value are scaled like any other features: too little of the range is used.
const LEAST_LARGEST_OCTET: f64 = 128.0;

/// An example.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Finite numbers, as many as there are columns.
    pub features: &'a [f64],
    /// Name of its class.
    pub label: &'a str,
    /// Name of the one that it is from.
    pub client: Option<&'a str>,
    /// Use for testing, if that is said.
    pub is_test: Option<bool>,
}

/// Takes a row in.
pub(super) type Take<'a> = &'a mut dyn FnMut(&Row<'_>) -> Result<(), Problem>;

/// Rows that can be read twice.
pub(super) trait Rows {
    /// Names of the columns of features.
    fn columns(&self) -> &[String];

    /// Hands out every row, in the same order each time.
    fn each(&self, take: Take<'_>) -> Result<(), Problem>;
}

/// Puts a data set together.
pub(super) fn assemble(rows: &dyn Rows) -> Result<Loaded, Problem> {
    let survey = survey(rows)?;
    let scaling = survey.scaling(rows.columns())?;
    let mut loaded = scaled(rows, scaling)?;
    loaded.warnings = loaded.splits.gaps().map_err(Problem::Format)?;
    loaded.warnings.extend(survey.warning(rows.columns()));
    Ok(loaded)
}

/// Puts a data set together by the scales of another one with the same columns.
pub(super) fn assemble_scaled(rows: &dyn Rows, scaling: &Scaling) -> Result<Loaded, Problem> {
    let names = scaling.columns.iter().map(|column| &column.name);
    if !scaling.columns.is_empty() && !names.eq(rows.columns()) {
        return Err(Problem::Table(format!(
            "it has {} columns of features, `{}`, and the model has scales of {}, `{}`: give data with the same ones",
            rows.columns().len(),
            rows.columns().join(", ").escape_debug(),
            scaling.columns.len(),
            names_of(scaling).escape_debug()
        )));
    }
    scaled(rows, scaling.clone())
}

fn names_of(scaling: &Scaling) -> String {
    let names = scaling.columns.iter().map(|column| column.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// Reads the rows by these scales.
fn scaled(rows: &dyn Rows, scaling: Scaling) -> Result<Loaded, Problem> {
    let width = scaling.width(rows.columns().len());
    let dataset = || Dataset {
        inputs: Vec::new(),
        labels: Vec::new(),
        num_inputs: width,
        num_classes: scaling.classes.len(),
    };
    let mut splits = Splits {
        train: dataset(),
        test: dataset(),
    };
    let class_of = classes_by_name(&scaling.classes);
    let mut parts = BTreeMap::<String, Vec<u32>>::new();
    let mut divider = Divider::default();
    rows.each(&mut |row| {
        let is_test = divider.is_test(row);
        let split = if is_test {
            &mut splits.test
        } else {
            &mut splits.train
        };
        let class = class_of.get(row.label).copied();
        let class = class.ok_or_else(|| {
            Problem::Format(format!(
                "there is no class `{}` among the {} that are known: the model has another label, or the file has \
                 changed while it was read",
                row.label.escape_debug(),
                scaling.classes.len()
            ))
        })?;
        if let (Some(client), false) = (row.client, is_test) {
            let index = split.labels.len() as u32;
            match parts.get_mut(client) {
                Some(part) => part.push(index),
                None => drop(parts.insert(client.to_owned(), vec![index])),
            }
        }
        split.labels.push(class);
        scaling.scale(row.features, &mut split.inputs);
        Ok(())
    })?;
    Ok(Loaded {
        splits,
        natural: (!parts.is_empty()).then(|| Natural::of_names(parts)),
        scaling: Some(scaling),
        warnings: Vec::new(),
    })
}

/// Classes by the names of labels.
fn classes_by_name(names: &[String]) -> HashMap<&str, u8> {
    let names = names.iter().map(String::as_str);
    names.zip(0..=u8::MAX).collect()
}

/// Decides which examples are for testing.
#[derive(Default)]
struct Divider {
    /// Examples of each client and class so far.
    counts: HashMap<String, HashMap<String, u32>>,
}

impl Divider {
    fn is_test(&mut self, row: &Row<'_>) -> bool {
        if let Some(said) = row.is_test {
            return said;
        }
        let client = row.client.unwrap_or_default();
        if !self.counts.contains_key(client) {
            self.counts.insert(client.to_owned(), HashMap::new());
        }
        let Some(of_client) = self.counts.get_mut(client) else {
            return false;
        };
        let count = match of_client.get_mut(row.label) {
            Some(count) => count,
            None => of_client.entry(row.label.to_owned()).or_default(),
        };
        *count += 1;
        *count % TEST_EVERY == 0
    }
}

/// Rows as the first reading finds them.
struct Surveyed {
    columns: Vec<Survey>,
    labels: BTreeSet<String>,
    train: u64,
    test: u64,
}

fn survey(rows: &dyn Rows) -> Result<Surveyed, Problem> {
    let mut found = Surveyed {
        columns: vec![Survey::default(); rows.columns().len()],
        labels: BTreeSet::new(),
        train: 0,
        test: 0,
    };
    let mut divider = Divider::default();
    rows.each(&mut |row| {
        if !found.labels.contains(row.label) {
            found.labels.insert(row.label.to_owned());
        }
        if divider.is_test(row) {
            found.test += 1;
            return Ok(());
        }
        found.train += 1;
        for (column, &value) in found.columns.iter_mut().zip(row.features) {
            column.take(value);
        }
        Ok(())
    })?;
    Ok(found)
}

impl Surveyed {
    fn scaling(&self, names: &[String]) -> Result<Scaling, Problem> {
        let refused = |why: &str| Err(Problem::Format(why.to_owned()));
        match (self.train, self.test) {
            (0, 0) => return refused("it holds no example"),
            (0, _) => return refused("it holds no example for training"),
            (_, 0) => {
                return refused(
                    "it holds no example for testing: give a column `split` with train and test, or five examples \
                     of a class or more, of which every fifth is taken",
                );
            }
            (train, _) if u32::try_from(train).is_err() => {
                return refused("it holds too many examples");
            }
            _ => {}
        }
        let columns = self.columns.iter().zip(names);
        Ok(Scaling {
            columns: match self.stay_octets() {
                true => Vec::new(),
                false => columns.map(|(column, name)| column.scale(name)).collect(),
            },
            classes: classes(&self.labels)?,
        })
    }

    /// Tells if the features are octets that use their range.
    fn stay_octets(&self) -> bool {
        let mut largest = self.columns.iter().map(Survey::largest_octet);
        let largest = largest.try_fold(0.0, |most, column| column.map(|one| f64::max(most, one)));
        largest.is_some_and(|largest| largest >= LEAST_LARGEST_OCTET)
    }

    fn warning(&self, names: &[String]) -> Option<String> {
        let columns = self.columns.iter().zip(names);
        let constant = columns.filter(|(column, _)| column.is_constant());
        let names: Vec<_> = constant
            .map(|(_, name)| name.escape_debug().to_string())
            .collect();
        // Of pictures, edges are always the same.
        let first = names.first().filter(|_| !self.stay_octets())?;
        Some(format!(
            "{} columns are the same in all training examples and say nothing: {first} …",
            names.len()
        ))
    }
}

/// Names of the classes in their order: numbers below 256 are the classes themselves, other labels are names.
fn classes(labels: &BTreeSet<String>) -> Result<Vec<String>, Problem> {
    let numbers = labels.iter().map(|label| {
        let number = label.parse::<u8>().ok()?;
        (number.to_string() == *label).then_some(number)
    });
    if let Some(numbers) = numbers.collect::<Option<Vec<u8>>>() {
        let most = numbers.into_iter().max().unwrap_or(0);
        return Ok((0..=most).map(|class| class.to_string()).collect());
    }
    if labels.len() > MAX_CLASSES {
        return Err(Problem::Format(format!(
            "it has {} different labels, and a label can be one of {MAX_CLASSES}: see that the column `label` \
             names classes",
            labels.len()
        )));
    }
    Ok(labels.iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in memory: features, label, client.
    struct Given(
        Vec<String>,
        Vec<(Vec<f64>, &'static str, Option<&'static str>)>,
    );

    impl Rows for Given {
        fn columns(&self) -> &[String] {
            &self.0
        }

        fn each(&self, take: Take<'_>) -> Result<(), Problem> {
            self.1.iter().try_for_each(|(features, label, client)| {
                take(&Row {
                    features,
                    label,
                    client: *client,
                    is_test: None,
                })
            })
        }
    }

    #[test]
    fn every_fifth_of_a_client_and_class_is_for_testing_and_scales_none() {
        let row = |at: usize, client| {
            let wild = if at % 5 == 4 { 1e6 } else { at as f64 % 2.0 };
            (vec![wild], ["no", "yes"][at / 5 % 2], Some(client))
        };
        let rows = ["b", "a"]
            .into_iter()
            .flat_map(|client| (0..10).map(move |at| row(at, client)));
        let loaded = assemble(&Given(vec!["x".into()], rows.collect())).unwrap();
        let Splits { train, test } = &loaded.splits;
        assert_eq!((train.len(), test.len(), train.num_inputs), (16, 4, 2));
        assert_eq!(test.labels, [0, 1, 0, 1]);
        assert_eq!(
            test.inputs,
            [255, 0].repeat(4),
            "clipped by the scale of training"
        );
        let scaling = loaded.scaling.unwrap();
        assert_eq!(scaling.classes, ["no", "yes"]);
        assert_eq!(scaling.columns[0].offset, 0.5);
        let natural = loaded.natural.unwrap();
        assert_eq!(natural.names, ["a", "b"]);
        assert_eq!(natural.parts[0], (8..16).collect::<Vec<u32>>());
    }

    #[test]
    fn octets_that_use_their_range_stay_as_they_are() {
        let rows = |most: f64| {
            let row = |at: usize| (vec![[0.0, most][at % 2], 3.0], ["0", "2"][at / 5 % 2], None);
            assemble(&Given(
                vec!["x".into(), "y".into()],
                (0..20).map(row).collect(),
            ))
            .unwrap()
        };
        let loaded = rows(200.0);
        assert_eq!(loaded.splits.train.inputs[..4], [0, 3, 200, 3]);
        assert_eq!(
            loaded.splits.train.num_classes, 3,
            "labels that are numbers are the classes"
        );
        assert_eq!(loaded.scaling.unwrap().columns, []);
        assert_eq!(loaded.natural, None);
        assert_eq!(rows(16.0).splits.train.num_inputs, 4);
    }

    #[test]
    fn examples_for_a_model_that_is_there_are_scaled_as_its_own_were() {
        let of = |name: &str, rows| Given(vec![name.into()], rows);
        let own = (0..20).map(|at| (vec![at as f64], ["no", "yes"][at / 5 % 2], None));
        let scaling = assemble(&of("x", own.collect())).unwrap().scaling.unwrap();
        let wild = vec![(vec![1e9], "yes", None), (vec![-1e9], "yes", None)];
        let loaded = assemble_scaled(&of("x", wild), &scaling).unwrap();
        assert_eq!(loaded.splits.train.inputs, [255, 0, 0, 255]);
        assert_eq!(loaded.splits.train.labels, [1, 1]);
        assert_eq!(loaded.scaling.as_ref(), Some(&scaling));
        let refused = |rows| assemble_scaled(&rows, &scaling).unwrap_err().to_string();
        assert!(refused(of("z", Vec::new())).contains("`z`, and the model has scales of 1, `x`"));
        assert!(refused(of("x", vec![(vec![0.0], "maybe", None)])).contains("no class `maybe`"));
    }

    #[test]
    fn labels_are_numbers_or_names() {
        let classes = |labels: &[&str]| {
            super::classes(&labels.iter().map(|label| (*label).to_owned()).collect())
        };
        assert_eq!(classes(&["1", "3"]).unwrap(), ["0", "1", "2", "3"]);
        assert_eq!(classes(&["10", "9", "-1"]).unwrap(), ["-1", "10", "9"]);
        assert_eq!(classes(&["01", "1"]).unwrap(), ["01", "1"]);
        let many: Vec<String> = (0..300).map(|n| format!("class {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            classes(&many)
                .unwrap_err()
                .to_string()
                .contains("300 different labels")
        );
    }
}
