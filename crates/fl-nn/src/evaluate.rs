//! Evaluation: loss and accuracy over a set of examples.

use crate::arithmetic::Arithmetic;
use crate::error::{PlanError, SizeError, TrainError};
use crate::examples::Examples;
use crate::loss;
use crate::memory::{Layout, Regions, Workspace};
use crate::model::Model;

/// Findings of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Examples seen.
    pub num_examples: u32,
    /// Examples whose label has the largest logit.
    pub correct: u32,
    /// Sum of the cross-entropy over all examples.
    ///
    /// # Units
    /// Nats.
    pub loss_sum: f64,
}

impl Evaluation {
    /// Cross-entropy per example, 0 if there was none.
    ///
    /// # Units
    /// Nats.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / f64::from(self.num_examples.max(1))
    }

    /// Share of correct predictions in `0..=1`, 0 if there was no example.
    pub fn accuracy(&self) -> f64 {
        f64::from(self.correct) / f64::from(self.num_examples.max(1))
    }
}

impl Model {
    /// Loss and accuracy of `params`, with the first layer in the given arithmetic.
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
        arithmetic: Arithmetic,
    ) -> Result<Evaluation, TrainError> {
        let shape = self.shape();
        SizeError::check(shape.num_params(), params.len()).map_err(TrainError::Params)?;
        let examples = Examples::new(shape, inputs, labels)?;
        examples.check_labels()?;
        let num_examples = u32::try_from(labels.len()).map_err(|_| PlanError::TooLarge)?;
        self.evaluation_plan()?.check(&workspace)?;
        let first = self.first();
        let Regions {
            mut octets,
            outputs,
            ..
        } = Layout::evaluation(self).cut(workspace.floats, workspace.ints);
        let first_params = &params[first.params];
        // The integers refuse what is not finite; f32 would pass over it where inputs are 0.
        if arithmetic == Arithmetic::Float && !first_params.iter().all(|param| param.is_finite()) {
            return Err(TrainError::Diverged);
        }
        first
            .layer
            .prepare_forward(arithmetic, first_params, &mut octets)?;
        let mut found = Evaluation {
            num_examples,
            ..Evaluation::default()
        };
        for n in 0..num_examples {
            let sums = &mut outputs[..first.layer.num_outputs()];
            let input = examples.input(n);
            first
                .layer
                .forward_octets(arithmetic, first_params, input, &mut octets, sums);
            self.finish_forward(params, outputs);
            let logits = &outputs[outputs.len() - shape.num_classes()..];
            let label = usize::from(labels[n as usize]);
            let loss = loss::cross_entropy(logits, label);
            if !loss.is_finite() {
                return Err(TrainError::Diverged);
            }
            found.correct += u32::from(loss::prediction(logits) == label);
            found.loss_sum += f64::from(loss);
        }
        Ok(found)
    }
}
