//! Loss and accuracy over a set of examples.

use crate::error::{PlanError, TrainError};
use crate::model::Model;
use crate::plan::Workspace;
use crate::quantise::{Ints, quantise};
use crate::{fixed, loss, train};

/// What an evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Examples seen.
    pub num_examples: u32,
    /// Examples whose label has the largest logit.
    pub correct: u32,
    /// Sum of the cross-entropy over all examples, in nats.
    pub loss_sum: f64,
}

impl Evaluation {
    /// Cross-entropy per example, 0 if there was none.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / f64::from(self.num_examples.max(1))
    }

    /// Share of correct predictions in `0..=1`, 0 if there was no example.
    pub fn accuracy(&self) -> f64 {
        f64::from(self.correct) / f64::from(self.num_examples.max(1))
    }
}

impl Model {
    /// Loss and accuracy of `params`, in the arithmetic of [`crate::Arithmetic::Fixed`].
    ///
    /// # Shapes
    /// `params`: `[num_params]`; `inputs`: row-major `[num_examples, d_in]`; `labels`: `[num_examples]`;
    /// `workspace`: by [`Model::evaluation_plan`].
    ///
    /// # Errors
    /// [`TrainError`] if a length or a label does not fit, or [`TrainError::Diverged`] if a weight or a
    /// loss is not finite.
    pub fn evaluate(
        &self,
        params: &[f32],
        inputs: &[u8],
        labels: &[u8],
        workspace: Workspace<'_>,
    ) -> Result<Evaluation, TrainError> {
        let shape = self.shape();
        train::check_params(shape, params)?;
        train::check_lengths(shape, inputs, labels)?;
        train::check_labels(shape, labels)?;
        let num_examples = u32::try_from(labels.len()).map_err(|_| PlanError::TooLarge)?;
        self.evaluation_plan()?.check(&workspace)?;
        let first = shape.layer(0);
        let (weights, bias) = params[first.params()].split_at(first.weights().len());
        let (units, rest) = workspace.floats.split_at_mut(first.d_out);
        let outputs = &mut rest[..self.num_outputs()];
        let mut ints = Ints::new(workspace.ints, first.d_in, 0);
        quantise(weights, 1.0 / 255.0, units, &mut ints)?;
        let mut found = Evaluation {
            num_examples,
            ..Evaluation::default()
        };
        for (input, &label) in inputs.chunks_exact(first.d_in).zip(labels) {
            fixed::forward(&mut ints, units, bias, input, &mut outputs[..first.d_out]);
            self.finish_forward(params, outputs);
            let logits = &outputs[outputs.len() - shape.num_classes()..];
            let loss = loss::cross_entropy(logits, usize::from(label));
            if !loss.is_finite() {
                return Err(TrainError::Diverged);
            }
            found.correct += u32::from(loss::prediction(logits) == usize::from(label));
            found.loss_sum += f64::from(loss);
        }
        Ok(found)
    }
}
