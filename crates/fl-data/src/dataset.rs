//! Examples in memory.

/// Labelled examples, inputs as octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Row-major `[num_examples, num_inputs]`.
    pub inputs: Vec<u8>,
    /// `[num_examples]`, each below `num_classes`.
    pub labels: Vec<u8>,
    /// Octets of one example.
    pub num_inputs: usize,
    /// One more than the largest label of the training and the test set together.
    pub num_classes: usize,
}

impl Dataset {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True if there is no example.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The inputs of the examples at `indices`, one behind the other; an index past the end is left
    /// out.
    pub fn gather_inputs(&self, indices: &[u32]) -> Vec<u8> {
        let mut gathered = Vec::with_capacity(indices.len() * self.num_inputs);
        for &index in indices {
            let start = index as usize * self.num_inputs;
            if let Some(row) = self.inputs.get(start..start + self.num_inputs) {
                gathered.extend_from_slice(row);
            }
        }
        gathered
    }

    /// The labels of the examples at `indices`; an index past the end is left out.
    pub fn gather_labels(&self, indices: &[u32]) -> Vec<u8> {
        let label = |&index: &u32| self.labels.get(index as usize).copied();
        indices.iter().filter_map(label).collect()
    }
}

/// A data set's training and test examples, of one width and one number of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Examples for training.
    pub train: Dataset,
    /// Examples for evaluation.
    pub test: Dataset,
}

impl Splits {
    /// Lines for people about classes that have no example to train on or to test with.
    ///
    /// # Errors
    /// The reason for which there is nothing to learn.
    pub(crate) fn gaps(&self) -> Result<Vec<String>, String> {
        let (train, test) = (self.train.classes(), self.test.classes());
        if let [only] = train[..] {
            return Err(format!(
                "every example for training has the label {only}: with one class only there is nothing to learn"
            ));
        }
        let missing = |there: &[u8]| -> Vec<u8> {
            let all = (0..self.train.num_classes).filter_map(|class| u8::try_from(class).ok());
            all.filter(|class| !there.contains(class)).collect()
        };
        let gap = |missing: Vec<u8>, set: &str, what: &str| {
            let classes = (!missing.is_empty()).then(|| ranges(&missing))?;
            Some(format!("no example of {classes} in the {set} set: {what}"))
        };
        let gaps = [
            gap(
                missing(&train),
                "training",
                "a model cannot learn what it does not see",
            ),
            gap(missing(&test), "test", "the accuracy says nothing about it"),
        ];
        Ok(gaps.into_iter().flatten().collect())
    }
}

impl Dataset {
    /// The classes that have an example.
    fn classes(&self) -> Vec<u8> {
        let mut seen = [false; 256];
        for &label in &self.labels {
            seen[usize::from(label)] = true;
        }
        (0..=u8::MAX)
            .filter(|&class| seen[usize::from(class)])
            .collect()
    }
}

/// `class 3`, `classes 0, 4 to 9`.
fn ranges(classes: &[u8]) -> String {
    let mut text = Vec::new();
    for run in classes.chunk_by(|one, next| *one + 1 == *next) {
        match run {
            [one] => text.push(one.to_string()),
            [one, two] => text.extend([one.to_string(), two.to_string()]),
            [first, .., last] => text.push(format!("{first} to {last}")),
            [] => {}
        }
    }
    let word = if classes.len() == 1 {
        "class"
    } else {
        "classes"
    };
    format!("{word} {}", text.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_classes_are_shortened() {
        assert_eq!(ranges(&[3]), "class 3");
        assert_eq!(ranges(&[0, 1, 4, 5, 6, 255]), "classes 0, 1, 4 to 6, 255");
    }
}
