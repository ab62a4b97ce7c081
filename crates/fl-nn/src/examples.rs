//! Examples of a training or an evaluation, lengths checked.

use crate::error::{SizeError, TrainError};
use crate::inputs::Inputs;
#[cfg(feature = "host")]
use crate::inputs::Shelf;
use crate::kernels::sparse;
use crate::shape::Shape;

/// Examples of the caller; at least one where they are read.
#[derive(Clone, Copy)]
pub(crate) struct Examples<'a> {
    inputs: Inputs<'a>,
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
    pub fn new(shape: &Shape, inputs: Inputs<'a>, labels: &'a [u8]) -> Result<Self, TrainError> {
        let d_in = shape.num_inputs();
        let size = match inputs {
            Inputs::Octets(octets) => {
                SizeError::check(labels.len().saturating_mul(d_in), octets.len())
            }
            Inputs::Lists(lists) => SizeError::check(labels.len(), lists.len()),
            Inputs::View(view) if view.is_within(d_in) => {
                SizeError::check(labels.len(), view.places.len())
            }
            Inputs::View(_) => SizeError::check(labels.len(), 0),
        };
        size.map_err(TrainError::Inputs)?;
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

    /// Octets of example `n`; of the last one if a stranger has written to the order. None of listed ones.
    pub fn input(&self, n: u32) -> &'a [u8] {
        let n = (n as usize).min(self.labels.len() - 1);
        match self.inputs {
            Inputs::Octets(octets) => &octets[n * self.d_in..][..self.d_in],
            Inputs::View(view) => &view.octets[view.places[n] as usize * self.d_in..][..self.d_in],
            Inputs::Lists(_) => &[],
        }
    }

    /// Place for lists of all examples that outlast a training.
    #[cfg(feature = "host")]
    pub fn shelf(&self) -> Option<(&'a Shelf, usize)> {
        match self.inputs {
            Inputs::View(view) => view.shelf,
            Inputs::Octets(_) | Inputs::Lists(_) => None,
        }
    }

    /// List of the octets of example `n` that are not zero, by way of `scratch` if it is not there.
    #[inline(always)]
    pub fn list<'s>(&self, n: u32, scratch: &'s mut [i32]) -> &'s [i32]
    where
        'a: 's,
    {
        match self.inputs {
            Inputs::Lists(lists) => lists.list(n as usize, self.d_in, scratch),
            Inputs::Octets(_) | Inputs::View(_) => sparse::of_input(self.input(n), scratch),
        }
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
