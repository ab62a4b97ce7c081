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
