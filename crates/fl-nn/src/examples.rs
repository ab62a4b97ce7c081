//! Examples of a training or an evaluation, lengths checked.

use crate::error::{SizeError, TrainError};
use crate::kernels::sparse;
use crate::shape::Shape;

/// Examples of the caller; at least one where they are read.
#[derive(Clone, Copy)]
pub(crate) struct Examples<'a> {
    /// Row-major `[num_examples, d_in]`.
    pub inputs: &'a [u8],
    /// `[num_examples]`.
    pub labels: &'a [u8],
    d_in: usize,
    num_classes: usize,
}

impl<'a> Examples<'a> {
    /// Checks that there is one input per label.
    ///
    /// # Errors
    /// [`TrainError::Inputs`].
    pub fn new(shape: &Shape, inputs: &'a [u8], labels: &'a [u8]) -> Result<Self, TrainError> {
        let d_in = shape.num_inputs();
        SizeError::check(labels.len().saturating_mul(d_in), inputs.len())
            .map_err(TrainError::Inputs)?;
        Ok(Self {
            inputs,
            labels,
            d_in,
            num_classes: shape.num_classes(),
        })
    }

    /// Checks that every label names a class.
    ///
    /// # Errors
    /// [`TrainError::Label`] of the first one that does not.
    pub fn check_labels(&self) -> Result<(), TrainError> {
        let wrong = |&label: &u8| usize::from(label) >= self.num_classes;
        match self.labels.iter().position(wrong) {
            Some(example) => Err(TrainError::Label {
                example: example as u32,
                label: self.labels[example],
            }),
            None => Ok(()),
        }
    }

    /// Octets of example `n`; of the last one if a stranger has written to the order.
    pub fn input(&self, n: u32) -> &'a [u8] {
        let n = (n as usize).min(self.labels.len() - 1);
        &self.inputs[n * self.d_in..][..self.d_in]
    }

    /// Four octets of example `n` from `begin` on, those beyond its end zero.
    #[inline(always)]
    pub fn word(&self, n: u32, begin: usize) -> u32 {
        let place = (n as usize).wrapping_mul(self.d_in).wrapping_add(begin);
        if begin + 4 <= self.d_in
            && let Some(octets) = self.inputs.get(place..place.wrapping_add(4))
            && let Some(word) = octets.first_chunk()
        {
            return u32::from_le_bytes(*word);
        }
        self.last_word(n, begin)
    }

    /// [`Examples::word`] at the end of an example; kept out of the way.
    #[cold]
    #[inline(never)]
    fn last_word(&self, n: u32, begin: usize) -> u32 {
        sparse::word_at(self.input(n), begin)
    }

    /// Class of example `n`, checked again since each step brings the labels anew.
    ///
    /// # Errors
    /// [`TrainError::Label`] if it is none of the model's.
    pub fn label(&self, n: u32) -> Result<usize, TrainError> {
        let label = self.labels[(n as usize).min(self.labels.len() - 1)];
        if usize::from(label) < self.num_classes {
            Ok(usize::from(label))
        } else {
            Err(TrainError::Label { example: n, label })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_with_its_example() {
        for d_in in 1..=9 {
            let inputs: Vec<u8> = (1..=3 * d_in as u8).collect();
            let examples = Examples {
                inputs: &inputs,
                labels: &[0; 3],
                d_in,
                num_classes: 1,
            };
            for (n, own) in (0..).zip(inputs.chunks(d_in)) {
                for (at, part) in own.chunks(4).enumerate() {
                    let mut word = [0; 4];
                    word[..part.len()].copy_from_slice(part);
                    assert_eq!(examples.word(n, 4 * at), u32::from_le_bytes(word));
                }
            }
        }
    }
}
